package api

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func TestRequestID(t *testing.T) {
	const (
		hexadecimal = "0123456789abcdefABCDEF0123456789"
		uuid        = "123e4567-e89b-12d3-a456-426614174000"
		xray        = "Root=1-67891233-abcdef012345678912345678"
		ulid        = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	)
	for id, want := range map[string]bool{
		uuid + "#12": true, "127.0.0.1-8000-21343-1-1-1527073520.123": true, // Kong's uuid#counter and tracker
		xray: true, xray + ";Parent=53995c3f42cd8ad8;Sampled=1": true, "Self=1-67891234-12456789abcdef012345678;" + xray: true,
		xray + ";Parent=53995c3f42cd8ad8;Sampled=0;Lineage=1:a87bd80c:1|68fd508a:5": true,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":                   true, // W3C
		"105445aa7843bc8bf206b12000100000/1;o=1":                                    true, // Google Cloud
		"0A0A0A01:C5F1_0A0A0A02:0050_5F3B9A1C_0001:1B2C":                            true, // HAProxy
		ulid: true, strings.ToLower(ulid): true, "7d1f0d5ffa0c2b1a-FRA": true, "1234567890123456789": true,
		ulid + "0": false, ulid[:25]: false, "0" + strings.Repeat("U", 25): false, "01arz3NDEKTSV4RRFFQ69G5FAV": false,
		"2" + ulid[1:]: false, // may be base32
		uuid + "#":     false, "#" + uuid: false, uuid + "#x": false, uuid + "##1": false, uuid + "# 1": false, "{" + uuid + "}": false,
		xray + ";": false, "Rooted=1-67891233-abcdef012345678912345678": false, "Root==67891233abcdef01": false,
		"0ujtsYcgvSTl8PAuAdqWYSMnLOv": false, "V1StGXR8_Z5jdHi6B-myT": false, // KSUID, nanoid
		uuid + "\n": false, uuid + "\r\nX-Api-Key: 1": false, uuid + "\x1b[31m": false, uuid + " 12": false, `"` + uuid + `"`: false,
		strings.Repeat(hexadecimal+"-", 3) + hexadecimal[:29]: true, strings.Repeat(hexadecimal+"-", 3) + hexadecimal[:30]: false,
		uuid: true, strings.ToUpper(uuid): true, strings.ReplaceAll(uuid, "-", ""): true, hexadecimal: true, hexadecimal[:16]: true, hexadecimal + "0": false,
		"": false, "1234": false, hexadecimal[:15]: false, hexadecimal + hexadecimal: false,
		"-" + hexadecimal: false, hexadecimal + "-": false, hexadecimal + "g": false, hexadecimal + "\n": false,
	} {
		if got := requestID(http.Header{"X-Request-Id": {id}}); (got == id) != want {
			t.Errorf("%q: %q; want that it is taken over: %t", id, got, want)
		}
	}
	if first, second := requestID(nil), requestID(nil); first == second {
		t.Errorf("two requests have the id %s", first)
	}
}

func TestRequestID_IsNoCredential(t *testing.T) {
	token := newToken(t, "ada", nil)
	never := append(strings.Split(token, "."), token, base64.StdEncoding.EncodeToString([]byte("ada:0123456789abcdef")))
	for range 500 {
		secret := make([]byte, 32)
		rand.Read(secret)
		never = append(never, auth.NewAPIKey(), auth.NewAPIKey()[4:],
			base64.RawURLEncoding.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret),
			hex.EncodeToString(secret), hex.EncodeToString(secret[:20]), base32.StdEncoding.EncodeToString(secret[:20]), base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret[:16]))
	}
	for _, credential := range never {
		if requestID(http.Header{"X-Request-Id": {credential}}) == credential {
			t.Errorf("%s is taken over", credential)
		}
	}
}

// TestRequestLine has all members of a line but time.
func TestRequestLine(t *testing.T) {
	const id, address = "0123456789abcdef", "203.0.113.9"
	clock := storetest.NewClock()
	a := newTestAPI(t, func(c *Config) {
		c.Proxies = parseProxies(t, "192.0.2.1/32") // httptest's client
		c.Now = clock.Now
		operations := c.Operations
		c.Operations = stubOperations{operations, func(ctx context.Context) (gen.GenerateTOTPKeyResponseObject, error) {
			clock.Advance(1500 * time.Microsecond)
			return operations.GenerateTOTPKey(ctx, gen.GenerateTOTPKeyRequestObject{})
		}}
	})
	key := a.newAPIKey("ada")
	keys, err := a.keys.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, method, path string
		header             http.Header
		want               map[string]any
	}{
		{"audit event", "POST", generatePath, withKey(key), map[string]any{
			"method": "POST", "route": generatePath, "status": 200.0, "duration_us": 1500.0,
			"event": "totp_key_issued", "account": store.Digest("ada"), "outcome": "created", "scheme": "api_key", "key_id": keys[0].ID,
		}},
		{"refusal", "POST", generatePath, nil, map[string]any{"method": "POST", "route": generatePath, "status": 401.0, "duration_us": 0.0, "cause": "no_credentials"}},
		{"unknown method", strings.ToUpper(key[4:]), generatePath, nil, map[string]any{"method": "other", "route": generatePath, "status": 405.0, "duration_us": 0.0}},
		{"unknown path", "GET", "/" + key, nil, map[string]any{"method": "GET", "route": "", "status": 404.0, "duration_us": 0.0}},
	} {
		t.Run(row.name, func(t *testing.T) {
			header := join(http.Header{"X-Request-Id": {id}, "X-Forwarded-For": {address}}, row.header)
			if got := a.send(row.method, row.path, header, http.NoBody); got.header.Get("X-Request-Id") != id {
				t.Errorf("X-Request-Id %q; want %s", got.header.Get("X-Request-Id"), id)
			}
			line := a.line()
			delete(line, "time")
			row.want["msg"], row.want["level"], row.want["request_id"], row.want["address"] = "request", "INFO", id, address
			if diff := cmp.Diff(row.want, line); diff != "" {
				t.Errorf("log line (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRequestLine_HasNoCredential(t *testing.T) {
	a := newTestAPI(t)
	key, token := a.newAPIKey("ada"), newToken(t, "ada", nil)
	for _, credential := range []string{key, token} {
		a.send(http.MethodPost, generatePath, join(bearer(credential), withKey(credential)), strings.NewReader(credential))
		a.send(http.MethodPost, generatePath+"?key="+credential, http.Header{"X-Request-Id": {credential}, "X-Forwarded-For": {credential}}, http.NoBody)
		a.send(http.MethodGet, "/"+credential, http.Header{"User-Agent": {credential}, "Cookie": {credential}}, http.NoBody)
	}
	text := a.log.text.String()
	if lines := a.lines(); len(lines) != 6 {
		t.Errorf("%d log lines; want 6", len(lines))
	}
	for _, credential := range []string{key[4:], strings.Split(token, ".")[1], strings.Split(token, ".")[2]} {
		if strings.Contains(text, credential) {
			t.Errorf("the log has the credential %s:\n%s", credential, text)
		}
	}
}

func TestRequestLine_OfAnAuditEventIgnoresTheLevel(t *testing.T) {
	a := newTestAPI(t, func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	a.post(nil)
	a.post(asUser(t, "ada"))
	if line := a.line(); line["event"] != "totp_key_issued" {
		t.Errorf("log line %v; want the audit event alone", line)
	}
}

func TestClassify(t *testing.T) {
	left, leave := context.WithCancel(t.Context())
	leave()
	cancelled := fmt.Errorf("%w: %w", store.ErrUnavailable, context.Canceled)
	for _, row := range []struct {
		name   string
		left   bool // the client
		err    error
		status int
		level  slog.Level
		want   string
	}{
		{"no error", false, nil, 200, slog.LevelInfo, ""},
		{"refusal", false, &auth.Refusal{Cause: auth.KeyUnknown}, 401, slog.LevelInfo, "cause=key_unknown"},
		{"client's fault", false, &http.MaxBytesError{}, 413, slog.LevelInfo, ""},
		{"panic", false, &panicError{err: errors.New("x")}, 500, slog.LevelError, "error=panic: x\n"},
		{"panic after 200", false, &panicError{err: errors.New("x")}, 200, slog.LevelError, "error=panic: x\n"},
		{"response cut off", false, errors.New("x"), 200, slog.LevelInfo, "cause=response_cut_off error=x"},
		{"no JWK set", false, auth.ErrKeysUnavailable, 503, slog.LevelInfo, "cause=keys_unavailable"},
		{"overload", false, errOverloaded, 503, slog.LevelInfo, "cause=overloaded"},
		{"store unavailable", false, store.ErrUnavailable, 503, slog.LevelWarn, "error=store unavailable"},
		{"fault", false, errors.New("x"), 500, slog.LevelError, "error=x"},
		{"client left", true, cancelled, 503, slog.LevelInfo, "cause=client_left error=store unavailable: context canceled"},
		{"store unavailable while the client left", true, store.ErrUnavailable, 503, slog.LevelWarn, "error=store unavailable"},
		{"fault while the client left", true, errors.New("x"), 500, slog.LevelError, "error=x"},
		{"cancelled though the client is there", false, cancelled, 503, slog.LevelWarn, "error=store unavailable: context canceled"},
		{"fault cancelled though the client is there", false, context.Canceled, 500, slog.LevelError, "error=context canceled"},
	} {
		ctx := t.Context()
		if row.left {
			ctx = left
		}
		level, attrs := classify(ctx, row.err, row.status)
		var got []string
		for _, attr := range attrs {
			got = append(got, attr.String())
		}
		if text := strings.Join(got, " "); level != row.level || text != row.want {
			t.Errorf("%s: %v %q; want %v %q", row.name, level, text, row.level, row.want)
		}
	}
}

func TestOperation_EndsWhenTheClientLeaves(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	a := newTestAPI(t, withOperation(func(ctx context.Context) (gen.GenerateTOTPKeyResponseObject, error) {
		leave()
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://service"+generatePath, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = asUser(t, "ada")
	if response, err := a.contract.RoundTrip(r); err == nil {
		response.Body.Close()
	}
	if line := a.line(); line["level"] != "INFO" || line["cause"] != "client_left" || line["error"] != "context canceled" {
		t.Errorf("log line %v; want INFO and client_left", line)
	}
}
