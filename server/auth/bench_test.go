package auth

import (
	"context"
	"testing"

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
			verifier := newTestAuthenticator(b, &fakeKeys{}, verificationKey{method: method, material: public}).tokens
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.verify(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
