package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

// auditLines returns the log's audit lines, the time in each replaced by T.
func (s *service) auditLines() []string {
	var lines []string
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, `"msg":"audit"`) {
			lines = append(lines, regexp.MustCompile(`"time":"[0-9T:.+Z-]{20,35}"`).ReplaceAllString(line, `"time":"T"`))
		}
	}
	return lines
}

func TestTheAuditSaysWhoWasGivenAKey(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	s := startService(t, testEnviron(storetest.StartRedis(t), "MFA_TRUSTED_PROXIES=127.0.0.1/32"))
	key := withKey(s.newAPIKey("ada"))
	keyID := keyRecords(t, s)[0].ID
	// printf %s ada | openssl sha256 -binary | basenc --base64url | tr -d =
	const account = "_e5DDUC9V97qwYbNl5ADPQ8G-QmogG585ucXq3x9UCk"
	var want []string
	for _, c := range []struct {
		fields                 http.Header
		outcome, scheme, keyID string
	}{
		{asUser(t, "ada"), "created", "bearer", ""},
		{key, "reused", "api_key", keyID},
		{join(asUser(t, "ada"), key), "reused", "both", keyID},
	} {
		s.generate(join(c.fields, http.Header{"X-Request-Id": {id}, "X-Forwarded-For": {"203.0.113.9"}}))
		want = append(want, `{"time":"T","level":"INFO","msg":"audit","event":"totp_key_issued","account":"`+account+
			`","outcome":"`+c.outcome+`","scheme":"`+c.scheme+`","key_id":"`+c.keyID+`","address":"203.0.113.9","request_id":"`+id+`"}`+"\n")
	}
	s.post(nil) // a refusal is no event
	if diff := cmp.Diff(want, s.auditLines()); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

// At level error the log has no other line, that of the address where it listens neither.
func TestTheAuditIsWrittenWhateverTheLogSettings(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		address := fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
		s := &service{t: t, url: "http://" + address, log: &output{}, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
		environ := testEnviron(storetest.StartRedis(t), "MFA_LISTEN="+address, "MFA_LOG_LEVEL=error", "MFA_LOG_FORMAT="+format)
		ctx, cancel := context.WithCancel(t.Context())
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
		cancel()
		status := <-ended
		lines := s.logLines("audit")
		if status != 0 || len(lines) != 1 || lines[0]["outcome"] != "created" || strings.Count(s.log.String(), "\n") != 1 {
			t.Errorf("%s: status %d, log %s; want 0 and one line, the audit's, in JSON", format, status, s.log)
		}
	}
}

// The kid is the set's, whether or not the token has one.
func TestTheAuditNamesTheKeyOfTheSet(t *testing.T) {
	key := newIssuerKey(t, "2026-11", jwt.SigningMethodES256)
	s := startWithKeys(t, newIssuer(t, set(keySet(t, key.member(t, nil)))).URL)
	for _, changes := range []map[string]any{nil, {"kid": nil}} {
		s.generate(bearer(key.token(t, goodClaims("ada", nil), changes)))
	}
	lines := s.logLines("audit")
	if len(lines) != 2 || lines[0]["key_id"] != "2026-11" || lines[1]["key_id"] != "2026-11" {
		t.Errorf("audit %v; want the key 2026-11 twice", lines)
	}
}

func TestAReplacedKeyIsAuditedAsSuch(t *testing.T) {
	redis := storetest.StartRedis(t)
	startService(t, testEnviron(redis)).generate(asUser(t, "ada"))
	s := startService(t, testEnviron(redis, "MFA_SEAL_KEYS="+storetest.NewSealKey("k2")))
	s.generate(asUser(t, "ada"))
	if lines := s.logLines("audit"); len(lines) != 1 || lines[0]["outcome"] != "replaced_unreadable" {
		t.Errorf("audit %v; want one replaced_unreadable", lines)
	}
}

func TestAnAddressIsBelievedFromATrustedHopAlone(t *testing.T) {
	redis := storetest.StartRedis(t)
	for trusted, want := range map[string]string{"": "127.0.0.1", "10.0.0.0/8": "127.0.0.1", "127.0.0.1/32": "203.0.113.9"} {
		s := startService(t, testEnviron(redis, "MFA_TRUSTED_PROXIES="+trusted))
		s.post(http.Header{"X-Forwarded-For": {"10.1.1.1, 203.0.113.9"}})
		if line := s.logLines("request")[0]; line["address"] != want {
			t.Errorf("trusting %q: address %v; want %s", trusted, line["address"], want)
		}
	}
}

// Nothing is logged of a path, an agent and the rest of a header; startService sees to it
// that each line is JSON.
func TestHostileTextIsOneEscapedLineAtMost(t *testing.T) {
	const hostile = "\x1b[31mred\n\u009b31m\u202egpj"
	long := strings.Repeat("A", 14<<10)
	s := startService(t, testEnviron(storetest.StartRedis(t), "MFA_TRUSTED_PROXIES=127.0.0.1/32"))
	s.send(http.MethodGet, "/%0A%1B[31mred"+long, nil, http.NoBody)
	for _, name := range []string{"User-Agent", "X-Request-Id", "X-Forwarded-For", "Referer"} {
		// A control character or a line break here is no HTTP, or another field.
		s.exchange("POST " + generatePath + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + name + ": red\u009b31m\u202egpj" + long + "\r\n\r\n")
	}
	if log := s.log.String(); len(s.logLines("request")) != 5 || strings.Contains(log, "AAAA") || strings.Contains(log, "red\ufffd") {
		t.Errorf("the log has %d requests; want 5, and nothing of what was sent:\n%.2000s", len(s.logLines("request")), log)
	}

	// Text from elsewhere does get in with an error.
	failed := serveOps(t, spec(t), anyKey{}, failing(func() error { return errors.New(hostile + long) }))
	failed.post(withKey(auth.NewAPIKey()))
	line := failed.log.String()
	if strings.Count(line, "\n") != 1 || strings.ContainsAny(line, "\x1b\u009b\u202e") || len(line) > maxLogText+500 ||
		!strings.Contains(line, `"error":"\u001b[31mred\n`+"\ufffd31m\ufffdgpjAAA") || !strings.Contains(line, `A (truncated)"`) {
		t.Errorf("log %.300q of %d bytes; want one line, escaped and truncated", line, len(line))
	}
}
