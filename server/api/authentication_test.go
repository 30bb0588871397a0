package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

const (
	refusedBody    = `{"error":"Sign in, or send a valid API key, to use this service."}` + "\n"
	plainChallenge = `Bearer realm="quiva.ai Gateway"`
	tokenChallenge = plainChallenge + `, error="invalid_token"`
)

// newTokenWithHeader returns a token whose header is changed.
func newTokenWithHeader(t testing.TB, method jwt.SigningMethod, key any, name string, value any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims{"iss": testIssuer, "aud": testAudience, "sub": "ada", "exp": 4000000000})
	token.Header[name] = value
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAuthentication_Refuses has a row for each cause of a refusal. Package auth tests all rules.
func TestAuthentication_Refuses(t *testing.T) {
	a := newTestAPI(t)
	key, good, secret := a.newAPIKey("ada"), newToken(t, "ada", nil), []byte(testSecret)
	if got := a.post(join(bearer(good), withKey(key))); got.status != http.StatusOK {
		t.Fatalf("%d %s; the credentials that the rows change must be good", got.status, got.body)
	}
	a.lines()
	token := func(name string, value any) http.Header {
		return bearer(newToken(t, "ada", jwt.MapClaims{name: value}))
	}
	for _, row := range []struct {
		name      string
		header    http.Header
		cause     auth.Cause
		challenge string
	}{
		{"identity headers alone", http.Header{"X-User-Id": {"ada"}}, auth.NoCredentials, plainChallenge},
		{"another scheme", http.Header{"Authorization": {"Basic YTpi"}}, auth.SchemeUnknown, plainChallenge},
		{"two tokens", http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}, auth.SeveralCredentials, tokenChallenge},
		{"service key", http.Header{"X-Service-Key": {a.newServiceKey()}}, auth.ServiceKeyMisplaced, plainChallenge},
		{"malformed API key", withKey(strings.ToUpper(key)), auth.KeyMalformed, plainChallenge},
		{"unknown API key", withKey(auth.NewAPIKey()), auth.KeyUnknown, plainChallenge},
		{"token and API key of two accounts", join(asUser(t, "bob"), withKey(key)), auth.AccountsDiffer, tokenChallenge},
		{"malformed token beside an API key", join(bearer(good+".x"), withKey(key)), auth.TokenMalformed, tokenChallenge},
		{"alg none", bearer(newTokenWithHeader(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "typ", "JWT")), auth.TokenAlgorithm, tokenChallenge},
		{"another signing key", bearer(newTokenWithHeader(t, jwt.SigningMethodHS256, secret[1:], "typ", "JWT")), auth.TokenSignature, tokenChallenge},
		{"another typ", bearer(newTokenWithHeader(t, jwt.SigningMethodHS256, secret, "typ", "dpop+jwt")), auth.TokenHeaderUnexpected, tokenChallenge},
		{"sub not a string", token("sub", 7), auth.TokenClaimUnexpected, tokenChallenge},
		{"no sub", token("sub", nil), auth.TokenClaimMissing, tokenChallenge},
		{"another issuer", token("iss", testIssuer+"/"), auth.TokenIssuer, tokenChallenge},
		{"another audience", token("aud", "other"), auth.TokenAudience, tokenChallenge},
		{"expired", token("exp", time.Now().Add(-time.Minute).Unix()), auth.TokenExpired, tokenChallenge},
		{"not yet valid", token("nbf", time.Now().Add(time.Minute).Unix()), auth.TokenNotYetValid, tokenChallenge},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := a.post(row.header)
			if got.status != http.StatusUnauthorized || got.body != refusedBody || got.header.Get("Www-Authenticate") != row.challenge {
				t.Errorf("%d %s, challenge %s; want 401 %s, %s", got.status, got.body, got.header.Get("Www-Authenticate"), refusedBody, row.challenge)
			}
			if line := a.line(); line["cause"] != string(row.cause) || line["level"] != "INFO" || line["error"] != nil {
				t.Errorf("log line %v; want INFO and cause %s alone", line, row.cause)
			}
			a.wantMetric(t, fmt.Sprintf(`mfa_refusals_total{cause=%q} 1`, row.cause))
		})
	}
}

// TestAuthentication_AwaitedKeyHoldsNoSlot has one slot, and a request that waits for the key
// of its token.
func TestAuthentication_AwaitedKeyHoldsNoSlot(t *testing.T) {
	for name, row := range map[string]struct {
		keyComes, slotTaken bool
		status              int
		cause               any
	}{
		"accepts when the key comes":            {true, false, http.StatusOK, nil},
		"refuses when the key does not come":    {false, false, http.StatusUnauthorized, string(auth.TokenKeyUnknown)},
		"rejects when another has the slot now": {true, true, http.StatusServiceUnavailable, "overloaded"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := newECKey(t)
				keySet, refresh := newKeySet(t, newECKey(t), "old")
				begun, finish := make(chan struct{}, 2), make(chan struct{})
				if !row.slotTaken {
					close(finish)
				}
				a := newTestAPI(t, withKeySet(t, keySet), withOperation(blockingOperation(begun, finish)), func(c *Config) { c.MaxInFlight = 1 })
				waiting := make(chan reply)
				go func() {
					waiting <- a.post(bearer(newTokenWithHeader(t, jwt.SigningMethodES256, key, "kid", "new")))
				}()
				synctest.Wait()
				go a.post(asUser(t, "bob"))
				<-begun         // so a slot was free
				synctest.Wait() // the other request is over, or holds the slot
				if row.keyComes {
					refresh(key, "new")
				}
				if got := <-waiting; got.status != row.status {
					t.Errorf("%d %s; want %d", got.status, got.body, row.status)
				}
				lines := a.lines()
				if line := lines[len(lines)-1]; line["cause"] != row.cause {
					t.Errorf("log line %v; want cause %v", line, row.cause)
				}
				if row.slotTaken {
					close(finish)
				}
				synctest.Wait()
			})
		})
	}
}

func TestAuthentication_UnavailableKeySet(t *testing.T) {
	keySet := auth.NewKeySet(auth.KeySetLocation{}, time.Hour, time.Now, slog.New(slog.DiscardHandler))
	a := newTestAPI(t, withKeySet(t, keySet))
	got := a.post(bearer(newTokenWithHeader(t, jwt.SigningMethodES256, newECKey(t), "kid", "k")))
	if got.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s; want 503", got.status, got.body)
	}
	if line := a.line(); line["level"] != "INFO" || line["cause"] != "keys_unavailable" {
		t.Errorf("log line %v; want INFO and cause keys_unavailable", line)
	}
}

// withKeySet has tokens verified with keySet, and no API keys.
func withKeySet(t testing.TB, keySet *auth.KeySet) func(*Config) {
	t.Helper()
	return func(c *Config) {
		c.Authenticator = newAuthenticator(t, store.NewMemory(time.Now), keySet)
	}
}

// newKeySet returns a JWK set that has one key, and a function that replaces the key.
func newKeySet(t testing.TB, key *ecdsa.PrivateKey, kid string) (keySet *auth.KeySet, refresh func(*ecdsa.PrivateKey, string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	var location auth.KeySetLocation
	if err := location.UnmarshalText([]byte(path)); err != nil {
		t.Fatal(err)
	}
	keySet = auth.NewKeySet(location, time.Hour, time.Now, slog.New(slog.DiscardHandler))
	refresh = func(key *ecdsa.PrivateKey, kid string) {
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		x, y := base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:])
		text := fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","kid":%q,"x":%q,"y":%q}]}`, kid, x, y)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go keySet.Run(ctx)
		synctest.Wait() // Run has read the file
		stop()
	}
	refresh(key, kid)
	return keySet, refresh
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
