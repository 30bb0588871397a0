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
func newIssuerServer(t *testing.T, handler http.HandlerFunc) (*testIssuerServer, *KeySet) {
	t.Helper()
	s := &testIssuerServer{}
	s.handle(handler)
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
	if key, ok := set.lookUp("k", "ES256"); !ok || key.id != "k" || set.Loaded().IsZero() {
		t.Errorf("key %+v, %t, set loaded at %v; want the key k", key, ok, set.Loaded())
	}
}

// badResponses are responses that are no JWK set, each with the error that is logged.
func badResponses(t *testing.T, good string) map[string]struct {
	handler http.HandlerFunc
	err     string
} {
	elsewhere := httptest.NewServer(respond(http.StatusOK, good))
	t.Cleanup(elsewhere.Close)
	const noSet = `not a JWK set: want one JSON object with \"keys\"`
	return map[string]struct {
		handler http.HandlerFunc
		err     string
	}{
		"status 500":      {respond(http.StatusInternalServerError, good), "read JWK set: status 500; want 200"},
		"status 203":      {respond(http.StatusNonAuthoritativeInfo, good), "read JWK set: status 203; want 200"},
		"redirect":        {http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP, "read JWK set: status 302; want 200"},
		"HTML":            {respond(http.StatusOK, "<html>"), noSet},
		"more than 1 MiB": {respond(http.StatusOK, good+strings.Repeat(" ", maxKeySet)), "read JWK set: more than 1048576 bytes"},
		"connection lost": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "read JWK set: EOF"},
		"body cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9999")
			fmt.Fprint(w, good)
		}, "read JWK set: unexpected EOF"},
	}
}

func TestKeySet_HasNoKeysUntilTheFirstGoodResponse(t *testing.T) {
	good := testSet(t)
	issuer, set := newIssuerServer(t, nil)
	for name, bad := range badResponses(t, good) {
		issuer.handle(bad.handler)
		issuer.log.Reset()
		if set.refresh(t.Context()) || !set.Loaded().IsZero() {
			t.Errorf("%s: it is taken for a set", name)
		}
		wantSet(t, set, false)
		if want := "level=ERROR msg=\"JWK set was not read: its tokens cannot be verified\" error=\"" + bad.err + "\"\n"; issuer.log.String() != want {
			t.Errorf("%s: log %swant %s", name, issuer.log.String(), want)
		}
	}
	issuer.handle(respond(http.StatusOK, `{"keys":[]}`))
	issuer.log.Reset()
	if set.refresh(t.Context()) {
		t.Error("a first set without keys is accepted")
	}
	wantSet(t, set, false)
	if want := `level=ERROR msg="JWK set has no key that can verify a token"`; !strings.HasPrefix(issuer.log.String(), want) {
		t.Errorf("log %s; want %s", issuer.log.String(), want)
	}
	issuer.handle(respond(http.StatusOK, good))
	if !set.refresh(t.Context()) || !set.Loaded().Equal(testNow) {
		t.Error("a good set is not loaded")
	}
	wantSet(t, set, true)
}

func TestKeySet_KeepsLastGoodSetOnFailure(t *testing.T) {
	good := testSet(t)
	issuer, set := newIssuerServer(t, respond(http.StatusOK, good))
	if !set.refresh(t.Context()) {
		t.Fatal(issuer.log.String())
	}
	set.now = func() time.Time { return testNow.Add(time.Hour) }
	for name, bad := range badResponses(t, testSet(t)) {
		before := set.keys.Load()
		issuer.handle(bad.handler)
		issuer.log.Reset()
		if set.refresh(t.Context()) || set.keys.Load() != before || !set.Loaded().Equal(testNow) {
			t.Errorf("%s: it replaces the last good set", name)
		}
		wantSet(t, set, true)
		if want := "level=WARN msg=\"JWK set was not refreshed; the last good one stays\" error=\"" + bad.err + "\"\n"; issuer.log.String() != want {
			t.Errorf("%s: log %swant %s", name, issuer.log.String(), want)
		}
	}
}

func TestKeySet_DropsKeysThatLeft(t *testing.T) {
	issuer, set := newIssuerServer(t, respond(http.StatusOK, testSet(t)))
	set.refresh(t.Context())
	wantSet(t, set, true)
	issuer.handle(respond(http.StatusOK, `{"keys":[]}`))
	if !set.refresh(t.Context()) {
		t.Error("the issuer withdrew all keys, and the last set stays")
	}
	if _, ok := set.lookUp("k", "ES256"); ok {
		t.Error("a withdrawn key still verifies tokens")
	}
}

func TestKeySet_RequestsJSONOnANewConnection(t *testing.T) {
	issuer, set := newIssuerServer(t, nil)
	issuer.handle(func(_ http.ResponseWriter, r *http.Request) {
		if accept := r.Header.Get("Accept"); r.Method != http.MethodGet || !r.Close || accept != "application/jwk-set+json, application/json" {
			t.Errorf("%s, Accept %q, closes the connection: %t", r.Method, accept, r.Close)
		}
	})
	set.refresh(t.Context())
}

// The issuer may send without end. 64 MiB are more than the buffers of a connection hold.
func TestKeySet_StopsReadingAboveOneMiB(t *testing.T) {
	issuer, set := newIssuerServer(t, nil)
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
	issuer, set := newIssuerServer(t, nil)
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
	good, empty := testSet(t), `{"keys":[]}`
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
		write(empty)
		after(3*time.Second-1, time.Hour+3*time.Second-1)
		after(1, 0)
		time.Sleep(time.Minute)
		set.Refresh()
		after(0, 0)
		stop()
		<-ended
	})
}
