package main

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// goodClaims returns the claims of a valid token with changes; nil removes a claim.
func goodClaims(account string, changes jwt.MapClaims) jwt.MapClaims {
	claims := jwt.MapClaims{
		"iss": testIssuer, "aud": testAudience, "sub": account, "email": account + "@example.com",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	return claims
}

func newToken(t testing.TB, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func withKey(key string) http.Header { return http.Header{"X-Api-Key": {key}} }

// asUser returns the header of a signed-in person's call.
func asUser(t testing.TB, account string) http.Header {
	t.Helper()
	return bearer(newToken(t, goodClaims(account, nil)))
}

func join(a, b http.Header) http.Header {
	joined := a.Clone()
	maps.Copy(joined, b)
	return joined
}

// typo changes one character of an API key.
func typo(key string) string {
	if strings.HasSuffix(key, "a") {
		return key[:len(key)-1] + "b"
	}
	return key[:len(key)-1] + "a"
}
