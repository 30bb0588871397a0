package main

import (
	"encoding/json"
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
	status int
	body   []byte
}

func newAnswer(status int, message string) answer {
	body, err := json.Marshal(gen.Error(struct{ Error string }{message}))
	if err != nil {
		panic(err) // at the program's start
	}
	return answer{status, append(body, '\n')}
}

// The answers are made once: with bad tokens by the thousand, that counts.
var (
	unauthorized = newAnswer(http.StatusUnauthorized, "Sign in, or send a valid API key, to use this service.")
	tooLarge     = newAnswer(http.StatusRequestEntityTooLarge, "The request body is too large.")
	badRequest   = newAnswer(http.StatusBadRequest, "The request does not match the description of the API.")
	unavailable  = newAnswer(http.StatusServiceUnavailable, "The service is temporarily unavailable; please try again.")
	notFound     = newAnswer(http.StatusNotFound, "There is nothing at this address.")
	notAllowed   = newAnswer(http.StatusMethodNotAllowed, "This address does not support the request's method.")
	ourFault     = newAnswer(http.StatusInternalServerError, "Something went wrong on our side.")
)

// answerFor is the one table from errors to answers. What is not in it is a fault
// of ours, and none of the client's business.
func answerFor(err error) answer {
	switch {
	case is[*auth.Refusal](err):
		return unauthorized
	case is[*http.MaxBytesError](err):
		return tooLarge
	case is[*openapi3filter.RequestError](err):
		return badRequest
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, auth.ErrKeysUnavailable), errors.Is(err, errOverloaded):
		return unavailable
	case errors.Is(err, echo.ErrNotFound):
		return notFound
	case errors.Is(err, echo.ErrMethodNotAllowed):
		return notAllowed
	}
	return ourFault
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
	case http.StatusServiceUnavailable:
		header.Set(echo.HeaderRetryAfter, strconv.Itoa(retryAfter))
	}
	// A failed write means that the client is gone: nobody is left to tell.
	_ = c.JSONBlob(a.status, a.body)
}
