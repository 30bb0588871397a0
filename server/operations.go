package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"

	"quiva.ai/mfa/server/auth"
)

const (
	// maxBody bounds a request's body in bytes. No operation takes one so far.
	maxBody = 64 << 10

	// storeTime is what all of a request's calls to the store may take together.
	// Callers are promised an answer within 500 ms; the rest is for the answer.
	storeTime = 450 * time.Millisecond
)

// routeKey is how Echo tells routes apart.
type routeKey struct{ method, path string }

var errUnmatched = errors.New("OpenAPI document and code disagree; run make generate and follow the build")

// operations guards every route with its operation in the OpenAPI document.
type operations struct {
	byRoute       map[routeKey]*routers.Route
	authenticator *auth.Authenticator
}

// matchOperations pairs each route with its operation. One without the other is
// an error: a route that the document does not know would be served unchecked.
func matchOperations(document *openapi3.T, routes []*echo.Route) (map[routeKey]*routers.Route, error) {
	operations := map[routeKey]*routers.Route{}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			if !eitherCredential(document, operation) {
				return nil, fmt.Errorf("%w: operation %s demands other credentials than bearerAuth or apiKeyAuth", errUnmatched, operation.OperationID)
			}
			operations[routeKey{method, echoPath(path)}] = &routers.Route{
				Spec: document, Path: path, PathItem: item, Method: method, Operation: operation,
			}
		}
	}
	matched := map[routeKey]*routers.Route{}
	for _, route := range routes {
		key := routeKey{route.Method, route.Path}
		if operations[key] == nil {
			return nil, fmt.Errorf("%w: route %s %s has no operation", errUnmatched, route.Method, route.Path)
		}
		matched[key] = operations[key]
	}
	for key, operation := range operations {
		if matched[key] == nil {
			return nil, fmt.Errorf("%w: operation %s has no route", errUnmatched, operation.Operation.OperationID)
		}
	}
	return matched, nil
}

var pathParameter = regexp.MustCompile(`\{([^}]*)\}`)

// echoPath spells a path of the document as Echo does: {id} is :id.
func echoPath(path string) string { return pathParameter.ReplaceAllString(path, ":$1") }

// eitherCredential tells whether the operation's security is what is enforced
// here for all of them: a token or an API key, and no third way. An operation that
// is open to all, or takes only one of the two, needs code first.
func eitherCredential(document *openapi3.T, operation *openapi3.Operation) bool {
	security := document.Security
	if operation.Security != nil {
		security = *operation.Security
	}
	return len(security) == 2 &&
		slices.ContainsFunc(security, demands("bearerAuth")) &&
		slices.ContainsFunc(security, demands("apiKeyAuth"))
}

func demands(scheme string) func(openapi3.SecurityRequirement) bool {
	return func(r openapi3.SecurityRequirement) bool {
		_, ok := r[scheme]
		return ok && len(r) == 1
	}
}

// middleware lets a request through to its operation if there is one, if it keeps
// to the document, and if it is authenticated. Nothing else reaches a handler.
func (o *operations) middleware(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		route := o.byRoute[routeKey{c.Request().Method, c.Path()}]
		if route == nil {
			return noOperation(c)
		}
		if err := limitBody(c, route.Operation); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Request().Context(), storeTime)
		defer cancel()
		principal, err := o.check(ctx, c, route)
		if err != nil {
			return err
		}
		c.SetRequest(c.Request().WithContext(auth.NewContext(ctx, principal)))
		return next(c)
	}
}

// noOperation is the answer for what Echo found no handler for, and for OPTIONS,
// which Echo would answer by itself with a status that the document does not have.
func noOperation(c echo.Context) error {
	if allow, ok := c.Get(echo.ContextKeyHeaderAllow).(string); ok {
		c.Response().Header().Set(echo.HeaderAllow, allow)
		return echo.ErrMethodNotAllowed
	}
	return echo.ErrNotFound
}

// limitBody bounds the body. That of an operation which takes none is no input:
// it is read off, so that the limit holds for a chunked one as well, and dropped;
// whether it is sound, or whole, makes no difference.
func limitBody(c echo.Context, operation *openapi3.Operation) error {
	r := c.Request()
	if r.ContentLength > maxBody {
		return &http.MaxBytesError{Limit: maxBody}
	}
	r.Body = http.MaxBytesReader(c.Response().Writer, r.Body, maxBody)
	if operation.RequestBody != nil {
		return nil
	}
	_, err := io.Copy(io.Discard, r.Body)
	r.Body = http.NoBody
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge
	}
	return nil
}

// check authenticates the request and validates it against the document, in this
// order: strangers learn that they are strangers, not what else is wrong. The
// filter's own view of security is not asked, because it is content with the first
// credential that is valid; matchOperations has made sure that ours is what the
// document demands.
func (o *operations) check(ctx context.Context, c echo.Context, route *routers.Route) (auth.Principal, error) {
	principal, err := o.authenticator.Authenticate(ctx, c.Request().Header)
	if err != nil {
		return auth.Principal{}, err
	}
	return principal, openapi3filter.ValidateRequest(ctx, &openapi3filter.RequestValidationInput{
		Request:    c.Request(),
		PathParams: pathParams(c),
		Route:      route,
		Options:    &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	})
}

func pathParams(c echo.Context) map[string]string {
	params := map[string]string{}
	for i, name := range c.ParamNames() {
		params[name] = c.ParamValues()[i]
	}
	return params
}
