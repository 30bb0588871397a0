package main

import (
	"net/http"
	"strings"
	"testing"

	"quiva.ai/mfa/store/storetest"
)

// A Redis that accepts writes and cannot serve is not ready, and says why, until it can.
func TestReady_FailsWhileAFatalFindingStands(t *testing.T) {
	t.Parallel()
	const oldInfo = "# Server\r\nredis_version:6.0.16\r\n"
	for _, row := range []struct {
		name       string
		args       []string // of redis-server
		begin, end func(*storetest.RedisServer, *storetest.Proxy)
		want       string
	}{
		{"Redis 6.0", nil, func(_ *storetest.RedisServer, p *storetest.Proxy) {
			p.Do(storetest.Fault{Command: "info", Action: storetest.Instead("$32\r\n" + oldInfo + "\r\n")},
				storetest.Fault{Command: "set", Key: "NX", Action: storetest.Instead("-ERR syntax error\r\n")})
		}, func(_ *storetest.RedisServer, p *storetest.Proxy) { p.Do() }, "Redis 6.0.16 is too old: 7.0 or newer is needed"},
		{"EVAL forbidden", nil, func(s *storetest.RedisServer, _ *storetest.Proxy) {
			s.Client.Do(t.Context(), "ACL", "SETUSER", "default", "-eval")
		}, func(s *storetest.RedisServer, _ *storetest.Proxy) {
			s.Client.Do(t.Context(), "ACL", "SETUSER", "default", "+eval")
		}, "the Redis user may not use EVAL"},
		{"INFO and TYPE renamed", []string{"--rename-command", "INFO", "", "--rename-command", "TYPE", ""}, nil, nil,
			"the Redis user may not use TYPE, because Redis does not know it: was it renamed?"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			redis := storetest.StartRedis(t, row.args...)
			proxy := storetest.StartProxy(t, redis.Addr)
			environ := testEnviron(redis, "MFA_REDIS_URL="+proxy.URL)
			if row.begin != nil {
				row.begin(redis, proxy)
			}
			s := startInstance(t, environ)
			for range 2 { // also the first request
				if status, states := s.ready(); status != http.StatusServiceUnavailable || !strings.Contains(states, "redis:"+row.want) {
					t.Errorf("/readyz: %d %s; want 503, %s", status, states, row.want)
				}
			}
			if row.end != nil {
				row.end(redis, proxy)
				storetest.Eventually(t, func() bool { status, _ := s.ready(); return status == http.StatusOK })
				s.generate(asUser(t, "ada"))
			}
		})
	}
}
