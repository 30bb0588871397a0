package main

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

// ready returns what /readyz says: of each check, ok or its error.
func (s *service) ready() (status int, body string) {
	s.t.Helper()
	got := s.admin("/readyz")
	checks, states := map[string]checkState{}, map[string]string{}
	if err := json.Unmarshal([]byte(got.body), &checks); err != nil {
		s.t.Fatal(err)
	}
	for name, check := range checks {
		states[name] = cmp.Or(check.Error, check.Status)
	}
	return got.status, fmt.Sprint(states)
}

// startWithKeys starts a service whose tokens are verified by what location has,
// and waits until it is ready.
func startWithKeys(t testing.TB, location string, changes ...string) *service {
	t.Helper()
	s := startService(t, testEnviron(storetest.StartRedis(t), append(changes, "MFA_JWT_JWKS="+location)...))
	storetest.Eventually(t, func() bool { status, _ := s.ready(); return status == http.StatusOK })
	return s
}

func TestEveryAlgorithmVerifiesWithItsOwnKeyAlone(t *testing.T) {
	methods := []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodPS256, jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodEdDSA}
	var keys []issuerKey
	var members []map[string]any
	for _, method := range methods {
		key := newIssuerKey(t, "key-"+method.Alg(), method)
		keys = append(keys, key)
		members = append(members, key.member(t, nil))
	}
	s := startWithKeys(t, newIssuer(t, set(keySet(t, members...))).URL)
	claims := goodClaims("ada", nil)
	for i, key := range keys {
		s.generate(bearer(key.token(t, claims, nil)))
		s.generate(bearer(key.token(t, claims, map[string]any{"kid": nil}))) // the only key for its algorithm
		for j, other := range keys {
			if i == j {
				continue
			}
			// The right key under the wrong name, and the wrong key under the right one.
			for _, token := range []string{
				key.token(t, claims, map[string]any{"kid": other.id}),
				issuerKey{key.id, key.method, newIssuerKey(t, "", key.method).private}.token(t, claims, nil),
			} {
				if got := s.post(bearer(token)); got.status != http.StatusUnauthorized || got.body != refusedBody {
					t.Errorf("%s under %s: %d %s; want 401", key.method.Alg(), other.id, got.status, got.body)
				}
			}
		}
	}
	// The tokens and API keys of before work beside the set.
	s.generate(asUser(t, "ada"))
	s.generate(withKey(s.newAPIKey("ada")))
}

func TestKeysOfASetThatVerifyNothing(t *testing.T) {
	rs := newIssuerKey(t, "k", jwt.SigningMethodRS256)
	es := newIssuerKey(t, "k", jwt.SigningMethodES256)
	ps := issuerKey{"k", jwt.SigningMethodPS256, rs.private}
	decoy := newIssuerKey(t, "decoy", jwt.SigningMethodEdDSA).member(t, nil)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	short := issuerKey{"k", jwt.SigningMethodRS256, weak}
	secret := issuerKey{"k", jwt.SigningMethodHS256, []byte("a symmetric key that is in the set")}
	asSecret := issuerKey{"k", jwt.SigningMethodHS256, []byte(fmt.Sprint(rs.member(t, nil)["n"]))}
	oct := map[string]any{"kty": "oct", "kid": "k", "alg": "HS256", "k": segment(string(secret.private.([]byte)))}
	for _, c := range []struct {
		name   string
		set    []map[string]any
		signer issuerKey
		cause  auth.Cause
	}{
		{"for encryption", []map[string]any{rs.member(t, map[string]any{"use": "enc"})}, rs, auth.TokenKeyUnknown},
		{"for signing only", []map[string]any{rs.member(t, map[string]any{"key_ops": []string{"sign"}})}, rs, auth.TokenKeyUnknown},
		{"RSA of 1024 bits", []map[string]any{short.member(t, nil)}, short, auth.TokenKeyUnknown},
		{"alg of another kind", []map[string]any{es.member(t, map[string]any{"alg": "RS256"})}, es, auth.TokenKeyUnknown},
		{"alg that we do not know", []map[string]any{rs.member(t, map[string]any{"alg": "RS512"})}, rs, auth.TokenKeyUnknown},
		{"RS256 key, PS256 token", []map[string]any{rs.member(t, nil)}, ps, auth.TokenKeyUnknown},
		{"PS256 key, RS256 token", []map[string]any{ps.member(t, nil)}, rs, auth.TokenKeyUnknown},
		{"no alg, PS256 token", []map[string]any{rs.member(t, map[string]any{"alg": nil})}, ps, auth.TokenKeyUnknown},
		{"two keys of one name", []map[string]any{rs.member(t, nil), newIssuerKey(t, "k", jwt.SigningMethodRS256).member(t, nil)}, rs, auth.TokenKeyUnknown},
		{"point not on the curve", []map[string]any{es.member(t, map[string]any{"y": es.member(t, nil)["x"]})}, es, auth.TokenKeyUnknown},
		{"unknown type", []map[string]any{rs.member(t, map[string]any{"kty": "LATTICE"})}, rs, auth.TokenKeyUnknown},
		{"symmetric key of the set", []map[string]any{oct}, secret, auth.TokenSignature},
		{"public key as a secret", []map[string]any{rs.member(t, nil)}, asSecret, auth.TokenSignature},
		{"P-384 key for ES256", []map[string]any{newIssuerKey(t, "k", jwt.SigningMethodES384).member(t, map[string]any{"alg": "ES256"})}, es, auth.TokenKeyUnknown},
		{"RSA of more than 4096 bits", []map[string]any{rs.member(t, map[string]any{"n": segment(strings.Repeat("\xff", 513))})}, rs, auth.TokenKeyUnknown},
		{"exponent 3", []map[string]any{rs.member(t, map[string]any{"e": "Aw"})}, rs, auth.TokenKeyUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			// A key that is of no use to the token makes the set one to start with.
			s := startWithKeys(t, newIssuer(t, set(keySet(t, append(c.set, decoy)...))).URL)
			got := s.post(bearer(c.signer.token(t, goodClaims("ada", nil), nil)))
			cause := s.logLines("request")[0]["cause"]
			if got.status != http.StatusUnauthorized || cause != string(c.cause) {
				t.Errorf("%d, cause %v; want 401, %s", got.status, cause, c.cause)
			}
		})
	}
}

func TestATokenDoesNotSayWhereItsKeyIs(t *testing.T) {
	genuine, forged := newIssuerKey(t, "k", jwt.SigningMethodRS256), newIssuerKey(t, "k", jwt.SigningMethodRS256)
	trap := newIssuer(t, set(keySet(t, forged.member(t, nil))))
	s := startWithKeys(t, newIssuer(t, set(keySet(t, genuine.member(t, nil)))).URL)
	for name, value := range map[string]any{
		"jku": trap.URL, "x5u": trap.URL, "jwk": forged.member(t, nil), "x5c": []string{"MIIB"}, "kid": trap.URL,
	} {
		if got := s.post(bearer(forged.token(t, goodClaims("ada", nil), map[string]any{name: value}))); got.status != http.StatusUnauthorized {
			t.Errorf("%s: %d; want 401", name, got.status)
		}
		if name != "kid" {
			s.generate(bearer(genuine.token(t, goodClaims("ada", nil), map[string]any{name: value})))
		}
	}
	if calls := trap.calls.Load(); calls != 0 {
		t.Errorf("%d connections to an address from a token", calls)
	}
}

func TestKeysRotateAndLeave(t *testing.T) {
	before, after := newIssuerKey(t, "1", jwt.SigningMethodES256), newIssuerKey(t, "2", jwt.SigningMethodES256)
	issuer := newIssuer(t, set(keySet(t, before.member(t, nil))))
	s := startWithKeys(t, issuer.URL, "MFA_JWT_JWKS_REFRESH=1h")
	s.generate(bearer(before.token(t, goodClaims("ada", nil), nil)))

	// A new key is found by the first token that names it, which waits for it.
	issuer.publish(set(keySet(t, before.member(t, nil), after.member(t, nil))))
	s.generate(bearer(after.token(t, goodClaims("ada", nil), nil)))
	s.generate(bearer(before.token(t, goodClaims("ada", nil), nil)))

	// Junk does not make the service ask again: 30 s have not passed.
	calls := issuer.calls.Load()
	for range 50 {
		junk := after.token(t, goodClaims("ada", nil), map[string]any{"kid": rand.Text()})
		if got := s.post(bearer(junk)); got.status != http.StatusUnauthorized {
			t.Fatalf("unknown kid: %d; want 401", got.status)
		}
	}
	if more := issuer.calls.Load() - calls; more != 0 {
		t.Errorf("unknown kids caused %d more calls to the issuer", more)
	}

	// A key that has left stops working with the next refresh.
	s = startWithKeys(t, issuer.URL, "MFA_JWT_JWKS_REFRESH=1s")
	s.generate(bearer(before.token(t, goodClaims("ada", nil), nil)))
	issuer.publish(set(keySet(t, after.member(t, nil))))
	storetest.Eventually(t, func() bool {
		return s.post(bearer(before.token(t, goodClaims("ada", nil), nil))).status == http.StatusUnauthorized
	})
	s.generate(bearer(after.token(t, goodClaims("ada", nil), nil)))
}

func TestTheLastGoodSetSurvivesAnIssuerThatFails(t *testing.T) {
	key, next := newIssuerKey(t, "1", jwt.SigningMethodEdDSA), newIssuerKey(t, "2", jwt.SigningMethodEdDSA)
	issuer := newIssuer(t, set(keySet(t, key.member(t, nil))))
	s := startWithKeys(t, issuer.URL, "MFA_JWT_JWKS_REFRESH=1s")
	elsewhere := newIssuer(t, set(keySet(t)))
	good := func(status int) http.HandlerFunc { // another good set, but under a status that is not
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, keySet(t, next.member(t, nil)))
		}
	}
	for name, answer := range map[string]http.HandlerFunc{
		"status 500":     good(http.StatusInternalServerError),
		"status 203":     good(http.StatusNonAuthoritativeInfo),
		"status 404":     good(http.StatusNotFound),
		"101 keys":       set(`{"keys":[0` + strings.Repeat(",0", 100) + `]}`),
		"redirect":       http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP,
		"HTML":           set("<html>"),
		"empty":          set(""),
		"null":           set("null"),
		"no keys member": set("{}"),
		"keys no array":  set(`{"keys":{}}`),
		"keys twice":     set(`{"keys":[],"keys":[]}`),
		"too long":       set(fmt.Sprintf(`{"keys":[],"x":"%01048576d"}`, 0)),
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			fmt.Fprint(w, `{"keys":[]}`)
		},
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		failures := len(s.logLines("JWK set was not refreshed; the last good one stays"))
		issuer.publish(answer)
		storetest.Eventually(t, func() bool {
			return len(s.logLines("JWK set was not refreshed; the last good one stays")) > failures
		})
		if line := s.logLines("JWK set was not refreshed; the last good one stays")[failures]; line["level"] != "WARN" {
			t.Errorf("%s: log line %v; want a WARN: the next attempt follows", name, line)
		}
		if got := s.post(bearer(key.token(t, goodClaims("ada", nil), nil))); got.status != http.StatusOK {
			t.Errorf("%s: %d %s; want the last good set", name, got.status, got.body)
		}
	}
	if calls := elsewhere.calls.Load(); calls != 0 {
		t.Error("the redirect was followed")
	}
	issuer.publish(set(keySet(t, next.member(t, nil))))
	storetest.Eventually(t, func() bool {
		return s.post(bearer(next.token(t, goodClaims("ada", nil), nil))).status == http.StatusOK
	})
}

func TestWithoutAnySetNothingIsKnownOfItsTokens(t *testing.T) {
	key := newIssuerKey(t, "1", jwt.SigningMethodPS256)
	issuer := newIssuer(t, status(http.StatusServiceUnavailable))
	s := startService(t, testEnviron(storetest.StartRedis(t), "MFA_JWT_JWKS="+issuer.URL))
	if got := s.post(bearer(key.token(t, goodClaims("ada", nil), nil))); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" {
		t.Errorf("a token of the set: %d; want 503", got.status)
	}
	for _, line := range s.logLines("request") {
		if line["level"] != "INFO" || line["cause"] != "keys_unavailable" {
			t.Errorf("log line %v; want INFO: strangers could write it", line)
		}
	}
	storetest.Eventually(t, func() bool { return len(s.logLines("JWK set was not read: none of its tokens can be judged")) > 0 })
	if line := s.logLines("JWK set was not read: none of its tokens can be judged")[0]; line["level"] != "ERROR" || line["error"] != "read JWK set: status 503; want 200" {
		t.Errorf("log line %v; want an ERROR with the status", line)
	}
	s.generate(asUser(t, "ada"))
	s.generate(withKey(s.newAPIKey("ada")))
	issuer.publish(set(keySet(t))) // nothing to start with either
	storetest.Eventually(t, func() bool { return len(s.logLines("JWK set has no key that can verify a token")) > 0 })
	if status, states := s.ready(); status != http.StatusServiceUnavailable || states != "map[jwk_set:no JWK set was loaded yet process:ok redis:ok]" {
		t.Errorf("/readyz: %d %s; want 503", status, states)
	}
	issuer.publish(set(keySet(t, key.member(t, nil))))
	storetest.Eventually(t, func() bool { status, _ := s.ready(); return status == http.StatusOK })
	s.generate(bearer(key.token(t, goodClaims("ada", nil), nil)))
}

func TestAnIssuerThatStallsSlowsNobodyWhoseKeyIsKnown(t *testing.T) {
	key := newIssuerKey(t, "1", jwt.SigningMethodES256)
	issuer := newIssuer(t, set(keySet(t, key.member(t, nil))))
	s := startWithKeys(t, issuer.URL, "MFA_JWT_JWKS_REFRESH=1h")
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	issuer.publish(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	var junk sync.WaitGroup
	for range 20 {
		junk.Go(func() {
			token := key.token(t, goodClaims("ada", nil), map[string]any{"kid": rand.Text()})
			if got := s.post(bearer(token)); got.status != http.StatusUnauthorized {
				t.Errorf("unknown kid while the issuer stalls: %d; want 401", got.status)
			}
		})
	}
	junk.Wait() // they came back although the issuer has not answered
	s.generate(bearer(key.token(t, goodClaims("ada", nil), nil)))
	if calls := issuer.calls.Load(); calls != 2 {
		t.Errorf("%d calls to the issuer; want the first one and one for all unknown kids", calls)
	}
}

func TestAKeySetInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwks.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := newIssuerKey(t, "1", jwt.SigningMethodRS256)
	// Certificates are not looked at, and a member that is no key does no harm.
	write(strings.Replace(keySet(t, key.member(t, map[string]any{"alg": nil, "kid": nil, "use": nil, "x5c": []string{"?"}, "x5u": "?"})), "[", "[7,", 1))
	s := startWithKeys(t, path, "MFA_JWT_SECRET", "MFA_JWT_JWKS_REFRESH=1s")
	s.generate(bearer(key.token(t, goodClaims("ada", nil), map[string]any{"kid": nil})))
	// Without a secret of its own, nothing is ever verified as HS256.
	if got := s.post(asUser(t, "ada")); got.status != http.StatusUnauthorized {
		t.Errorf("HS256 without MFA_JWT_SECRET: %d; want 401", got.status)
	}
	if lines := s.logLines("request"); lines[len(lines)-1]["cause"] != string(auth.TokenAlgorithm) {
		t.Errorf("cause %v; want %s", lines[len(lines)-1]["cause"], auth.TokenAlgorithm)
	}
	if got := s.post(bearer(issuerKey{"", jwt.SigningMethodHS256, []byte{}}.token(t, goodClaims("ada", nil), nil))); got.status != http.StatusUnauthorized {
		t.Errorf("HS256 with the empty key: %d; want 401", got.status)
	}
	write("garbage")
	storetest.Eventually(t, func() bool { return len(s.logLines("JWK set was not refreshed; the last good one stays")) > 0 })
	s.generate(bearer(key.token(t, goodClaims("ada", nil), map[string]any{"kid": nil})))
}

// TestAKeySetOverHTTPS runs the program as a process of its own, whose trust in
// certificates can be set.
func TestAKeySetOverHTTPS(t *testing.T) {
	key := newIssuerKey(t, "1", jwt.SigningMethodES384)
	issuer := httptest.NewUnstartedServer(set(keySet(t, key.member(t, nil))))
	issuer.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // refused handshakes
	issuer.StartTLS()
	t.Cleanup(issuer.Close)
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw})
	if err := os.WriteFile(trusted, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"SSL_CERT_FILE=" + trusted: http.StatusOK, "SSL_CERT_FILE=/dev/null": http.StatusServiceUnavailable} {
		s := startProcess(t, append(testEnviron(storetest.StartRedis(t), "MFA_JWT_JWKS="+issuer.URL), name, "SSL_CERT_DIR="+t.TempDir()))
		storetest.Eventually(t, func() bool { status, _ := s.ready(); return status == want })
		if got := s.post(bearer(key.token(t, goodClaims("ada", nil), nil))); got.status != want {
			t.Errorf("%s: %d; want %d", name, got.status, want)
		}
	}
}

func TestWhereAKeySetMayBe(t *testing.T) {
	for location, sound := range map[string]bool{
		"/etc/mfa/jwks.json": true, "jwks.json": true, "https://issuer.example/jwks": true,
		"http://127.0.0.1:8000/jwks": true, "http://[::1]/jwks": true,
		"http://issuer.example/jwks": false, "http://localhost.example/": false, "http://10.0.0.1/jwks": false, "//host/jwks": false, "http://127.0.0.1.example/": false,
		"ftp://issuer.example/": false, "https://user:pass@issuer.example/": false, "https:///jwks": false, "file:///etc/x": false, "https://h/#f": false, "\x7f": false,
	} {
		if err := new(auth.KeySetLocation).UnmarshalText([]byte(location)); (err == nil) != sound {
			t.Errorf("location %q: %v; sound is %t", location, err, sound)
		}
	}
}
