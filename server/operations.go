package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
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

	// maxBodyTime bounds the wait for a body that is not input.
	maxBodyTime = time.Second

	// authenticateTime and operationTime bound what a request may wait for the store, when
	// an API key is looked up and in its operation. Callers are promised that a store which does not
	// answer costs them less than 500 ms.
	authenticateTime = 200 * time.Millisecond
	operationTime    = 250 * time.Millisecond
)

// routeKey is how Echo tells routes apart.
type routeKey struct{ method, path string }

var errUnmatched = errors.New("OpenAPI document and code disagree; run make generate and follow the build")

// operations guards every route with its operation in the OpenAPI document.
type operations struct {
	byRoute       map[routeKey]*routers.Route
	authenticator authenticator
	now           func() time.Time
	inFlight      chan struct{} // has room for as many requests as are let in at once
	overloaded    counter       // of those that are not
}

// counter counts one more.
type counter interface{ Inc() }

// errOverloaded says that as many requests are in flight as may be. Those turn the
// next one away at once: in a queue it would only be answered after its client has gone,
// and hold memory until then.
var errOverloaded = errors.New("too many requests in flight")

// place is a request's place among those that are in flight, or none.
type place struct {
	*operations
	taken bool
}

func (p *place) take() error {
	select {
	case p.inFlight <- struct{}{}:
		p.taken = true
		return nil
	default:
		p.overloaded.Inc()
		return errOverloaded
	}
}

func (p *place) leave() {
	if p.taken {
		<-p.inFlight
		p.taken = false
	}
}

// authenticate leaves the place while a token's key is awaited: anybody can invent tokens
// that wait, and nothing is done meanwhile.
func (p *place) authenticate(r *http.Request) (auth.Principal, error) {
	principal, err := p.authenticator.Authenticate(r.Context(), r.Header)
	awaited, ok := errors.AsType[*auth.AwaitedKey](err)
	if !ok {
		return principal, err
	}
	p.leave()
	ctx := awaited.Wait(r.Context())
	if err := p.take(); err != nil {
		return auth.Principal{}, err
	}
	return p.authenticator.Authenticate(ctx, r.Header)
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

// eitherCredential tells whether the operation's security is what is enforced here
// for all of them: a bearer token or the X-Api-Key header, and no third way. An
// operation that is open to all, or takes only one of the two, needs code first.
func eitherCredential(document *openapi3.T, operation *openapi3.Operation) bool {
	security := document.Security
	if operation.Security != nil {
		security = *operation.Security
	}
	var token, key int
	for _, requirement := range security {
		for name, scopes := range requirement {
			if document.Components == nil || document.Components.SecuritySchemes[name] == nil || len(scopes) > 0 || len(requirement) > 1 {
				return false
			}
			switch s := document.Components.SecuritySchemes[name].Value; {
			case s.Type == "http" && s.Scheme == "bearer":
				token++
			case s.Type == "apiKey" && s.In == "header" && s.Name == "X-Api-Key":
				key++
			}
		}
	}
	return len(security) == 2 && token == 1 && key == 1
}

// middleware lets a request through to its operation if there is one, if not too many
// are in flight, if it is authenticated, and if it keeps to the document, in this order: strangers learn that
// they are strangers, and no body is awaited from them. Nothing else reaches a handler.
func (o *operations) middleware(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		route := o.byRoute[routeKey{c.Request().Method, c.Path()}]
		if route == nil {
			return o.noOperation(c)
		}
		place := place{operations: o}
		if err := place.take(); err != nil {
			return err
		}
		defer place.leave()
		principal, err := place.authenticate(c.Request())
		if err != nil {
			return err
		}
		if c.Request().Body != http.NoBody {
			// Nothing is done while a body comes, and a few clients that send theirs slowly
			// must not take up all the places.
			place.leave()
			if err := o.limitBody(c, route.Operation); err != nil {
				return err
			}
			if err := place.take(); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(auth.NewContext(c.Request().Context(), principal), operationTime)
		defer cancel()
		c.SetRequest(c.Request().WithContext(ctx))
		if err := validate(c, route); err != nil {
			return err
		}
		return next(c)
	}
}

// noOperation is the answer for a path that the document does not have, and for a
// method that the path does not have: OPTIONS too, which Echo would answer by itself.
func (o *operations) noOperation(c echo.Context) error {
	var methods []string
	for key := range o.byRoute {
		if key.path == c.Path() {
			methods = append(methods, key.method)
		}
	}
	if methods == nil {
		return echo.ErrNotFound
	}
	slices.Sort(methods)
	c.Response().Header().Set(echo.HeaderAllow, strings.Join(methods, ", "))
	return echo.ErrMethodNotAllowed
}

// limitBody bounds the body. That of an operation which takes none is no input: it is
// read off, so that the limit holds for a chunked one as well, and dropped; whether it
// is sound, or whole, or comes in time makes no difference to the answer.
func (o *operations) limitBody(c echo.Context, operation *openapi3.Operation) error {
	r := c.Request()
	if r.ContentLength > maxBody {
		return &http.MaxBytesError{Limit: maxBody}
	}
	r.Body = http.MaxBytesReader(c.Response().Writer, r.Body, maxBody)
	if operation.RequestBody != nil {
		return nil
	}
	connection := http.NewResponseController(c.Response().Writer)
	// Where there is no connection to set a deadline on, there is none to wait for.
	_ = connection.SetReadDeadline(o.now().Add(maxBodyTime))
	_, err := io.Copy(io.Discard, r.Body)
	r.Body = http.NoBody
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge
	}
	if err != nil {
		// net/http takes a read that failed for a client that has left, and cancels
		// the request's context. Whether anybody is there shows on answering.
		c.SetRequest(r.WithContext(context.WithoutCancel(r.Context())))
	}
	return nil
}

// validate checks the request against the document. The filter's own view of security
// is not asked, because it is content with the first credential that is valid; the
// caller has been authenticated, and matchOperations has made sure that this is what
// the document demands.
func validate(c echo.Context, route *routers.Route) error {
	if operation := route.Operation; operation.RequestBody == nil && len(operation.Parameters)+len(route.PathItem.Parameters) == 0 {
		return nil // The filter would find nothing to look at, at some length.
	}
	return openapi3filter.ValidateRequest(c.Request().Context(), &openapi3filter.RequestValidationInput{
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
