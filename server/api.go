package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"quiva.ai/mfa/gen"
)

// apiConfig is what the API is made of.
type apiConfig struct {
	document      *openapi3.T
	authenticator authenticator
	operations    gen.StrictServerInterface
	maxInFlight   int // requests, at least 1
	trusted       trustedProxies
	watch         *observer
	now           func() time.Time
	log           *slog.Logger
}

// newAPI returns the handler of the API listener. A request passes, in this order:
//
//	Echo's router          finds the route
//	watch.wholeRequest     counts it, times it, traces it
//	logRequests            origin; writes the answer for an error; one log line
//	harden                 headers that every answer has
//	recoverPanic           a panic becomes an error
//	operations.middleware  operation, overload, authentication, body size, time limit, validation
//	gen                    the generated handler
//	ops                    package mfa
//
// Any of them may return an error; answerError alone turns it into an answer.
func newAPI(c apiConfig) (http.Handler, error) {
	e := echo.New()
	e.HTTPErrorHandler = answerError
	gen.RegisterHandlers(e, gen.NewStrictHandler(c.operations, nil))
	matched, err := matchOperations(c.document, e.Routes())
	if err != nil {
		return nil, err
	}
	guard := &operations{
		byRoute:       matched,
		authenticator: observedAuthenticator{c.watch, c.authenticator},
		now:           c.now,
		inFlight:      make(chan struct{}, c.maxInFlight),
		overloaded:    c.watch.overloaded,
	}
	// Put together here and not by Echo, which would do so anew for each request.
	handle := guard.middleware(func(c echo.Context) error { return c.Handler()(c) })
	handle = c.watch.wholeRequest(matched)(logRequests(c.trusted, c.now, c.log)(harden(recoverPanic()(handle))))
	e.Use(func(echo.HandlerFunc) echo.HandlerFunc { return handle })
	return e, nil
}

// What is the same in every answer need not be made for each of them.
var noStore, noSniff = []string{"no-store"}, []string{"nosniff"}

// harden sets what every answer carries: nothing here may be kept by a cache
// (RFC 9111 section 5.2.2.5) or taken for another type than it says. A request with a
// transfer coding is the last one of its connection if it has a Content-Length as well, or
// is of HTTP/1.0: somebody on the way may have read it in another way (RFC 9112 section
// 6.1). net/http drops the length, and of HTTP/1.0 the coding, without a word, so that it is
// the last one with any coding, and with HTTP/1.0.
func harden(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		header := c.Response().Header()
		header["Cache-Control"], header["X-Content-Type-Options"] = noStore, noSniff
		if c.Request().TransferEncoding != nil || !c.Request().ProtoAtLeast(1, 1) {
			header.Set(echo.HeaderConnection, "close")
		}
		return next(c)
	}
}

// panicError is a recovered panic; it is logged with its stack and answered like
// any other fault.
type panicError struct {
	err   error
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.err, e.stack) }

func recoverPanic() echo.MiddlewareFunc {
	return middleware.RecoverWithConfig(middleware.RecoverConfig{
		DisableStackAll:     true,
		DisableErrorHandler: true, // the error goes on to logRequests
		LogErrorFunc: func(_ echo.Context, err error, stack []byte) error {
			return &panicError{err: err, stack: stack}
		},
	})
}
