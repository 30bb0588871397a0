package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/speakeasy-api/openapi/linter"
	"github.com/speakeasy-api/openapi/openapi"
	openapilinter "github.com/speakeasy-api/openapi/openapi/linter"

	"quiva.ai/mfa/store/storetest"
)

// printedDocument is what `mfa openapi` prints with args.
func printedDocument(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, status := (&service{t: t}).command(append([]string{"openapi"}, args...)...)
	if status != 0 || stderr != "" {
		t.Fatalf("openapi %q: status %d, %s", args, status, stderr)
	}
	return stdout
}

func TestTheDocumentIsValidAndTheSameInBothFormats(t *testing.T) {
	read := map[string]string{}
	for format, first := range map[string]string{"yaml": "components:\n", "json": `{"components":{"`} {
		text := printedDocument(t, "--format", format)
		document, err := openapi3.NewLoader().LoadFromData([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if err := document.Validate(t.Context()); err != nil || document.OpenAPI != "3.0.3" {
			t.Errorf("%s: OpenAPI %s, %v; want 3.0.3 and valid", format, document.OpenAPI, err)
		}
		if operation := document.Paths.Find(generatePath).GetOperation(http.MethodPost); operation.OperationID != "generateTotpKey" || operation.Responses.Status(503) == nil {
			t.Errorf("%s: POST %s is %+v; want generateTotpKey with the overlay's 503", format, generatePath, operation)
		}
		if !strings.HasPrefix(text, first) || !strings.HasSuffix(text, "\n") {
			t.Errorf("%s: begins with %.20q; want %q, and whole lines", format, text, first)
		}
		again, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		read[format] = string(again)
	}
	if diff := cmp.Diff(read["json"], read["yaml"]); diff != "" {
		t.Errorf("the YAML says something else (-JSON +YAML):\n%s", diff)
	}
	if printedDocument(t) != printedDocument(t, "--format", "yaml") {
		t.Error("without --format it is not YAML")
	}
}

// The linter's other rules ask for what upstream's document does not have: limits and
// examples for every schema, headers of a rate limit, a licence.
func TestTheDocumentPassesTheLintersRecommendedRules(t *testing.T) {
	document, invalid, err := openapi.Unmarshal(t.Context(), strings.NewReader(printedDocument(t)))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := openapilinter.NewLinter(&linter.Config{Extends: []string{"recommended"}})
	if err != nil {
		t.Fatal(err)
	}
	found, err := rules.Lint(t.Context(), linter.NewDocumentInfo(document, "openapi.yaml"), invalid, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range found.Results {
		t.Error(finding)
	}
}

func TestTheAdminListenerServesTheDocumentAsItIsPrinted(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	got := s.admin("/openapi.json")
	if want := printedDocument(t, "--format", "json"); got.status != http.StatusOK || got.body != want || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("/openapi.json = %d %s %.100s; want 200, application/json, %.100s", got.status, got.header.Get("Content-Type"), got.body, want)
	}
	if got := s.send(http.MethodGet, "/openapi.json", nil, http.NoBody); got.status != http.StatusNotFound {
		t.Errorf("/openapi.json of the API = %d; want 404", got.status)
	}
}
