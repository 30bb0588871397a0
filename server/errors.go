package main

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/labstack/echo/v4"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

// retryAfter is what clients are told to wait, in seconds, when we could not tell.
const retryAfter = 1

// answer is what a client sees of an error: a status of the OpenAPI document (404
// and 405 are for requests that no operation is for) and one sentence.
type answer struct {
	status  int
	message string
}

// answerFor is the one table from errors to answers. What is not in it is a fault
// of ours, and none of the client's business.
func answerFor(err error) answer {
	for _, row := range []struct {
		matches bool
		answer
	}{
		{is[*auth.Refusal](err), answer{http.StatusUnauthorized, "Sign in, or send a valid API key, to use this service."}},
		{is[*http.MaxBytesError](err), answer{http.StatusRequestEntityTooLarge, "The request body is too large."}},
		{is[*openapi3filter.RequestError](err), answer{http.StatusBadRequest, "The request does not match the description of the API."}},
		{errors.Is(err, store.ErrUnavailable) || errors.Is(err, auth.ErrKeysUnavailable) || errors.Is(err, errOverloaded), answer{http.StatusServiceUnavailable, "The service is temporarily unavailable; please try again."}},
		{errors.Is(err, echo.ErrNotFound), answer{http.StatusNotFound, "There is nothing at this address."}},
		{errors.Is(err, echo.ErrMethodNotAllowed), answer{http.StatusMethodNotAllowed, "This address does not support the request's method."}},
	} {
		if row.matches {
			return row.answer
		}
	}
	return answer{http.StatusInternalServerError, "Something went wrong on our side."}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// Another body for upstream's own refusal than the one of every error breaks the build.
var _ = gen.GenerateTOTPKey401JSONResponse{Body: gen.Error{}}

// answerError writes the answer for err, unless an answer was begun already. It
// is Echo's HTTPErrorHandler.
func answerError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	a := answerFor(err)
	header := c.Response().Header()
	if c.Request().Body != http.NoBody {
		// The body was not read. To use the connection again, net/http would await it
		// before it sends the answer, from strangers too.
		header.Set(echo.HeaderConnection, "close")
	}
	switch a.status {
	case http.StatusUnauthorized:
		refusal, _ := errors.AsType[*auth.Refusal](err)
		header.Set(echo.HeaderWWWAuthenticate, refusal.Challenge())
	case http.StatusRequestEntityTooLarge:
		header.Set(echo.HeaderConnection, "close") // the rest of the body is not read
	case http.StatusServiceUnavailable:
		header.Set(echo.HeaderRetryAfter, strconv.Itoa(retryAfter))
	}
	// A failed write means that the client is gone: nobody is left to tell.
	_ = c.JSON(a.status, gen.Error(struct{ Error string }{a.message}))
}
