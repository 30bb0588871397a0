//go:build drill

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestSiblings_GenerateCodeThatCompiles generates the operations of MFA that upstream has.
// The service does not serve all of them yet.
func TestSiblings_GenerateCodeThatCompiles(t *testing.T) {
	routes := map[string]string{
		"generateTotpKey":         "POST /accounts/generate-totp-key",
		"confirmTotpRegistration": "POST /accounts/confirm-totp-registration",
		"getUserMfaInfo":          "GET /accounts/user-mfa-info",
		"removeTotp":              "DELETE /accounts/totp",
		"updateMfaSettings":       "PATCH /accounts/mfa-settings",
		"issueRecoveryCodes":      "POST /accounts/recovery-codes",
		"viewRecoveryCodes":       "GET /accounts/recovery-codes",
	}
	dir := t.TempDir()
	settings, served, code := filepath.Join(dir, "settings.yaml"), filepath.Join(dir, "served.yaml"), filepath.Join(dir, "api.gen.go")
	root, err := read("../../oapi-codegen.yaml")
	if err != nil {
		t.Fatal(err)
	}
	options := member(root, "output-options")
	member(member(options, "overlay"), "path").Value, err = filepath.Abs("../../openapi/overlay.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ids := &yaml.Node{Kind: yaml.SequenceNode}
	for id, route := range routes {
		want = append(want, route)
		ids.Content = append(ids.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: id})
	}
	set(options, "include-operation-ids", ids, 0)
	text, err := yaml.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(settings, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(settings, served, "../../openapi/openapi.yaml", "../../openapi/mfa.yaml", io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, arguments := range [][]string{{"tool", "oapi-codegen", "-config", settings, "-o", code, served}, {"build", code}} {
		command := exec.CommandContext(t.Context(), "go", arguments...)
		if output, err := command.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(arguments, " "), err, output)
		}
	}
	_, server, _ := strings.Cut(fileText(t, code), "type ServerInterface interface {")
	server, _, _ = strings.Cut(server, "\n}")
	var got []string
	for _, route := range regexp.MustCompile(`\(([A-Z]+ /\S+)\)`).FindAllStringSubmatch(server, -1) {
		got = append(got, route[1])
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("generated routes (-want +got):\n%s", diff)
	}
}
