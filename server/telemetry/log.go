package telemetry

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"unicode"
)

// maxLogText is the longest text in a log record, in bytes. Longer texts are cut: the
// beginning of a stack trace says what happened.
const maxLogText = 4 << 10

// NewLogger returns a logger that writes to w, as JSON lines, or as key=value lines if
// format is "text". A record that is logged with a request's context has that request's
// address and id.
func NewLogger(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: sanitizeAttr}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if format == "text" {
		handler = slog.NewTextHandler(w, options)
	}
	return slog.New(requestHandler{handler})
}

// sanitizeAttr sanitizes texts and errors, the record's message among them: net/http's
// messages repeat what a client sent.
func sanitizeAttr(_ []string, attr slog.Attr) slog.Attr {
	switch attr.Value.Kind() {
	case slog.KindString:
		attr.Value = slog.StringValue(Sanitize(attr.Value.String()))
	case slog.KindAny:
		switch value := attr.Value.Any().(type) {
		case error:
			attr.Value = slog.StringValue(Sanitize(value.Error()))
		case slog.Level: // the record's, which slog would pass to encoding/json
			attr.Value = slog.StringValue(value.String())
		}
	default: // numbers, times and groups hold no text
	}
	return attr
}

// Sanitize replaces the characters that a terminal may obey and that slog does not escape by
// U+FFFD: DEL, and control and format characters beyond ASCII. It cuts text at 4 KiB.
func Sanitize(text string) string {
	if len(text) > maxLogText {
		text = text[:maxLogText] + " (truncated)"
	}
	return strings.Map(func(r rune) rune {
		if r >= unicode.MaxASCII && !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// requestHandler adds the address and the id of the request in a record's context.
type requestHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h requestHandler) Handle(ctx context.Context, record slog.Record) error {
	if request, ok := requestFrom(ctx); ok {
		record.AddAttrs(slog.String("address", request.Address), slog.String("request_id", request.ID))
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}
