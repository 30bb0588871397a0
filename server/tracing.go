package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// flushTime bounds the wait for the receiver of traces when the service stops.
const flushTime = 3 * time.Second

// startTracing returns what makes spans, and what sends the last of them: nil, unless the
// standard OTEL_ variables of environ ask for traces. The SDK reads these variables
// by itself, from the environment of the whole process; here they are judged before,
// because what the SDK cannot read it ignores, and prints: the headers' secrets too.
func startTracing(ctx context.Context, environ []string, log *slog.Logger) (trace.Tracer, func(), error) {
	values := otelVariables(environ)
	if !wantsTraces(values) {
		return nil, func() {}, nil
	}
	if wrong := judgeOTel(values); len(wrong) > 0 {
		return nil, nil, wrong
	}
	// The environment comes last and wins. No other detectors: the command line and the
	// host's names are nobody's business.
	of, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "mfa"), attribute.String("service.version", version())), resource.WithFromEnv())
	if err != nil {
		return nil, nil, faults{"OTEL_RESOURCE_ATTRIBUTES: must be name=value pairs, comma separated, percent-encoded"}
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("start traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(of), sdktrace.WithBatcher(loggedExporter{exporter, log}))
	stop := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.WarnContext(ctx, "the last traces were not exported", "error", err.Error())
		}
	}
	return provider.Tracer("quiva.ai/mfa"), stop, nil
}

// loggedExporter logs what goes wrong. The SDK would give it to a handler that all of
// the process shares, which prints it.
type loggedExporter struct {
	sdktrace.SpanExporter
	log *slog.Logger
}

// ExportSpans implements sdktrace.SpanExporter.
func (e loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.log.WarnContext(ctx, "traces were not exported", "error", err.Error(), "spans", len(spans))
	}
	return nil
}
