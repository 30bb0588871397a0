package telemetry

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// faultHandler logs the faults of OTEL_ variables by the variable's name. The SDK's own texts
// repeat values, and OTEL_EXPORTER_OTLP_HEADERS holds a credential. faultHandler is a
// slog.Handler because the SDK takes a logger.
type faultHandler struct {
	variables map[string]string
	log       *slog.Logger
}

// exporterPrefix begins the names of the exporter's variables. The exporter reports its faults
// to the SDK's logger; the rest of the SDK reports errors to the SDK's error handler.
const exporterPrefix = "OTEL_EXPORTER_OTLP_"

// handleError is the SDK's error handler.
func (h faultHandler) handleError(err error) {
	h.warn("unusable value", h.suspects(false, []string{err.Error()}))
}

// Enabled implements slog.Handler. The SDK reports some faults at its level for information.
func (h faultHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler. It skips records that neither are errors nor name a
// variable: they report the SDK's own life cycle.
func (h faultHandler) Handle(_ context.Context, record slog.Record) error {
	var named, texts []string
	record.Attrs(func(attr slog.Attr) bool {
		if strings.HasPrefix(attr.Key, "OTEL_") {
			named = append(named, attr.Key)
		}
		texts = append(texts, attr.Value.String())
		return true
	})
	switch {
	case named != nil:
		h.warn(record.Message, named)
	case record.Level >= slog.LevelError:
		h.warn(record.Message, h.suspects(true, texts))
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h faultHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h faultHandler) WithGroup(string) slog.Handler { return h }

// suspects returns the variables, of the exporter or of the rest of the SDK, whose values the
// texts quote. If the texts quote none, it returns all of them.
func (h faultHandler) suspects(exporter bool, texts []string) []string {
	var all, quoted []string
	for _, name := range slices.Sorted(maps.Keys(h.variables)) {
		if strings.HasPrefix(name, exporterPrefix) != exporter {
			continue
		}
		all = append(all, name)
		if slices.ContainsFunc(texts, func(text string) bool { return quotes(text, h.variables[name]) }) {
			quoted = append(quoted, name)
		}
	}
	if quoted == nil {
		return all
	}
	return quoted
}

// quotes tells whether text repeats value or, if value is a list, a part of it.
func quotes(text, value string) bool {
	return text != "" && slices.ContainsFunc(strings.Split(value, ","), func(part string) bool {
		return part != "" && (strings.Contains(text, part) || strings.Contains(part, text))
	})
}

// warnUnsupported logs the values that the service does not support. The SDK does not report
// them.
func (h faultHandler) warnUnsupported() {
	protocols := []string{"http/protobuf", "http/json"}
	for name, supported := range map[string][]string{
		"OTEL_TRACES_EXPORTER":             {"otlp"},
		exporterPrefix + "PROTOCOL":        protocols,
		exporterPrefix + "TRACES_PROTOCOL": protocols,
	} {
		if value, ok := h.variables[name]; ok && !slices.Contains(supported, value) {
			h.warn("want "+strings.Join(supported, " or "), []string{name})
		}
	}
}

// warn logs message, which holds no value, and the variables that may be at fault.
func (h faultHandler) warn(message string, variables []string) {
	h.log.Warn("OpenTelemetry found a fault in its settings", "says", message, "variables", variables)
}
