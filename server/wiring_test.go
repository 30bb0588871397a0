package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// anyKey finds every API key, and notes how long it might have looked.
type anyKey struct{ bounded *bool }

func (k anyKey) FindAPIKey(ctx context.Context, _ string) (auth.Principal, error) {
	if k.bounded != nil {
		*k.bounded = withinHalfASecond(ctx)
	}
	return auth.Principal{Account: "ada", Label: "ada"}, nil
}

// opsFunc is the operation as a function.
type opsFunc func(context.Context) (gen.GenerateTOTPKeyResponseObject, error)

func (f opsFunc) GenerateTOTPKey(ctx context.Context, _ gen.GenerateTOTPKeyRequestObject) (gen.GenerateTOTPKeyResponseObject, error) {
	return f(ctx)
}

// failing is an operation that does nothing but fail.
func failing(fail func() error) opsFunc {
	return func(context.Context) (gen.GenerateTOTPKeyResponseObject, error) { return nil, fail() }
}

// testInFlight is how many requests may be in flight in an API of newTestAPI.
const testInFlight = 4

func newTestAPI(t *testing.T, document *openapi3.T, keys auth.KeyFinder, ops gen.StrictServerInterface, log *output) (http.Handler, error) {
	t.Helper()
	authenticator, err := auth.New(auth.Config{Keys: keys, KeyTime: authenticateTime, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return newAPI(apiConfig{
		document: document, authenticator: authenticator, operations: ops, maxInFlight: testInFlight,
		watch: newObserver(nil, time.Now), now: time.Now, log: newLogger(log, slog.LevelInfo, "json"),
	})
}

// serveOps starts an API whose operations are ops and whose every API key is valid.
func serveOps(t *testing.T, document *openapi3.T, keys auth.KeyFinder, ops gen.StrictServerInterface) *service {
	t.Helper()
	s := &service{t: t, log: &output{}}
	handler, err := newTestAPI(t, document, keys, ops, s.log)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	transport := &http.Transport{}
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	s.url, s.client = server.URL, &http.Client{Transport: newContract(t, document, transport)}
	return s
}

func spec(t testing.TB) *openapi3.T {
	t.Helper()
	document, err := gen.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func withinHalfASecond(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < 500*time.Millisecond
}

func TestStartUpRefusesADocumentThatTheCodeDoesNotServe(t *testing.T) {
	const disagree = "OpenAPI document and code disagree; run make generate and follow the build: "
	const security = disagree + "operation generateTotpKey demands other credentials than bearerAuth or apiKeyAuth"
	operation := func(d *openapi3.T) *openapi3.Operation { return d.Paths.Find(generatePath).Post }
	scheme := func(d *openapi3.T, name string) *openapi3.SecurityScheme {
		return d.Components.SecuritySchemes[name].Value
	}
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
		"no security at all": {func(d *openapi3.T) { d.Security = nil }, security},
		"open to all":        {func(d *openapi3.T) { operation(d).Security = &openapi3.SecurityRequirements{} }, security},
		"anonymous as well":  {func(d *openapi3.T) { d.Security = append(d.Security, openapi3.SecurityRequirement{}) }, security},
		"a token only":       {func(d *openapi3.T) { d.Security = d.Security[:1] }, security},
		"a token twice":      {func(d *openapi3.T) { d.Security[1] = d.Security[0] }, security},
		"both at once, or nothing": {func(d *openapi3.T) {
			d.Security[0]["apiKeyAuth"], d.Security[1] = nil, openapi3.SecurityRequirement{}
		}, security},
		"a token of another type": {func(d *openapi3.T) { scheme(d, "bearerAuth").Type = "oauth2" }, security},
		"a key of another type":   {func(d *openapi3.T) { scheme(d, "apiKeyAuth").Type = "http" }, security},
		"no components":           {func(d *openapi3.T) { d.Components = nil }, security},
		"both at once":            {func(d *openapi3.T) { d.Security[0]["apiKeyAuth"] = nil }, security},
		"a scope":                 {func(d *openapi3.T) { d.Security[0]["bearerAuth"] = []string{"admin"} }, security},
		"a scheme that is absent": {func(d *openapi3.T) { d.Security[0] = openapi3.SecurityRequirement{"mutualTLS": nil} }, security},
		"no schemes":              {func(d *openapi3.T) { d.Components.SecuritySchemes = nil }, security},
		"another HTTP scheme":     {func(d *openapi3.T) { scheme(d, "bearerAuth").Scheme = "basic" }, security},
		"another header":          {func(d *openapi3.T) { scheme(d, "apiKeyAuth").Name = "X-Other" }, security},
		"a key in the query":      {func(d *openapi3.T) { scheme(d, "apiKeyAuth").In = "query" }, security},
	} {
		t.Run(name, func(t *testing.T) {
			document := spec(t)
			c.change(document)
			_, err := newTestAPI(t, document, anyKey{}, failing(nil), &output{})
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("newAPI = %v; want %s", err, c.want)
			}
		})
	}
}

// TestWhatADocumentMayComeToDemand runs the guard on an operation that upstream does
// not have yet: with a path parameter and a body. What does not meet the document is
// refused, after authentication and before the operation.
func TestWhatADocumentMayComeToDemand(t *testing.T) {
	const path = "/accounts/{account}/devices/{device}"
	document := spec(t)
	text := openapi3.NewStringSchema()
	item := &openapi3.PathItem{Put: &openapi3.Operation{
		OperationID: "putDevice",
		Parameters: openapi3.Parameters{
			{Value: openapi3.NewPathParameter("account").WithSchema(text)},
			{Value: openapi3.NewPathParameter("device").WithSchema(openapi3.NewIntegerSchema())},
		},
		RequestBody: &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithRequired(true).
			WithJSONSchema(openapi3.NewObjectSchema().WithProperty("name", text).WithRequired([]string{"name"}))},
	}}
	document.Paths = openapi3.NewPaths(openapi3.WithPath(path, item))
	e := echo.New()
	e.HTTPErrorHandler = answerError
	e.PUT("/accounts/:account/devices/:device", func(c echo.Context) error {
		body, err := io.ReadAll(c.Request().Body)
		return errors.Join(err, c.String(http.StatusOK, c.Param("device")+string(body)))
	})
	byRoute, err := matchOperations(document, e.Routes())
	if err != nil {
		t.Fatal(err)
	}
	authenticator, err := auth.New(auth.Config{Keys: anyKey{}, KeyTime: authenticateTime, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	e.Use((&operations{byRoute: byRoute, authenticator: authenticator, now: time.Now, inFlight: make(chan struct{}, 1), overloaded: newMetrics().overloaded}).middleware)
	const mismatch = `{"error":"The request does not match the description of the API."}` + "\n"
	for _, c := range []struct {
		name, path string
		header     http.Header
		body       string
		status     int
		want       string
	}{
		{"sound", "/accounts/a/devices/7", withKey(auth.NewAPIKey()), `{"name":"x"}`, 200, `7{"name":"x"}`},
		{"stranger", "/accounts/a/devices/x", nil, `{"name":7}`, 401, refusedBody},
		{"parameter", "/accounts/a/devices/x", withKey(auth.NewAPIKey()), `{"name":"x"}`, 400, mismatch},
		{"body", "/accounts/a/devices/7", withKey(auth.NewAPIKey()), `{"name":7}`, 400, mismatch},
		{"no body", "/accounts/a/devices/7", withKey(auth.NewAPIKey()), ``, 400, mismatch},
		{"long body", "/accounts/a/devices/7", withKey(auth.NewAPIKey()), `{"name":"` + strings.Repeat("x", maxBody) + `"}`, 413, `{"error":"The request body is too large."}` + "\n"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, c.path, strings.NewReader(c.body))
		r.ContentLength = -1
		r.Header = c.header.Clone()
		if r.Header == nil {
			r.Header = http.Header{}
		}
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != c.status || w.Body.String() != c.want {
			t.Errorf("%s: %d %s; want %d %s", c.name, w.Code, w.Body, c.status, c.want)
		}
	}
}

// Whatever Redis does, a call spends no more than half a second on it.
func TestACallHasABoundedTimeForTheStore(t *testing.T) {
	var lookUp, operation bool
	s := serveOps(t, spec(t), anyKey{&lookUp}, opsFunc(func(ctx context.Context) (gen.GenerateTOTPKeyResponseObject, error) {
		operation = withinHalfASecond(ctx)
		return nil, errors.New("enough")
	}))
	if got := s.post(withKey(auth.NewAPIKey())); got.status != http.StatusInternalServerError || !lookUp || !operation {
		t.Errorf("status %d, bounded in the look-up %t, in the operation %t", got.status, lookUp, operation)
	}
	if total := authenticateTime + operationTime; total >= 500*time.Millisecond {
		t.Errorf("together they may take %v", total)
	}
}

func TestAFaultOfOursTellsTheClientNothing(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("hunter2 at db.internal") },
		"panic": func() error { panic("hunter2 at db.internal") },
	} {
		t.Run(name, func(t *testing.T) {
			s := serveOps(t, spec(t), anyKey{}, failing(fail))
			// No request has the real operation fail like this: of the stubs, these count.
			s.client.Transport.(*contract).produced = produced
			got := s.post(withKey(auth.NewAPIKey()))
			if got.status != http.StatusInternalServerError || got.body != `{"error":"Something went wrong on our side."}`+"\n" {
				t.Errorf("%d %s; want 500 and nothing of the cause", got.status, got.body)
			}
			log := s.log.String()
			if !strings.Contains(log, "hunter2 at db.internal") || !strings.Contains(log, `"level":"ERROR"`) {
				t.Errorf("the log does not have the cause: %s", log)
			}
			if stacks := regexp.MustCompile(`goroutine \d+ \[`).FindAllString(log, -1); name == "panic" && len(stacks) != 1 {
				t.Errorf("the log has the stacks %q; want that of the request", stacks)
			}
		})
	}
}

// net/http awaits what is left of a body before it sends the answer, unless the answer
// closes the connection: a stranger could have it wait until the read times out.
func TestARefusalDoesNotAwaitTheBody(t *testing.T) {
	handler, err := newTestAPI(t, spec(t), anyKey{}, failing(nil), &output{})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{generatePath, "/elsewhere"} {
		for body, want := range map[io.Reader]string{http.NoBody: "", strings.NewReader("x"): "close"} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, body))
			if got := w.Header().Get("Connection"); got != want {
				t.Errorf("%d for %s: Connection %q; want %q", w.Code, path, got, want)
			}
		}
	}
}

// halfWritten is an answer that fails after it has begun.
type halfWritten struct{ fail func() error }

func (h halfWritten) VisitGenerateTOTPKeyResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Totp-Key-Expires-In", "1")
	w.Header().Set("X-Request-Id", "") // which does not stay empty
	_, err := io.WriteString(w, `{"data":{}}`)
	return errors.Join(err, h.fail())
}

func TestAnAnswerThatHasBegunIsNotFollowedByAnother(t *testing.T) {
	for level, fail := range map[string]func() error{
		"INFO":  func() error { return errors.New("too late") },
		"ERROR": func() error { panic("too late") },
	} {
		s := serveOps(t, spec(t), anyKey{}, opsFunc(func(context.Context) (gen.GenerateTOTPKeyResponseObject, error) { return halfWritten{fail}, nil }))
		if got := s.post(withKey(auth.NewAPIKey())); got.body != `{"data":{}}` {
			t.Errorf("body %s; want what was written first", got.body)
		}
		line := s.logLines("request")[0]
		if text, _ := line["error"].(string); line["level"] != level || !strings.Contains(text, "too late") {
			t.Errorf("log line %v; want %s and the cause", line, level)
		}
	}
}

func TestAnOperationEndsWithItsClient(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan error)
	s := serveOps(t, spec(t), anyKey{}, opsFunc(func(ctx context.Context) (gen.GenerateTOTPKeyResponseObject, error) {
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}))
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(connection, "POST "+generatePath+" HTTP/1.1\r\nHost: h\r\nX-Api-Key: "+auth.NewAPIKey()+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	connection.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the operation ended with %v; want context.Canceled", err)
	}
	storetest.Eventually(t, func() bool { return len(s.logLines("request")) == 1 })
	if line := s.logLines("request")[0]; line["level"] != "INFO" || line["cause"] != "client_left" || line["error"] == nil {
		t.Errorf("log line %v; want INFO and client_left", line)
	}
}

// What was cancelled while the client is there was cancelled by us.
func TestAClientThatIsThereHasNotLeft(t *testing.T) {
	for want, err := range map[slog.Level]error{slog.LevelError: context.Canceled, slog.LevelWarn: fmt.Errorf("%w: %w", store.ErrUnavailable, context.Canceled)} {
		if level, attrs := classify(t.Context(), err, http.StatusServiceUnavailable); level != want || attrs[0].Key != "error" {
			t.Errorf("%v: %v, %v; want %v and the error", err, level, attrs, want)
		}
	}
}

func TestTheLogLineOfARequest(t *testing.T) {
	s := serveOps(t, spec(t), anyKey{}, failing(func() error { time.Sleep(time.Millisecond); return errors.New("x") }))
	start := time.Now()
	s.post(withKey(auth.NewAPIKey()))
	most := time.Since(start)
	s.send(strings.Repeat("M", 40), generatePath, nil, http.NoBody)
	lines := s.logLines("request")
	for i, want := range []map[string]any{
		{"level": "ERROR", "method": "POST", "route": generatePath, "status": 500.0, "error": "x"},
		{"level": "INFO", "method": "other", "route": generatePath, "status": 405.0},
	} {
		for name, value := range want {
			if lines[i][name] != value {
				t.Errorf("%s is %v; want %v", name, lines[i][name], value)
			}
		}
	}
	if took := lines[0]["duration_us"].(float64); took < 1000 || took > float64(most.Microseconds()) {
		t.Errorf("duration_us is %v; want from 1 ms to the %v that the call took", took, most)
	}
}

func TestEveryConnectionHasLimits(t *testing.T) {
	server := newServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	// README.md names the first two: whoever changes them changes it.
	if server.ReadTimeout != 5*time.Second || server.IdleTimeout != 2*time.Minute ||
		server.WriteTimeout <= server.ReadTimeout || server.MaxHeaderBytes <= 0 || server.ErrorLog == nil {
		t.Errorf("limits %+v", server)
	}
	s, err := loadSettings(nil, nil, nil)
	if err != nil || time.Duration(s.StopTimeout) <= server.WriteTimeout {
		t.Errorf("%v, %v to stop; want more than a request may take", err, time.Duration(s.StopTimeout))
	}
}

func TestARequestInFlightIsAnsweredBeforeTheEnd(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	finish, ended := make(chan struct{}), make(chan error)
	go func() {
		ended <- serveHTTP(ctx, listener, newServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			stop() // with this request in flight
			<-finish
			w.WriteHeader(http.StatusNoContent)
		}), slog.New(slog.DiscardHandler)), 20*time.Second)
	}()
	// New connections are refused once the end has begun; only then may it go on.
	go func() {
		<-ctx.Done()
		storetest.Eventually(t, func() bool {
			connection, err := net.Dial("tcp", listener.Addr().String())
			if err == nil {
				connection.Close()
			}
			return err != nil
		})
		close(finish)
	}()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+listener.Addr().String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if err := <-ended; err != nil || response.StatusCode != http.StatusNoContent {
		t.Errorf("status %d, serveHTTP = %v; want 204, nil", response.StatusCode, err)
	}
}
