package main

import (
	"net/http"
	"os"

	"github.com/golang-jwt/jwt/v5"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// This file does not count as baseline: the settings, the metrics that the benchmark
// reads, and an endpoint that does nothing.

// newParser reads the verification key from JWT_PUBLIC_KEY (ES256, PEM) or JWT_SECRET (HS256).
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

// serveMetrics serves the metrics of Go's runtime, under the names that mfa uses, at every
// path: the benchmark waits for /readyz.
func serveMetrics() {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.GET("/*", echo.WrapHandler(promhttp.Handler()))
	e.Logger.Fatal(e.Start(os.Getenv("ADMIN_LISTEN")))
}

// bare responds with the size of a real response and does nothing else: the least that a
// service on Echo costs.
func bare(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]any{"data": map[string]string{
		"otpauth_url": "otpauth://totp/quiva.ai:account-00000@example.com?algorithm=SHA1&digits=6&issuer=quiva.ai&period=30&secret=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"secret":      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
	}})
}
