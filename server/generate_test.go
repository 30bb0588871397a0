package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

func TestATokenAndAnAPIKeyOfOneAccountGetTheSamePendingKey(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
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
	if lines := s.logLines("pending secret has been replaced"); len(lines) != 0 {
		t.Errorf("log has %v; nothing was replaced", lines)
	}
	if other, _ := s.generate(asUser(t, "bob")); other.Secret == byToken.Secret {
		t.Error("two accounts have one secret")
	}
}

func TestTheAnswerIsUpstreamsExampleWithAFreshSecret(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	token := newToken(t, goodClaims("u1", jwt.MapClaims{"email": "user@example.com"}))
	got := s.post(bearer(token))
	key, _ := s.generate(bearer(token))
	// Literal &, exactly these members, one line.
	want := fmt.Sprintf(`{"data":{"otpauth_url":"otpauth://totp/quiva.ai:user@example.com?secret=%s&issuer=quiva.ai","secret":"%s"}}`+"\n", key.Secret, key.Secret)
	if got.body != want {
		t.Errorf("body = %s; want %s", got.body, want)
	}
	if len(key.Secret) != 32 || strings.Trim(key.Secret, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		t.Errorf("secret %q is not 160 bits of unpadded base32", key.Secret)
	}
	noEmail, _ := s.generate(bearer(newToken(t, goodClaims("urn:user:7", jwt.MapClaims{"email": nil}))))
	if !strings.HasPrefix(noEmail.OTPAuthURL, "otpauth://totp/quiva.ai:urn_user_7?") {
		t.Errorf("without an e-mail address: %s; want the subject, its colons replaced", noEmail.OTPAuthURL)
	}
}

var secretPattern = regexp.MustCompile(`\b[A-Z2-7]{32}\b`)

func TestTheSettingsReachTheKey(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t), "MFA_PENDING_TTL=2m", "MFA_ISSUER=AT&T"))
	key, left := s.generate(asUser(t, "ada"))
	if left < 115 || left > 120 || !strings.HasPrefix(key.OTPAuthURL, "otpauth://totp/AT%26T:ada@") {
		t.Errorf("%d s left of %s; want just under 120, and the issuer AT&T", left, key.OTPAuthURL)
	}
}

func TestParallelCallsToTwoReplicasGetOneSecret(t *testing.T) {
	redis := storetest.StartRedis(t)
	replicas := []*service{startService(t, testEnviron(redis)), startService(t, testEnviron(redis))}
	header := asUser(t, "ada")
	secrets := make([]string, 200)
	var callers sync.WaitGroup
	for i := range secrets {
		callers.Go(func() {
			// On a busy machine the burst may take some callers past their time.
			// A 503 leaves open what is pending: they call again, and the answer
			// must be the same as everybody's.
			for range 50 {
				got := replicas[i%2].post(header)
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
	if keys := redis.Dump(t); len(keys) != 1 {
		t.Errorf("%d keys in Redis; want 1", len(keys))
	}
}

func TestTheBodyOfARequestMakesNoDifference(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	want, _ := s.generate(asUser(t, "ada"))
	for _, c := range []struct{ contentType, body string }{
		{"", ""}, {"application/json", "{}"}, {"application/json", `{"account":"eve"}`}, {"application/json", "{"},
		{"text/plain", "garbage\x00\xff"}, {"no type at all", "x"}, {"application/x-www-form-urlencoded", "sub=eve&a=%zz"},
		{"multipart/form-data", "no boundary"}, {"application/octet-stream", strings.Repeat("x", 64<<10)},
	} {
		for name, body := range map[string]io.Reader{
			"sized":   strings.NewReader(c.body),
			"chunked": io.MultiReader(strings.NewReader(c.body)), // a reader without a known length
		} {
			header := asUser(t, "ada")
			header.Set("Content-Type", c.contentType)
			got := s.send(http.MethodPost, generatePath+"?account=eve&sub=eve", header, body)
			if got.status != http.StatusOK || !strings.Contains(got.body, want.Secret) {
				t.Errorf("%s %q %.20q: %d %s; want the pending key", name, c.contentType, c.body, got.status, got.body)
			}
		}
	}
}

func TestABodyPastTheLimitIsRefused(t *testing.T) {
	redis := storetest.StartRedis(t)
	s := startService(t, testEnviron(redis))
	tooLarge := strings.Repeat("x", 64<<10+1)
	for name, body := range map[string]io.Reader{
		"sized":   strings.NewReader(tooLarge),
		"chunked": io.MultiReader(strings.NewReader(tooLarge)),
	} {
		got := s.send(http.MethodPost, generatePath, asUser(t, "ada"), body)
		if got.status != http.StatusRequestEntityTooLarge || got.body != `{"error":"The request body is too large."}`+"\n" {
			t.Errorf("%s: %d %s; want 413", name, got.status, got.body)
		}
		if !got.closes {
			t.Errorf("%s: the connection stays open with the rest of the body in it", name)
		}
	}
	if keys := redis.Dump(t); len(keys) != 0 {
		t.Errorf("%d keys in Redis; want none", len(keys))
	}
}

func TestWhatIsNoOperationIsAnsweredInTheSameForm(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	const notFound, notAllowed = `{"error":"There is nothing at this address."}`, `{"error":"This address does not support the request's method."}`
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/", 404, notFound},
		{"POST", "/accounts", 404, notFound},
		{"POST", generatePath + "/", 404, notFound},
		{"POST", "/" + generatePath, 404, notFound},
		{"POST", "/accounts/%67enerate-totp-key", 404, notFound},
		{"GET", "/metrics", 404, notFound},
		{"GET", "/livez", 404, notFound},
		{"GET", generatePath, 405, notAllowed},
		{"PUT", generatePath, 405, notAllowed},
		{"DELETE", generatePath, 405, notAllowed},
		{"OPTIONS", generatePath, 405, notAllowed},
		{"BREW", generatePath, 405, notAllowed},
		{"HEAD", generatePath, 405, ""},
	} {
		got := s.send(c.method, c.path, asUser(t, "ada"), http.NoBody)
		if got.status != c.status || strings.TrimSpace(got.body) != c.body {
			t.Errorf("%s %s = %d %s; want %d %s", c.method, c.path, got.status, got.body, c.status, c.body)
		}
	}
}

func TestWithoutAnAnswerFromRedisThereIsNoKey(t *testing.T) {
	for name, outage := range map[string]func(*storetest.RedisServer){
		"stopped": func(r *storetest.RedisServer) { r.Stop(t) },
		"killed":  func(r *storetest.RedisServer) { r.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			redis := storetest.StartRedis(t)
			s := startService(t, testEnviron(redis))
			key := withKey(s.newAPIKey("ada"))
			s.generate(key) // a connection is open
			outage(redis)
			headers := []http.Header{key, asUser(t, "ada"), asUser(t, "bob")}
			for _, header := range headers {
				got := s.post(header)
				if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" ||
					got.body != `{"error":"The service is temporarily unavailable; please try again."}`+"\n" {
					t.Errorf("%d %v %s; want 503", got.status, got.header, got.body)
				}
			}
			lines := s.logLines("request")[1:]
			if len(lines) != len(headers) {
				t.Fatalf("%d log lines; want one a call", len(lines))
			}
			for _, line := range lines {
				if line["status"] != 503.0 || line["level"] != "WARN" || line["error"] == nil || line["request_id"] == nil {
					t.Errorf("log line %v; want WARN with its cause and request id", line)
				}
			}
		})
	}
}

func TestTheServiceRecoversWithRedis(t *testing.T) {
	redis := storetest.StartRedis(t)
	s := startService(t, testEnviron(redis))
	before, _ := s.generate(asUser(t, "ada"))
	redis.Stop(t)
	if got := s.post(asUser(t, "ada")); got.status != http.StatusServiceUnavailable {
		t.Fatalf("while Redis stands still: %d; want 503", got.status)
	}
	redis.Continue(t)
	storetest.Eventually(t, func() bool { return s.post(asUser(t, "ada")).status == http.StatusOK })
	if after, _ := s.generate(asUser(t, "ada")); after.Secret != before.Secret {
		t.Error("the pending key changed during the outage")
	}
}

func TestAnUnreadableSecretIsReplacedAndLogged(t *testing.T) {
	redis := storetest.StartRedis(t)
	before, _ := startService(t, testEnviron(redis)).generate(asUser(t, "ada"))
	s := startService(t, testEnviron(redis, "MFA_SEAL_KEYS="+storetest.NewSealKey("k2")))
	after, _ := s.generate(asUser(t, "ada"))
	again, _ := s.generate(asUser(t, "ada"))
	if after.Secret == before.Secret || again.Secret != after.Secret {
		t.Error("the unreadable secret was not replaced by exactly one")
	}
	lines := s.logLines("pending secret has been replaced")
	if len(lines) != 1 || lines[0]["level"] != "WARN" || lines[0]["outcome"] != "replaced_unreadable" || lines[0]["request_id"] == nil {
		t.Errorf("log has %v; want one WARN line with the request id", lines)
	}
}

func TestTheRequestIDOfTheGatewayIsKeptIfItIsHarmless(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	for _, id := range []string{
		"6F9619FF-8b86-d011-b42d-00c04fc964ff", "", "abcdef", strings.Repeat("a", 65), strings.Repeat("-", 36), `"}{"msg":"forged`, "é",
		"has space has space", auth.NewAPIKey(), "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", newToken(t, goodClaims("ada", nil)),
	} {
		header := asUser(t, "ada")
		header.Set("X-Request-Id", id)
		answered := s.post(header).header.Get("X-Request-Id")
		lines := s.logLines("request")
		got, _ := lines[len(lines)-1]["request_id"].(string)
		if kept := got == id; kept != strings.HasPrefix(id, "6F9619FF-") || got == "" || answered != got {
			t.Errorf("request id %q was logged as %q and answered as %q", id, got, answered)
		}
	}
}
