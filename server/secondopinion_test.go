package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/getkin/kin-openapi/routers"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"

	"quiva.ai/mfa/gen"
)

// newSecondOpinion returns a validator that has its own parser, router and schemas: a
// fault of kin-openapi, which the service checks requests with, cannot hide one of the
// service. In strict mode it takes nothing that the document does not name.
func newSecondOpinion(t testing.TB) validator.Validator {
	t.Helper()
	text, err := gen.GetSpecJSON()
	if err != nil {
		t.Fatal(err)
	}
	document, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	second, errs := validator.NewValidator(document, config.WithStrictMode(), config.WithStrictIgnoredHeaders(undeclaredHeaders...))
	if errs != nil {
		t.Fatal(errs)
	}
	return second
}

// secondOpinion returns what libopenapi-validator finds wrong with an answer, or nil. An
// answer to a request that no operation is for has to be unknown to it.
func (c *contract) secondOpinion(r *http.Request, response *http.Response, body []byte) error {
	answer := *response
	answer.Body = http.NoBody
	if len(body) > 0 {
		answer.Body = io.NopCloser(bytes.NewReader(body))
	}
	valid, found := c.second.ValidateHttpResponse(r, &answer)
	_, _, err := c.router.FindRoute(r)
	if errors.Is(err, routers.ErrPathNotFound) || errors.Is(err, routers.ErrMethodNotAllowed) {
		if valid {
			return fmt.Errorf("libopenapi-validator: status %d is declared", response.StatusCode)
		}
		return nil
	}
	var faults []error
	for _, fault := range found {
		faults = append(faults, fmt.Errorf("libopenapi-validator: %w", fault))
	}
	return errors.Join(faults...)
}
