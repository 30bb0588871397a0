package api

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
)

// idGroup is a group of hexadecimal digits. The names are those of AWS X-Ray and Google Cloud.
const idGroup = `(?:(?:Root|Self|Parent|Sampled|Lineage|o)=)?[0-9A-Fa-f]{1,32}`

// wellFormedID matches the ids of gateways that cannot be a credential, so that a credential sent
// as a request id does not reach the log:
//
//   - Hexadecimal groups: a UUID, W3C's traceparent, Kong's uuid#counter, AWS's Root=1-.... A group has
//     at most 32 digits: a TOTP secret in hexadecimal has 40, and openssl rand -hex 32 writes 64. An API key
//     begins with "mfa_", and a JWT with "ey" or "ew", the base64 of a JSON object. Random base32
//     or base64 of 160 bits or more is hexadecimal once in 10^13 at most.
//   - A ULID. It begins with 0 until the year 3084. Base32 has no 0.
//   - Cloudflare's Ray ID: 16 hexadecimal digits and an airport.
//
// Other ids are in base64, base62 or free text, as credentials are.
var wellFormedID = regexp.MustCompile(`^(?:` + idGroup + `(?:[-._:#/|;]` + idGroup + `)*` +
	`|0(?:[0-9A-HJKMNP-TV-Z]{25}|[0-9a-hjkmnp-tv-z]{25})` +
	`|[0-9a-f]{16}-[A-Z]{3})$`)

// requestID returns the gateway's request id if it is well formed and has 16 to 128 characters,
// else a new one.
func requestID(header http.Header) string {
	if id := header.Get(echo.HeaderXRequestID); len(id) >= 16 && len(id) <= 128 && wellFormedID.MatchString(id) {
		return id
	}
	return rand.Text()
}

// requestLogger writes one line for each request.
type requestLogger struct {
	proxies     TrustedProxies
	now         func() time.Time
	logger      *slog.Logger
	auditLogger *slog.Logger
}

// log writes the response to an error and then the request's line. The line has the
// route and not the path. Of the header it has a well-formed request id and addresses. So no
// credential reaches the log, wherever a client put it.
func (l *requestLogger) log(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := l.now()
		r := c.Request()
		request := &telemetry.Request{Address: l.proxies.clientAddress(r).String(), ID: requestID(r.Header)}
		ctx := telemetry.WithRequest(r.Context(), request)
		c.SetRequest(r.WithContext(ctx))
		// Before, and not now: a generated handler sets the header itself, to an empty value.
		c.Response().Before(func() { c.Response().Header().Set(echo.HeaderXRequestID, request.ID) })
		err := next(c)
		if err != nil {
			c.Error(err)
		}
		status := c.Response().Status
		level, fault := classify(ctx, err, status)
		attrs := append(make([]slog.Attr, 0, 16), fault...) // on the stack
		logger := l.logger
		if request.Event != nil {
			logger, attrs = l.auditLogger, append(attrs, request.Event...)
			level = max(level, request.EventLevel)
		}
		attrs = append(attrs,
			slog.String("method", knownMethod(r.Method)),
			slog.String("route", c.Path()),
			slog.Int("status", status),
			slog.Int64("duration_us", l.now().Sub(start).Microseconds()))
		logger.LogAttrs(ctx, level, "request", attrs...)
		return nil
	}
}

// knownMethod returns the method if it is one of RFC 9110, section 9.3, or PATCH. A client
// may send any text as a method, a credential for example.
func knownMethod(method string) string {
	if slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"}, method) {
		return method
	}
	return "other"
}

// classify returns the level of a request's line and what it says of the error. A refused
// or malformed request is no error of the service, nor is a client that left. A panic always
// is, even after the response has begun.
func classify(ctx context.Context, err error, status int) (slog.Level, []slog.Attr) {
	if err == nil {
		return slog.LevelInfo, nil
	}
	cause := func(name string) slog.Attr { return slog.String("cause", name) }
	text := slog.String("error", err.Error())
	refusal, refused := errors.AsType[*auth.Refusal](err)
	switch {
	case refused:
		return slog.LevelInfo, []slog.Attr{cause(string(refusal.Cause))}
	case is[*panicError](err):
		return slog.LevelError, []slog.Attr{text}
	case status < http.StatusBadRequest:
		return slog.LevelInfo, []slog.Attr{cause("response_cut_off"), text}
	case is[*mfa.Refusal](err):
		return slog.LevelInfo, []slog.Attr{cause(string(responseTo(err).reason))}
	case errors.Is(err, auth.ErrPersonRequired):
		return slog.LevelInfo, []slog.Attr{cause(string(auth.SignInTooOld))}
	case status < http.StatusInternalServerError:
		return slog.LevelInfo, nil
	case errors.Is(err, auth.ErrKeysUnavailable):
		// The JWK set's reader has logged why. Unauthenticated callers must not fill the log with
		// errors.
		return slog.LevelInfo, []slog.Attr{cause("keys_unavailable")}
	case errors.Is(err, errOverloaded):
		return slog.LevelInfo, []slog.Attr{cause("overloaded")}
	case errors.Is(ctx.Err(), context.Canceled) && errors.Is(err, context.Canceled):
		return slog.LevelInfo, []slog.Attr{cause("client_left"), text}
	case errors.Is(err, store.ErrUnavailable):
		// A failover causes thousands of these and ends by itself. An alert tells if it does not.
		return slog.LevelWarn, []slog.Attr{text}
	}
	return slog.LevelError, []slog.Attr{text}
}
