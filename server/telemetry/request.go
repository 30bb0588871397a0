package telemetry

import (
	"context"
	"log/slog"
)

// Request has the members that log lines about a request have in common, and its audit event.
// It belongs to the goroutine that serves the request.
type Request struct {
	Address string // the client's
	ID      string // X-Request-Id

	// Event is the request's audit event, or nil. The log line has at least its level.
	Event      []slog.Attr
	EventLevel slog.Level
}

type requestKey struct{}

// WithRequest returns ctx with request in it.
func WithRequest(ctx context.Context, request *Request) context.Context {
	return context.WithValue(ctx, requestKey{}, request)
}

func requestFrom(ctx context.Context) (*Request, bool) {
	request, ok := ctx.Value(requestKey{}).(*Request)
	return request, ok
}

// Audit makes event, at a level of INFO or above, the audit event of the request in ctx: its members are added to the
// request's log line. Programs read them, so a member's name and meaning stay. Audit does
// nothing if ctx has no request, as in a test of one operation.
func Audit(ctx context.Context, level slog.Level, event ...slog.Attr) {
	if request, ok := requestFrom(ctx); ok {
		request.Event, request.EventLevel = event, level
	}
}
