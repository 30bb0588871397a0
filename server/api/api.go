// Package api takes a request through logging, authentication and validation to its
// operation, and writes the response.
//
// New puts the way together; api.go shows all of it. Each step may return an error. One
// table, in errors.go, knows which status and which sentence an error is; writeError alone
// writes them.
package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/telemetry"
)

// Config is what the API is made of. All of it is required, except Proxies.
type Config struct {
	Document      *openapi3.T // the document that the routes were generated from
	Authenticator *auth.Authenticator
	Operations    gen.StrictServerInterface
	MaxInFlight   int // requests, at least 1
	Proxies       TrustedProxies
	Observer      *telemetry.Observer
	Now           func() time.Time
	Log           *slog.Logger
	AuditLog      *slog.Logger // writes lines of every level: those with an audit event
}

// New returns the handler of the API. It fails if routes and operations do not match. A
// request passes these steps, from the outside to the inside:
//
//	Echo's router       finds the route
//	operations.observe  duration, status, trace
//	requests.log        request id and address; writes the response to an error; one log line
//	setHeaders          headers of every response
//	recoverPanic        turns a panic into an error
//	operations.check    operation, overload, authentication, body, deadline, validation
//	callOperation       the generated handler, which must write a response
//	Config.Operations   package mfa
func New(c Config) (http.Handler, error) {
	e := echo.New()
	e.HTTPErrorHandler = writeError
	gen.RegisterHandlers(e, gen.NewStrictHandler(c.Operations, nil))
	matched, err := matchOperations(c.Document, e.Routes())
	if err != nil {
		return nil, err
	}
	for _, route := range matched {
		c.Observer.AddOperation(route.Operation.OperationID)
	}
	operations := &operations{Config: c, byRoute: matched, slots: newSlots(c.MaxInFlight, c.Observer.CountOverload)}
	requests := &requestLogger{proxies: c.Proxies, now: c.Now, logger: c.Log, auditLogger: c.AuditLog}
	handler := operations.observe(requests.log(setHeaders(recoverPanic(operations.check(callOperation)))))
	// Echo would put the middleware together anew for each request.
	e.Use(func(echo.HandlerFunc) echo.HandlerFunc { return handler })
	return e, nil
}

// errNoResponse says that an operation returned neither a response nor an error. net/http
// would send an empty 200, which a client may take for a success.
var errNoResponse = errors.New("operation returned no response")

// callOperation calls the generated handler of the request's route.
func callOperation(c echo.Context) error {
	if err := c.Handler()(c); err != nil {
		return err
	}
	if !c.Response().Committed {
		return errNoResponse
	}
	return nil
}

// setHeaders sets the headers of every response. No cache may keep a response (RFC 9111,
// section 5.2.2.5), and no browser may take it for another type.
//
// A request with a transfer coding is the last on its connection if it has a Content-Length
// too or is of HTTP/1.0: a proxy may have read it in another way (RFC 9112, section 6.1).
// net/http drops both facts silently, so any transfer coding and HTTP/1.0 end the connection.
func setHeaders(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		header := c.Response().Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		if c.Request().TransferEncoding != nil || !c.Request().ProtoAtLeast(1, 1) {
			header.Set(echo.HeaderConnection, "close")
		}
		return next(c)
	}
}

// observe measures and traces the request. Requests without an operation count together.
func (o *operations) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		operation, path := "none", ""
		if route := o.byRoute[routeKey{c.Request().Method, c.Path()}]; route != nil {
			operation, path = route.Operation.OperationID, route.Path
		}
		r, end := o.Observer.StartRequest(c.Request(), knownMethod(c.Request().Method), operation, path)
		c.SetRequest(r)
		defer func() { end(c.Response().Status) }()
		return next(c)
	}
}

// panicError is a recovered panic with its stack. It is logged whole; the client gets a 500.
type panicError struct {
	err   error
	stack []byte
}

// Error implements error.
func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.err, e.stack) }

func recoverPanic(next echo.HandlerFunc) echo.HandlerFunc {
	return middleware.RecoverWithConfig(middleware.RecoverConfig{
		DisableStackAll:     true,
		DisableErrorHandler: true, // the error goes on to requests.log
		LogErrorFunc: func(_ echo.Context, err error, stack []byte) error {
			return &panicError{err: err, stack: stack}
		},
	})(next)
}
