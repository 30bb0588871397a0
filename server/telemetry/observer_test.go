package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/baggage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"quiva.ai/mfa/store"
)

// newTestObserver returns an observer whose clock advances by 100 ms at each look, and a
// function that returns its spans in short, in the order of their ends.
func newTestObserver(t *testing.T) (o *Observer, spans func() []string) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { now = now.Add(100 * time.Millisecond); return now }
	return NewObserver(provider.Tracer("test"), clock), func() []string {
		names := map[trace.SpanID]string{}
		for _, span := range exporter.GetSpans() {
			names[span.SpanContext.SpanID()] = span.Name
		}
		var all []string
		for _, span := range exporter.GetSpans() {
			text := fmt.Sprintf("%s > %s (%s)", names[span.Parent.SpanID()], span.Name, span.SpanKind)
			for _, attr := range span.Attributes {
				text += fmt.Sprintf(" %s=%s", attr.Key, attr.Value.String())
			}
			text += fmt.Sprintf(" %s%s", span.Status.Code, span.Status.Description)
			if len(span.Events)+len(span.Links) > 0 || span.SpanContext.TraceState().Len() > 0 {
				text += " with more"
			}
			all = append(all, text)
		}
		return all
	}
}

func TestObserver_StartRequestMeasuresAndTraces(t *testing.T) {
	o, spans := newTestObserver(t)
	for _, row := range []struct {
		operation, route string
		status           int
	}{{"operate", "/accounts", 200}, {"operate", "/accounts", 499}, {"operate", "/accounts", 500}, {"none", "", 404}} {
		r, end := o.StartRequest(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/ada?secret", http.NoBody), "POST", row.operation, row.route)
		_, child := o.Span(r.Context(), "child", trace.SpanKindInternal)
		child.End()
		end(row.status)
	}
	wantLines(t, spans(), []string{
		"POST /accounts > child (internal) Unset",
		" > POST /accounts (server) http.request.method=POST http.route=/accounts http.response.status_code=200 Unset",
		"POST /accounts > child (internal) Unset",
		" > POST /accounts (server) http.request.method=POST http.route=/accounts http.response.status_code=499 Unset",
		"POST /accounts > child (internal) Unset",
		" > POST /accounts (server) http.request.method=POST http.route=/accounts http.response.status_code=500 Error",
		"POST > child (internal) Unset",
		" > POST (server) http.request.method=POST http.response.status_code=404 Unset",
	})
	wantLines(t, scrape(t, o.Metrics, "mfa_request_duration_seconds_", "{"), []string{
		`mfa_request_duration_seconds_sum{operation="none",status="404"} 0.1`,
		`mfa_request_duration_seconds_count{operation="none",status="404"} 1`,
		`mfa_request_duration_seconds_sum{operation="operate",status="200"} 0.1`,
		`mfa_request_duration_seconds_count{operation="operate",status="200"} 1`,
		`mfa_request_duration_seconds_sum{operation="operate",status="499"} 0.1`,
		`mfa_request_duration_seconds_count{operation="operate",status="499"} 1`,
		`mfa_request_duration_seconds_sum{operation="operate",status="500"} 0.1`,
		`mfa_request_duration_seconds_count{operation="operate",status="500"} 1`,
	})
}

func TestObserver_StartRequestTakesOverTheTraceParentAlone(t *testing.T) {
	const traceID, parentID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	exporter := tracetest.NewInMemoryExporter()
	o := NewObserver(sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter)).Tracer("test"), time.Now)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	r.Header = http.Header{"Traceparent": {"00-" + traceID + "-" + parentID + "-01"}, "Tracestate": {"user=ada@example.com"}, "Baggage": {"user=ada"}}
	r, end := o.StartRequest(r, "POST", "none", "")
	end(200)
	span := exporter.GetSpans()[0]
	if span.SpanContext.TraceID().String() != traceID || span.Parent.SpanID().String() != parentID || !span.Parent.IsRemote() {
		t.Errorf("span %v of parent %v; want the gateway's", span.SpanContext, span.Parent)
	}
	if state := span.SpanContext.TraceState().String() + span.Parent.TraceState().String() + baggage.FromContext(r.Context()).String(); state != "" {
		t.Errorf("state %q was taken over; want none", state)
	}
}

func TestObserver_MeasuresWithoutTracer(t *testing.T) {
	o := NewObserver(nil, time.Now)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	observed, end := o.StartRequest(r, "POST", "operate", "/accounts")
	ctx, span := o.Span(r.Context(), "child", trace.SpanKindInternal)
	if observed != r || ctx != r.Context() || span.IsRecording() {
		t.Error("the request or its context has changed; want no traces")
	}
	span.End()
	end(200)
	wantLines(t, scrape(t, o.Metrics, "mfa_request_duration_seconds_count{"), []string{
		`mfa_request_duration_seconds_count{operation="operate",status="200"} 1`,
	})
}

// failing is a backend whose calls all fail.
type failing struct {
	store.Backend
	err error
}

func (f failing) PutIfAbsent(context.Context, string, []byte, time.Duration) ([]byte, error) {
	return nil, f.err
}
func (f failing) Swap(context.Context, string, []byte, []byte, time.Duration) error { return f.err }
func (f failing) Promote(context.Context, string, string, []byte, []byte, []byte) error {
	return f.err
}
func (f failing) GetAll(context.Context, ...string) ([][]byte, error) { return nil, f.err }
func (f failing) Get(context.Context, string) ([]byte, error)         { return nil, f.err }
func (f failing) Update(context.Context, string, []byte) error        { return f.err }

// callAll calls the methods that requests call, and returns their results.
func callAll(t *testing.T, b store.Backend) (results []string) {
	t.Helper()
	note := func(value []byte, err error) { results = append(results, fmt.Sprintf("%s %v", value, err)) }
	note(b.PutIfAbsent(t.Context(), "key", []byte("one"), time.Minute))
	note(b.PutIfAbsent(t.Context(), "key", []byte("two"), time.Minute))
	note(nil, b.Swap(t.Context(), "key", []byte("one"), []byte("three"), time.Minute))
	note(nil, b.Promote(t.Context(), "key", "factor", []byte("three"), nil, []byte("four")))
	note(nil, b.Swap(t.Context(), "key", nil, []byte("five"), 0))
	values, err := b.GetAll(t.Context(), "key")
	note(slices.Concat(values...), err)
	note(b.Get(t.Context(), "key"))
	note(nil, b.Update(t.Context(), "key", []byte("four")))
	note(b.Get(t.Context(), "key"))
	return results
}

func TestObserver_BackendMeasuresAndTraces(t *testing.T) {
	memory := func() store.Backend { return store.NewMemory(time.Now) }
	left := fmt.Errorf("%w: %w", store.ErrUnavailable, context.Canceled)
	methods := []string{"put_if_absent", "put_if_absent", "swap", "promote", "swap", "get_all", "get", "update", "get"}
	for outcome, row := range map[string]struct {
		new  func() store.Backend
		code string
	}{
		"ok":          {memory, "Unset"},
		"not_found":   {func() store.Backend { return failing{memory(), store.ErrNotFound} }, "Unset"},
		"client_left": {func() store.Backend { return failing{memory(), left} }, "Unset"},
		"unavailable": {func() store.Backend { return failing{memory(), errors.New("ada's key")} }, "Error"},
	} {
		t.Run(outcome, func(t *testing.T) {
			o, spans := newTestObserver(t)
			if diff := cmp.Diff(callAll(t, row.new()), callAll(t, o.Backend(row.new()))); diff != "" {
				t.Errorf("results (-plain +observed):\n%s", diff)
			}
			var want []string
			for _, method := range methods {
				want = append(want, fmt.Sprintf(" > store %s (client) mfa.outcome=%s %s", method, outcome, row.code))
			}
			wantLines(t, spans(), want)
			want = nil
			for _, method := range []string{"get 2", "get_all 1", "promote 1", "put_if_absent 2", "swap 2", "update 1"} {
				method, count, _ := strings.Cut(method, " ")
				sum := map[string]string{"1": "0.1", "2": "0.2"}[count]
				labels := fmt.Sprintf(`{method=%q,outcome=%q} `, method, outcome)
				want = append(want, "mfa_store_duration_seconds_sum"+labels+sum, "mfa_store_duration_seconds_count"+labels+count)
			}
			wantLines(t, scrape(t, o.Metrics, "mfa_store_duration_seconds_", "{"), want)
		})
	}
}

// Calls for administration and for /readyz would drown the requests'.
func TestObserver_BackendIgnoresAdministration(t *testing.T) {
	o, spans := newTestObserver(t)
	backend := o.Backend(store.NewMemory(time.Now))
	if err := backend.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := backend.Delete(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Delete = %v; want %v", err, store.ErrNotFound)
	}
	wantLines(t, spans(), nil)
	wantLines(t, scrape(t, o.Metrics, "mfa_store_duration_seconds"), nil)
}
