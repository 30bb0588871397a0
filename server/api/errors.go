package api

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/labstack/echo/v4"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/store"
)

// errorResponse is what a client sees of an error: a status and one sentence. The OpenAPI
// document declares the status, except 404 and 405 for a request without an operation.
type errorResponse struct {
	status  int
	message string
	reason  mfa.Reason // for programs; empty: the status says enough

	retryAfter time.Duration // 0: none
}

// responseTo is the one table from errors to responses. An error that is not in it is a
// fault of ours: the log has it, and the client learns nothing of it.
func responseTo(err error) errorResponse {
	switch {
	case is[*auth.Refusal](err):
		return errorResponse{status: http.StatusUnauthorized, message: "Sign in, or send a valid API key, to use this service."}
	case errors.Is(err, auth.ErrPersonRequired):
		return errorResponse{status: http.StatusForbidden, message: "An API key cannot do this: sign in and try again.", reason: "step_up"}
	case is[*mfa.Refusal](err):
		return refusalResponse(err)
	case is[*http.MaxBytesError](err):
		return errorResponse{status: http.StatusRequestEntityTooLarge, message: "The request body is too large."}
	case is[*openapi3filter.RequestError](err), errors.Is(err, errUnreadableBody), errors.Is(err, errMalformedQuery), isBindError(err):
		return errorResponse{status: http.StatusBadRequest, message: "The request does not match the description of the API."}
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, auth.ErrKeysUnavailable), errors.Is(err, errOverloaded):
		return errorResponse{status: http.StatusServiceUnavailable, message: "The service is temporarily unavailable; please try again.", retryAfter: time.Second}
	case errors.Is(err, echo.ErrNotFound):
		return errorResponse{status: http.StatusNotFound, message: "There is nothing at this address."}
	case errors.Is(err, echo.ErrMethodNotAllowed):
		return errorResponse{status: http.StatusMethodNotAllowed, message: "This address does not support the request's method."}
	}
	return errorResponse{status: http.StatusInternalServerError, message: "Something went wrong on our side."}
}

// refusalResponse is responseTo for refusals of the operations.
func refusalResponse(err error) errorResponse {
	refusal, _ := errors.AsType[*mfa.Refusal](err)
	status, message := http.StatusBadRequest, ""
	switch refusal.Reason {
	case mfa.Malformed:
		message = "This is not a valid code; please check it and try again."
	case mfa.WrongCode:
		message = "The code is wrong; please enter the code that your app shows now."
		if refusal.Recovery {
			message = "This recovery code is wrong; please check it, or enter another one."
		}
	case mfa.ClockOff:
		message = clockMessage(refusal.Ahead)
	case mfa.NotPending:
		message = "This key has expired or was replaced; please request a new one."
	case mfa.NotEnrolled:
		message = "This factor is not set up for the account."
	case mfa.Replayed:
		message = "This code was used already; please wait for the next one."
		if refusal.Recovery {
			message = "This recovery code was used already; please enter another one."
		}
	case mfa.Locked:
		status, message = http.StatusTooManyRequests, "Too many wrong codes; please wait, or use a recovery code."
		if refusal.Recovery {
			message = "Too many wrong recovery codes; please wait, or use a code of your app."
		}
	case mfa.OtherAccount:
		status, message = http.StatusForbidden, "You can do this for your own account only."
	}
	return errorResponse{status, message, refusal.Reason, refusal.RetryAfter}
}

// clockMessage says in whole minutes, at least one, how far the clock of the device is off.
func clockMessage(ahead time.Duration) string {
	direction := "fast"
	if ahead < 0 {
		direction = "slow"
	}
	minutes := max(1, int(ahead.Abs().Round(time.Minute)/time.Minute))
	unit := "minutes"
	if minutes == 1 {
		unit = "minute"
	}
	return fmt.Sprintf("The clock of your device is about %d %s %s; please correct it and try again.", minutes, unit, direction)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// isBindError tells whether a generated handler could not decode a request that matches the
// document, such as a number that Go's type cannot hold.
func isBindError(err error) bool {
	bind, ok := errors.AsType[*echo.HTTPError](err)
	return ok && bind.Code == http.StatusBadRequest
}

// If the document gives a 401 another body than every other error, this breaks the build.
var _ = gen.GenerateTOTPKey401JSONResponse{Body: gen.Error{}}

// writeError writes the response to err, unless a response has begun. It is Echo's
// HTTPErrorHandler.
func writeError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	response := responseTo(err)
	header := c.Response().Header()
	if c.Request().Body != http.NoBody && c.Get(bodyWasRead) == nil {
		// To keep the connection, net/http would read the body before it sends the response,
		// even a stranger's.
		header.Set(echo.HeaderConnection, "close")
	}
	if refusal, refused := errors.AsType[*auth.Refusal](err); refused {
		header.Set(echo.HeaderWWWAuthenticate, refusal.Challenge())
	}
	if response.retryAfter > 0 { // A client that waits that long is not early.
		header.Set(echo.HeaderRetryAfter, strconv.Itoa(int((response.retryAfter+time.Second-1)/time.Second)))
	}
	// The literal breaks the build if Error gets a member that is not set here.
	body := gen.Error(struct{ Error, Reason string }{response.message, string(response.reason)})
	_ = c.JSON(response.status, body) // a failed write means that the client is gone
}
