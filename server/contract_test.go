package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	validator "github.com/pb33f/libopenapi-validator"
)

// contract holds answers against the OpenAPI document. It is the transport of the
// client that every test gets, so no test can forget it.
type contract struct {
	t        testing.TB
	document *openapi3.T
	router   routers.Router
	second   validator.Validator
	next     http.RoundTripper
	produced *coverage // where the answers count, or nil
}

func newContract(t testing.TB, document *openapi3.T, next http.RoundTripper) *contract {
	t.Helper()
	if err := document.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	local := *document
	local.Servers = nil // the service under test is not at upstream's address
	document = &local
	router, err := gorillamux.NewRouter(document)
	if err != nil {
		t.Fatal(err)
	}
	return &contract{t: t, document: document, router: router, second: newSecondOpinion(t), next: next}
}

// RoundTrip implements http.RoundTripper.
func (c *contract) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		return nil, err
	}
	c.hold(r, response, body)
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// hold fails the test for an answer that breaks the contract, and has it counted.
func (c *contract) hold(r *http.Request, response *http.Response, body []byte) {
	if fault := errors.Join(c.fault(r, response, body), c.secondOpinion(r, response, body)); fault != nil {
		c.t.Errorf("%s %s: answer %d breaks the contract: %v\n%v\n%s", r.Method, r.URL.Path, response.StatusCode, fault, response.Header, body)
	}
	if route, _, err := c.router.FindRoute(r); err == nil && c.produced != nil {
		c.produced.add(c.t.Name(), route.Operation.OperationID, response)
	}
}

// undeclaredHeaders are those that any answer may have without the document
// saying so: they concern the message, not the operation.
var undeclaredHeaders = []string{"Cache-Control", "Connection", "Content-Length", "Content-Type", "Date", "X-Content-Type-Options"}

// fault returns what is wrong with an answer, or nil. Of what the document says,
// kin-openapi is the judge.
func (c *contract) fault(r *http.Request, response *http.Response, body []byte) error {
	faults := []error{
		wantHeader(response.Header, "Cache-Control", "no-store"),
		wantHeader(response.Header, "X-Content-Type-Options", "nosniff"),
		wantHeader(response.Header, "Content-Type", "application/json"),
		wantRequestID(response.Header),
	}
	route, params, err := c.router.FindRoute(r)
	switch {
	case errors.Is(err, routers.ErrPathNotFound):
		faults = append(faults, c.noOperation(r, response, body, http.StatusNotFound, "X-Request-Id"))
	case errors.Is(err, routers.ErrMethodNotAllowed):
		faults = append(faults,
			c.noOperation(r, response, body, http.StatusMethodNotAllowed, "X-Request-Id", "Allow"),
			wantHeader(response.Header, "Allow", "POST"))
	case err != nil:
		faults = append(faults, err)
	default:
		faults = append(faults, declaredHeaders(route.Operation, response), openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
			Status:                 response.StatusCode,
			Header:                 response.Header,
			Body:                   io.NopCloser(bytes.NewReader(body)),
			Options:                &openapi3filter.Options{IncludeResponseStatus: true},
		}))
	}
	return errors.Join(faults...)
}

// noOperation checks the answer to a request that the document has no operation
// for: the given status with the document's Error schema.
func (c *contract) noOperation(r *http.Request, response *http.Response, body []byte, status int, headers ...string) error {
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
	return c.document.Components.Schemas["Error"].Value.VisitJSON(value)
}

func declaredHeaders(operation *openapi3.Operation, response *http.Response) error {
	var declared []string
	if d := operation.Responses.Status(response.StatusCode); d != nil {
		for name := range d.Value.Headers {
			declared = append(declared, name)
		}
	}
	return onlyHeaders(response.Header, declared)
}

func onlyHeaders(header http.Header, declared []string) error {
	for name, values := range header {
		known := slices.ContainsFunc(slices.Concat(declared, undeclaredHeaders), func(d string) bool { return strings.EqualFold(d, name) })
		if !known || len(values) != 1 {
			return fmt.Errorf("header %s: %q is not declared, or not once", name, values)
		}
	}
	return nil
}

func wantHeader(header http.Header, name, want string) error {
	if got := header.Get(name); got != want {
		return fmt.Errorf("header %s is %q; want %q", name, got, want)
	}
	return nil
}

// wantRequestID holds for answers that the document does not have as well.
func wantRequestID(header http.Header) error {
	if id := header.Get("X-Request-Id"); !requestIDPattern.MatchString(id) {
		return fmt.Errorf("header X-Request-Id is %q", id)
	}
	return nil
}

var requestIDPattern = regexp.MustCompile(`^[0-9A-Za-z-]{16,64}$`)

// TestContractFindsFaults shows that the client would notice: each row is a sound
// answer with one fault.
func TestContractFindsFaults(t *testing.T) {
	const path, ok, refused = "/accounts/generate-totp-key", `{"data":{"otpauth_url":"u","secret":"s"}}`, `{"error":"no"}`
	for _, c := range []struct {
		name, method, path string
		status             int
		header             map[string]string // "" removes
		body               string
		want, second       string // what the two validators find; "" is nothing
	}{
		{"sound", "POST", path, 200, nil, ok, "", ""},
		{"sound refusal", "POST", path, 401, map[string]string{"Www-Authenticate": `Bearer realm="quiva.ai Gateway"`}, refused, "", ""},
		{"sound 404", "GET", "/", 404, nil, refused, "", ""},
		{"sound 405", "GET", path, 405, map[string]string{"Allow": "POST"}, refused, "", ""},
		{"undeclared status", "POST", path, 418, nil, refused, "status is not supported", "'418' does not exist"},
		{"undeclared header", "POST", path, 200, map[string]string{"X-Powered-By": "x"}, ok, "X-Powered-By", "X-Powered-By"},
		{"header of another status", "POST", path, 200, map[string]string{"Retry-After": "1"}, ok, "Retry-After", "Retry-After"},
		{"header of yet another status", "POST", path, 413, map[string]string{"Retry-After": "1"}, refused, "Retry-After", "Retry-After"},
		{"missing header", "POST", path, 200, map[string]string{"Totp-Key-Expires-In": ""}, ok, "missing", "'Totp-Key-Expires-In' is missing"},
		{"wrong header", "POST", path, 200, map[string]string{"Totp-Key-Expires-In": "-1"}, ok, "minimum", "minimum"},
		{"wrong challenge", "POST", path, 401, map[string]string{"Www-Authenticate": "Basic"}, refused, "regular expression", "does not match pattern"},
		{"wrong content type", "POST", path, 200, map[string]string{"Content-Type": "text/plain"}, ok, "Content-Type", "'text/plain' does not exist"},
		{"cacheable", "POST", path, 200, map[string]string{"Cache-Control": ""}, ok, "Cache-Control", ""},
		{"sniffable", "POST", path, 200, map[string]string{"X-Content-Type-Options": ""}, ok, "X-Content-Type-Options", ""},
		{"missing member", "POST", path, 200, nil, `{}`, `property "data" is missing`, "missing property 'data'"},
		{"undeclared member", "POST", path, 200, nil, `{"data":{},"x":1}`, "", "'x' at '$.body.x' is not declared"}, // JSON Schema allows it
		{"wrong type", "POST", path, 200, nil, `{"data":{"secret":1}}`, "must be a string", "got number, want string"},
		{"no body", "POST", path, 200, nil, ``, "decode", "response object is missing"},
		{"200 where nothing is", "GET", "/", 200, nil, ok, "want 404", ""},
		{"200 beside the path", "POST", path + "/", 200, nil, ok, "want 404", "status 200 is declared"},
		{"wrong method accepted", "GET", path, 200, nil, ok, "want 405", ""},
		{"405 without Allow", "GET", path, 405, nil, refused, "Allow", ""},
		{"404 without request id", "GET", "/", 404, map[string]string{"X-Request-Id": ""}, refused, "X-Request-Id", ""},
		{"request id that is none", "POST", path, 200, map[string]string{"X-Request-Id": "a b"}, ok, "X-Request-Id", "does not match pattern"},
		{"404 without error", "GET", "/", 404, nil, `"x"`, "object", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), c.method, "http://service"+c.path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{"Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}, "Content-Type": {"application/json"}, "X-Request-Id": {"0123456789abcdef"}}
			if c.status == http.StatusOK {
				header.Set("Totp-Key-Expires-In", "1")
			}
			for name, value := range c.header {
				header.Set(name, value)
				if value == "" {
					header.Del(name)
				}
			}
			contract, response := newContract(t, spec(t), nil), &http.Response{StatusCode: c.status, Header: header}
			for want, fault := range map[*string]error{
				&c.want:   contract.fault(r, response, []byte(c.body)),
				&c.second: contract.secondOpinion(r, response, []byte(c.body)),
			} {
				if *want == "" && fault != nil || *want != "" && (fault == nil || !strings.Contains(fault.Error(), *want)) {
					t.Errorf("fault = %v; want one with %q", fault, *want)
				}
			}
		})
	}
}
