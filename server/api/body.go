package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/labstack/echo/v4"
)

const (
	// maxBody is the longest request body in bytes.
	maxBody = 64 << 10

	// maxBodyTime bounds the wait for a body.
	maxBodyTime = time.Second
)

// errUnreadableBody says that a body was malformed, cut off or late.
var errUnreadableBody = errors.New("request body was not read")

// bodyWasRead is the key of a value in Echo's context. The value is there once the body was
// read.
const bodyWasRead = "body_was_read"

// readBody reads the whole body into memory, within maxBody and maxBodyTime. If the operation
// has no body, readBody drops it: the limit holds, but a body that is malformed, cut off or
// late makes no difference to the response.
//
// A body is one JSON value in UTF-8 without duplicate names. The filter and the handler are more
// lenient: they ignore text after the value, take the last of two equal names, and read bytes that
// are not UTF-8 as U+FFFD. So an account's id could be read as another one.
func (o *operations) readBody(c echo.Context, operation *openapi3.Operation) error {
	r, w := c.Request(), c.Response().Writer
	if r.ContentLength > maxBody {
		return &http.MaxBytesError{Limit: maxBody}
	}
	// Only a test's recorder has no connection to set a deadline on. net/http lifts the deadline
	// when the body has come.
	_ = http.NewResponseController(w).SetReadDeadline(o.Now().Add(maxBodyTime))
	var body bytes.Buffer
	sink := io.Discard
	if operation.RequestBody != nil {
		sink = &body
	}
	_, err := io.Copy(sink, http.MaxBytesReader(w, r.Body, maxBody))
	switch {
	case err == nil:
	case is[*http.MaxBytesError](err):
		return err
	case operation.RequestBody != nil:
		return fmt.Errorf("%w: %w", errUnreadableBody, err)
	default:
		// net/http takes a failed read for a client that has left, and cancels the request's
		// context. Whether the client is there shows when the response is written.
		c.SetRequest(r.WithContext(context.WithoutCancel(r.Context())))
	}
	c.Request().Body, c.Request().ContentLength = io.NopCloser(&body), int64(body.Len())
	c.Set(bodyWasRead, true)
	if body.Len() > 0 && !jsontext.Value(body.Bytes()).IsValid() {
		return errUnreadableBody
	}
	return nil
}
