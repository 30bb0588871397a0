package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
)

// scrape returns the lines of /metrics that contain all parts, without those that contain
// _bucket.
func scrape(t *testing.T, m *Metrics, parts ...string) []string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	var lines []string
	for line := range strings.Lines(w.Body.String()) {
		matches := !strings.Contains(line, "_bucket{") && w.Code == http.StatusOK
		for _, part := range parts {
			matches = matches && strings.Contains(line, part)
		}
		if matches {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

func wantLines(t *testing.T, got, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestMetrics_ShowsEveryMetric(t *testing.T) {
	m := NewMetrics()
	const outcomes = "mfa_generate_outcomes_total{outcome="
	wantLines(t, scrape(t, m, outcomes), []string{
		outcomes + `"created"} 0`, outcomes + `"replaced_expired"} 0`, outcomes + `"replaced_unreadable"} 0`, outcomes + `"reused"} 0`, outcomes + `"unavailable"} 0`,
	})
	m.AddOperation("operate")
	m.observeRequest("operate", http.StatusOK, 100*time.Millisecond)
	m.CountOverload()
	m.CountRefusal("expired")
	m.CountGenerated(store.Created, nil)
	m.CountGenerated("", store.ErrUnavailable)
	m.CountGenerated("", fmt.Errorf("%w: %w", store.ErrUnavailable, context.Canceled))
	m.AddFactorOutcomes([]string{"wrong_code"}, []string{"locked"})
	m.CountVerification("totp")
	m.CountConfirmation("confirmed")
	m.ObserveEnrolment(30 * time.Second)
	m.CountSwapLost()
	m.CountUnreadable()
	m.CountFactorWritten()
	m.observeStore("get", "ok", 2*time.Millisecond)
	m.Gauge("mfa_gauge", "A gauge.", map[string]string{"state": "idle"}, func() float64 { return 5 })
	m.Counter("mfa_counter_total", "A counter.", func() float64 { return 6 })
	wantLines(t, scrape(t, m, "mfa_"), []string{
		"# HELP mfa_confirm_outcomes_total Calls to confirm a TOTP key, by outcome.",
		"# TYPE mfa_confirm_outcomes_total counter",
		`mfa_confirm_outcomes_total{outcome="confirmed"} 1`,
		`mfa_confirm_outcomes_total{outcome="wrong_code"} 0`,
		"# HELP mfa_counter_total A counter.",
		"# TYPE mfa_counter_total counter",
		"mfa_counter_total 6",
		"# HELP mfa_enrolment_duration_seconds Time from the first generate call to the confirmation of the key.",
		"# TYPE mfa_enrolment_duration_seconds histogram",
		"mfa_enrolment_duration_seconds_sum 30",
		"mfa_enrolment_duration_seconds_count 1",
		"# HELP mfa_factor_swaps_lost_total Changes of a factor that another change has forestalled; they are tried again.",
		"# TYPE mfa_factor_swaps_lost_total counter",
		"mfa_factor_swaps_lost_total 1",
		"# HELP mfa_factor_writes_total Factors that were written: enrolled, changed or removed, and each code that was used or counted.",
		"# TYPE mfa_factor_writes_total counter",
		"mfa_factor_writes_total 1",
		"# HELP mfa_factors_unreadable_total Reads of a factor that no sealing key opens, or that is damaged.",
		"# TYPE mfa_factors_unreadable_total counter",
		"mfa_factors_unreadable_total 1",
		"# HELP mfa_gauge A gauge.",
		"# TYPE mfa_gauge gauge",
		`mfa_gauge{state="idle"} 5`,
		"# HELP mfa_generate_outcomes_total Calls to generate a TOTP key, by outcome.",
		"# TYPE mfa_generate_outcomes_total counter",
		`mfa_generate_outcomes_total{outcome="client_left"} 1`,
		`mfa_generate_outcomes_total{outcome="created"} 1`,
		`mfa_generate_outcomes_total{outcome="replaced_expired"} 0`,
		`mfa_generate_outcomes_total{outcome="replaced_unreadable"} 0`,
		`mfa_generate_outcomes_total{outcome="reused"} 0`,
		`mfa_generate_outcomes_total{outcome="unavailable"} 1`,
		"# HELP mfa_overloaded_total Requests rejected because MFA_MAX_IN_FLIGHT others were in flight.",
		"# TYPE mfa_overloaded_total counter",
		"mfa_overloaded_total 1",
		"# HELP mfa_refusals_total Requests that were not authenticated, by cause.",
		"# TYPE mfa_refusals_total counter",
		`mfa_refusals_total{cause="expired"} 1`,
		"# HELP mfa_request_duration_seconds Duration of requests to the API by operation (none: no such path or method) and status.",
		"# TYPE mfa_request_duration_seconds histogram",
		`mfa_request_duration_seconds_sum{operation="operate",status="200"} 0.1`,
		`mfa_request_duration_seconds_count{operation="operate",status="200"} 1`,
		`mfa_request_duration_seconds_sum{operation="operate",status="401"} 0`,
		`mfa_request_duration_seconds_count{operation="operate",status="401"} 0`,
		`mfa_request_duration_seconds_sum{operation="operate",status="500"} 0`,
		`mfa_request_duration_seconds_count{operation="operate",status="500"} 0`,
		`mfa_request_duration_seconds_sum{operation="operate",status="503"} 0`,
		`mfa_request_duration_seconds_count{operation="operate",status="503"} 0`,
		"# HELP mfa_store_duration_seconds Duration of requests' calls to the store (Redis) by method and outcome.",
		"# TYPE mfa_store_duration_seconds histogram",
		`mfa_store_duration_seconds_sum{method="get",outcome="ok"} 0.002`,
		`mfa_store_duration_seconds_count{method="get",outcome="ok"} 1`,
		"# HELP mfa_verify_outcomes_total Codes verified at sign-in, by outcome: the kind of code, or why it was refused.",
		"# TYPE mfa_verify_outcomes_total counter",
		`mfa_verify_outcomes_total{outcome="locked"} 0`,
		`mfa_verify_outcomes_total{outcome="totp"} 1`,
	})
	for _, name := range []string{"go_build_info{", "go_goroutines ", "process_open_fds "} {
		if lines := scrape(t, m, name); !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, name) }) {
			t.Errorf("no sample of %q", name)
		}
	}
}

// An alert compares calls with the bucket of 0.25 s.
func TestMetrics_HaveBucketsUpToOneSecond(t *testing.T) {
	m := NewMetrics()
	for _, took := range []time.Duration{250 * time.Millisecond, time.Second} {
		m.observeRequest("operate", http.StatusOK, took)
		m.observeStore("get", "ok", took)
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	for _, series := range []string{
		`mfa_request_duration_seconds_bucket{operation="operate",status="200",le=`, `mfa_store_duration_seconds_bucket{method="get",outcome="ok",le=`,
	} {
		var got []string
		for line := range strings.Lines(w.Body.String()) {
			if text, ok := strings.CutPrefix(line, series); ok {
				got = append(got, strings.TrimSpace(text))
			}
		}
		wantLines(t, got, []string{
			`"0.0005"} 0`, `"0.001"} 0`, `"0.002"} 0`, `"0.004"} 0`, `"0.008"} 0`, `"0.016"} 0`, `"0.032"} 0`, `"0.064"} 0`, `"0.125"} 0`,
			`"0.25"} 1`, `"0.5"} 1`, `"1"} 2`, `"+Inf"} 2`,
		})
	}
}
