package telemetry

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Values that hold "secret" must not reach the log, nor any other value.
func TestStartTraces_NamesFaultyVariables(t *testing.T) {
	const invalidNumber = "Got invalid value, number value expected."
	absent := filepath.Join(t.TempDir(), "absent")
	for _, row := range []struct{ variable, says, names string }{
		{"OTEL_TRACES_EXPORTER=zipkin", "want otlp", "OTEL_TRACES_EXPORTER"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "want http/protobuf or http/json", "OTEL_EXPORTER_OTLP_PROTOCOL"},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc", "want http/protobuf or http/json", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://secret:x", "parse url", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT=10s", "parse duration", "OTEL_EXPORTER_OTLP_TIMEOUT"},
		{"OTEL_EXPORTER_OTLP_HEADERS=a=b,authorization=%zz-secret", "escape header value", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"OTEL_EXPORTER_OTLP_HEADERS=secret", "parse headers", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE=" + absent, "read tls ca cert file", "OTEL_EXPORTER_OTLP_CERTIFICATE"},
		{"OTEL_TRACES_SAMPLER=sometimes", "unusable value", "OTEL_TRACES_SAMPLER"},
		{"OTEL_RESOURCE_ATTRIBUTES=team=%zz-secret", "unusable value", "OTEL_RESOURCE_ATTRIBUTES"},
		{"OTEL_BSP_SCHEDULE_DELAY=5s", invalidNumber, "OTEL_BSP_SCHEDULE_DELAY"},
		{"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=few", invalidNumber, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"},
	} {
		t.Run(row.variable, func(t *testing.T) {
			log, flush := startTraces(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", row.variable)
			// The span cannot be exported.
			text, _, _ := strings.Cut(log.String(), `level=WARN msg="traces were not exported"`)
			flush()
			if want := faultLine(row.says, row.names); !repeats(text, want) {
				t.Errorf("log:\n%swant:\n%s", text, want)
			}
			_, value, _ := strings.Cut(row.variable, "=")
			if whole := log.String(); strings.Contains(whole, value) || strings.Contains(whole, "secret") {
				t.Errorf("the log has the value:\n%s", whole)
			}
		})
	}
}

// faultLine is the log line of a fault. slog quotes texts with spaces.
func faultLine(says, names string) string {
	return `level=WARN msg="OpenTelemetry found a fault in its settings" says=` + quote(says) + ` variables=` + quote("["+names+"]") + "\n"
}

func quote(text string) string {
	if strings.Contains(text, " ") {
		return `"` + text + `"`
	}
	return text
}

// repeats tells whether text is line, once or more often: the SDK reads some variables twice.
func repeats(text, line string) bool {
	return text != "" && strings.ReplaceAll(text, line, "") == ""
}

func TestFaultHandler_NamesSuspects(t *testing.T) {
	const delay = "OTEL_BSP_SCHEDULE_DELAY"
	variables := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "https://receiver",
		"OTEL_EXPORTER_OTLP_HEADERS":  "a=one,,b=two%zz",
		"OTEL_TRACES_SAMPLER":         "traceidratio",
		"OTEL_TRACES_SAMPLER_ARG":     "2",
	}
	for name, row := range map[string]struct {
		report      func(faultHandler)
		says, names string // no says: no line
	}{
		"an error that quotes a value": {
			func(h faultHandler) { h.handleError(errors.New("unsupported sampler: traceidratio")) },
			"unusable value", "OTEL_TRACES_SAMPLER"},
		"an error that quotes no value, of all but the exporter's": {
			func(h faultHandler) { h.handleError(errors.New("ratio too high")) },
			"unusable value", "OTEL_TRACES_SAMPLER OTEL_TRACES_SAMPLER_ARG"},
		"a record that quotes a part of a list": {
			func(h faultHandler) { slog.New(h).Error("escape", "value", "two%zz") },
			"escape", "OTEL_EXPORTER_OTLP_HEADERS"},
		"a record that quotes a part of a part": {
			func(h faultHandler) { slog.New(h).Error("escape", "value", "%zz") },
			"escape", "OTEL_EXPORTER_OTLP_HEADERS"},
		"a record that quotes a value beside an empty text": {
			func(h faultHandler) { slog.New(h).Error("parse url", "empty", "", "url", "https://receiver") },
			"parse url", "OTEL_EXPORTER_OTLP_ENDPOINT"},
		"a record that quotes no value, of the exporter's": {
			func(h faultHandler) { slog.New(h).Error("create tls cert pool", "empty", "") },
			"create tls cert pool", "OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_HEADERS"},
		"a record that names a variable": {
			func(h faultHandler) {
				record := slog.NewRecord(time.Time{}, slog.LevelDebug, "number", 0)
				record.Add(delay, "2")
				_ = h.Handle(t.Context(), record)
			},
			"number", delay},
		"a record of another kind": {
			func(h faultHandler) { slog.New(h).Warn("TracerProvider created", "config", "2") },
			"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			log := &logBuffer{}
			row.report(faultHandler{variables, NewLogger(log, slog.LevelInfo, "text")})
			want := faultLine(row.says, row.names)
			if row.says == "" {
				want = ""
			}
			if got := log.String(); got != want {
				t.Errorf("log:\n%swant:\n%s", got, want)
			}
		})
	}
}
