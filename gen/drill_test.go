//go:build drill

package gen_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/google/go-cmp/cmp"
	"github.com/oasdiff/yaml"

	// The code of an operation with parameters or a body imports it. The import pins its
	// version, so that the first such operation is a compile error and not a missing module.
	_ "github.com/oapi-codegen/runtime"
)

// The steps of an engineer who changes the document, as arguments of go. Build and test have
// only the packages that notice the changes below.
const (
	generate    = "generate ./gen"
	build       = "build ./server/api ./server/mfa"
	testHandler = "test -vet=off ./gen"
	testClient  = "test -vet=off ./gen/client"
)

// The files that generate writes.
var generated = []string{"served.yaml", "api.gen.go", "client/client.gen.go"}

// tree is a mapping of a document.
type tree = map[string]any

// row is a change, and the line that the engineer sees at the step that fails.
type row struct {
	change   string
	document func(*drill)
	step     string // the step that fails
	sees     string
	// If the overlay refuses the document, the engineer adapts the overlay and goes on.
	overlay    func(*drill)
	next, then string // the next step that fails, and what the engineer sees there
}

var rows = []row{
	{
		change:   "an operation that is served is new",
		document: func(d *drill) { d.addOperation("startDrill"); d.serve("startDrill") },
		step:     build, sees: "missing method StartDrill",
	},
	{
		change:   "a served operation has another operationId",
		document: func(d *drill) { d.operation()["operationId"] = "createTotpKey" },
		step:     generate, sees: "no operation has operationId generateTotpKey",
	},
	{
		change:   "a member of data is new",
		document: func(d *drill) { d.data()["properties"].(tree)["period"] = tree{"type": "integer"} },
		step:     build, sees: "to type gen.TOTPKey",
	},
	{
		change:   "a member of data is gone",
		document: func(d *drill) { delete(d.data()["properties"].(tree), "secret") },
		step:     build, sees: "to type gen.TOTPKey",
	},
	{
		change:   "a member beside data is new",
		document: func(d *drill) { d.success()["properties"].(tree)["id"] = tree{"type": "string"} },
		step:     build, sees: "to type gen.GenerateTOTPKey200JSONResponseBody",
	},
	{
		change: "the members of data stand at the top",
		document: func(d *drill) {
			data, success := d.data(), d.success()
			clear(success)
			maps.Copy(success, data)
		},
		step: generate, sees: "operation generateTotpKey has no responses.200.content.application/json.schema.properties.data, which the overlay expects; properties has otpauth_url, secret",
	},
	{
		change:   "a member of data is stricter",
		document: func(d *drill) { d.data()["properties"].(tree)["secret"].(tree)["maxLength"] = 16 },
		step:     testHandler, sees: "breaks the document",
	},
	{
		change: "a request body is required",
		document: func(d *drill) {
			d.operation()["requestBody"] = tree{"required": true, "content": tree{"application/json": tree{
				"schema": tree{"type": "object", "required": []string{"password"}, "properties": tree{"password": tree{"type": "string"}}},
			}}}
		},
		step: build, sees: "gen.GenerateTOTPKeyRequestObject) to type struct{}",
	},
	{
		change:   "the path is another",
		document: func(d *drill) { d.movePath("/accounts/totp-key") },
		step:     generate, sees: "there is no /accounts/generate-totp-key; served is generateTotpKey at POST /accounts/totp-key",
		overlay: func(d *drill) {
			d.overlay = strings.ReplaceAll(d.overlay, "/accounts/generate-totp-key", "/accounts/totp-key")
		},
		next: testClient, then: "refused: 401 Unauthorized",
	},
	{
		change:   "the 401 is gone",
		document: func(d *drill) { delete(d.operation()["responses"].(tree), "401") },
		step:     build, sees: "undefined: gen.GenerateTOTPKey401JSONResponse",
	},
	{
		change: "the 401 has another body",
		document: func(d *drill) {
			d.operation()["responses"].(tree)["401"].(tree)["content"] = tree{"application/json": tree{
				"schema": tree{"type": "object", "properties": tree{"message": tree{"type": "string"}}},
			}}
		},
		step: build, sees: "as gen.GenerateTOTPKey401JSONResponseBody value",
	},
	{
		change:   "the operation demands no credential",
		document: func(d *drill) { d.operation()["security"] = []any{} },
		step:     generate, sees: "POST /accounts/generate-totp-key is open to callers without a credential",
	},
}

// TestDrill takes over changed documents, in a copy of the repository, and shows the step at
// which an engineer notices each change. It begins with the document that is in place.
func TestDrill(t *testing.T) {
	repository := copyRepository(t)
	var table strings.Builder
	lines := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	t.Run("none", func(t *testing.T) {
		d := newDrill(t, repository)
		for range 2 {
			d.steps(generate)
			for _, file := range generated {
				if diff := cmp.Diff(read(t, file), d.read(file)); diff != "" {
					t.Errorf("%s (-in place +generated):\n%s", file, diff)
				}
			}
			d.growToGateway()
		}
		_, _ = fmt.Fprintln(lines, "none, or the rest of a gateway\tnothing: gen/ is as it was")
	})
	for _, row := range rows {
		t.Run(row.change, func(t *testing.T) {
			for i, line := range newDrill(t, repository).run(row) {
				_, _ = fmt.Fprintf(lines, "%s\t%s\n", []string{row.change, ""}[min(i, 1)], line)
			}
		})
	}
	if err := lines.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("change, and what the engineer sees:\n%s", &table)
}

// copyRepository returns the directory of the one copy for all rows: Go compiles a package
// that no row changes once.
func copyRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"gen", "openapi", "server", "store"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS("../"+name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "oapi-codegen.yaml"} {
		write(t, filepath.Join(dir, name), read(t, "../"+name))
	}
	return dir
}

// drill is one change in the copy of the repository.
type drill struct {
	t                 *testing.T
	dir               string
	document          tree
	overlay, settings string
}

func newDrill(t *testing.T, dir string) *drill {
	t.Helper()
	d := &drill{t: t, dir: dir, overlay: read(t, "../openapi/overlay.yaml"), settings: read(t, "../oapi-codegen.yaml")}
	d.document = parse(t, read(t, "../openapi/openapi.yaml"))
	return d
}

// parse reads YAML or JSON.
func parse(t *testing.T, text string) tree {
	t.Helper()
	var result tree
	if json.Unmarshal([]byte(text), &result) == nil {
		return result
	}
	if _, err := yaml.Unmarshal([]byte(text), &result, yaml.DecodeOpts{}); err != nil {
		t.Fatal(err)
	}
	return result
}

// route returns the path and the path item of the operation generateTotpKey.
func (d *drill) route() (string, tree) {
	for path, item := range d.document["paths"].(tree) {
		if post, ok := item.(tree)["post"].(tree); ok && post["operationId"] == "generateTotpKey" {
			return path, item.(tree)
		}
	}
	d.t.Fatal("the document has no operation generateTotpKey")
	return "", nil
}

func (d *drill) operation() tree {
	_, item := d.route()
	return item["post"].(tree)
}

// success returns the schema of the 200, and data the schema of its member data.
func (d *drill) success() tree {
	response := d.operation()["responses"].(tree)["200"].(tree)
	return response["content"].(tree)["application/json"].(tree)["schema"].(tree)
}

func (d *drill) data() tree { return d.success()["properties"].(tree)["data"].(tree) }

func (d *drill) movePath(path string) {
	old, item := d.route()
	delete(d.document["paths"].(tree), old)
	d.document["paths"].(tree)[path] = item
}

func (d *drill) addOperation(id string) {
	d.document["paths"].(tree)["/drills/{id}"] = tree{
		"parameters": []any{tree{"name": "id", "in": "path", "required": true, "schema": tree{"type": "string"}}},
		"get":        tree{"operationId": id, "responses": tree{"200": tree{"description": "Started"}}},
	}
}

func (d *drill) serve(id string) {
	d.settings = strings.Replace(d.settings, "    - generateTotpKey\n", "    - generateTotpKey\n    - "+id+"\n", 1)
}

// growToGateway adds operations, parameters of paths, and schemas that refer to themselves,
// until the document has 60 paths.
func (d *drill) growToGateway() {
	paths, schemas := d.document["paths"].(tree), d.document["components"].(tree)["schemas"].(tree)
	for path, item := range paths {
		for _, operation := range item.(tree) {
			if operation, ok := operation.(tree); ok {
				operation["x-resource"] = path
			}
		}
	}
	for i := 0; len(paths) < 60; i++ {
		name := fmt.Sprintf("Gateway%d", i)
		reference := tree{"$ref": "#/components/schemas/" + name}
		schemas[name] = tree{"type": "object", "x-table": name, "properties": tree{"parent": reference, "name": tree{"type": "string"}}}
		content := tree{"application/json": tree{"schema": reference}}
		paths[fmt.Sprintf("/gateway/%d/{id}", i)] = tree{
			"parameters": []any{tree{"name": "id", "in": "path", "required": true, "schema": tree{"type": "string"}}},
			"get":        tree{"operationId": "get" + name, "responses": tree{"200": tree{"description": name, "content": content}}},
			"put":        tree{"operationId": "put" + name, "requestBody": tree{"content": content}, "responses": tree{"204": tree{"description": name}}},
		}
	}
}

// run returns the lines that the engineer sees. In the document of a whole gateway, the same
// change must show the same line or generate the same code.
func (d *drill) run(row row) []string {
	d.t.Helper()
	row.document(d)
	seen := []string{d.fails(row.step, row.sees)}
	if row.overlay != nil {
		row.overlay(d)
		seen = append(seen, "with the overlay adapted: "+d.fails(row.next, row.then))
	}
	code := d.read("api.gen.go")
	d.growToGateway()
	if row.step == generate && row.overlay == nil {
		d.fails(row.step, row.sees)
	} else {
		d.steps(generate)
	}
	if diff := cmp.Diff(code, d.read("api.gen.go")); diff != "" {
		d.t.Errorf("api.gen.go (-in place +in a whole gateway):\n%s", diff)
	}
	return seen
}

// fails demands that a step shows the line want and fails, and that the steps before pass.
func (d *drill) fails(step, want string) string {
	d.t.Helper()
	switch step {
	case build:
		d.steps(generate)
	case testHandler, testClient:
		d.steps(generate, build)
	}
	output, err := d.command(step)
	for line := range strings.Lines(output) {
		if err != nil && strings.Contains(line, want) {
			return strings.Fields(step)[0] + ": " + strings.TrimSpace(line)
		}
	}
	d.t.Fatalf("go %s: %v\n%s\nwant %s", step, err, output, want)
	return ""
}

// steps demands that steps pass.
func (d *drill) steps(steps ...string) {
	d.t.Helper()
	for _, step := range steps {
		if output, err := d.command(step); err != nil {
			d.t.Fatalf("go %s: %v\n%s", step, err, output)
		}
	}
}

// command writes the changed files into the copy and runs go there.
func (d *drill) command(step string) (string, error) {
	d.t.Helper()
	document, err := json.MarshalIndent(d.document, "", "  ")
	if err != nil {
		d.t.Fatal(err)
	}
	for file, text := range map[string]string{"openapi/openapi.yaml": string(document), "openapi/overlay.yaml": d.overlay, "oapi-codegen.yaml": d.settings} {
		write(d.t, filepath.Join(d.dir, file), text)
	}
	command := exec.CommandContext(d.t.Context(), "go", strings.Fields(step)...)
	command.Dir = d.dir
	// With -trimpath, packages that no row changes compile once, as for make build.
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
	output, err := command.CombinedOutput()
	return string(output), err
}

// read returns a file in gen.
func (d *drill) read(file string) string {
	d.t.Helper()
	return read(d.t, filepath.Join(d.dir, "gen", file))
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
