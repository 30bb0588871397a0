// Command baseline is the service as a team would write it in thirty lines an operation, with
// good libraries and their defaults. Package bench compares the service with it. It validates
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

type server struct {
	rdb    *redis.Client
	parser *jwt.Parser
	key    jwt.Keyfunc
}

func (s *server) authenticate(c echo.Context) (caller claims, err error) {
	header := c.Request().Header
	if apiKey := header.Get("X-Api-Key"); apiKey != "" {
		email, err := s.rdb.Get(c.Request().Context(), "apikey:"+apiKey).Result()
		if err != nil {
			return claims{}, echo.ErrUnauthorized
		}
		caller.Subject, caller.Email = email, email
	} else if _, err := s.parser.ParseWithClaims(strings.TrimPrefix(header.Get("Authorization"), "Bearer "), &caller, s.key); err != nil {
		return claims{}, echo.ErrUnauthorized
	}
	return caller, nil
}

func (s *server) generate(c echo.Context) error {
	caller, err := s.authenticate(c)
	if err != nil {
		return err
	}
	totpKey, err := totp.Generate(totp.GenerateOpts{Issuer: "quiva.ai", AccountName: caller.Email})
	if err != nil {
		return err
	}
	if err := s.rdb.Set(c.Request().Context(), "totp:"+caller.Subject, totpKey.Secret(), 10*time.Minute).Err(); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"data": map[string]string{"otpauth_url": totpKey.URL(), "secret": totpKey.Secret()}})
}

func main() {
	s := &server{rdb: redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_ADDR")})}
	s.parser, s.key = newParser()
	generate := s.generate
	if os.Getenv("BARE") != "" {
		generate = bare
	}
	go serveMetrics()
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.POST("/accounts/generate-totp-key", generate)
	e.POST("/accounts/confirm-totp-registration", s.confirm)
	e.GET("/accounts/user-mfa-info", s.info)
	e.POST("/internal/verify-mfa-code", s.verify)
	e.POST("/internal/mfa-status", s.status)
	e.Logger.Fatal(e.Start(os.Getenv("LISTEN")))
}
