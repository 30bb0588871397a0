package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// own has one operation beside those of upstream, and one of the same operationId.
const own = `openapi: 3.0.3
paths:
  /a:
    delete:
      operationId: dropA
      tags: [C]
      responses:
        '200': {description: Gone, content: {application/json: {schema: {$ref: '#/components/schemas/Done'}}}}
        '401': {description: Refused, content: {application/json: {schema: {$ref: '#/components/schemas/Error'}}}}
tags: [{name: C}]
components:
  schemas:
    Done: {type: object, properties: {message: {type: string}}}
`

func TestPrune_TakesFromTheSecondDocumentWhatTheFirstLacks(t *testing.T) {
	served, notes := files{upstream: upstream, own: own, ids: "makeA, dropA"}.mustPrune(t)
	want := strings.NewReplacer(
		"# From openapi.yaml: makeA\n", "# From openapi.yaml: makeA\n# From mfa.yaml: dropA\n",
		"    Error:\n", "    Done:\n      properties:\n        message:\n          type: string\n      type: object\n    Error:\n",
		"  /a:\n", `  /a:
    delete:
      operationId: dropA
      responses:
        "200":
          content:
            application/json:
              schema:
                $ref: '#/components/schemas/Done'
          description: Gone
        "401":
          content:
            application/json:
              schema:
                $ref: '#/components/schemas/Error'
          description: Refused
      tags:
        - C
`,
		"  - name: A\n", "  - name: A\n  - name: C\n",
	).Replace(makeA)
	if diff := cmp.Diff(want, served); diff != "" || notes != "" {
		t.Errorf("notes %q, served (-want +got):\n%s", notes, diff)
	}
}

func TestPrune_PrefersTheFirstDocumentAndSaysWhatDiffers(t *testing.T) {
	const operation = "openapi: 3.0.3\npaths: {/a: {get: {operationId: showB, summary: Ours, responses: "
	const components = "}}}\ncomponents: {schemas: {Leaf: {type: object, properties: {kind: {type: string}}}, Tree: {oneOf: [{$ref: '#/components/schemas/Leaf'}], " +
		"discriminator: {propertyName: kind, mapping: {a: A, leaf: Leaf, tree: '#/components/schemas/Tree'}}}}}"
	const response = "{'200': {description: Ours, content: {application/json: {schema: {$ref: '#/components/schemas/Tree'}}}}}"
	for name, c := range map[string]struct{ own, notes string }{
		"the same facts": {operation + response + components, "openapi.yaml has these with the same facts, so delete them from mfa.yaml: showB\n"},
		"another path and a further status": {
			strings.Replace(operation, "/a", "/b", 1) + strings.Replace(response, "{'200'", "{'404': {description: Ours}, '200'", 1) + components,
			"showB comes from openapi.yaml, no longer from mfa.yaml: GET /a instead of GET /b\n" +
				"showB comes from openapi.yaml, no longer from mfa.yaml: responses.404 is absent\n",
		},
		"another component": {
			operation + response + strings.Replace(components, "kind: {type: string}", "kind: {type: integer}, size: {type: integer}", 1),
			"showB comes from openapi.yaml, no longer from mfa.yaml: Leaf: properties.kind.type is string instead of integer\n" +
				"showB comes from openapi.yaml, no longer from mfa.yaml: Leaf: properties.size is absent\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			served, notes := files{upstream: upstream, own: c.own, ids: "showB"}.mustPrune(t)
			if diff := cmp.Diff(c.notes, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
			if alone, _ := (files{upstream: upstream, ids: "showB"}).mustPrune(t); served != alone {
				t.Errorf("served (-upstream alone +got):\n%s", cmp.Diff(alone, served))
			}
		})
	}
}

func TestPrune_RefusesTwoDocumentsThatContradictEachOther(t *testing.T) {
	for name, c := range map[string]struct{ own, err string }{
		"two components of one name": {
			strings.Replace(own, "    Done:", "    Error: {type: object, properties: {code: {type: string}}}\n    Done:", 1),
			"mfa.yaml:13: component Error differs from that in openapi.yaml: properties.error is new; properties.code is absent (operation dropA)",
		},
		"two operations of one route": {
			strings.Replace(own, "delete:", "post:", 1),
			"mfa.yaml:5: POST /a is dropA here and makeA in openapi.yaml",
		},
		"members of one path": {
			strings.Replace(own, "  /a:\n", "  /a:\n    parameters: []\n", 1),
			"mfa.yaml:6: path /a has members for all its operations, and makeA is in the other document; move the members into the operations (operation dropA)",
		},
		"security that has no effect": {
			own + "security: [{bearer: []}]",
			"mfa.yaml:14: security of this document has no effect; openapi.yaml has it",
		},
		"an operation in neither": {
			strings.Replace(own, "dropA", "deleteA", 1),
			"no operation has operationId dropA, neither in openapi.yaml nor in mfa.yaml",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := files{upstream: upstream, own: c.own, ids: "makeA, dropA"}.prune(t)
			if got := errorText(err); got != c.err {
				t.Errorf("error %q; want %q", got, c.err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
