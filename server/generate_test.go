package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/store/storetest"
)

func TestGenerate_GivesTokenAndAPIKeyOfAnAccountOneKey(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.SharedRedis(t)))
	key := withKey(s.newAPIKey("ada"))
	byToken, left := s.generate(asUser(t, "ada"))
	if left < 595 || left > 600 {
		t.Errorf("Totp-Key-Expires-In = %d; want just under 600", left)
	}
	byKey, later := s.generate(key)
	if byKey.Secret != byToken.Secret || later > left {
		t.Errorf("second call: same secret %t, %d s left after %d", byKey.Secret == byToken.Secret, later, left)
	}
	both, _ := s.generate(join(asUser(t, "ada"), key))
	if both.Secret != byToken.Secret || !strings.Contains(both.OTPAuthURL, ":ada@example.com?") {
		t.Errorf("both credentials together: same secret %t, %s; want the token's label", both.Secret == byToken.Secret, both.OTPAuthURL)
	}
	if other, _ := s.generate(asUser(t, "bob")); other.Secret == byToken.Secret {
		t.Error("two accounts have one secret")
	}
}

func TestGenerate_RespondsLikeTheDocumentsExample(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.SharedRedis(t)))
	token := newToken(t, goodClaims("u1", jwt.MapClaims{"email": "user@example.com"}))
	got := s.post(bearer(token))
	key, _ := s.generate(bearer(token))
	// A literal &, exactly these members, one line.
	want := fmt.Sprintf(`{"data":{"otpauth_url":"otpauth://totp/quiva.ai:user@example.com?secret=%s&issuer=quiva.ai","secret":"%s"}}`+"\n", key.Secret, key.Secret)
	if got.body != want {
		t.Errorf("body = %s; want %s", got.body, want)
	}
	if !secretPattern.MatchString(key.Secret) || len(key.Secret) != 32 {
		t.Errorf("secret %q is not 160 bits of unpadded base32", key.Secret)
	}
}

func TestGenerate_ObeysTheSettings(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.SharedRedis(t), "MFA_PENDING_TTL=2m", "MFA_ISSUER=AT&T"))
	key, left := s.generate(asUser(t, "ada"))
	if left < 115 || left > 120 || !strings.HasPrefix(key.OTPAuthURL, "otpauth://totp/AT%26T:ada@") {
		t.Errorf("%d s left of %s; want just under 120, and the issuer AT&T", left, key.OTPAuthURL)
	}
}

func TestGenerate_GivesParallelCallsToTwoInstancesOneKey(t *testing.T) {
	redis := storetest.SharedRedis(t)
	instances := []*instance{startInstance(t, testEnviron(redis)), startInstance(t, testEnviron(redis))}
	header := asUser(t, "ada")
	secrets := make([]string, 200)
	var callers sync.WaitGroup
	for i := range secrets {
		callers.Go(func() {
			// On a busy machine the burst may take some callers past their time. After a
			// 503 a caller repeats the call and must get the same secret.
			for range 50 {
				got := instances[i%2].post(header)
				secrets[i] = secretPattern.FindString(got.body)
				if got.status != http.StatusServiceUnavailable {
					return
				}
			}
		})
	}
	callers.Wait()
	for _, secret := range secrets {
		if secret == "" || secret != secrets[0] {
			t.Fatal("two callers got different secrets")
		}
	}
	if entries := redis.Dump(t); len(entries) != 2 {
		t.Errorf("%d Redis entries; want the pending secret and the store identity", len(entries))
	}
}

// One row for each kind of refusal. The packages have the tables.
func TestGenerate_Refuses(t *testing.T) {
	redis := storetest.SharedRedis(t)
	s := startInstance(t, testEnviron(redis))
	ada, eve := asUser(t, "ada"), withKey(s.newAPIKey("eve"))
	expired := bearer(newToken(t, goodClaims("ada", jwt.MapClaims{"exp": 1})))
	tooLarge := strings.Repeat("x", 64<<10+1)
	before := redis.Dump(t)
	for _, c := range []struct {
		name, method, path string
		fields             http.Header
		body               string
		status             int
		want               string // the response's body
		header, value      string
	}{
		{"no credential", "POST", generatePath, nil, "", 401, refusedBody, "Www-Authenticate", `Bearer realm="quiva.ai Gateway"`},
		{"expired token", "POST", generatePath, expired, "", 401, refusedBody, "Www-Authenticate", `Bearer realm="quiva.ai Gateway", error="invalid_token"`},
		{"mistyped API key", "POST", generatePath, withKey(typo(eve.Get("X-Api-Key"))), "", 401, refusedBody, "Www-Authenticate", `Bearer realm="quiva.ai Gateway"`},
		{"two accounts", "POST", generatePath, join(ada, eve), "", 401, refusedBody, "Www-Authenticate", `Bearer realm="quiva.ai Gateway", error="invalid_token"`},
		{"unknown path", "POST", "/accounts", ada, "", 404, `{"error":"There is nothing at this address."}` + "\n", "Allow", ""},
		{"path of the admin listener", "GET", "/metrics", ada, "", 404, `{"error":"There is nothing at this address."}` + "\n", "Allow", ""},
		{"wrong method", "GET", generatePath, ada, "", 405, `{"error":"This address does not support the request's method."}` + "\n", "Allow", "POST"},
		{"large body", "POST", generatePath, ada, tooLarge, 413, `{"error":"The request body is too large."}` + "\n", "Cache-Control", "no-store"},
	} {
		got := s.send(c.method, c.path, c.fields, strings.NewReader(c.body))
		if got.status != c.status || got.body != c.want || got.header.Get(c.header) != c.value {
			t.Errorf("%s: %d %s %s: %s; want %d %s %s", c.name, got.status, got.body, c.header, got.header.Get(c.header), c.status, c.want, c.value)
		}
	}
	if after := redis.Dump(t); len(before) != 2 || len(after) != 2 {
		t.Errorf("%d Redis entries after %d; want eve's API key and the store identity", len(after), len(before))
	}
	// A body within the limit has no effect.
	if got := s.send("POST", generatePath, ada, io.MultiReader(strings.NewReader(tooLarge[1:]))); got.status != http.StatusOK {
		t.Errorf("body of 64 KiB, chunked: %d %s; want 200", got.status, got.body)
	}
}

func TestGenerate_ReplacesAnUnreadableSecret(t *testing.T) {
	redis := storetest.SharedRedis(t)
	before, _ := startInstance(t, testEnviron(redis)).generate(asUser(t, "ada"))
	s := startInstance(t, testEnviron(redis, "MFA_SEAL_KEYS="+storetest.NewSealKey("k2")))
	after, _ := s.generate(asUser(t, "ada"))
	again, _ := s.generate(asUser(t, "ada"))
	if after.Secret == before.Secret || again.Secret != after.Secret {
		t.Error("the unreadable secret was not replaced by exactly one")
	}
	lines := s.logLines("request")
	if len(lines) != 2 || lines[0]["outcome"] != "replaced_unreadable" || lines[1]["outcome"] != "reused" {
		t.Errorf("log has %v; want the outcomes replaced_unreadable and reused", lines)
	}
}

func TestGenerate_NeedsRedisForAKey(t *testing.T) {
	t.Parallel()
	redis := storetest.StartRedis(t)
	s := startInstance(t, testEnviron(redis))
	key := withKey(s.newAPIKey("ada"))
	before, _ := s.generate(key) // opens a connection
	refused := func() {
		t.Helper()
		for _, header := range []http.Header{key, asUser(t, "ada"), asUser(t, "bob")} {
			got := s.post(header)
			if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" ||
				got.body != `{"error":"The service is temporarily unavailable; please try again."}`+"\n" {
				t.Errorf("%d %v %s; want 503", got.status, got.header, got.body)
			}
			lines := s.logLines("request")
			if line := lines[len(lines)-1]; line["status"] != 503.0 || line["level"] != "WARN" || line["error"] == nil || line["request_id"] == nil {
				t.Errorf("log line %v; want WARN with its error and request id", line)
			}
		}
	}
	redis.Stop(t)
	refused()
	redis.Continue(t)
	storetest.Eventually(t, func() bool { return s.post(key).status == http.StatusOK })
	if after, _ := s.generate(key); after.Secret != before.Secret {
		t.Error("the pending secret changed during the outage")
	}
	redis.Kill()
	refused()
}
