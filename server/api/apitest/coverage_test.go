package apitest

import (
	"net/http"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
)

func TestCoverage_Missing(t *testing.T) {
	header := func(name string) openapi3.Headers { return openapi3.Headers{name: &openapi3.HeaderRef{}} }
	document := &openapi3.T{Paths: openapi3.NewPaths(openapi3.WithPath("/", &openapi3.PathItem{Post: &openapi3.Operation{
		OperationID: "op",
		Responses: openapi3.NewResponses(
			openapi3.WithStatus(200, &openapi3.ResponseRef{Value: &openapi3.Response{Headers: header("left")}}),
			openapi3.WithStatus(401, &openapi3.ResponseRef{Value: &openapi3.Response{}}),
			openapi3.WithStatus(503, &openapi3.ResponseRef{Value: &openapi3.Response{Headers: header("Retry-After")}}),
		),
	}}))}
	coverage := &Coverage{}
	if got := len(coverage.Missing(document)); got != 5 {
		t.Errorf("%d parts are missing at first; want all 5", got)
	}
	coverage.add("op", &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Left": {"1"}}})
	coverage.add("op", &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Left": {"1"}}})
	coverage.add("other", &http.Response{StatusCode: http.StatusUnauthorized})
	want := []string{
		"op 401 is declared, and no test produced it",
		"op 503 Retry-After is declared, and no test produced it",
	}
	if diff := cmp.Diff(want, coverage.Missing(document)); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}
