// Package apitest checks the API's responses against the OpenAPI document, in the tests of any
// package. Contract is the transport of a test's client, so no test can forget the check.
package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"quiva.ai/mfa/gen"
)

// Contract is an http.RoundTripper that fails the test for a response which breaks the OpenAPI
// document. It is safe for concurrent use.
type Contract struct {
	t        testing.TB
	document *openapi3.T
	router   routers.Router
	next     http.RoundTripper
	coverage *Coverage
}

// embedded returns a Contract that lacks what belongs to a test. All tests of a binary share its
// document: reading that takes as long as starting the service.
var embedded = sync.OnceValues(func() (Contract, error) {
	document, err := gen.GetSpec()
	if err != nil {
		return Contract{}, err
	}
	if err := document.Validate(context.Background()); err != nil {
		return Contract{}, err
	}
	document.Servers = nil // the service under test is not at upstream's address
	router, err := gorillamux.NewRouter(document)
	return Contract{document: document, router: router}, err
})

// NewContract returns a Contract for the embedded document. It sends requests through next
// and counts the responses in coverage, which may be nil.
func NewContract(t testing.TB, next http.RoundTripper, coverage *Coverage) *Contract {
	t.Helper()
	c, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	c.t, c.next, c.coverage = t, next, coverage
	return &c
}

// RoundTrip implements http.RoundTripper.
func (c *Contract) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	c.Check(r, response, body)
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// Check fails the test if the response breaks the document, and counts the response.
func (c *Contract) Check(r *http.Request, response *http.Response, body []byte) {
	c.t.Helper()
	if err := c.Fault(r, response, body); err != nil {
		c.t.Errorf("%s %s: response %d breaks the contract: %v\n%v\n%s", r.Method, r.URL.Path, response.StatusCode, err, response.Header, body)
	}
	if route, _, err := c.router.FindRoute(r); err == nil && c.coverage != nil {
		c.coverage.add(route.Operation.OperationID, response)
	}
}

// undeclaredHeaders may be on any response without a declaration: they concern the message,
// not the operation.
var undeclaredHeaders = []string{"Cache-Control", "Connection", "Content-Length", "Content-Type", "Date", "X-Content-Type-Options"}

var requestIDPattern = regexp.MustCompile(`^[0-9A-Za-z._:#/|;=-]{16,128}$`)

// Fault returns what is wrong with a response, or nil.
func (c *Contract) Fault(r *http.Request, response *http.Response, body []byte) error {
	faults := []error{
		wantHeader(response.Header, "Cache-Control", "no-store"),
		wantHeader(response.Header, "X-Content-Type-Options", "nosniff"),
		wantHeader(response.Header, "Content-Type", "application/json"),
	}
	if id := response.Header.Get("X-Request-Id"); !requestIDPattern.MatchString(id) {
		faults = append(faults, fmt.Errorf("header X-Request-Id is %q", id))
	}
	route, params, err := c.router.FindRoute(r)
	switch {
	case errors.Is(err, routers.ErrPathNotFound):
		faults = append(faults, c.withoutOperation(r, response, body, http.StatusNotFound, "X-Request-Id"))
	case errors.Is(err, routers.ErrMethodNotAllowed):
		faults = append(faults,
			c.withoutOperation(r, response, body, http.StatusMethodNotAllowed, "X-Request-Id", "Allow"),
			wantHeader(response.Header, "Allow", strings.Join(c.methods(r), ", ")))
	case err != nil:
		faults = append(faults, err)
	default:
		faults = append(faults,
			onlyDeclared(route.Operation, response, body),
			openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
				RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
				Status:                 response.StatusCode,
				Header:                 response.Header,
				Body:                   io.NopCloser(bytes.NewReader(body)),
				Options:                &openapi3filter.Options{IncludeResponseStatus: true},
			}))
	}
	return errors.Join(faults...)
}

// methods returns the methods that the document declares for the request's path, sorted.
func (c *Contract) methods(r *http.Request) []string {
	var declared []string
	for _, method := range []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"} {
		other := *r
		other.Method = method
		if _, _, err := c.router.FindRoute(&other); err == nil {
			declared = append(declared, method)
		}
	}
	return declared
}

// withoutOperation checks the response to a request without an operation: it has the status
// and the Error schema of the document.
func (c *Contract) withoutOperation(r *http.Request, response *http.Response, body []byte, status int, headers ...string) error {
	if response.StatusCode != status {
		return fmt.Errorf("status %d; want %d", response.StatusCode, status)
	}
	if err := onlyHeaders(response.Header, headers); err != nil || r.Method == http.MethodHead {
		return err
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	schema := c.document.Components.Schemas["Error"]
	return errors.Join(schema.Value.VisitJSON(value), onlyMembers("body", schema, value))
}

// onlyDeclared checks that the response has no header and no member that the document does
// not declare, and that its body is one JSON value. kin-openapi allows all of these.
func onlyDeclared(operation *openapi3.Operation, response *http.Response, body []byte) error {
	declared := operation.Responses.Status(response.StatusCode)
	if declared == nil {
		return nil // ValidateResponse reports the status
	}
	var headers []string
	for name := range declared.Value.Headers {
		headers = append(headers, name)
	}
	err := onlyHeaders(response.Header, headers)
	content := declared.Value.Content.Get("application/json")
	if content == nil || content.Schema == nil {
		return err
	}
	var value any
	if malformed := json.Unmarshal(body, &value); malformed != nil {
		return errors.Join(err, malformed)
	}
	return errors.Join(err, onlyMembers("body", content.Schema, value))
}

func onlyHeaders(header http.Header, declared []string) error {
	for name, values := range header {
		known := slices.ContainsFunc(slices.Concat(declared, undeclaredHeaders), func(d string) bool { return strings.EqualFold(d, name) })
		if !known {
			return fmt.Errorf("undeclared header %s", name)
		}
		if len(values) > 1 {
			return fmt.Errorf("header %s is there %d times", name, len(values))
		}
	}
	return nil
}

// onlyMembers checks that value has no member that the schema does not declare.
func onlyMembers(path string, schema *openapi3.SchemaRef, value any) error {
	switch value := value.(type) {
	case map[string]any:
		var faults []error
		for name, member := range value {
			property := schema.Value.Properties[name]
			if property == nil {
				faults = append(faults, fmt.Errorf("undeclared member %s.%s", path, name))
				continue
			}
			faults = append(faults, onlyMembers(path+"."+name, property, member))
		}
		return errors.Join(faults...)
	case []any:
		if schema.Value.Items == nil {
			return nil
		}
		var faults []error
		for i, item := range value {
			faults = append(faults, onlyMembers(fmt.Sprintf("%s[%d]", path, i), schema.Value.Items, item))
		}
		return errors.Join(faults...)
	}
	return nil
}

func wantHeader(header http.Header, name, want string) error {
	if got := header.Get(name); got != want {
		return fmt.Errorf("header %s is %q; want %q", name, got, want)
	}
	return nil
}
