package auth

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// BenchmarkVerify is the whole cost of a token, per algorithm.
func BenchmarkVerify(b *testing.B) {
	for _, method := range []jwt.SigningMethod{
		jwt.SigningMethodHS256, jwt.SigningMethodRS256, jwt.SigningMethodPS256,
		jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodEdDSA,
	} {
		b.Run(method.Alg(), func(b *testing.B) {
			private, public := newKey(b, method)
			token, err := jwt.NewWithClaims(method, testClaims()).SignedString(private)
			if err != nil {
				b.Fatal(err)
			}
			verifier := newTestAuthenticator(b, fakeKeys{}, verificationKey{method: method, material: public}).tokens
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.verify(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRead is the share of reading: all but the signature and the claims' validation.
func BenchmarkRead(b *testing.B) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, testClaims()).SignedString([]byte(testSecret))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var c claims
		jws, cause := split(token)
		if cause != "" || readMembers(jws.payload, c.read) != nil {
			b.Fatal(cause)
		}
	}
}

// BenchmarkGolangJWT is golang-jwt's own parser, for comparison.
func BenchmarkGolangJWT(b *testing.B) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, testClaims()).SignedString([]byte(testSecret))
	if err != nil {
		b.Fatal(err)
	}
	parser := jwt.NewParser(jwt.WithIssuer(testIssuer), jwt.WithAudience(testAudience), jwt.WithTimeFunc(func() time.Time { return testNow }))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parser.ParseWithClaims(token, jwt.MapClaims{}, func(*jwt.Token) (any, error) { return []byte(testSecret), nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefuse is the cost of a forged token.
func BenchmarkRefuse(b *testing.B) {
	forged, err := jwt.NewWithClaims(jwt.SigningMethodHS256, testClaims()).SignedString([]byte(testSecret + "forged"))
	if err != nil {
		b.Fatal(err)
	}
	authenticator := newTestAuthenticator(b, fakeKeys{})
	header := http.Header{"Authorization": {"Bearer " + forged}}
	b.ReportAllocs()
	for b.Loop() {
		_, err := authenticator.Authenticate(context.Background(), header)
		if refusal, ok := errors.AsType[*Refusal](err); !ok || refusal.Cause != TokenSignature {
			b.Fatal(err)
		}
	}
}
