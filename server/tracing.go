package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
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
// standard OTEL_ variables of environ, which judgeOTel has found no fault with, ask for
// traces. The SDK reads them by itself, from the environment of the whole process.
func startTracing(ctx context.Context, environ []string, log *slog.Logger) (trace.Tracer, func(), error) {
	values := otelVariables(environ)
	if !wantsTraces(values) {
		return nil, func() {}, nil
	}
	// The environment comes last and wins. No other detectors: the command line and the
	// host's names are nobody's business.
	of, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "mfa"), attribute.String("service.version", version())), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("start traces: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("start traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(of), sdktrace.WithBatcher(loggedExporter{exporter, hideHeaders(values), log}))
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
	hide *strings.Replacer
	log  *slog.Logger
}

// ExportSpans implements sdktrace.SpanExporter.
func (e loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		// What the receiver wrote may repeat a header that it was sent, and that is a secret:
		// in its body, which is of no use here, in its status line, or in a Location.
		ours, _, _ := strings.Cut(err.Error(), "body: ")
		e.log.WarnContext(ctx, "traces were not exported", "error", e.hide.Replace(ours), "spans", len(spans))
	}
	return nil
}

// hideHeaders hides the values of the headers that the receiver is sent, which judgeOTel
// has found well formed.
func hideHeaders(values map[string]string) *strings.Replacer {
	var secrets, pairs []string
	for _, name := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"} {
		for pair := range strings.SplitSeq(values[name], ",") {
			_, escaped, _ := strings.Cut(pair, "=")
			secrets = append(secrets, strings.TrimSpace(escaped), strings.TrimSpace(unescaped(escaped)))
		}
	}
	// One may begin with another, of which it would keep the rest: the longest comes first.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, secret := range secrets {
		if secret != "" {
			pairs = append(pairs, secret, "(hidden)")
		}
	}
	return strings.NewReplacer(pairs...)
}

func unescaped(text string) string {
	plain, err := url.PathUnescape(text)
	if err != nil {
		return text
	}
	return plain
}
