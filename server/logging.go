package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/labstack/echo/v4"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

// maxLogText bounds a text in the log in bytes. The stack of a request is longer, but
// what matters of it is at its beginning.
const maxLogText = 4 << 10

// newLogger returns the logger of the service. A record that is logged with a
// request's context carries the request's origin. Texts are tamed before slog sees them:
// its own ReplaceAttr would have time and level go through encoding/json.
func newLogger(w io.Writer, level slog.Leveler, format logFormat) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "text" {
		return slog.New(originHandler{slog.NewTextHandler(w, options)})
	}
	return slog.New(originHandler{slog.NewJSONHandler(w, options)})
}

// newAuditLogger returns the logger of audit events: JSON, of every level, whatever the
// log's settings are, because programs rely on it.
func newAuditLogger(w io.Writer) *slog.Logger {
	return slog.New(originHandler{slog.NewJSONHandler(w, nil)})
}

// tame cuts a text that is too long, and replaces what a terminal may obey and slog does not
// escape: DEL, and the control and format characters beyond ASCII.
func tame(attr slog.Attr) slog.Attr {
	if err, ok := attr.Value.Any().(error); ok {
		attr.Value = slog.StringValue(err.Error())
	}
	if attr.Value.Kind() == slog.KindString {
		attr.Value = slog.StringValue(tamed(attr.Value.String()))
	}
	return attr
}

// isWild tells whether a value may have to be tamed: hardly ever.
func isWild(value slog.Value) bool {
	if value.Kind() != slog.KindString {
		return value.Kind() == slog.KindAny // It may be an error.
	}
	text := value.String()
	return len(text) > maxLogText || strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII-1 })
}

func tamed(text string) string {
	if len(text) > maxLogText {
		text = text[:maxLogText] + " (truncated)"
	}
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII-1 && !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// origin is a request's context, which tells where the request comes from.
type origin struct {
	context.Context //nolint:containedctx // This is a context.
	attrs           [2]slog.Attr
	requestID       [1]string // as a header field has it
}

func newOrigin(ctx context.Context, address, requestID string) *origin {
	return &origin{ctx, [2]slog.Attr{slog.String("address", address), slog.String("request_id", requestID)}, [1]string{requestID}}
}

type originKey struct{}

// Value implements context.Context.
func (o *origin) Value(key any) any {
	if key == (originKey{}) {
		return o
	}
	return o.Context.Value(key)
}

// originHandler tames a record, and adds the origin in its context.
type originHandler struct{ slog.Handler }

func (h originHandler) Handle(ctx context.Context, record slog.Record) error {
	wild := isWild(slog.StringValue(record.Message)) // net/http's are not constant
	record.Attrs(func(attr slog.Attr) bool {
		wild = wild || isWild(attr.Value)
		return !wild
	})
	if wild {
		record = tamedRecord(record)
	}
	if from, ok := ctx.Value(originKey{}).(*origin); ok {
		record.AddAttrs(slog.Attr{Value: slog.GroupValue(from.attrs[:]...)}) // without a key, it is no group
	}
	return h.Handler.Handle(ctx, record)
}

func tamedRecord(record slog.Record) slog.Record {
	result := slog.NewRecord(record.Time, record.Level, tamed(record.Message), record.PC)
	record.Attrs(func(attr slog.Attr) bool {
		result.AddAttrs(tame(attr))
		return true
	})
	return result
}

func (h originHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	tamed := make([]slog.Attr, len(attrs))
	for i, attr := range attrs {
		tamed[i] = tame(attr)
	}
	return originHandler{h.Handler.WithAttrs(tamed)}
}

func (h originHandler) WithGroup(name string) slog.Handler {
	return originHandler{h.Handler.WithGroup(name)}
}

// wellFormedID matches a UUID, and the 32 hexadecimal digits of nginx. No credential of
// this service looks like that, so none gets into the log as a request id.
var wellFormedID = regexp.MustCompile(`^[0-9a-fA-F][0-9a-fA-F-]{14,62}[0-9a-fA-F]$`)

// requestID is the gateway's if it is well formed, else a new one.
func requestID(header http.Header) string {
	if id := header.Get(echo.HeaderXRequestID); wellFormedID.MatchString(id) {
		return id
	}
	return rand.Text()
}

// logRequests has an error answered and then writes one line for the request. The
// line has the route and not the path, and of the header only a well-formed request
// id, and addresses: no credential gets into the log, wherever a client put it.
func logRequests(trusted trustedProxies, now func() time.Time, log *slog.Logger) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			start := now()
			r := c.Request()
			ctx := newOrigin(r.Context(), trusted.clientAddress(r).String(), requestID(r.Header))
			c.SetRequest(r.WithContext(ctx))
			// At the last moment, so that no handler puts another in its place.
			c.Response().Before(func() { c.Response().Header()[echo.HeaderXRequestID] = ctx.requestID[:] })
			err := next(c)
			if err != nil {
				c.Error(err)
			}
			end, status := now(), c.Response().Status
			level, fault := classify(ctx, err, status)
			if !log.Enabled(ctx, level) {
				return nil
			}
			// Not by way of log, which would look up each time in which line of code it is called.
			record := slog.NewRecord(end, level, "request", 0)
			record.AddAttrs(fault...)
			record.AddAttrs(
				slog.String("method", knownMethod(r.Method)),
				slog.String("route", c.Path()),
				slog.Int("status", status),
				slog.Int64("duration_us", end.Sub(start).Microseconds()),
			)
			_ = log.Handler().Handle(ctx, record) // there is nowhere to tell that nothing can be told
			return nil
		}
	}
}

// knownMethod is the method if it is one of RFC 9110 section 9.3 or PATCH. A client may
// send anything in its place, a credential for example.
func knownMethod(method string) string {
	if slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"}, method) {
		return method
	}
	return "other"
}

// classify says what a request's error means to an operator. A refused or mistaken
// request is no error of the service, nor is one that failed because its client left. A
// panic always is, even if it came too late to change the answer.
func classify(ctx context.Context, err error, status int) (slog.Level, []slog.Attr) {
	if refusal, ok := errors.AsType[*auth.Refusal](err); ok {
		return slog.LevelInfo, []slog.Attr{slog.String("cause", string(refusal.Cause))}
	}
	if is[*panicError](err) {
		return slog.LevelError, []slog.Attr{slog.String("error", err.Error())}
	}
	if err != nil && status < http.StatusBadRequest {
		return slog.LevelInfo, []slog.Attr{slog.String("cause", "answer_cut_off"), slog.String("error", err.Error())}
	}
	if err == nil || status < http.StatusInternalServerError {
		return slog.LevelInfo, nil
	}
	if errors.Is(err, auth.ErrKeysUnavailable) {
		// Whoever reads the set has logged why; strangers must not write errors here.
		return slog.LevelInfo, []slog.Attr{slog.String("cause", "keys_unavailable")}
	}
	if errors.Is(err, errOverloaded) {
		return slog.LevelInfo, []slog.Attr{slog.String("cause", "overloaded")}
	}
	fault := slog.String("error", err.Error())
	if errors.Is(ctx.Err(), context.Canceled) && errors.Is(err, context.Canceled) {
		return slog.LevelInfo, []slog.Attr{slog.String("cause", "client_left"), fault}
	}
	if errors.Is(err, store.ErrUnavailable) {
		// A failover has thousands of them, and ends by itself: that it does not is for an
		// alert to tell.
		return slog.LevelWarn, []slog.Attr{fault}
	}
	return slog.LevelError, []slog.Attr{fault}
}
