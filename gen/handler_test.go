package gen_test

import (
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// TestDocument_DescribesTheHandlersResponse notices a schema that compiles and that the
// handler does not keep to, such as a shorter maximum length.
func TestDocument_DescribesTheHandlersResponse(t *testing.T) {
	clock := storetest.NewClock()
	pending := store.NewPending(store.NewMemory(clock.Now), storetest.NewKeyring(t, storetest.NewSealKey("k1")), time.Minute, clock.Now)
	operations := mfa.New(mfa.Config{Issuer: "quiva.ai", Pending: pending, Metrics: telemetry.NewMetrics(), Now: clock.Now}) // generate needs no more
	ctx := auth.NewContext(t.Context(), auth.Principal{Account: "ada", Label: "ada@example.com", Scheme: auth.Bearer})
	response, err := operations.GenerateTOTPKey(ctx, gen.GenerateTOTPKeyRequestObject{})
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	if err := response.VisitGenerateTOTPKeyResponse(recorder); err != nil {
		t.Fatal(err)
	}
	var body any
	if err := json.Unmarshal(recorder.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	schema := operation(t, "generateTotpKey").Responses.Status(recorder.Code).Value.Content["application/json"].Schema.Value
	if err := schema.VisitJSON(body, openapi3.VisitAsResponse()); err != nil {
		t.Errorf("response %s breaks the document: %v", recorder.Body, err)
	}
}

// operation returns an operation of the embedded document.
func operation(t *testing.T, id string) *openapi3.Operation {
	t.Helper()
	document, err := gen.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range document.Paths.Map() {
		for _, operation := range item.Operations() {
			if operation.OperationID == id {
				return operation
			}
		}
	}
	t.Fatalf("the document has no operation %s", id)
	return nil
}
