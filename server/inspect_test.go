package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"quiva.ai/mfa/store/storetest"
)

// setReadmeUser runs the ACL line of the README on redis, with further rules, and
// returns the URL for that user.
func setReadmeUser(t *testing.T, redis *storetest.RedisServer, further ...string) (url string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^    (ACL SETUSER mfa on >PASSWORD .*)$`).FindStringSubmatch(readFile(t, "../README.md"))
	if line == nil {
		t.Fatal("README.md has no ACL line")
	}
	var command []any
	for _, word := range append(strings.Fields(line[1]), further...) {
		command = append(command, word)
	}
	if err := redis.Client.Do(t.Context(), command...).Err(); err != nil {
		t.Fatal(err)
	}
	return "redis://mfa:PASSWORD@" + redis.Addr
}

const notSetUp = "redis is not set up as it should be"

func TestTheServiceNeedsNoMoreThanTheREADMEsACL(t *testing.T) {
	redis := storetest.StartRedis(t)
	s := startService(t, testEnviron(redis, "MFA_REDIS_URL="+setReadmeUser(t, redis)))
	// All that it does: look-up, generate, replace what cannot be read; make, list, revoke.
	key := s.newAPIKey("ada")
	s.generate(withKey(key))
	if err := redis.Client.Set(t.Context(), pendingKey("ada"), "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.generate(withKey(key))
	stdout, stderr, status := s.command("apikey", "list", "--json")
	id := regexp.MustCompile(`key_[\w-]{43}`).FindString(stdout)
	if status != 0 {
		t.Errorf("apikey list: %d %s", status, stderr)
	}
	if _, stderr, status := s.command("apikey", "revoke", id); status != 0 {
		t.Errorf("apikey revoke: %d %s", status, stderr)
	}
	storetest.Eventually(t, func() bool { return len(s.logLines("redis is fit to serve")) == 1 })
	if status, body := s.ready(); status != http.StatusOK || len(s.logLines(notSetUp)) != 0 {
		t.Errorf("/readyz = %d %s, log:\n%s", status, body, s.log)
	}
	if log := redis.Client.ACLLog(t.Context(), 10).Val(); len(log) != 0 {
		t.Errorf("Redis denied something: %+v", log)
	}
}

func TestASetUpThatCannotServeIsReportedUntilItCan(t *testing.T) {
	redis := storetest.StartRedis(t, "--maxmemory-policy", "allkeys-lru")
	s := startService(t, testEnviron(redis, "MFA_REDIS_URL="+setReadmeUser(t, redis, "-set")))
	storetest.Eventually(t, func() bool { return len(s.logLines(notSetUp)) == 3 })
	levels := map[any]any{}
	for _, line := range s.logLines(notSetUp) {
		finding, _, _ := strings.Cut(line["finding"].(string), ",")
		levels[finding] = line["level"]
	}
	if levels["maxmemory-policy is allkeys-lru"] != "WARN" || levels["the Redis user may not use SET on keys like mfa:apikey:probe"] != "ERROR" {
		t.Errorf("findings %v", levels)
	}
	if status, body := s.ready(); status != http.StatusServiceUnavailable || !strings.Contains(body, "NOPERM") {
		t.Errorf("/readyz = %d %s; want 503 and NOPERM", status, body)
	}
	// It looks again in vain, at least once.
	redis.Client.ConfigResetStat(t.Context())
	storetest.Eventually(t, func() bool { return redis.Calls(t)["eval"] > 0 })
	if lines := s.logLines("redis is fit to serve"); len(lines) != 0 || len(s.logLines(notSetUp)) != 3 {
		t.Errorf("before anything was put right: %v\n%s", lines, s.log)
	}
	setReadmeUser(t, redis)
	storetest.Eventually(t, func() bool { return len(s.logLines("redis is fit to serve")) == 1 })
	if status, body := s.ready(); status != http.StatusOK {
		t.Errorf("with the permission: /readyz = %d %s", status, body)
	}
}

func TestTheServiceStartsBeforeRedis(t *testing.T) {
	redis := storetest.StartRedis(t)
	redis.Kill()
	s := startService(t, testEnviron(redis))
	if status, body := s.ready(); status != http.StatusServiceUnavailable || !strings.Contains(body, "refused") {
		t.Errorf("without Redis: /readyz = %d %s; want 503 and the cause", status, body)
	}
	if got := s.post(asUser(t, "ada")); got.status != http.StatusServiceUnavailable {
		t.Errorf("without Redis: %d; want 503", got.status)
	}
	storetest.Eventually(t, func() bool { return len(s.logLines("redis does not answer yet")) > 0 })
	if line := s.logLines("redis does not answer yet")[0]; line["level"] != "WARN" || !strings.Contains(line["error"].(string), "refused") {
		t.Errorf("log line %v; want WARN with the cause", line)
	}
	redis.Restart(t)
	storetest.Eventually(t, func() bool { return len(s.logLines("redis is fit to serve")) == 1 })
	if status, body := s.ready(); status != http.StatusOK {
		t.Errorf("with Redis: /readyz = %d %s", status, body)
	}
	s.generate(asUser(t, "ada"))
}
