package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

const (
	testSecret   = "0123456789abcdef0123456789abcdef"
	testIssuer   = "https://issuer.test"
	testAudience = "mfa.test"
	testLeeway   = 30 * time.Second
)

// testNow is the time on the clock of every test.
var testNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// fakeKeys is a KeyFinder with the keys of a test. It counts the look-ups. That of a nil principal
// fails when its time is over.
type fakeKeys struct {
	apiKeys, serviceKeys map[string]*Principal
	lookups              int
}

var errLookup = errors.New("look-up failed")

// FindAPIKey implements KeyFinder.
func (f *fakeKeys) FindAPIKey(ctx context.Context, key string) (Principal, error) {
	return f.find(ctx, f.apiKeys, key)
}

// FindServiceKey implements KeyFinder.
func (f *fakeKeys) FindServiceKey(ctx context.Context, key string) (Principal, error) {
	return f.find(ctx, f.serviceKeys, key)
}

func (f *fakeKeys) find(ctx context.Context, keys map[string]*Principal, key string) (Principal, error) {
	f.lookups++
	principal, ok := keys[key]
	switch {
	case !ok:
		return Principal{}, ErrUnknownKey
	case principal == nil:
		<-ctx.Done()
		return Principal{Account: "partial"}, errLookup
	}
	return *principal, nil
}

// newTestAuthenticator verifies HS256 tokens with testSecret and all others with keys.
func newTestAuthenticator(t testing.TB, finder KeyFinder, keys ...verificationKey) *Authenticator {
	t.Helper()
	set := NewKeySet(KeySetLocation{}, time.Hour, func() time.Time { return testNow }, nil)
	set.limit.AllowN(testNow, 1) // unknown kids cause no refresh
	set.keys.Store(&keys)
	a, err := New(Config{
		Keys: finder, KeyTime: time.Second, HMACSecret: []byte(testSecret), KeySet: set,
		Issuer: testIssuer, Audience: testAudience, Leeway: testLeeway, Now: func() time.Time { return testNow },
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wantRefusal fails the test unless err is a Refusal with this cause.
func wantRefusal(t *testing.T, err error, cause Cause) {
	t.Helper()
	if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Cause != cause {
		t.Errorf("error %v; want the refusal %s", err, cause)
	}
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func withKey(key string) http.Header { return http.Header{"X-Api-Key": {key}} }

func join(a, b http.Header) http.Header {
	joined := a.Clone()
	maps.Copy(joined, b)
	return joined
}

func testClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": testIssuer, "aud": []string{testAudience, "other"}, "sub": "ada", "email": "ada@example.com",
		"exp": testNow.Add(time.Hour).Unix(), "nbf": testNow.Unix(), "iat": testNow.Unix(),
	}
}

// change returns testClaims with one claim changed. A nil value removes the claim.
func change(name string, value any) jwt.MapClaims {
	claims := testClaims()
	claims[name] = value
	if value == nil {
		delete(claims, name)
	}
	return claims
}

// segment encodes one part of a token.
func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// sign returns a token of any header and payload, with a good HS256 signature.
func sign(header, payload string) string {
	signed := segment(header) + "." + segment(payload)
	return signed + "." + segment(string(hmacOf(signed)))
}

// signClaims returns a good HS256 token with these claims.
func signClaims(t testing.TB, claims jwt.MapClaims) string {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return sign(`{"alg":"HS256"}`, string(text))
}

// signWith returns a token with testClaims. An empty kid is left out.
func signWith(t testing.TB, method jwt.SigningMethod, private any, kid string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, testClaims())
	if kid != "" {
		token.Header["kid"] = kid
	}
	signed, err := token.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func hmacOf(signed string) []byte {
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(signed))
	return mac.Sum(nil)
}

// rsaKey is the one RSA key of all tests: to generate one takes 100 ms.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// newKey returns a key pair for method: a new one, unless it is an RSA key.
func newKey(t testing.TB, method jwt.SigningMethod) (private, public any) {
	t.Helper()
	var err error
	switch method {
	case jwt.SigningMethodHS256:
		return []byte(testSecret), []byte(testSecret)
	case jwt.SigningMethodEdDSA:
		public, private, err = ed25519.GenerateKey(rand.Reader)
	case jwt.SigningMethodES256:
		private, public, err = newECKey(elliptic.P256())
	case jwt.SigningMethodES384:
		private, public, err = newECKey(elliptic.P384())
	default:
		var key *rsa.PrivateKey
		if key, err = rsaKey(); err == nil {
			private, public = key, &key.PublicKey
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func newECKey(curve elliptic.Curve) (private, public any, err error) {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	return key, &key.PublicKey, nil
}

// jwk returns a public key as a member of a JWK set, with changes. A nil value removes a
// parameter.
func jwk(t testing.TB, public any, kid, alg string, changes map[string]any) string {
	t.Helper()
	key, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid, ALG: jwkset.ALG(alg), USE: jwkset.UseSig}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(key.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	var member map[string]any
	if err := json.Unmarshal(text, &member); err != nil {
		t.Fatal(err)
	}
	for name, value := range changes {
		member[name] = value
		if value == nil {
			delete(member, name)
		}
	}
	if text, err = json.Marshal(member); err != nil {
		t.Fatal(err)
	}
	return string(text)
}
