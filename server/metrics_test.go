package main

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

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
		`mfa_redis_pool_waits_total 0`,
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

// metric returns the value of one series, or -1.
func (s *service) metric(series string) float64 {
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

func TestTheMetricsTellWhenTheKeySetWasRead(t *testing.T) {
	const loaded = "mfa_jwk_set_loaded_timestamp_seconds"
	issuer := newIssuer(t, status(http.StatusInternalServerError))
	s := startService(t, testEnviron(storetest.StartRedis(t), "MFA_JWT_JWKS="+issuer.URL, "MFA_JWT_JWKS_REFRESH=1s"))
	storetest.Eventually(t, func() bool { return issuer.calls.Load() > 0 })
	if got := s.metric(loaded); got != 0 {
		t.Errorf("%s %v before the set was read; want 0", loaded, got)
	}
	before := time.Now().Unix()
	issuer.publish(set(keySet(t, newIssuerKey(t, "1", jwt.SigningMethodES256).member(t, nil))))
	storetest.Eventually(t, func() bool { status, _ := s.ready(); return status == http.StatusOK })
	if got := s.metric(loaded); got < float64(before) || got > float64(time.Now().Unix()) {
		t.Errorf("%s %v; want the present time, %d", loaded, got, before)
	}
}

func TestTheMetricsShowAPoolThatIsExhausted(t *testing.T) {
	const inUse, waits = `mfa_redis_pool_connections{state="in_use"}`, "mfa_redis_pool_waits_total"
	redis := storetest.StartRedis(t)
	proxy := storetest.StartProxy(t, redis.Addr)
	s := startService(t, testEnviron(redis, "MFA_REDIS_URL="+proxy.URL+"?pool_size=1"))
	s.generate(asUser(t, "ada"))
	storetest.Eventually(t, func() bool { return s.metric(inUse) == 0 })
	proxy.Do(storetest.Fault{Command: "set", Action: storetest.Delay(func() time.Duration { return 50 * time.Millisecond })})
	before, used := s.metric(waits), false
	storetest.Eventually(t, func() bool {
		var calls sync.WaitGroup
		calls.Go(func() { s.post(asUser(t, "ada")) })
		used = used || s.metric(inUse) == 1
		calls.Go(func() { s.ready() }) // which is not part of any pipeline
		calls.Wait()
		return used && s.metric(inUse) == 0 && s.metric(waits) > before
	})
}
