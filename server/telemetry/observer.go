package telemetry

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Observer measures and traces requests. It is safe for concurrent use.
type Observer struct {
	*Metrics
	tracer trace.Tracer // nil: traces are off
	now    func() time.Time
}

// NewObserver returns an observer with new metrics. Without a tracer it makes no spans.
func NewObserver(tracer trace.Tracer, now func() time.Time) *Observer {
	return &Observer{Metrics: NewMetrics(), tracer: tracer, now: now}
}

// noSpan records nothing.
var noSpan trace.Span = noop.Span{}

// Span starts a span within the request's span. The caller ends it.
func (o *Observer) Span(ctx context.Context, name string, kind trace.SpanKind) (context.Context, trace.Span) {
	if o.tracer == nil {
		return ctx, noSpan
	}
	return o.tracer.Start(ctx, name, trace.WithSpanKind(kind))
}

// StartRequest measures and traces a request from now on. operation is the operationId, or
// "none"; route is the path in the OpenAPI document, or empty. The caller serves the request
// that StartRequest returns and then calls end with the response's status.
func (o *Observer) StartRequest(r *http.Request, method, operation, route string) (observed *http.Request, end func(status int)) {
	start := o.now()
	r, span := o.requestSpan(r, method, route)
	return r, func(status int) {
		o.observeRequest(operation, status, o.now().Sub(start))
		if span.IsRecording() {
			span.SetAttributes(attribute.Int("http.response.status_code", status))
			if status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
		}
		span.End()
	}
}

// requestSpan starts the span of a request. Its parent is the gateway's span (W3C Trace
// Context). The gateway's baggage and tracestate may hold anything and are not taken over.
func (o *Observer) requestSpan(r *http.Request, method, route string) (*http.Request, trace.Span) {
	if o.tracer == nil {
		return r, noSpan
	}
	name := method
	attributes := []attribute.KeyValue{attribute.String("http.request.method", method)}
	if route != "" {
		name += " " + route
		attributes = append(attributes, attribute.String("http.route", route))
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx = trace.ContextWithRemoteSpanContext(ctx, trace.SpanContextFromContext(ctx).WithTraceState(trace.TraceState{}))
	ctx, span := o.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
	return r.WithContext(ctx), span
}
