package main

import (
	"net/http"
	"os"

	"github.com/golang-jwt/jwt/v5"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// What is no part of the thirty lines: keys from the environment, the counters that the
// benchmark reads, and an endpoint that does nothing.

// newParser takes the key from JWT_SECRET (HS256), or from JWT_PUBLIC_KEY, as PEM (ES256).
func newParser() (*jwt.Parser, jwt.Keyfunc) {
	var key any = []byte(os.Getenv("JWT_SECRET"))
	method := jwt.SigningMethodHS256.Alg()
	if text := os.Getenv("JWT_PUBLIC_KEY"); text != "" {
		var err error
		if key, err = jwt.ParseECPublicKeyFromPEM([]byte(text)); err != nil {
			panic(err)
		}
		method = jwt.SigningMethodES256.Alg()
	}
	return jwt.NewParser(jwt.WithValidMethods([]string{method}), jwt.WithExpirationRequired(),
			jwt.WithIssuer(os.Getenv("JWT_ISSUER")), jwt.WithAudience(os.Getenv("JWT_AUDIENCE"))),
		func(*jwt.Token) (any, error) { return key, nil }
}

// serveMetrics shows the counters of Go's runtime under the names that mfa has for them,
// at every path: /readyz too.
func serveMetrics() {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.GET("/*", echo.WrapHandler(promhttp.Handler()))
	e.Logger.Fatal(e.Start(os.Getenv("ADMIN_LISTEN")))
}

// bare is Echo with an answer of the usual size: what no service on it can go below.
func bare(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{"data": map[string]string{
		"otpauth_url": "otpauth://totp/quiva.ai:account-00000@example.com?algorithm=SHA1&digits=6&issuer=quiva.ai&period=30&secret=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"secret":      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	}})
}
