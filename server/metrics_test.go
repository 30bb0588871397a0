package main

import (
	"net/http"
	"strings"
	"testing"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

func TestTheMetricsCountWhatHappened(t *testing.T) {
	redis := storetest.StartRedis(t)
	s := startService(t, testEnviron(redis))
	key := withKey(s.newAPIKey("zoe-7f3a"))
	s.generate(key)
	s.generate(asUser(t, "zoe-7f3a"))
	stranger := auth.NewAPIKey()
	s.post(withKey(stranger))
	s.send(stranger[:16], "/"+stranger, nil, http.NoBody)
	redis.Stop(t)
	s.post(asUser(t, "zoe-7f3a"))
	redis.Continue(t)
	storetest.Eventually(t, func() bool {
		return strings.Contains(s.admin("/metrics").body, `mfa_redis_pool_connections{state="in_use"} 0`+"\n")
	})
	got := s.admin("/metrics")
	for _, line := range []string{
		`mfa_request_duration_seconds_count{operation="generateTotpKey",status="200"} 2`,
		`mfa_request_duration_seconds_count{operation="generateTotpKey",status="401"} 1`,
		`mfa_request_duration_seconds_count{operation="generateTotpKey",status="500"} 0`,
		`mfa_request_duration_seconds_count{operation="generateTotpKey",status="503"} 1`,
		`mfa_request_duration_seconds_count{operation="none",status="404"} 1`,
		`mfa_generate_outcomes_total{outcome="created"} 1`,
		`mfa_generate_outcomes_total{outcome="reused"} 1`,
		`mfa_generate_outcomes_total{outcome="replaced_unreadable"} 0`,
		`mfa_generate_outcomes_total{outcome="unavailable"} 1`,
		`mfa_refusals_total{cause="key_unknown"} 1`,
		`mfa_store_duration_seconds_count{method="get",outcome="ok"} 1`,
		`mfa_store_duration_seconds_count{method="get",outcome="not_found"} 1`,
		`mfa_store_duration_seconds_count{method="put_if_absent",outcome="ok"} 2`,
		`mfa_store_duration_seconds_count{method="put_if_absent",outcome="unavailable"} 1`,
		`mfa_redis_pool_timeouts_total 0`,
		`mfa_seal_keys 1`,
	} {
		if !strings.Contains(got.body, line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	for _, part := range []string{"go_build_info{", "go_goroutines ", "mfa_keyring_loaded_timestamp_seconds 1"} {
		if !strings.Contains(got.body, "\n"+part) {
			t.Errorf("/metrics lacks %s", part)
		}
	}
	if strings.Contains(got.body, stranger[:16]) || strings.Contains(got.body, "zoe-7f3a") {
		t.Error("/metrics has what a client sent")
	}
	if t.Failed() {
		t.Log(got.body)
	}
}
