package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

const wholeGateway = "../testdata/gateway.yaml"

// pruned runs the command on a document and returns what it wrote.
func pruned(t *testing.T, document, operationIDs string) (*openapi3.T, error) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	overlay := write("overlay.yaml", "actions: []")
	settings := write("settings.yaml", "output-options: {overlay: {path: "+overlay+"}, include-operation-ids: ["+operationIDs+"]}")
	output := filepath.Join(dir, "served.yaml")
	if err := run(settings, write("document.yaml", document), output); err != nil {
		return nil, err
	}
	served, err := openapi3.NewLoader().LoadFromFile(output)
	if err != nil {
		t.Fatal(err)
	}
	return served, nil
}

func TestEachOperationOfTheGatewayStandsAlone(t *testing.T) {
	text, err := os.ReadFile(wholeGateway)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range whole.Paths.Map() {
		for method, operation := range item.Operations() {
			served, err := pruned(t, string(text), operation.OperationID)
			if err != nil {
				t.Fatal(err)
			}
			// Validate finds a reference to what is gone.
			if err := served.Validate(t.Context()); err != nil {
				t.Errorf("%s: %v", operation.OperationID, err)
			}
			if left := served.Paths.Find(path); served.Paths.Len() != 1 || left == nil || len(left.Operations()) != 1 || left.GetOperation(method) == nil {
				t.Errorf("%s: paths %v; want its own, without other operations", operation.OperationID, served.Paths.InMatchingOrder())
			}
		}
	}
}

func TestWhatAnOperationNeedsIsKeptAndNothingElse(t *testing.T) {
	text, err := os.ReadFile(wholeGateway)
	if err != nil {
		t.Fatal(err)
	}
	for ids, want := range map[string][]string{
		// By reference, from one schema to the next, to itself, and by a discriminator.
		"getAccount":               {"Account", "AccountRef", "Error", "NewAccount", "Timestamps"},
		"addPaymentMethod":         {"Card", "DirectDebit", "Error", "PaymentMethod"},
		"getStatus, verifyTotpKey": {"Error", "Status", "TotpCode"},
	} {
		served, err := pruned(t, string(text), ids)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for name := range served.Components.Schemas {
			got = append(got, name)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: schemas %v; want %v", ids, got, want)
		}
	}
	served, err := pruned(t, string(text), "receivePaymentEvent")
	if err != nil {
		t.Fatal(err)
	}
	// The document's own requirement names two, the operation's the third.
	if got := len(served.Components.SecuritySchemes); got != 3 {
		t.Errorf("%d security schemes; want 3", got)
	}
}

func TestADocumentWithoutTheOperationIsRefused(t *testing.T) {
	const operation = "paths: {/a: {get: {operationId: a}}, /b: {get: {operationId: b}, put: {operationId: b}}}"
	for _, c := range []struct{ document, ids, want string }{
		{operation, "a, c", "0 operations with operationId c; want 1"},
		{operation, "A", "0 operations with operationId A; want 1"},
		{operation, "b", "2 operations with operationId b; want 1"},
		{"", "a", "file is empty"},
		{"[]", "a", "0 operations with operationId a; want 1"},
		{"\t", "a", "found character that cannot start any token"},
	} {
		if _, err := pruned(t, c.document, c.ids); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q with %s: %v; want %s", c.document, c.ids, err, c.want)
		}
	}
}
