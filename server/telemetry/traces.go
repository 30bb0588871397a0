package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// FlushTimeout bounds the wait for the receiver of traces when the service stops.
const FlushTimeout = 3 * time.Second

// StartTraces returns a tracer and a function that sends the last spans, if the standard
// OTEL_ variables in environ ask for traces; else it returns a nil tracer. The OpenTelemetry
// SDK reads the variables itself, from the process's environment. It skips a faulty value
// and goes on; the log then names the variable.
func StartTraces(ctx context.Context, environ []string, version string, log *slog.Logger) (trace.Tracer, func(), error) {
	variables := otelVariables(environ)
	if !wantsTraces(variables) {
		return nil, func() {}, nil
	}
	faults := faultHandler{variables, log}
	faults.warnUnsupported()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(faults.handleError))
	otel.SetLogger(logr.FromSlogHandler(faults))
	// The environment comes last and wins. There are no other detectors: they would export
	// the command line and the host's name. A fault in OTEL_RESOURCE_ATTRIBUTES is reported
	// by the SDK when the provider is made.
	attributes, _ := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "mfa"), attribute.String("service.version", version)), resource.WithFromEnv())
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("start traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(attributes), sdktrace.WithBatcher(loggedExporter{exporter, hideHeaders(variables), log}))
	return provider.Tracer("quiva.ai/mfa"), func() { flush(ctx, provider, log) }, nil
}

// flush sends the last spans and stops the provider.
func flush(ctx context.Context, provider *sdktrace.TracerProvider, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), FlushTimeout)
	defer cancel()
	if err := provider.Shutdown(ctx); err != nil {
		log.WarnContext(ctx, "the last traces were not exported", "error", err.Error())
	}
}

// otelVariables returns the OTEL_ variables that are set. An empty variable counts as unset.
func otelVariables(environ []string) map[string]string {
	values := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if value = strings.TrimSpace(value); strings.HasPrefix(name, "OTEL_") && value != "" {
			values[name] = value
		}
	}
	return values
}

// wantsTraces tells whether the variables name an exporter or its endpoint and do not
// switch it off.
func wantsTraces(variables map[string]string) bool {
	if strings.EqualFold(variables["OTEL_SDK_DISABLED"], "true") || variables["OTEL_TRACES_EXPORTER"] == "none" {
		return false
	}
	return variables["OTEL_TRACES_EXPORTER"]+variables["OTEL_EXPORTER_OTLP_ENDPOINT"]+variables["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] != ""
}

// loggedExporter logs why spans were not exported. The SDK would pass the error to the
// handler of the whole process.
type loggedExporter struct {
	sdktrace.SpanExporter
	hide *strings.Replacer
	log  *slog.Logger
}

// ExportSpans implements sdktrace.SpanExporter.
func (e loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		// The receiver's response may repeat a header of the request: a credential. Its body is
		// cut off; its status line and its Location go through hide.
		text, _, _ := strings.Cut(err.Error(), "body: ")
		e.log.WarnContext(ctx, "traces were not exported", "error", e.hide.Replace(text), "spans", len(spans))
	}
	return nil
}

// hideHeaders returns a replacer that hides the values of the headers sent to the receiver.
func hideHeaders(variables map[string]string) *strings.Replacer {
	var secrets, pairs []string
	for _, name := range []string{"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"} {
		for pair := range strings.SplitSeq(variables[name], ",") {
			_, escaped, _ := strings.Cut(pair, "=")
			secrets = append(secrets, strings.TrimSpace(escaped))
			if plain, err := url.PathUnescape(escaped); err == nil {
				secrets = append(secrets, strings.TrimSpace(plain))
			}
		}
	}
	// The longest comes first: a shorter secret that begins it would leave its rest.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, secret := range secrets {
		if secret != "" {
			pairs = append(pairs, secret, "(hidden)")
		}
	}
	return strings.NewReplacer(pairs...)
}
