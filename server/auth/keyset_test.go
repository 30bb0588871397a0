package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// testIssuerServer serves a JWK set by its current handler.
type testIssuerServer struct {
	*httptest.Server
	handler atomic.Value // http.HandlerFunc
	log     bytes.Buffer // of the set
}

// handle has the next requests handled by handler.
func (s *testIssuerServer) handle(handler http.HandlerFunc) { s.handler.Store(handler) }

// newIssuerServer returns a server, and a KeySet that reads from it and has no set yet.
func newIssuerServer(t *testing.T) (*testIssuerServer, *KeySet) {
	t.Helper()
	s := &testIssuerServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handler.Load().(http.HandlerFunc)(w, r)
	}))
	t.Cleanup(s.Close)
	location := KeySetLocation{url: s.URL + "/?token=hunter2"}
	return s, NewKeySet(location, time.Hour, func() time.Time { return testNow }, newLog(&s.log))
}

// newLog returns a logger without times.
func newLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func respond(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// testSet returns a JWK set with one ES256 key, whose kid is "k".
func testSet(t *testing.T) string {
	t.Helper()
	_, public := newKey(t, jwt.SigningMethodES256)
	return `{"keys":[` + jwk(t, public, "k", "ES256", nil) + `]}`
}

// wantSet fails the test unless the set is loaded, and has the key of testSet, or not.
func wantSet(t *testing.T, set *KeySet, want bool) {
	t.Helper()
	err := set.Check(t.Context())
	if want && err != nil || !want && !errors.Is(err, ErrKeysUnavailable) {
		t.Errorf("Check = %v; want a loaded set: %t", err, want)
	}
	if err != nil {
		return
	}
	if key, ok := selectKey(*set.keys.Load(), "k", "ES256"); !ok || key.id != "k" || set.Loaded().IsZero() {
		t.Errorf("key %+v, %t, set loaded at %v; want the key k", key, ok, set.Loaded())
	}
}

func TestKeySet_HasNoKeysUntilTheFirstGoodResponse(t *testing.T) {
	good := testSet(t)
	elsewhere := httptest.NewServer(respond(http.StatusOK, good))
	t.Cleanup(elsewhere.Close)
	issuer, set := newIssuerServer(t)
	if err := set.Check(t.Context()); err == nil || err.Error() != "no JWK set was loaded yet" {
		t.Errorf("before the first refresh: Check = %v", err)
	}
	for name, bad := range map[string]struct {
		handler http.HandlerFunc
		err     string
	}{
		"status 500":      {respond(http.StatusInternalServerError, good), "read JWK set: status 500; want 200"},
		"status 203":      {respond(http.StatusNonAuthoritativeInfo, good), "read JWK set: status 203; want 200"},
		"redirect":        {http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP, "read JWK set: status 302; want 200"},
		"HTML":            {respond(http.StatusOK, "<html>"), errNoKeySet.Error()},
		"more than 1 MiB": {respond(http.StatusOK, good+strings.Repeat(" ", maxKeySet)), "read JWK set: more than 1048576 bytes"},
		"connection lost": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "read JWK set: EOF"},
		"body cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9999")
			fmt.Fprint(w, good)
		}, "read JWK set: unexpected EOF"},
		"no key": {respond(http.StatusOK, `{"keys":[]}`), "JWK set has no key that can verify a token"},
	} {
		issuer.handle(bad.handler)
		issuer.log.Reset()
		if set.refresh(t.Context()) || !set.Loaded().IsZero() {
			t.Errorf("%s: it is taken for a set", name)
		}
		wantSet(t, set, false)
		if err := set.Check(t.Context()); err.Error() != "no JWK set was loaded yet: "+bad.err || set.Warning() != "" {
			t.Errorf("%s: Check = %v, Warning = %q; want the error in Check", name, err, set.Warning())
		}
		if want := "level=ERROR msg=\"JWK set was not read: its tokens cannot be verified\" error=" + strconv.Quote(bad.err) + "\n"; issuer.log.String() != want {
			t.Errorf("%s: log %swant %s", name, issuer.log.String(), want)
		}
	}
	issuer.handle(respond(http.StatusOK, good))
	if !set.refresh(t.Context()) || !set.Loaded().Equal(testNow) {
		t.Error("a good set is not loaded")
	}
	wantSet(t, set, true)
}

// A failure leaves the last good set in place. A good set replaces it, also without its key.
func TestKeySet_KeepsTheLastGoodSet(t *testing.T) {
	now := testNow
	issuer, set := newIssuerServer(t)
	set.now = func() time.Time { return now }
	_, other := newKey(t, jwt.SigningMethodES256)
	good := respond(http.StatusOK, testSet(t))
	for _, step := range []struct {
		name    string
		handler http.HandlerFunc
		fault   string // empty: the set is replaced
		hasKey  bool   // k
	}{
		{"the first", good, "", true},
		{"no keys", respond(http.StatusOK, `{"keys":[]}`), "JWK set has no key that can verify a token", true},
		{"another failure", respond(http.StatusNotFound, ""), "read JWK set: status 404; want 200", true},
		{"the first again", good, "", true},
		{"a failure again", respond(http.StatusNotFound, ""), "read JWK set: status 404; want 200", true},
		{"another key", respond(http.StatusOK, `{"keys":[`+jwk(t, other, "l", "ES256", nil)+`]}`), "", false},
	} {
		now = now.Add(time.Hour)
		loaded, warning, log := now, "", ""
		if step.fault != "" {
			loaded, warning = set.Loaded(), "JWK set was not refreshed; the last good one stays: "+step.fault
			log = `level=WARN msg="JWK set was not refreshed; the last good one stays" error=` + strconv.Quote(step.fault) + "\n"
		}
		issuer.handle(step.handler)
		issuer.log.Reset()
		if set.refresh(t.Context()) != (step.fault == "") || !set.Loaded().Equal(loaded) || set.Check(t.Context()) != nil {
			t.Errorf("%s: set of %v, Check = %v; want that of %v", step.name, set.Loaded(), set.Check(t.Context()), loaded)
		}
		if set.Warning() != warning || issuer.log.String() != log {
			t.Errorf("%s: Warning = %q, log %swant %q", step.name, set.Warning(), issuer.log.String(), warning)
		}
		if _, ok := selectKey(*set.keys.Load(), "k", "ES256"); ok != step.hasKey {
			t.Errorf("%s: the set has the key k: %t", step.name, ok)
		}
	}
}

// A key that verifies no token is logged when it comes or changes, and not at each refresh.
func TestKeySet_LogsUnusableKeysOnce(t *testing.T) {
	_, es := newKey(t, jwt.SigningMethodES256)
	_, other := newKey(t, jwt.SigningMethodES256)
	key := func(kid string, changes map[string]any) string { return jwk(t, es, kid, "ES256", changes) }
	usable, encrypts := key("k", nil), key("e", map[string]any{"use": "enc"})
	secret := `{"kty":"oct","kid":"s","k":"hunter2"}`
	long := strings.Repeat("é", 60)
	const message = ` msg="a key of the JWK set verifies no token" kid=`
	const noUsableKey = `level=WARN msg="` + keptSet + `" error="JWK set has no key that can verify a token"` + "\n"
	issuer, set := newIssuerServer(t)
	for _, step := range []struct {
		name    string
		members []string
		want    string
	}{
		{"usable", []string{usable}, ""},
		{"two new", []string{usable, encrypts, secret}, "level=INFO" + message + `e reason="use or key_ops are of another purpose"` + "\n" +
			"level=WARN" + message + `s reason="symmetric keys verify no tokens"` + "\n"},
		{"the same, in another order", []string{secret, usable, encrypts}, ""},
		{"another reason", []string{usable, encrypts, key("s", map[string]any{"n": 7, "y": 7})}, "level=WARN" + message + `s reason="y is not of its type"` + "\n"},
		{"two of one kid", []string{usable, secret, secret}, "level=WARN" + message + `s reason="symmetric keys verify no tokens"` + "\n"},
		{"ambiguous", []string{usable, key("a", nil), jwk(t, other, "a", "ES256", nil)}, "level=WARN" + message + `a reason="another key fits tokens with this kid and alg, so they are refused"` + "\n"},
		{"a long kid", []string{usable, key(long, map[string]any{"kty": "x"})}, "level=WARN" + message + strings.Repeat("é", 32) + `... reason="no valid public key of type RSA, EC or OKP"` + "\n"},
		{"none usable", []string{secret}, "level=WARN" + message + `s reason="symmetric keys verify no tokens"` + "\n" + noUsableKey},
		{"none usable, again", []string{secret}, noUsableKey},
	} {
		issuer.log.Reset()
		issuer.handle(respond(http.StatusOK, `{"keys":[`+strings.Join(step.members, ",")+`]}`))
		set.refresh(t.Context())
		if issuer.log.String() != step.want {
			t.Errorf("%s: log\n%swant\n%s", step.name, issuer.log.String(), step.want)
		}
	}
	issuer.handle(respond(http.StatusServiceUnavailable, ""))
	set.refresh(t.Context())
	issuer.log.Reset()
	issuer.handle(respond(http.StatusOK, `{"keys":[`+usable+`,`+secret+`]}`))
	if set.refresh(t.Context()); issuer.log.Len() != 0 {
		t.Errorf("after a failure: log %s; want none", issuer.log.String())
	}
}

func TestKeySet_RequestsJSONOnANewConnection(t *testing.T) {
	issuer, set := newIssuerServer(t)
	issuer.handle(func(_ http.ResponseWriter, r *http.Request) {
		if accept := r.Header.Get("Accept"); r.Method != http.MethodGet || !r.Close || accept != "application/jwk-set+json, application/json" {
			t.Errorf("%s, Accept %q, closes the connection: %t", r.Method, accept, r.Close)
		}
	})
	set.refresh(t.Context())
}

// The issuer may send without end. 64 MiB are more than the buffers of a connection hold.
func TestKeySet_StopsReadingAboveOneMiB(t *testing.T) {
	issuer, set := newIssuerServer(t)
	all := make(chan bool, 1)
	issuer.handle(func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for i := 0; i < 64 && err == nil; i++ {
			_, err = w.Write(make([]byte, maxKeySet))
		}
		all <- err == nil
	})
	if set.refresh(t.Context()); <-all {
		t.Error("it read 64 MiB")
	}
}

func TestKeySet_StopsWithItsContext(t *testing.T) {
	issuer, set := newIssuerServer(t)
	ctx, stop := context.WithCancel(t.Context())
	issuer.handle(func(_ http.ResponseWriter, r *http.Request) {
		stop()
		<-r.Context().Done()
	})
	set.client.Timeout = 0 // nothing else ends the request
	if set.refresh(ctx) || issuer.log.Len() != 0 {
		t.Errorf("log %s; want none when the service stops", issuer.log.String())
	}
}

func TestNewKeySet_LimitsTheTimeAndUsesTheProxy(t *testing.T) {
	client := NewKeySet(KeySetLocation{}, time.Hour, time.Now, nil).client
	if client.Timeout != 5*time.Second || client.Transport.(*http.Transport).Proxy == nil {
		t.Errorf("time limit %v; want 5 s, and the proxy of the environment", client.Timeout)
	}
}

func TestKeySet_RefreshDoesNotBlockWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it fails when all goroutines block
		set := NewKeySet(KeySetLocation{}, time.Hour, time.Now, nil)
		set.Refresh()
		set.Refresh()
		if len(set.wanted) != 1 {
			t.Errorf("%d refreshes are wanted; want one", len(set.wanted))
		}
	})
}

// Run loads the set, and loads it again after the interval, on Refresh, and 3 s after a failure.
func TestKeySet_RunRefreshesInTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	good := testSet(t)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		set := NewKeySet(KeySetLocation{path: path}, time.Hour, time.Now, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { set.Run(ctx); close(ended) }()
		after := func(wait time.Duration, age time.Duration) { // of the loaded set
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			if got := time.Since(set.Loaded()); got != age {
				t.Errorf("the set was loaded %v ago; want %v", got, age)
			}
		}
		synctest.Wait()
		wantSet(t, set, false) // there is no file
		write(good)
		after(3*time.Second, 0)
		wantSet(t, set, true)
		after(time.Hour-1, time.Hour-1)
		after(1, 0)
		write("garbage")
		after(time.Hour, time.Hour)
		write(`{"keys":[]}`)
		after(3*time.Second, time.Hour+3*time.Second)
		wantSet(t, set, true)
		write(good)
		after(3*time.Second-1, time.Hour+6*time.Second-1)
		after(1, 0)
		time.Sleep(time.Minute)
		set.Refresh()
		after(0, 0)
		stop()
		<-ended
	})
}
