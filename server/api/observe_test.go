package api

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
)

func TestObserve_MeasuresAndTracesRequests(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	a := newTestAPI(t, func(c *Config) { c.Observer = telemetry.NewObserver(provider.Tracer("test"), time.Now) })
	key := a.newAPIKey("ada")
	for _, row := range []struct {
		name, method, path string
		header             http.Header
		fails              error
		operation          string
		status             int
		spans              []string // in the order in which they end
	}{
		{"success", "POST", generatePath, asUser(t, "ada"), nil, "generateTotpKey", 200, []string{"authenticate Unset", "POST " + generatePath + " Unset"}},
		{"refusal", "POST", generatePath, nil, nil, "generateTotpKey", 401, []string{"authenticate Unset no_credentials", "POST " + generatePath + " Unset"}},
		{"unavailable store", "POST", generatePath, withKey(key), store.ErrUnavailable, "generateTotpKey", 503, []string{"authenticate Error", "POST " + generatePath + " Error"}},
		{"unknown method", "SECRET", generatePath, nil, nil, "none", 405, []string{"other Unset"}},
		{"unknown path", "GET", "/secret", nil, nil, "none", 404, []string{"GET Unset"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			spans.Reset()
			a.backend.fails = row.fails
			if got := a.send(row.method, row.path, row.header, http.NoBody); got.status != row.status {
				t.Errorf("%d %s; want %d", got.status, got.body, row.status)
			}
			a.wantMetric(t, fmt.Sprintf(`mfa_request_duration_seconds_count{operation=%q,status="%d"} 1`, row.operation, row.status))
			var got []string
			for _, span := range spans.Ended() {
				text := span.Name() + " " + span.Status().Code.String()
				for _, attribute := range span.Attributes() {
					if attribute.Key == "mfa.cause" {
						text += " " + attribute.Value.AsString()
					}
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(row.spans, got); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
		})
	}
}
