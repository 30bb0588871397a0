package main

import (
	"strings"
	"testing"
)

// TestPrune_RefusesADocument shows the one sentence for each bad document.
func TestPrune_RefusesADocument(t *testing.T) {
	edit := func(old, replacement string) string {
		if strings.Count(upstream, old) == 0 {
			t.Fatalf("the document has no %q", old)
		}
		return strings.Replace(upstream, old, replacement, 1)
	}
	bomb := "openapi: 3.0.3\nx-0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n"
	for level := range 9 {
		a := string(rune('0' + level))
		b := string(rune('1' + level))
		bomb += "x-" + b + ": &a" + b + " [" + strings.Repeat("*a"+a+", ", 9) + "]\n"
	}
	for _, c := range []struct{ name, document, want string }{
		{"empty", "", "openapi.yaml: the file is empty"},
		{"prose", "The gateway: see: below", "openapi.yaml: neither YAML nor JSON: mapping values are not allowed in this context"},
		{"a web page", "<!DOCTYPE html>\n<html></html>", "openapi.yaml:1: this is no OpenAPI document: it has no member openapi"},
		{"JSON cut short", upstreamJSON[:len(upstreamJSON)-1], "openapi.yaml:12: neither YAML nor JSON: unexpected EOF"},
		{"two YAML documents", upstream + "---\n" + upstream, "openapi.yaml:48: a second YAML document begins here"},
		{"tabs", edit("  /a:\n", "\t/a:\n"), "openapi.yaml:9: a tab indents this line; YAML indents with spaces"},
		{"OpenAPI 3.1", edit("3.0.3", "3.1.0"), "openapi.yaml:1: this is OpenAPI 3.1.0; want 3.0.x, such as 3.0.3"},
		{"OpenAPI 2.0", edit("openapi: 3.0.3", "swagger: '2.0'"), "openapi.yaml:1: this is Swagger 2.0; want OpenAPI 3.0"},
		{"an operationId twice", edit("operationId: showB", "operationId: makeA"), "openapi.yaml:26: operationId makeA is here and at POST /a"},
		{"a member twice", edit("      summary:", "      tags: []\n      summary:"), `openapi.yaml:13: a second member "tags"`},
		{"a reference to nothing", edit("schemas/A'", "schemas/AA'"), "openapi.yaml:17: #/components/schemas/AA does not exist (operation makeA)"},
		{"a reference into nothing", edit("schemas/A'", "schemas/A/properties/a'"), "openapi.yaml:17: #/components/schemas/A/properties/a does not exist (operation makeA)"},
		{"a reference to a file", edit("#/components/schemas/A'", "a.yaml#/A'"), "openapi.yaml:17: $ref a.yaml#/A leaves the document; put its target under components (operation makeA)"},
		{"a reference to a URL", edit("#/components/schemas/A'", "https://quiva.ai/a'"), "openapi.yaml:17: $ref https://quiva.ai/a leaves the document; put its target under components (operation makeA)"},
		{"a reference to a path", edit("#/components/schemas/A'", "#/paths/~1a/post'"), "openapi.yaml:17: $ref #/paths/~1a/post names no component (operation makeA)"},
		{"no security", edit("security:\n  - bearer: []\n", ""), "openapi.yaml:9: POST /a is open to callers without a credential (operation makeA)"},
		{"empty security", edit("      tags: [A]\n", "      tags: [A]\n      security: []\n"), "openapi.yaml:11: POST /a is open to callers without a credential (operation makeA)"},
		{"optional security", edit("  - bearer: []\n", "  - bearer: []\n  - {}\n"), "openapi.yaml:12: POST /a is open to callers without a credential (operation makeA)"},
		{"an unknown security scheme", edit("  - bearer: []\n", "  - basic: []\n"), "openapi.yaml:4: #/components/securitySchemes/basic does not exist"},
		{"a component that is no Go name", strings.ReplaceAll(upstream, "Error", "error-response"), `openapi.yaml:39: component name "error-response" is no Go name (operation makeA)`},
		{"a component of an overlay's name", strings.ReplaceAll(upstream, "Error", "TOTPKey"), "openapi.yaml:39: component TOTPKey has the x-go-type-name of another schema, TOTPKey; rename that in overlay.yaml"},
		{"another spelling of that name", strings.ReplaceAll(upstream, "Error", "totp_Key"), "openapi.yaml:39: component totp_Key has the x-go-type-name of another schema, TOTPKey; rename that in overlay.yaml"},
		{"a response of that name", edit("'200': {description: Made}", "'200': {$ref: '#/components/responses/TotpKey'}") + "  responses: {TotpKey: {description: Made}}\n", "openapi.yaml:48: component TotpKey has the x-go-type-name of another schema, TOTPKey; rename that in overlay.yaml"},
		{"text after the document", upstream + "...\nx: [\n", "openapi.yaml:49: the document ends before the text"},
		{"text after JSON", "# JSON\n{}\n{}\n", "openapi.yaml:3: the document ends before the text"},
		{"a merge of a text", edit("'403': *refused", "'403': {<<: refused}"), "openapi.yaml:24: << merges a mapping, or a sequence of mappings"},
		{"a merge of texts", edit("'403': *refused", "'403': {<<: [*refused, refused]}"), "openapi.yaml:24: << merges a mapping, or a sequence of mappings"},
		{"an alias of nothing", edit("*refused", "*nothing"), "openapi.yaml:24: neither YAML nor JSON: unknown anchor 'nothing' referenced"},
		{"Latin-1", edit("description: Refused", "description: Refus\xe9"), "openapi.yaml:22: neither YAML nor JSON: invalid trailing UTF-8 octet"},
		{"a control character", edit("description: Refused", "description: Refused\x01"), "openapi.yaml:22: neither YAML nor JSON: control characters are not allowed"},
		{"YAML 2.0", "%YAML 2.0\n---\n" + upstream, "openapi.yaml:1: neither YAML nor JSON: found incompatible YAML document"},
		{"a tab before a comment", edit("      summary:", "\t# A comment\n      summary:"), "openapi.yaml:13: a tab indents this line; YAML indents with spaces"},
		{"OpenAPI 3.0", edit("3.0.3", "3.0"), "openapi.yaml:1: this is OpenAPI 3.0; want 3.0.x, such as 3.0.3"},
		{"5 MB", upstream + strings.Repeat("# 16 characters\n", 5_000_000/16), "openapi.yaml: larger than 4 MiB"},
		{"an anchor bomb", bomb, "openapi.yaml:3: with its aliases, the document has more than 250000 nodes"},
		{"an anchor inside itself", "openapi: 3.0.3\nx: &a [*a]", "openapi.yaml:2: with its aliases, the document has more than 250000 nodes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			served, _, err := files{upstream: c.document, overlay: overlay, ids: "makeA"}.prune(t)
			if got := errorText(err); got != c.want || served != unchanged {
				t.Errorf("error %q, output %.30q\nwant  %q, output %q", got, served, c.want, unchanged)
			}
		})
	}
}

const overlay = `actions:
  - target: $.paths['/a'].post.requestBody.content['application/json'].schema
    update: {x-go-type-name: TOTPKey}
  - target: $.paths['/a'].post.responses
    update: {'503': {description: Down}}
  - target: $.paths['/a'].post.responses['503']
    update: {headers: {Retry-After: {schema: {type: integer}}}}
  - target: $.paths['/a'].post.responses[*].description
    update: {}
`

func TestPrune_RefusesATargetOfTheOverlayWithoutAMatch(t *testing.T) {
	for _, c := range []struct{ name, document, want string }{
		{
			"another route", strings.Replace(upstream, "  /a:", "  /b:", 1),
			"overlay.yaml:3: the overlay expects $.paths./a.post.requestBody.content.application/json.schema, and there is no /a; served is makeA at POST /b",
		},
		{
			"another media type", strings.Replace(upstream, "application/json:\n", "text/plain:\n", 1),
			"overlay.yaml:3: operation makeA has no requestBody.content.application/json, which the overlay expects; content has text/plain",
		},
		{
			"no request body", strings.Replace(upstream, "requestBody:", "x-body:", 1),
			"overlay.yaml:3: operation makeA has no requestBody, which the overlay expects; post has operationId, responses, summary, tags",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			served, _, err := files{upstream: c.document, overlay: overlay, ids: "makeA"}.prune(t)
			if got := errorText(err); got != c.want || served != unchanged {
				t.Errorf("error %q, output %.30q\nwant  %q, output %q", got, served, c.want, unchanged)
			}
		})
	}
}

// An anchor without an alias is harmless.
func TestPrune_RefusesAnAliasInTheOverlay(t *testing.T) {
	anchored := strings.Replace(overlay, "update: {'503'", "update: &down {'503'", 1)
	files{upstream: upstream, overlay: anchored, ids: "makeA"}.mustPrune(t)
	const refused = " an alias in the overlay replaces its target and does not merge into it; write out what it stands for"
	for _, c := range []struct{ name, action, want string }{
		{"an update", "update: *down", "overlay.yaml:12: *down:"},
		{"a member of an update", "update: {headers: *down}", "overlay.yaml:12: *down:"},
		{"a merge key", "update: {<<: *down}", "overlay.yaml:12: *down:"},
		{"a member's name", "update: {&name 'x': 1, y: {*name : 1}}", "overlay.yaml:12: *name:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := anchored + "  - target: $.paths['/a'].post.responses\n    " + c.action + "\n"
			served, _, err := files{upstream: upstream, overlay: text, ids: "makeA"}.prune(t)
			if got := errorText(err); got != c.want+refused || served != unchanged {
				t.Errorf("error %q, output %.30q\nwant  %q, output %q", got, served, c.want+refused, unchanged)
			}
		})
	}
}
