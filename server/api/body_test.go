package api

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/labstack/echo/v4"

	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
)

// withBodyTime shortens maxBodyTime.
func withBodyTime(d time.Duration) func(*Config) {
	return func(c *Config) { c.Now = func() time.Time { return time.Now().Add(d - maxBodyTime) } }
}

func TestReadBody_LimitsTheSize(t *testing.T) {
	a := newTestAPI(t)
	user := asUser(t, "ada")
	for _, row := range []struct {
		size, status int
		connection   string
	}{{maxBody, http.StatusOK, ""}, {maxBody + 1, http.StatusRequestEntityTooLarge, "close"}} {
		for name, body := range map[string]io.Reader{
			"sized":   strings.NewReader(strings.Repeat("x", row.size)),
			"chunked": io.MultiReader(strings.NewReader(strings.Repeat("x", row.size))),
		} {
			got := a.send(http.MethodPost, generatePath, user, body)
			if got.status != row.status || got.header.Get("Connection") != row.connection {
				t.Errorf("%d bytes, %s: %d, Connection %q; want %d, %q", row.size, name, got.status, got.header.Get("Connection"), row.status, row.connection)
			}
		}
	}
}

// TestReadBody_LateBody has one slot. The body of the first request never comes.
func TestReadBody_LateBody(t *testing.T) {
	a := newTestAPI(t, withBodyTime(200*time.Millisecond), func(c *Config) { c.MaxInFlight = 1 }).listen()
	connection, responses := a.dial()
	const head = "POST " + generatePath + " HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue\r\n"
	if _, err := io.WriteString(connection, head+"Authorization: "+asUser(t, "ada").Get("Authorization")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	const want = "HTTP/1.1 100 Continue\r\n\r\n" // the body is awaited
	got := make([]byte, len(want))
	if _, err := io.ReadFull(responses, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
	if got := a.post(asUser(t, "bob")); got.status != http.StatusOK {
		t.Errorf("another request meanwhile: %d %s; want 200", got.status, got.body)
	}
	if got := a.readResponse(head, responses); got.status != http.StatusOK || !got.closes {
		t.Errorf("the request without its body: %d, closes %t; want 200 and true", got.status, got.closes)
	}
}

// net/http reads a body to its end before it sends the response, unless the response closes
// the connection.
func TestWriteError_DoesNotAwaitTheBody(t *testing.T) {
	a := newTestAPI(t)
	for _, path := range []string{generatePath, "/elsewhere"} {
		for body, want := range map[io.Reader]string{http.NoBody: "", strings.NewReader("x"): "close"} {
			if got := a.send(http.MethodPost, path, nil, body); got.header.Get("Connection") != want {
				t.Errorf("%d for %s: Connection %q; want %q", got.status, path, got.header.Get("Connection"), want)
			}
		}
	}
}

// TestCheck_MatchesRequestsAgainstTheDocument has operations with parameters and a body, which
// the embedded document does not have.
func TestCheck_MatchesRequestsAgainstTheDocument(t *testing.T) {
	document := spec(t)
	text := openapi3.NewStringSchema()
	body := &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithRequired(true).
		WithJSONSchema(openapi3.NewObjectSchema().WithProperty("name", text).WithRequired([]string{"name"}))}
	document.Paths = openapi3.NewPaths(
		openapi3.WithPath("/accounts/{account}/devices/{device}", &openapi3.PathItem{Put: &openapi3.Operation{
			Parameters: openapi3.Parameters{
				{Value: openapi3.NewPathParameter("account").WithSchema(text)},
				{Value: openapi3.NewPathParameter("device").WithSchema(openapi3.NewIntegerSchema())},
			},
			RequestBody: body,
		}}),
		openapi3.WithPath("/devices", &openapi3.PathItem{Put: &openapi3.Operation{RequestBody: body}}))
	e := echo.New()
	e.HTTPErrorHandler = writeError
	echoBody := func(c echo.Context) error {
		body, err := io.ReadAll(c.Request().Body)
		return errors.Join(err, c.String(http.StatusOK, c.Param("device")+string(body)))
	}
	e.PUT("/accounts/:account/devices/:device", echoBody)
	e.PUT("/devices", echoBody)
	matched, err := matchOperations(document, e.Routes())
	if err != nil {
		t.Fatal(err)
	}
	o := &operations{byRoute: matched, slots: newSlots(1, nil)}
	o.Authenticator = newAuthenticator(t, store.NewMemory(time.Now), nil)
	o.Observer, o.Now = telemetry.NewObserver(nil, time.Now), time.Now
	e.Use(o.check)
	user := asUser(t, "ada")
	const mismatch = `{"error":"The request does not match the description of the API."}` + "\n"
	const good = `{"name":"x"}`
	for _, row := range []struct {
		name, path string
		header     http.Header
		body       io.Reader
		status     int
		want       string
		connection string
	}{
		{"accepts a match", "/accounts/a/devices/7", user, strings.NewReader(good), 200, "7" + good, ""},
		{"refuses a stranger first", "/accounts/a/devices/x", nil, iotest.ErrReader(errors.New("body read")), 401, refusedBody, "close"},
		{"rejects a parameter", "/accounts/a/devices/x", user, strings.NewReader(good), 400, mismatch, ""},
		{"rejects a body", "/accounts/a/devices/7", user, strings.NewReader(`{"name":7}`), 400, mismatch, ""},
		{"rejects a body of an operation without parameters", "/devices", user, strings.NewReader(`{"name":7}`), 400, mismatch, ""},
		{"rejects text after the body", "/devices", user, strings.NewReader(good + "x"), 400, mismatch, ""},
		{"rejects a second value", "/devices", user, strings.NewReader(good + good), 400, mismatch, ""},
		{"rejects a name that comes twice", "/devices", user, strings.NewReader(`{"name":"x","name":"y"}`), 400, mismatch, ""},
		{"rejects bytes that are not UTF-8", "/devices", user, strings.NewReader("{\"name\":\"\xff\"}"), 400, mismatch, ""},
		{"rejects a lone surrogate", "/devices", user, strings.NewReader(`{"name":"\ud800"}`), 400, mismatch, ""},
		{"rejects a missing body", "/accounts/a/devices/7", user, http.NoBody, 400, mismatch, ""},
		{"rejects an empty body", "/accounts/a/devices/7", user, strings.NewReader(""), 400, mismatch, ""},
		{"rejects a body that is cut off", "/accounts/a/devices/7", user, io.MultiReader(strings.NewReader(good), iotest.ErrReader(io.ErrUnexpectedEOF)), 400, mismatch, "close"},
		{"rejects a long body", "/accounts/a/devices/7", user, strings.NewReader(`{"name":"` + strings.Repeat("x", maxBody) + `"}`), 413, `{"error":"The request body is too large."}` + "\n", "close"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, row.path, readerFunc(func(p []byte) (int, error) {
				if len(o.slots.taken) != 0 {
					t.Error("a slot is held while the body is read")
				}
				return row.body.Read(p)
			}))
			if row.body == http.NoBody {
				r.Body = http.NoBody
			}
			r.Header = join(http.Header{"Content-Type": {"application/json"}}, row.header)
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			if w.Code != row.status || w.Body.String() != row.want || w.Header().Get("Connection") != row.connection {
				t.Errorf("%d %s, Connection %q; want %d %s, %q", w.Code, w.Body, w.Header().Get("Connection"), row.status, row.want, row.connection)
			}
		})
	}
}

// readerFunc is an io.Reader as a function.
type readerFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
