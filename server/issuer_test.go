package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// issuerKey is a key pair of a token issuer.
type issuerKey struct {
	id      string
	method  jwt.SigningMethod
	private any
}

func newIssuerKey(t testing.TB, id string, method jwt.SigningMethod) issuerKey {
	t.Helper()
	key := issuerKey{id: id, method: method}
	var err error
	switch method {
	case jwt.SigningMethodES256:
		key.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jwt.SigningMethodES384:
		key.private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jwt.SigningMethodEdDSA:
		_, key.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		key.private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// member is the public key as a JWK set has it.
func (k issuerKey) member(t testing.TB) map[string]any {
	t.Helper()
	jwk, err := jwkset.NewJWKFromKey(k.private, jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{KID: k.id, ALG: jwkset.ALG(k.method.Alg()), USE: jwkset.UseSig},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(jwk.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	var member map[string]any
	if err := json.Unmarshal(text, &member); err != nil {
		t.Fatal(err)
	}
	return member
}

// token signs claims. changes are changes of the header; nil removes a member.
func (k issuerKey) token(t testing.TB, claims jwt.MapClaims, changes map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(k.method, claims)
	token.Header["kid"] = k.id
	for name, value := range changes {
		token.Header[name] = value
		if value == nil {
			delete(token.Header, name)
		}
	}
	signed, err := token.SignedString(k.private)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// keySet is a JWK set as JSON.
func keySet(t testing.TB, members ...map[string]any) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": append([]map[string]any{}, members...)})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// issuer serves a JWK set, or fails as a test tells it.
type issuer struct {
	*httptest.Server
	calls atomic.Int64

	mu      sync.Mutex
	handler http.HandlerFunc
}

func newIssuer(t testing.TB, handler http.HandlerFunc) *issuer {
	t.Helper()
	i := &issuer{handler: handler}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.calls.Add(1)
		i.mu.Lock()
		handler := i.handler
		i.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) publish(handler http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handler = handler
}

// set responds with text.
func set(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

// status responds with a status alone.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}
