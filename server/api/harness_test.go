package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/api/apitest"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/lifecycle"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

const (
	generatePath = "/accounts/generate-totp-key"
	testIssuer   = "https://issuer.test"
	testAudience = "mfa.test"
	testSecret   = "0123456789abcdef0123456789abcdef" // HS256 key of the tests
)

// testAPI is the handler of New on a store in memory, with real authentication, and a client
// of it. The client's transport calls the handler; listen changes that to a connection.
type testAPI struct {
	t         testing.TB
	handler   http.Handler
	observer  *telemetry.Observer
	backend   *testBackend
	keys      *store.APIKeys
	log       *logBuffer
	transport http.RoundTripper
	coverage  *apitest.Coverage // nil with a stub for the operation
	contract  *apitest.Contract
	client    *http.Client
	address   string // set by listen
}

// newTestAPI returns an API with the real operations. change may change its Config.
func newTestAPI(t testing.TB, change ...func(*Config)) *testAPI {
	t.Helper()
	a := &testAPI{t: t, log: &logBuffer{}, address: "service"}
	observer := telemetry.NewObserver(nil, time.Now)
	a.backend = &testBackend{Memory: store.NewMemory(time.Now)}
	a.keys = store.NewAPIKeys(a.backend, time.Now)
	keyring := storetest.NewKeyring(t, storetest.NewSealKey("k1"))
	operations := mfa.New(mfa.Config{
		Issuer:     "quiva.ai",
		Pending:    store.NewPending(a.backend, keyring, 10*time.Minute, time.Now),
		PendingTTL: 10 * time.Minute,
		Factors:    storetest.OpenFactors(t, a.backend, keyring, time.Now),
		StepUp:     auth.StepUp{MaxAge: time.Hour, Leeway: 30 * time.Second, Now: time.Now},
		Metrics:    observer.Metrics,
		Now:        time.Now,
	})
	c := Config{
		Document:      spec(t),
		Authenticator: newAuthenticator(t, a.backend, nil),
		Operations:    operations,
		MaxInFlight:   4,
		Observer:      observer,
		Now:           time.Now,
		Log:           telemetry.NewLogger(a.log, slog.LevelInfo, "json"),
		AuditLog:      telemetry.NewLogger(a.log, slog.LevelDebug, "json"),
	}
	for _, f := range change {
		f(&c)
	}
	a.observer = c.Observer
	var err error
	if a.handler, err = New(c); err != nil {
		t.Fatal(err)
	}
	if c.Operations == operations {
		a.coverage = &coverage
	}
	a.use(handlerTransport{a.handler})
	return a
}

// use makes a client whose requests go through transport.
func (a *testAPI) use(transport http.RoundTripper) {
	a.transport, a.contract = transport, apitest.NewContract(a.t, transport, a.coverage)
	a.client = &http.Client{Transport: a.contract}
}

// withOperation replaces the operation by a stub.
func withOperation(stub operationFunc) func(*Config) {
	return func(c *Config) { c.Operations = stubOperations{c.Operations, stub} }
}

// operationFunc is the operation as a function.
type operationFunc func(context.Context) (gen.GenerateTOTPKeyResponseObject, error)

type stubOperations struct {
	gen.StrictServerInterface
	generate operationFunc
}

func (s stubOperations) GenerateTOTPKey(ctx context.Context, _ gen.GenerateTOTPKeyRequestObject) (gen.GenerateTOTPKeyResponseObject, error) {
	return s.generate(ctx)
}

// blockingOperation returns an operation that sends to begun and returns after finish closes.
func blockingOperation(begun chan<- struct{}, finish <-chan struct{}) operationFunc {
	return func(context.Context) (gen.GenerateTOTPKeyResponseObject, error) {
		begun <- struct{}{}
		<-finish
		return gen.GenerateTOTPKey200JSONResponse{}, nil
	}
}

// newAuthenticator returns an authenticator as package main makes it. keySet may be nil.
func newAuthenticator(t testing.TB, backend store.Backend, keySet *auth.KeySet) *auth.Authenticator {
	t.Helper()
	authenticator, err := auth.New(auth.Config{
		Keys: keyFinder{store.NewAPIKeys(backend, time.Now), store.NewServiceKeys(backend, time.Now)}, KeyTime: AuthenticateTimeout, HMACSecret: []byte(testSecret), KeySet: keySet,
		Issuer: testIssuer, Audience: testAudience, Leeway: 30 * time.Second, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return authenticator
}

type keyFinder struct{ keys, serviceKeys *store.APIKeys }

func (f keyFinder) FindAPIKey(ctx context.Context, key string) (auth.Principal, error) {
	return find(ctx, f.keys, key)
}

func (f keyFinder) FindServiceKey(ctx context.Context, key string) (auth.Principal, error) {
	return find(ctx, f.serviceKeys, key)
}

func find(ctx context.Context, keys *store.APIKeys, key string) (auth.Principal, error) {
	record, err := keys.Find(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return auth.Principal{}, auth.ErrUnknownKey
	}
	return auth.Principal{Account: record.Account, Label: record.Email, KeyID: record.ID}, err
}

// handlerTransport calls the handler in the request's goroutine.
type handlerTransport struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t handlerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	received := httptest.NewRequestWithContext(r.Context(), r.Method, "/", r.Body)
	received.URL, received.Header, received.ContentLength = r.URL, r.Header, r.ContentLength
	w := httptest.NewRecorder()
	t.handler.ServeHTTP(w, received)
	return w.Result(), nil
}

// listen serves the API on a port until the test ends. From then on, the client uses it.
func (a *testAPI) listen() *testAPI {
	a.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	server := lifecycle.NewServer(a.handler, nil, time.Minute, slog.New(slog.DiscardHandler))
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // until Close
	transport := &http.Transport{}
	a.t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		serving.Wait()
	})
	a.address = listener.Addr().String()
	a.use(transport)
	return a
}

// testBackend is a store in memory that can fail.
type testBackend struct {
	*store.Memory
	fails error
}

// PutIfAbsent implements store.Backend.
func (b *testBackend) PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, error) {
	if b.fails != nil {
		return nil, b.fails
	}
	return b.Memory.PutIfAbsent(ctx, key, value, ttl)
}

// Get implements store.Backend.
func (b *testBackend) Get(ctx context.Context, key string) ([]byte, error) {
	if b.fails != nil {
		return nil, b.fails
	}
	return b.Memory.Get(ctx, key)
}

// GetAll implements store.Backend.
func (b *testBackend) GetAll(ctx context.Context, keys ...string) ([][]byte, error) {
	if b.fails != nil {
		return nil, b.fails
	}
	return b.Memory.GetAll(ctx, keys...)
}

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// lines returns the lines since the last call.
func (a *testAPI) lines() []map[string]any {
	a.t.Helper()
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	var lines []map[string]any
	for line := range strings.Lines(a.log.text.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			a.t.Errorf("log line %s: %v", line, err)
		}
		if members := strings.Count(line, `":`); members != len(record) { // No value has this text.
			a.t.Errorf("log line %s has a member twice", line)
		}
		lines = append(lines, record)
	}
	a.log.text.Reset()
	return lines
}

// line returns the one line since the last call.
func (a *testAPI) line() map[string]any {
	a.t.Helper()
	lines := a.lines()
	if len(lines) != 1 {
		a.t.Errorf("log lines %v; want one", lines)
		return nil
	}
	return lines[0]
}

// wantMetric demands that /metrics has the line.
func (a *testAPI) wantMetric(t testing.TB, line string) {
	t.Helper()
	w := httptest.NewRecorder()
	a.observer.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if !strings.Contains(w.Body.String(), "\n"+line+"\n") {
		t.Errorf("/metrics has no line %s", line)
	}
}

// reply is a response whose body was read.
type reply struct {
	status int
	header http.Header
	body   string
	closes bool // the connection
}

// post calls the operation with these header fields.
func (a *testAPI) post(fields http.Header) reply {
	a.t.Helper()
	return a.send(http.MethodPost, generatePath, fields, http.NoBody)
}

func (a *testAPI) send(method, path string, fields http.Header, body io.Reader) reply {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, "http://"+a.address+path, body)
	if err != nil {
		a.t.Error(err)
		return reply{}
	}
	maps.Copy(r.Header, fields)
	response, err := a.client.Do(r)
	if err != nil {
		a.t.Error(err)
		return reply{}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Error(err)
	}
	return reply{response.StatusCode, response.Header, string(text), response.Close}
}

// newAPIKey registers an API key for account.
func (a *testAPI) newAPIKey(account string) string {
	a.t.Helper()
	key := auth.NewAPIKey()
	if _, err := a.keys.Create(a.t.Context(), key, account, "key@example.com", time.Hour); err != nil {
		a.t.Fatal(err)
	}
	return key
}

// newServiceKey registers a service key.
func (a *testAPI) newServiceKey() string {
	a.t.Helper()
	key := auth.NewServiceKey()
	if _, err := store.NewServiceKeys(a.backend, time.Now).CreateForService(a.t.Context(), key, "gateway", time.Hour); err != nil {
		a.t.Fatal(err)
	}
	return key
}

// newToken returns a valid token, changed by changes; nil removes a claim.
func newToken(t testing.TB, account string, changes jwt.MapClaims) string {
	t.Helper()
	claims := jwt.MapClaims{
		"iss": testIssuer, "aud": testAudience, "sub": account, "email": account + "@example.com",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func withKey(key string) http.Header { return http.Header{"X-Api-Key": {key}} }

// asUser returns the header of a signed-in person.
func asUser(t testing.TB, account string) http.Header {
	t.Helper()
	return bearer(newToken(t, account, nil))
}

func join(a, b http.Header) http.Header {
	joined := a.Clone()
	maps.Copy(joined, b)
	return joined
}

func spec(t testing.TB) *openapi3.T {
	t.Helper()
	document, err := gen.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	return document
}
