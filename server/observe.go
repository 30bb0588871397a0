package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/store"
)

// observer measures and traces, at three places: a whole request, its authentication,
// and what it asks of the store. None of the code in between knows of it. What it tells
// has no names but ours: no account, credential, secret or address, nor an error's text.
type observer struct {
	*metrics
	tracer trace.Tracer // nil: there are no traces
	now    func() time.Time
}

func newObserver(tracer trace.Tracer, now func() time.Time) *observer {
	return &observer{metrics: newMetrics(), tracer: tracer, now: now}
}

// noSpan records nothing. Those of OpenTelemetry's own noop package cost more than all
// else here does.
var noSpan trace.Span = noop.Span{}

// span begins a span within a request's.
func (o *observer) span(ctx context.Context, name string, kind trace.SpanKind) (context.Context, trace.Span) {
	if o.tracer == nil {
		return ctx, noSpan
	}
	return o.tracer.Start(ctx, name, trace.WithSpanKind(kind))
}

// serverSpan begins a request's span. The gateway's (W3C Trace Context) is its parent; its
// baggage, which could hold anything, is not read, nor its tracestate.
func (o *observer) serverSpan(r *http.Request, route *routers.Route) (*http.Request, trace.Span) {
	if o.tracer == nil {
		return r, noSpan
	}
	name := knownMethod(r.Method)
	attributes := []attribute.KeyValue{attribute.String("http.request.method", name)}
	if route != nil {
		name += " " + route.Path
		attributes = append(attributes, attribute.String("http.route", route.Path))
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx = trace.ContextWithRemoteSpanContext(ctx, trace.SpanContextFromContext(ctx).WithTraceState(trace.TraceState{}))
	ctx, span := o.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
	return r.WithContext(ctx), span
}

// wholeRequest observes the requests to operations, and all others as one.
func (o *observer) wholeRequest(operations map[routeKey]*routers.Route) echo.MiddlewareFunc {
	usual := map[statusKey]prometheus.Observer{} // which need not be looked up by their labels
	for _, route := range operations {
		for _, status := range []int{200, 401, 500, 503} { // as for newMetrics' outcomes
			key := statusKey{route.Operation.OperationID, status}
			usual[key] = o.requestTime(key)
		}
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			operation := "none"
			route := operations[routeKey{r.Method, c.Path()}]
			if route != nil {
				operation = route.Operation.OperationID
			}
			r, span := o.serverSpan(r, route)
			defer span.End()
			c.SetRequest(r)
			start := o.now()
			err := next(c)
			key := statusKey{operation, c.Response().Status}
			observer := usual[key]
			if observer == nil {
				observer = o.requestTime(key)
			}
			observer.Observe(o.now().Sub(start).Seconds())
			if span.IsRecording() {
				span.SetAttributes(attribute.Int("http.response.status_code", key.status))
				if key.status >= http.StatusInternalServerError {
					span.SetStatus(codes.Error, "")
				}
			}
			return err
		}
	}
}

// statusKey is how mfa_request_duration_seconds tells requests apart.
type statusKey struct {
	operation string
	status    int
}

func (o *observer) requestTime(key statusKey) prometheus.Observer {
	return o.requests.WithLabelValues(key.operation, strconv.Itoa(key.status))
}

// authenticator is an auth.Authenticator, or one that is observed.
type authenticator interface {
	Authenticate(ctx context.Context, header http.Header) (auth.Principal, error)
}

type observedAuthenticator struct {
	*observer
	next authenticator
}

// Authenticate implements authenticator.
func (a observedAuthenticator) Authenticate(ctx context.Context, header http.Header) (auth.Principal, error) {
	ctx, span := a.span(ctx, "authenticate", trace.SpanKindInternal)
	defer span.End()
	principal, err := a.next.Authenticate(ctx, header)
	if refusal, ok := errors.AsType[*auth.Refusal](err); ok {
		a.refusals.WithLabelValues(string(refusal.Cause)).Inc()
		span.SetAttributes(attribute.String("mfa.cause", string(refusal.Cause)))
	} else if err != nil && !is[*auth.AwaitedKey](err) {
		span.SetStatus(codes.Error, "")
	}
	return principal, err
}

// outcomeUnavailable is that of a call which the store did not answer.
const outcomeUnavailable store.Outcome = "unavailable"

// outcome names what became of a call to the store. That a client left is no fault of
// the store's.
func outcome(err error, success store.Outcome) string {
	switch {
	case err == nil:
		return string(success)
	case errors.Is(err, store.ErrNotFound):
		return "not_found"
	case errors.Is(err, context.Canceled):
		return "client_left"
	}
	return string(outcomeUnavailable)
}

// observedPending counts how keys came to be the ones that were returned.
type observedPending struct {
	*observer
	next mfa.PendingKeys
}

// GetOrCreate implements mfa.PendingKeys.
func (p observedPending) GetOrCreate(ctx context.Context, account string, fresh store.Secret) (store.PendingKey, error) {
	key, err := p.next.GetOrCreate(ctx, account, fresh)
	p.outcomes.WithLabelValues(outcome(err, key.Outcome)).Inc()
	return key, err
}

// observedBackend observes what requests ask of a backend. The other methods are for
// administration, and for /readyz, whose calls would drown them.
type observedBackend struct {
	store.Backend
	*observer
}

// storeCall is one call that is under way.
type storeCall struct {
	method string
	start  time.Time
	span   trace.Span
}

func (b observedBackend) begin(ctx context.Context, method string) (context.Context, storeCall) {
	call := storeCall{method: method, start: b.now()}
	if b.tracer == nil { // nor is the span's name put together
		call.span = noSpan
		return ctx, call
	}
	ctx, call.span = b.span(ctx, "store "+method, trace.SpanKindClient)
	return ctx, call
}

func (b observedBackend) end(call storeCall, err error) {
	result := outcome(err, "ok")
	b.calls.WithLabelValues(call.method, result).Observe(b.now().Sub(call.start).Seconds())
	if call.span.IsRecording() {
		call.span.SetAttributes(attribute.String("mfa.outcome", result))
		if result == string(outcomeUnavailable) {
			call.span.SetStatus(codes.Error, "")
		}
	}
	call.span.End()
}

// PutIfAbsent implements store.Backend.
func (b observedBackend) PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, error) {
	ctx, call := b.begin(ctx, "put_if_absent")
	existing, err := b.Backend.PutIfAbsent(ctx, key, value, ttl)
	b.end(call, err)
	return existing, err
}

// Replace implements store.Backend.
func (b observedBackend) Replace(ctx context.Context, key string, old, value []byte, ttl time.Duration) ([]byte, error) {
	ctx, call := b.begin(ctx, "replace")
	existing, err := b.Backend.Replace(ctx, key, old, value, ttl)
	b.end(call, err)
	return existing, err
}

// Get implements store.Backend.
func (b observedBackend) Get(ctx context.Context, key string) ([]byte, error) {
	ctx, call := b.begin(ctx, "get")
	value, err := b.Backend.Get(ctx, key)
	b.end(call, err)
	return value, err
}

// Update implements store.Backend.
func (b observedBackend) Update(ctx context.Context, key string, value []byte) error {
	ctx, call := b.begin(ctx, "update")
	err := b.Backend.Update(ctx, key, value)
	b.end(call, err)
	return err
}
