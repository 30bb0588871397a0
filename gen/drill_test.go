package gen_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	// What the code of an operation with parameters or a body imports. It is pinned
	// before there is one, so that a newly selected operation is a compile error alone.
	_ "github.com/oapi-codegen/runtime"

	"quiva.ai/mfa/gen"
)

// The files that a change begins with, and the commands that the README has for it.
const (
	document = "openapi/openapi.yaml"
	overlay  = "openapi/overlay.yaml"
	settings = "oapi-codegen.yaml"

	generate = "generate ./..." // make generate
	build    = "build ./..."
	test     = "test -vet=off -run ^TestTheAnswerIsUpstreamsExampleWithAFreshSecret$ ./server"
	// No machine has this address (RFC 5737): what is not refused before ends there.
	serve = "run ./server serve --dev --listen 192.0.2.1:0"
)

// TestTheDocumentOfTheWholeGatewayIsOne shows that the drill is about something: what
// prune has to cut down is a sound document, far larger than the excerpt.
func TestTheDocumentOfTheWholeGatewayIsOne(t *testing.T) {
	whole, err := openapi3.NewLoader().LoadFromFile("testdata/gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := whole.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	operations := 0
	for _, item := range whole.Paths.Map() {
		operations += len(item.Operations())
	}
	if whole.OpenAPI != "3.0.3" || operations < 40 || len(whole.Components.Schemas) < 40 {
		t.Errorf("OpenAPI %s, %d operations, %d schemas", whole.OpenAPI, operations, len(whole.Components.Schemas))
	}
	served, err := gen.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	if served.Paths.Len() != 1 || len(served.Components.Schemas) != 1 {
		t.Errorf("embedded: %d paths, %d schemas; want the operation's path and Error", served.Paths.Len(), len(served.Components.Schemas))
	}
}

// TestEveryChangeOfTheDocumentIsSeen takes over changed documents, each in a copy of the
// repository, and shows at which step the engineer sees what.
func TestEveryChangeOfTheDocumentIsSeen(t *testing.T) {
	var table strings.Builder
	rows := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	const newField = "cannot convert struct{OTPAuthURL, Secret string}{…} (value of type struct{OTPAuthURL string; Secret string}) to type gen.TOTPKey"
	for _, row := range []struct {
		change string
		steps  func(*checkout)
	}{
		{"the whole gateway", func(c *checkout) {
			c.replace(document, read(t, "testdata/gateway.yaml"))
			c.passes(generate)
			for _, file := range []string{"api.gen.go", "served.yaml"} {
				if diff := cmp.Diff(read(t, file), c.read("gen/"+file)); diff != "" {
					c.t.Fatalf("%s (-of the excerpt +of the whole gateway):\n%s", file, diff)
				}
			}
			c.passes(build)
			c.passes(test)
			c.note("nothing: gen/ is as it was")
		}},
		{"an operation of it is selected", func(c *checkout) {
			c.replace(document, read(t, "testdata/gateway.yaml"))
			c.edit(settings, "    - generateTotpKey\n", "    - generateTotpKey\n    - verifyTotpKey\n")
			c.passes(generate)
			c.stops(build, "missing method VerifyTOTPKey")
		}},
		{"a selected operation is not in it", func(c *checkout) {
			c.edit(document, "operationId: generateTotpKey", "operationId: createTotpKey")
			c.stops(generate, "0 operations with operationId generateTotpKey; want 1")
		}},
		{"a new field in the 200", func(c *checkout) {
			c.edit(document, "                    properties:\n                      otpauth_url:\n",
				"                    properties:\n                      period: {type: integer}\n                      otpauth_url:\n")
			c.passes(generate)
			c.stops(build, newField)
		}},
		{"one that is required", func(c *checkout) {
			c.edit(document, "                    properties:\n                      otpauth_url:\n",
				"                    required: [id]\n                    properties:\n                      id: {type: string}\n                      otpauth_url:\n")
			c.passes(generate)
			c.stops(build, newField)
		}},
		{"one beside data", func(c *checkout) {
			c.edit(document, "                properties:\n                  data:\n", "                properties:\n                  id: {type: string}\n                  data:\n")
			c.passes(generate)
			c.stops(build, "cannot convert struct{Data gen.TOTPKey}{…} (value of type struct{Data gen.TOTPKey}) to type gen.GenerateTOTPKey200JSONResponseBody")
		}},
		{"a stricter field in the 200", func(c *checkout) {
			c.edit(document, "                        description: TOTP secret key\n", "                        maxLength: 16\n")
			c.passes(generate)
			c.stops(test, "answer 200 breaks the contract")
		}},
		{"a new required request body", func(c *checkout) {
			c.edit(document, "      responses:\n", "      requestBody:\n        required: true\n        content:\n"+
				"          application/json:\n            schema: {type: object, required: [password], properties: {password: {type: string}}}\n      responses:\n")
			c.passes(generate)
			c.stops(build, "cannot convert request (variable of struct type gen.GenerateTOTPKeyRequestObject) to type struct{}")
		}},
		{"a renamed path", func(c *checkout) {
			c.edit(document, "/accounts/generate-totp-key", "/accounts/totp-key")
			c.stops(generate, "target=$.paths['/accounts/generate-totp-key'].post.responses['200']: does nothing")
			c.replace(overlay, strings.ReplaceAll(c.read(overlay), "/accounts/generate-totp-key", "/accounts/totp-key"))
			c.passes(generate)
			c.stops(test, `body = {"error":"There is nothing at this address."}`)
		}},
		{"a removed 401", func(c *checkout) {
			c.replace(document, cut(t, c.read(document), "        '401':\n", "components:\n"))
			c.stops(generate, "target=$.paths['/accounts/generate-totp-key'].post.responses['401']: does nothing")
			c.replace(overlay, cut(t, c.read(overlay), "  - target: $.paths['/accounts/generate-totp-key'].post.responses['401']\n", "  - target: $.paths['/accounts/generate-totp-key'].post.responses\n"))
			c.passes(generate)
			c.stops(build, "undefined: gen.GenerateTOTPKey401JSONResponse")
		}},
		{"another body for the 401", func(c *checkout) {
			c.edit(document, "$ref: '#/components/schemas/Error'", "{type: object, properties: {message: {type: string}}}")
			c.passes(generate)
			c.stops(build, "cannot use gen.Error{} (value of struct type gen.Error) as gen.GenerateTOTPKey401JSONResponseBody value")
		}},
		{"an operation open to all", func(c *checkout) {
			c.edit(document, "      operationId: generateTotpKey\n", "      operationId: generateTotpKey\n      security: []\n")
			c.passes(generate)
			c.stops(serve, "OpenAPI document and code disagree; run make generate and follow the build: operation generateTotpKey demands other credentials than bearerAuth or apiKeyAuth")
		}},
	} {
		t.Run(row.change, func(t *testing.T) {
			c := newCheckout(t)
			row.steps(c)
			for i, seen := range c.seen {
				fmt.Fprintf(rows, "%s\t%s\n", []string{row.change, ""}[min(i, 1)], seen)
			}
		})
	}
	if err := rows.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("change, and what the engineer sees:\n%s", &table)
}

// checkout is a copy of the repository.
type checkout struct {
	t    *testing.T
	dir  string
	seen []string
}

func newCheckout(t *testing.T) *checkout {
	t.Helper()
	c := &checkout{t: t, dir: t.TempDir()}
	for _, name := range []string{"go.mod", "go.sum", settings} {
		c.replace(name, read(t, "../"+name))
	}
	for _, name := range []string{"gen", "openapi", "server", "store"} {
		if err := os.CopyFS(filepath.Join(c.dir, name), os.DirFS("../"+name)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *checkout) read(file string) string {
	c.t.Helper()
	return read(c.t, filepath.Join(c.dir, file))
}

func (c *checkout) replace(file, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, file), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// edit replaces old, which must occur once.
func (c *checkout) edit(file, old, replacement string) {
	c.t.Helper()
	before, after, _ := strings.Cut(c.read(file), old)
	if n := strings.Count(c.read(file), old); n != 1 {
		c.t.Fatalf("%s has %q %d times; want once", file, old, n)
	}
	c.replace(file, before+replacement+after)
}

func (c *checkout) note(seen string) { c.seen = append(c.seen, seen) }

// passes demands that a go command succeeds.
func (c *checkout) passes(command string) {
	c.t.Helper()
	if output, err := c.run(command); err != nil {
		c.t.Fatalf("go %s: %v; want success\n%s", command, err, output)
	}
}

// stops demands that a go command fails and says why.
func (c *checkout) stops(command, want string) {
	c.t.Helper()
	output, err := c.run(command)
	if err == nil {
		c.t.Fatalf("go %s succeeds; want %s\n%s", command, want, output)
	}
	for line := range strings.Lines(output) {
		if strings.Contains(line, want) {
			c.note("go " + strings.Fields(command)[0] + ": " + strings.TrimSpace(line))
			return
		}
	}
	c.t.Errorf("go %s says %s; want %s", command, output, want)
}

// run runs a go command. Without the copy's own path in them, packages that have not
// changed are compiled once for all copies.
func (c *checkout) run(command string) (string, error) {
	program := exec.CommandContext(c.t.Context(), "go", strings.Fields(command)...)
	program.Dir = c.dir
	program.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -trimpath")
	output, err := program.CombinedOutput()
	return string(output), err
}

// cut removes what is from begin to before end.
func cut(t *testing.T, text, begin, end string) string {
	t.Helper()
	before, rest, found := strings.Cut(text, begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("no %q before %q", begin, end)
	}
	return before + end + after
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
