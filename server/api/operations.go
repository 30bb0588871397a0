package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"quiva.ai/mfa/server/auth"
)

const (
	// AuthenticateTimeout bounds the look-up of an API key in the store, and operationTimeout
	// an operation. Together they stay below the 500 ms that a failing store may cost a caller.
	AuthenticateTimeout = 200 * time.Millisecond
	operationTimeout    = 250 * time.Millisecond
)

// errMalformedQuery says that a query is no list of names and values.
var errMalformedQuery = errors.New("malformed query")

// operations lets a request through to its operation in the OpenAPI document.
type operations struct {
	Config
	byRoute map[routeKey]*operationRoute
	slots   slots
}

// check lets a request through if it has an operation, if a slot is free, if it is
// authenticated, and if it matches the document, in this order. So no body is read from a
// stranger. No other request reaches a handler. While a body comes, its request holds no
// slot: otherwise a few clients that send slowly could hold all of them.
func (o *operations) check(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		route := o.byRoute[routeKey{c.Request().Method, c.Path()}]
		if route == nil {
			return o.noOperation(c)
		}
		slot := o.slots.slot()
		if err := slot.acquire(); err != nil {
			return err
		}
		defer slot.release()
		principal, err := o.authenticate(c.Request(), route, &slot)
		if err != nil {
			return err
		}
		if c.Request().Body != http.NoBody {
			slot.release()
			if err := o.readBody(c, route.Operation); err != nil {
				return err
			}
			if err := slot.acquire(); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(auth.NewContext(c.Request().Context(), principal), operationTimeout)
		defer cancel()
		c.SetRequest(c.Request().WithContext(ctx))
		if err := validate(c, route.Route); err != nil {
			return err
		}
		err = next(c)
		if refusal, refused := errors.AsType[*auth.Refusal](err); refused {
			o.Observer.CountRefusal(string(refusal.Cause)) // The operation wants a more recent sign-in.
		}
		return err
	}
}

// authenticate gives the slot back while the key of a token is fetched: a stranger can
// invent tokens that wait, and the service does nothing for them meanwhile.
func (o *operations) authenticate(r *http.Request, route *operationRoute, slot *slot) (auth.Principal, error) {
	ctx, span := o.Observer.Span(r.Context(), "authenticate", trace.SpanKindInternal)
	defer span.End()
	authenticate := o.Authenticator.Authenticate
	if route.ofService {
		authenticate = o.Authenticator.AuthenticateService
	}
	principal, err := authenticate(ctx, r.Header)
	if awaited, ok := errors.AsType[*auth.AwaitedKey](err); ok {
		slot.release()
		ctx = awaited.Wait(ctx)
		if err := slot.acquire(); err != nil {
			return auth.Principal{}, err
		}
		principal, err = authenticate(ctx, r.Header)
	}
	if refusal, ok := errors.AsType[*auth.Refusal](err); ok {
		o.Observer.CountRefusal(string(refusal.Cause))
		span.SetAttributes(attribute.String("mfa.cause", string(refusal.Cause)))
	} else if err != nil {
		span.SetStatus(codes.Error, "")
	}
	return principal, err
}

// noOperation returns the error for a path that is not in the document, or for a method that
// the path does not have: OPTIONS too, which Echo would answer itself.
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

// validate checks the request against the document, but for security: the filter would be
// content with one valid credential of several. Authentication has checked all of them.
func validate(c echo.Context, route *routers.Route) error {
	if operation := route.Operation; operation.RequestBody == nil && len(operation.Parameters)+len(route.PathItem.Parameters) == 0 {
		return nil // there is nothing to check
	}
	if _, err := url.ParseQuery(c.Request().URL.RawQuery); err != nil {
		return errMalformedQuery // The filter would pass over the faulty part.
	}
	params := map[string]string{}
	for i, name := range c.ParamNames() {
		params[name] = c.ParamValues()[i]
	}
	return openapi3filter.ValidateRequest(c.Request().Context(), &openapi3filter.RequestValidationInput{
		Request:    c.Request(),
		PathParams: params,
		Route:      route,
		Options: &openapi3filter.Options{
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
			KeepValidatedValue: true, // Echo would bind CODE to code, which the filter has not checked.
		},
	})
}
