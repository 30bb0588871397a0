package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
)

// anyKey finds every API key.
type anyKey struct{}

func (anyKey) FindAPIKey(context.Context, string) (auth.Principal, error) {
	return auth.Principal{Account: "ada", Label: "ada"}, nil
}

func (g gone) GenerateTOTPKey(context.Context, gen.GenerateTOTPKeyRequestObject) (gen.GenerateTOTPKeyResponseObject, error) {
	return nil, g.fail()
}

func newTestAPI(t *testing.T, document *openapi3.T, ops gen.StrictServerInterface, log *output) (http.Handler, error) {
	t.Helper()
	authenticator, err := auth.New(auth.Config{Keys: anyKey{}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return newAPI(document, authenticator, ops, time.Now, newLogger(log, slog.LevelInfo, "json"))
}

// serveFailing sends one authenticated call to an API whose operations are ops.
func serveFailing(t *testing.T, ops gen.StrictServerInterface) (reply, string) {
	t.Helper()
	log := &output{}
	handler, err := newTestAPI(t, spec(t), ops, log)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	s := &service{t: t, url: server.URL, client: &http.Client{Transport: newContract(t, transport)}}
	return s.post(withKey(auth.NewAPIKey())), log.String()
}

func spec(t *testing.T) *openapi3.T {
	t.Helper()
	document, err := gen.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func TestStartUpRefusesADocumentThatTheCodeDoesNotServe(t *testing.T) {
	const disagree = "OpenAPI document and code disagree; run make generate and follow the build: "
	const security = disagree + "operation generateTotpKey demands other credentials than bearerAuth or apiKeyAuth"
	operation := func(d *openapi3.T) *openapi3.Operation { return d.Paths.Find(generatePath).Post }
	for name, c := range map[string]struct {
		change func(*openapi3.T)
		want   string
	}{
		"unchanged": {func(*openapi3.T) {}, ""},
		"renamed path": {func(d *openapi3.T) {
			d.Paths.Set("/elsewhere", d.Paths.Find(generatePath))
			d.Paths.Delete(generatePath)
		}, disagree + "route POST " + generatePath + " has no operation"},
		"operation more": {func(d *openapi3.T) {
			d.Paths.Set("/accounts/{id}", &openapi3.PathItem{Get: &openapi3.Operation{OperationID: "getAccount"}})
		}, disagree + "operation getAccount has no route"},
		"no security at all":      {func(d *openapi3.T) { d.Security = nil }, security},
		"open to all":             {func(d *openapi3.T) { operation(d).Security = &openapi3.SecurityRequirements{} }, security},
		"anonymous as well":       {func(d *openapi3.T) { d.Security = append(d.Security, openapi3.SecurityRequirement{}) }, security},
		"a token only":            {func(d *openapi3.T) { d.Security = d.Security[:1] }, security},
		"both at once":            {func(d *openapi3.T) { d.Security[0]["apiKeyAuth"] = nil }, security},
		"a scheme we do not know": {func(d *openapi3.T) { d.Security[0] = openapi3.SecurityRequirement{"mutualTLS": nil} }, security},
	} {
		t.Run(name, func(t *testing.T) {
			document := spec(t)
			c.change(document)
			_, err := newTestAPI(t, document, gone{}, &output{})
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("newAPI = %v; want %s", err, c.want)
			}
		})
	}
}

// A document may come to demand something of the request. What does not meet it is
// refused, after authentication and before the operation.
func TestARequestThatBreaksTheDocumentIsRefused(t *testing.T) {
	document := spec(t)
	document.Paths.Find(generatePath).Post.Parameters = openapi3.Parameters{{Value: openapi3.NewQueryParameter("device").
		WithRequired(true).WithSchema(openapi3.NewStringSchema())}}
	handler, err := newTestAPI(t, document, gone{func() error { t.Error("the operation was reached"); return nil }}, &output{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		header http.Header
		status int
		body   string
	}{
		{nil, 401, `{"error":"Sign in, or send a valid API key, to use this service."}`},
		{withKey(auth.NewAPIKey()), 400, `{"error":"The request does not match the description of the API."}`},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, generatePath, http.NoBody)
		r.Header = c.header
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != c.status || w.Body.String() != c.body+"\n" {
			t.Errorf("%d %s; want %d %s", w.Code, w.Body, c.status, c.body)
		}
	}
}

// Whatever Redis does, a call spends no more than this on it.
func TestACallHasABoundedTimeForTheStore(t *testing.T) {
	ops := &deadlines{}
	if got, _ := serveFailing(t, ops); got.status != http.StatusInternalServerError || !ops.bounded {
		t.Errorf("status %d, deadline within 500 ms: %t", got.status, ops.bounded)
	}
}

type deadlines struct{ bounded bool }

func (d *deadlines) GenerateTOTPKey(ctx context.Context, _ gen.GenerateTOTPKeyRequestObject) (gen.GenerateTOTPKeyResponseObject, error) {
	deadline, ok := ctx.Deadline()
	d.bounded = ok && time.Until(deadline) < 500*time.Millisecond
	return nil, context.DeadlineExceeded
}
