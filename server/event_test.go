package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// events returns the log lines that are audit events, with T and N for the two times.
func (s *instance) events() (events []string) {
	written, took := regexp.MustCompile(`"time":"[0-9T:.+Z-]{20,35}"`), regexp.MustCompile(`"duration_us":\d+`)
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, `"event":`) {
			line = written.ReplaceAllString(strings.TrimSpace(line), `"time":"T"`)
			events = append(events, took.ReplaceAllString(line, `"duration_us":N`))
		}
	}
	return events
}

func TestEvent_SaysWhoGotAKey(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	s := startInstance(t, testEnviron(storetest.SharedRedis(t), "MFA_TRUSTED_PROXIES=127.0.0.1/32"))
	stdout, _, _ := s.command("apikey", "create", "--account", "ada", "--email", "key@example.com", "--json")
	var created struct {
		Key string
		store.APIKey
	}
	if err := json.Unmarshal([]byte(stdout), &created); err != nil {
		t.Fatalf("apikey create: %v %s", err, stdout)
	}
	key := withKey(created.Key)
	// printf %s ada | openssl sha256 -binary | basenc --base64url | tr -d =
	const account = "_e5DDUC9V97qwYbNl5ADPQ8G-QmogG585ucXq3x9UCk"
	var want []string
	for _, c := range []struct {
		fields                 http.Header
		outcome, scheme, keyID string
	}{
		{asUser(t, "ada"), "created", "bearer", ""},
		{key, "reused", "api_key", created.ID},
		{join(asUser(t, "ada"), key), "reused", "both", created.ID},
	} {
		s.generate(join(c.fields, http.Header{"X-Request-Id": {id}, "X-Forwarded-For": {"203.0.113.9"}}))
		want = append(want, `{"time":"T","level":"INFO","msg":"request","event":"totp_key_issued","account":"`+account+
			`","outcome":"`+c.outcome+`","scheme":"`+c.scheme+`","key_id":"`+c.keyID+`","method":"POST","route":"`+generatePath+
			`","status":200,"duration_us":N,"address":"203.0.113.9","request_id":"`+id+`"}`)
	}
	s.post(nil) // a refusal is no event
	if diff := cmp.Diff(want, s.events()); diff != "" || len(s.logLines("request")) != 4 {
		t.Errorf("%d request lines; want 4; events (-want +got):\n%s", len(s.logLines("request")), diff)
	}
}

// At level error the log has no other line, not even that of the listeners' addresses.
func TestEvent_IgnoresTheLogLevel(t *testing.T) {
	redis := storetest.StartRedis(t, "--appendonly", "yes") // else there is an ERROR
	for format, want := range map[string]string{"json": `"msg":"request","event":"totp_key_issued",`, "text": ` msg=request event=totp_key_issued `} {
		address := fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
		s := &instance{t: t, url: "http://" + address, log: &output{}, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
		environ := testEnviron(redis, "MFA_LISTEN="+address, "MFA_LOG_LEVEL=error", "MFA_LOG_FORMAT="+format)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan int, 1)
		go func() { ended <- run(ctx, []string{"serve"}, environ, io.Discard, s.log) }()
		storetest.Eventually(t, func() bool {
			connection, err := net.Dial("tcp", address)
			if err == nil {
				connection.Close()
			}
			return err == nil
		})
		s.generate(asUser(t, "ada"))
		stop()
		status, log := <-ended, s.log.String()
		if status != 0 || strings.Count(log, "\n") != 1 || !strings.Contains(log, want) {
			t.Errorf("%s: status %d, log %s; want 0 and one line with %s", format, status, log, want)
		}
	}
}

// The key id is the JWK set's, even for a token without a kid.
func TestEvent_NamesTheKeyOfTheSet(t *testing.T) {
	key := newIssuerKey(t, "2026-11", jwt.SigningMethodES256)
	s := startWithKeys(t, newIssuer(t, set(keySet(t, key.member(t)))).URL)
	for _, changes := range []map[string]any{nil, {"kid": nil}} {
		s.generate(bearer(key.token(t, goodClaims("ada", nil), changes)))
		lines := s.logLines("request")
		if line := lines[len(lines)-1]; line["key_id"] != "2026-11" {
			t.Errorf("%v; want the key 2026-11", line)
		}
	}
}
