package main

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/pquerna/otp/totp"
	"github.com/redis/go-redis/v9"
)

// verifyScript judges a code in one atomic step: otherwise, parallel calls could use a code
// twice, or guess more often than five times in 15 minutes.
var verifyScript = redis.NewScript(`
local secret, last, locked = unpack(redis.call('HMGET', KEYS[1], 'secret', 'step', 'locked_until'))
local step, now = tonumber(ARGV[2]), tonumber(ARGV[3])
if secret ~= ARGV[1] then return 'changed' end
if now < tonumber(locked) then return 'locked' end
if step == 0 then
  if redis.call('HINCRBY', KEYS[1], 'failures', 1) >= 5 then
    redis.call('HSET', KEYS[1], 'failures', 0, 'locked_until', now + 900)
  end
  return 'wrong_code'
end
if step <= tonumber(last) then return 'replayed' end
redis.call('HSET', KEYS[1], 'step', step, 'failures', 0)
return 'ok'`)

// verify takes codes of the app alone, no recovery codes.
func (s *server) verify(c echo.Context) error {
	var body struct{ Account, Code string }
	if err := s.bindInternal(c, &body); err != nil {
		return err
	}
	ctx, key, now := c.Request().Context(), "factor:"+body.Account, time.Now()
	secret, err := s.rdb.HGet(ctx, key, "secret").Result()
	if errors.Is(err, redis.Nil) {
		return echo.NewHTTPError(http.StatusBadRequest, "not_enrolled")
	}
	if err != nil {
		return err
	}
	result, err := verifyScript.Run(ctx, s.rdb, []string{key}, secret, matchStep(secret, body.Code, now), now.Unix()).Text()
	switch {
	case err != nil:
		return err
	case result == "ok":
		return c.JSON(http.StatusOK, map[string]any{"data": map[string]string{"method": "totp"}})
	case result == "locked":
		return echo.NewHTTPError(http.StatusTooManyRequests, result)
	}
	return echo.NewHTTPError(http.StatusBadRequest, result)
}

func (s *server) status(c echo.Context) error {
	var body struct{ Account string }
	if err := s.bindInternal(c, &body); err != nil {
		return err
	}
	return s.respondInfo(c, body.Account)
}

// bindInternal reads the body of a request that has the service key.
func (s *server) bindInternal(c echo.Context, body any) error {
	if subtle.ConstantTimeCompare([]byte(c.Request().Header.Get("X-Service-Key")), []byte(os.Getenv("SERVICE_KEY"))) != 1 {
		return echo.ErrUnauthorized
	}
	return c.Bind(body)
}

// matchStep returns the time step of code, 0 if it is of none near now.
func matchStep(secret, code string, now time.Time) int64 {
	for step := now.Unix()/30 + 1; step >= now.Unix()/30-1; step-- {
		want, err := totp.GenerateCode(secret, time.Unix(30*step, 0))
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			return step
		}
	}
	return 0
}
