package main

import (
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/store/storetest"
)

// startWithKeys starts an instance with the JWK set at location and waits until it is ready.
func startWithKeys(t testing.TB, location string, changes ...string) *instance {
	t.Helper()
	s := startInstance(t, testEnviron(storetest.StartRedis(t), append(changes, "MFA_JWT_JWKS="+location)...))
	storetest.Eventually(t, func() bool { status, _ := s.ready(); return status == http.StatusOK })
	return s
}

func TestKeySet_RotatesKeys(t *testing.T) {
	t.Parallel()
	before, after := newIssuerKey(t, "1", jwt.SigningMethodES256), newIssuerKey(t, "2", jwt.SigningMethodRS256)
	oldToken, nextToken := bearer(before.token(t, goodClaims("ada", nil), nil)), bearer(after.token(t, goodClaims("ada", nil), nil))
	issuer := newIssuer(t, set(keySet(t, before.member(t))))
	s := startWithKeys(t, issuer.URL, "MFA_JWT_JWKS_REFRESH=1h")
	s.generate(oldToken)
	// HS256 tokens and API keys work beside the set.
	s.generate(asUser(t, "ada"))
	s.generate(withKey(s.newAPIKey("ada")))

	// The first token of a new key waits until the set is read again.
	issuer.publish(set(keySet(t, before.member(t), after.member(t))))
	s.generate(nextToken)
	s.generate(oldToken)

	// A withdrawn key stops working with the next refresh.
	s = startWithKeys(t, issuer.URL, "MFA_JWT_JWKS_REFRESH=1s")
	s.generate(oldToken)
	issuer.publish(set(keySet(t, after.member(t))))
	storetest.Eventually(t, func() bool { return s.post(oldToken).status == http.StatusUnauthorized })
	s.generate(nextToken)
}

func TestKeySet_KeepsTheLastGoodSet(t *testing.T) {
	t.Parallel()
	key := newIssuerKey(t, "1", jwt.SigningMethodEdDSA)
	issuer := newIssuer(t, set(keySet(t, key.member(t))))
	s := startWithKeys(t, issuer.URL, "MFA_JWT_JWKS_REFRESH=1s")
	const kept = "JWK set was not refreshed; the last good one stays"
	for fault, handler := range map[string]http.HandlerFunc{
		"read JWK set: status 500; want 200":         status(http.StatusInternalServerError),
		"JWK set has no key that can verify a token": set(`{"keys":[]}`),
	} {
		issuer.publish(handler)
		want := "map[factors:ok jwk_set:" + kept + ": " + fault + " process:ok redis:ok]"
		storetest.Eventually(t, func() bool { status, states := s.ready(); return status == http.StatusOK && states == want })
		s.generate(bearer(key.token(t, goodClaims("ada", nil), nil)))
		if len(s.logLines(kept)) == 0 {
			t.Errorf("%s: no log line", fault)
		}
	}
	issuer.publish(set(keySet(t, key.member(t))))
	storetest.Eventually(t, func() bool {
		_, states := s.ready()
		return states == "map[factors:ok jwk_set:ok process:ok redis:ok]"
	})
}

func TestKeySet_IsUnavailableUntilTheFirstSet(t *testing.T) {
	t.Parallel()
	key := newIssuerKey(t, "1", jwt.SigningMethodPS256)
	issuer := newIssuer(t, status(http.StatusServiceUnavailable))
	s := startInstance(t, testEnviron(storetest.StartRedis(t), "MFA_JWT_JWKS="+issuer.URL, "MFA_JWT_JWKS_REFRESH=1s"))
	token := bearer(key.token(t, goodClaims("ada", nil), nil))
	if got := s.post(token); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" {
		t.Errorf("a token of the set: %d; want 503", got.status)
	}
	// Strangers can cause this line, so it is no error.
	if line := s.logLines("request")[0]; line["level"] != "INFO" || line["cause"] != "keys_unavailable" {
		t.Errorf("log line %v; want INFO with cause keys_unavailable", line)
	}
	const unread = "JWK set was not read: its tokens cannot be verified"
	storetest.Eventually(t, func() bool { return len(s.logLines(unread)) > 0 })
	if line := s.logLines(unread)[0]; line["level"] != "ERROR" || line["error"] != "read JWK set: status 503; want 200" {
		t.Errorf("log line %v; want an ERROR with the status", line)
	}
	if status, states := s.ready(); status != http.StatusServiceUnavailable || states != "map[factors:ok jwk_set:no JWK set was loaded yet: read JWK set: status 503; want 200 process:ok redis:ok]" {
		t.Errorf("/readyz: %d %s; want 503", status, states)
	}
	s.generate(asUser(t, "ada"))
	s.generate(withKey(s.newAPIKey("ada")))
	issuer.publish(set(keySet(t, key.member(t))))
	storetest.Eventually(t, func() bool { status, _ := s.ready(); return status == http.StatusOK })
	s.generate(token)
}

// A process of its own can be given certificates to trust.
func TestKeySet_IsReadFromATrustedHTTPSServer(t *testing.T) {
	t.Parallel()
	key := newIssuerKey(t, "1", jwt.SigningMethodES384)
	issuer := httptest.NewUnstartedServer(set(keySet(t, key.member(t))))
	issuer.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // refused handshakes
	issuer.StartTLS()
	t.Cleanup(issuer.Close)
	trusted := filepath.Join(t.TempDir(), "ca.pem")
	write(t, trusted, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw})))
	for name, want := range map[string]int{"SSL_CERT_FILE=" + trusted: http.StatusOK, "SSL_CERT_FILE=/dev/null": http.StatusServiceUnavailable} {
		s := startProcess(t, append(testEnviron(storetest.StartRedis(t), "MFA_JWT_JWKS="+issuer.URL), name, "SSL_CERT_DIR="+t.TempDir()))
		storetest.Eventually(t, func() bool { status, _ := s.ready(); return status == want })
		if got := s.post(bearer(key.token(t, goodClaims("ada", nil), nil))); got.status != want {
			t.Errorf("%s: %d; want %d", name, got.status, want)
		}
	}
}
