package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
)

func TestOpenAPI_IsValidAndTheSameInBothFormats(t *testing.T) {
	read := map[string]string{}
	for format, first := range map[string]string{"yaml": "components:\n", "json": `{"components":{"`} {
		text := mustRun(t, nil, "openapi", "--format", format)
		document, err := openapi3.NewLoader().LoadFromData([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		if err := document.Validate(t.Context()); err != nil || document.OpenAPI != "3.0.3" {
			t.Errorf("%s: OpenAPI %s, %v; want 3.0.3 and valid", format, document.OpenAPI, err)
		}
		operation := document.Paths.Find("/accounts/generate-totp-key").GetOperation(http.MethodPost)
		if operation.OperationID != "generateTotpKey" || operation.Responses.Status(503) == nil {
			t.Errorf("%s: the operation is %+v; want generateTotpKey with the overlay's 503", format, operation)
		}
		if !strings.HasPrefix(text, first) || !strings.HasSuffix(text, "\n") {
			t.Errorf("%s: begins with %.20q; want %q, and a line break at the end", format, text, first)
		}
		again, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		read[format] = string(again)
	}
	if diff := cmp.Diff(read["json"], read["yaml"]); diff != "" {
		t.Errorf("the formats differ (-JSON +YAML):\n%s", diff)
	}
	if mustRun(t, nil, "openapi") != mustRun(t, nil, "openapi", "--format", "yaml") {
		t.Error("the default format is not YAML")
	}
}

func TestOpenAPI_IsServedByTheAdminListenerAlone(t *testing.T) {
	dev := startDev(t, localPort)
	status, header, body := dev.send(t, http.MethodGet, "http://"+dev.admin+"/openapi.json", nil)
	want := mustRun(t, nil, "openapi", "--format", "json")
	if status != "200 OK" || body != want || header.Get("Content-Type") != "application/json" {
		t.Errorf("/openapi.json: %s, %.100s; want 200, %.100s", status, body, want)
	}
	if status, _, _ := dev.send(t, http.MethodGet, "http://"+dev.api+"/openapi.json", nil); status != "404 Not Found" {
		t.Errorf("/openapi.json of the API: %s; want 404", status)
	}
}
