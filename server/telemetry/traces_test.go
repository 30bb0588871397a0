package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// The SDK reads the variables of the process and has one logger and one error handler: the
// tests of StartTraces must not run in parallel.

// logBuffer collects log lines. It is safe for concurrent use.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns the text without the times.
func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var text strings.Builder
	for line := range strings.Lines(b.text.String()) {
		_, line, _ = strings.Cut(line, " ")
		text.WriteString(line)
	}
	return text.String()
}

// startTraces calls StartTraces with the variables and ends a span. flush ends the traces.
func startTraces(t *testing.T, variables ...string) (log *logBuffer, flush func()) {
	t.Helper()
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	log = &logBuffer{}
	tracer, flush, err := StartTraces(t.Context(), os.Environ(), "v1.2.3", NewLogger(log, slog.LevelInfo, "text"))
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Start(t.Context(), "span")
	span.End()
	return log, flush
}

func TestStartTraces_SendsSpansToReceiver(t *testing.T) {
	for name, row := range map[string]struct {
		variables []string
		resource  string
	}{
		"by default": {nil, "service.name=mfa service.version=v1.2.3"},
		"with variables": {[]string{"OTEL_SERVICE_NAME=gate", "OTEL_RESOURCE_ATTRIBUTES=service.name=other,zone=a"},
			"service.name=gate service.version=v1.2.3 zone=a"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				var request collector.ExportTraceServiceRequest
				if err := proto.Unmarshal(body, &request); err != nil {
					t.Error(err)
				}
				for _, spans := range request.ResourceSpans {
					var attributes []string
					for _, attribute := range spans.Resource.Attributes {
						attributes = append(attributes, attribute.Key+"="+attribute.Value.GetStringValue())
					}
					slices.Sort(attributes)
					for _, scope := range spans.ScopeSpans {
						for _, span := range scope.Spans {
							got = append(got, fmt.Sprintf("%s %s: %s of %s", r.URL.Path, strings.Join(attributes, " "), span.Name, scope.Scope.Name))
						}
					}
				}
			}))
			defer receiver.Close()
			log, flush := startTraces(t, append(row.variables, "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL)...)
			flush()
			wantLines(t, got, []string{"/v1/traces " + row.resource + ": span of quiva.ai/mfa"})
			if log.String() != "" {
				t.Errorf("log:\n%swant none", log)
			}
		})
	}
}

func TestStartTraces_IsOffUnlessAskedFor(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"
	for environ, want := range map[string]bool{
		"":                        false,
		"OTEL_SERVICE_NAME=mfa":   false,
		"OTEL_TRACES_EXPORTER=\t": false,
		endpoint:                  true,
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1": true,
		"OTEL_TRACES_EXPORTER=otlp":                             true,
		endpoint + "\nOTEL_TRACES_EXPORTER=none":                false,
		endpoint + "\nOTEL_SDK_DISABLED=True":                   false,
		endpoint + "\nOTEL_SDK_DISABLED=false":                  true,
	} {
		tracer, flush, err := StartTraces(t.Context(), strings.Split(environ, "\n"), "v1", slog.New(slog.DiscardHandler))
		if err != nil || (tracer != nil) != want {
			t.Errorf("%q: tracer %v, %v; want one: %t", environ, tracer, err, want)
		}
		flush()
	}
}

// The receivers repeat the header that they were sent. A header may hold a credential.
func TestStartTraces_LogsFailedExportsWithoutHeaders(t *testing.T) {
	const secret = "hunter 2"
	for name, row := range map[string]struct {
		receive http.HandlerFunc
		want    string // URL stands for the receiver's
	}{
		"in the body": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, r.Header.Get("Authorization"))
		}, `error="traces export: failed to send to URL/v1/traces: 400 Bad Request ("`},
		"in the status line": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "HTTP/1.1 400 no %s\r\nContent-Length: 0\r\n\r\n", r.Header.Get("Authorization"))
		}, `error="traces export: failed to send to URL/v1/traces: 400 no (hidden) ("`},
		"in a redirect": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/?k="+url.PathEscape(r.Header.Get("Authorization")))
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, `error="traces export: Post \"http://127.0.0.1:1/?k=(hidden)\": dial tcp 127.0.0.1:1: connect: connection refused"`},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := httptest.NewServer(row.receive)
			defer receiver.Close()
			log, flush := startTraces(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL, "OTEL_EXPORTER_OTLP_HEADERS=authorization="+url.PathEscape(secret))
			flush()
			want := `level=WARN msg="traces were not exported" ` + strings.ReplaceAll(row.want, "URL", receiver.URL) + " spans=1\n"
			if log.String() != want {
				t.Errorf("log:\n%swant:\n%s", log, want)
			}
		})
	}
}

func TestHideHeaders_HidesEveryFormOfEveryValue(t *testing.T) {
	hide := hideHeaders(map[string]string{
		"OTEL_EXPORTER_OTLP_HEADERS":        "a=key,b=key%20two ,c=,d=%zz",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=keys",
	})
	if got, want := hide.Replace("key two, key%20two, keys, key, %zz, other"), "(hidden), (hidden), (hidden), (hidden), (hidden), other"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

// hangingExporter exports nothing before ctx is done.
type hangingExporter struct{}

func (hangingExporter) ExportSpans(ctx context.Context, _ []sdktrace.ReadOnlySpan) error {
	<-ctx.Done()
	return ctx.Err()
}

func (hangingExporter) Shutdown(context.Context) error { return nil }

func TestFlush_EndsAfterTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &logBuffer{}
		logger := NewLogger(log, slog.LevelInfo, "text")
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(loggedExporter{hangingExporter{}, hideHeaders(nil), logger}))
		_, span := provider.Tracer("test").Start(t.Context(), "span")
		span.End()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the service has stopped
		start := time.Now()
		flush(ctx, provider, logger)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("flush took %v; want 3s", took)
		}
		const want = `level=WARN msg="the last traces were not exported" error="context deadline exceeded"` + "\n"
		if got := log.String(); got != want {
			t.Errorf("log:\n%swant:\n%s", got, want)
		}
		time.Sleep(time.Minute) // the SDK's own time for the export that hangs
	})
}
