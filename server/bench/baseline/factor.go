package main

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/redis/go-redis/v9"
)

// confirm reads and writes in separate commands: two calls at once may both succeed, with
// different recovery codes.
func (s *server) confirm(c echo.Context) error {
	caller, err := s.authenticate(c)
	if err != nil {
		return err
	}
	var body struct{ Code, Secret string }
	if err := c.Bind(&body); err != nil {
		return err
	}
	ctx, pending := c.Request().Context(), "totp:"+caller.Subject
	secret, err := s.rdb.Get(ctx, pending).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	step := matchStep(secret, body.Code, time.Now())
	if err != nil || body.Secret != secret || step == 0 {
		return echo.ErrBadRequest
	}
	codes := make([]string, 10)
	for i := range codes {
		codes[i] = rand.Text()[:16]
	}
	err = s.rdb.HSet(ctx, "factor:"+caller.Subject, "secret", secret, "step", step, "failures", 0, "locked_until", 0,
		"recovery_codes", strings.Join(codes, " ")).Err()
	if err != nil {
		return err
	}
	if err := s.rdb.Del(ctx, pending).Err(); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"data": map[string]any{"recovery_codes": codes}})
}

func (s *server) info(c echo.Context) error {
	caller, err := s.authenticate(c)
	if err != nil {
		return err
	}
	return s.respondInfo(c, caller.Subject)
}

func (s *server) respondInfo(c echo.Context, account string) error {
	found, err := s.rdb.Exists(c.Request().Context(), "factor:"+account).Result()
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"data": map[string]bool{"passkey_enabled": false, "totp_enabled": found == 1}})
}
