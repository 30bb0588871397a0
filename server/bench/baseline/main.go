// Command baseline is the endpoint as a team would write it in thirty lines, with good
// libraries and their defaults. Package bench compares the service with it. It validates
// the token or the API key and stores the secret in Redis. It does not seal secrets, check
// requests against a document, log or count, and a second call replaces the secret.
package main

import (
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/labstack/echo/v4"
	"github.com/pquerna/otp/totp"
	"github.com/redis/go-redis/v9"
)

type claims struct {
	Email string `json:"email"`
	jwt.RegisteredClaims
}

func main() {
	rdb := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_ADDR")})
	parser, key := newParser()
	generate := func(c echo.Context) error {
		var caller claims
		ctx, header := c.Request().Context(), c.Request().Header
		if apiKey := header.Get("X-Api-Key"); apiKey != "" {
			email, err := rdb.Get(ctx, "apikey:"+apiKey).Result()
			if err != nil {
				return echo.ErrUnauthorized
			}
			caller.Subject, caller.Email = email, email
		} else if _, err := parser.ParseWithClaims(strings.TrimPrefix(header.Get("Authorization"), "Bearer "), &caller, key); err != nil {
			return echo.ErrUnauthorized
		}
		totpKey, err := totp.Generate(totp.GenerateOpts{Issuer: "quiva.ai", AccountName: caller.Email})
		if err != nil {
			return err
		}
		if err := rdb.Set(ctx, "totp:"+caller.Subject, totpKey.Secret(), 10*time.Minute).Err(); err != nil {
			return err
		}
		return c.JSON(http.StatusOK, map[string]any{"data": map[string]string{"otpauth_url": totpKey.URL(), "secret": totpKey.Secret()}})
	}
	if os.Getenv("BARE") != "" {
		generate = bare
	}
	go serveMetrics()
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.POST("/accounts/generate-totp-key", generate)
	e.Logger.Fatal(e.Start(os.Getenv("LISTEN")))
}
