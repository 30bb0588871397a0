//go:build bench

package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

const (
	tokenIssuer   = "https://issuer.test"
	tokenAudience = "mfa.test"
	keyID         = "bench"
)

// issuer signs tokens.
type issuer struct {
	method  jwt.SigningMethod
	key     any
	environ []string // the verification key, as a setting of mfa and of the baseline
}

func newHS256() issuer {
	secret := rand.Text() + rand.Text()
	return issuer{jwt.SigningMethodHS256, []byte(secret), []string{"MFA_JWT_SECRET=" + secret, "JWT_SECRET=" + secret}}
}

func newES256(t testing.TB) issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	options := jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: keyID, ALG: jwkset.AlgES256}}
	jwk, err := jwkset.NewJWKFromKey(&key.PublicKey, options)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{jwk.Marshal()}})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
	return issuer{jwt.SigningMethodES256, key, []string{
		"MFA_JWT_JWKS=" + path,
		"JWT_PUBLIC_KEY=" + string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}}
}

// requests returns n requests with a token each: the first of account number first, each
// further one of the account whose number is greater by step.
func (i issuer) requests(t testing.TB, first, n, step int) [][]byte {
	t.Helper()
	requests := make([][]byte, n)
	for r := range requests {
		requests[r] = request(i.credential(t, accountName(first+r*step)))
	}
	return requests
}

// credential returns a header field with a token that is valid for an hour.
func (i issuer) credential(t testing.TB, account string) string {
	t.Helper()
	now := time.Now()
	token := jwt.NewWithClaims(i.method, jwt.MapClaims{
		"iss": tokenIssuer, "aud": tokenAudience, "sub": account, "email": account + "@example.com",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	token.Header["kid"] = keyID
	signed, err := token.SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return "Authorization: Bearer " + signed + "\r\n"
}

func accountName(number int) string { return fmt.Sprintf("account-%07d", number) }

const requestLine = "POST /accounts/generate-totp-key HTTP/1.1\r\nHost: mfa.test\r\n"

// request returns a request without a body that has this header field, if not empty.
func request(field string) []byte {
	return []byte(requestLine + "Content-Length: 0\r\n" + field + "\r\n")
}
