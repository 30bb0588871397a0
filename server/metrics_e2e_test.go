package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/lifecycle"
	"quiva.ai/mfa/store/storetest"
)

// metric returns the value of one series, or -1.
func (s *instance) metric(series string) float64 {
	s.t.Helper()
	for line := range strings.Lines(s.admin("/metrics").body) {
		if text, ok := strings.CutPrefix(line, series+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return value
		}
	}
	return -1
}

func TestServe_ShowsEveryMetric(t *testing.T) {
	jwks := filepath.Join(t.TempDir(), "jwks")
	write(t, jwks, keySet(t, newIssuerKey(t, "1", jwt.SigningMethodES256).member(t)))
	began := float64(time.Now().Unix())
	s := startInstance(t, testEnviron(storetest.SharedRedis(t), "MFA_JWT_JWKS="+jwks))
	storetest.Eventually(t, func() bool { return s.admin("/readyz").status == http.StatusOK })
	const account = "zoe-7f3a"
	stranger := auth.NewAPIKey()
	s.generate(withKey(s.newAPIKey(account)))
	s.post(withKey(stranger))
	s.send(stranger[:16], "/"+stranger, nil, http.NoBody)
	storetest.Eventually(t, func() bool { return s.metric(`mfa_redis_pool_connections{state="in_use"}`) == 0 })

	page := s.admin("/metrics").body
	var names []string
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(line, "# HELP mfa_"); ok {
			name, _, _ := strings.Cut(text, " ")
			names = append(names, "mfa_"+name)
		}
	}
	if diff := cmp.Diff([]string{
		"mfa_confirm_outcomes_total", "mfa_connections", "mfa_connections_refused_total", "mfa_enrolment_duration_seconds",
		"mfa_factor_swaps_lost_total", "mfa_factor_writes_total", "mfa_factors_unreadable_total", "mfa_generate_outcomes_total", "mfa_jwk_set_loaded_timestamp_seconds",
		"mfa_keyring_loaded_timestamp_seconds", "mfa_overloaded_total", "mfa_ready", "mfa_redis_pool_connections", "mfa_redis_pool_waits_total",
		"mfa_refusals_total", "mfa_request_duration_seconds", "mfa_seal_keys", "mfa_store_duration_seconds", "mfa_verify_outcomes_total",
	}, names); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	for series, want := range map[string]float64{
		`mfa_request_duration_seconds_count{operation="generateTotpKey",status="200"}`: 1,
		`mfa_request_duration_seconds_count{operation="generateTotpKey",status="401"}`: 1,
		`mfa_request_duration_seconds_count{operation="generateTotpKey",status="503"}`: 0,
		`mfa_request_duration_seconds_count{operation="none",status="404"}`:            1,
		`mfa_generate_outcomes_total{outcome="created"}`:                               1,
		`mfa_refusals_total{cause="key_unknown"}`:                                      1,
		`mfa_store_duration_seconds_count{method="get",outcome="not_found"}`:           1,
		`mfa_redis_pool_waits_total`:                                                   0,
		`mfa_seal_keys`:                                                                1,
		`mfa_ready{check="process"}`:                                                   1,
		`mfa_ready{check="redis"}`:                                                     1,
		`mfa_ready{check="factors"}`:                                                   1,
		`mfa_ready{check="jwk_set"}`:                                                   1,
	} {
		if got := s.metric(series); got != want {
			t.Errorf("%s %v; want %v", series, got, want)
		}
	}
	for _, series := range []string{"mfa_keyring_loaded_timestamp_seconds", "mfa_jwk_set_loaded_timestamp_seconds"} {
		if got := s.metric(series); got < began || got > float64(time.Now().Unix()) {
			t.Errorf("%s %v; want between %v and now", series, got, began)
		}
	}
	if idle := s.metric(`mfa_redis_pool_connections{state="idle"}`); idle < 1 {
		t.Errorf("%v idle connections to Redis; want 1 at least", idle)
	}
	for _, sent := range []string{stranger[:16], account} {
		if strings.Contains(page, sent) {
			t.Errorf("/metrics has %s, which a client sent", sent)
		}
	}
}

// fill opens limit connections and one more, which the service must close.
func fill(t *testing.T, address string, limit int) {
	t.Helper()
	for i := range limit + 1 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if i < limit {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("connection %d: %v; want it closed", i+1, err)
		}
	}
}

func TestServe_LimitsConnections(t *testing.T) {
	s := startInstance(t, testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1", "MFA_MAX_CONNECTIONS=2"))
	fill(t, strings.TrimPrefix(s.url, "http://"), 2)
	if open, refused := s.metric("mfa_connections"), s.metric("mfa_connections_refused_total"); open != 2 || refused != 1 {
		t.Errorf("%v connections open, %v refused; want 2 and 1", open, refused)
	}
	fill(t, s.logLines("listening")[0]["admin_address"].(string), lifecycle.MaxAdminConnections)
}
