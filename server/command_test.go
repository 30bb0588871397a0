package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

var apiKeyPattern = regexp.MustCompile(`^mfa_[a-z2-7]{40}\n$`)

// keyRecords lists the API keys as an operator's script does.
func keyRecords(t *testing.T, s *service) []store.APIKey {
	t.Helper()
	stdout, stderr, status := s.command("apikey", "list", "--json")
	if status != 0 {
		t.Fatalf("apikey list: status %d: %s", status, stderr)
	}
	var records []store.APIKey
	if err := json.Unmarshal([]byte(stdout), &records); err != nil {
		t.Fatal(err)
	}
	return records
}

func revokeOnlyKey(t *testing.T, s *service) {
	t.Helper()
	records := keyRecords(t, s)
	if len(records) != 1 {
		t.Fatalf("%d API keys; want 1", len(records))
	}
	if stdout, stderr, status := s.command("apikey", "revoke", records[0].ID); status != 0 || stdout+stderr != "" {
		t.Fatalf("apikey revoke: status %d: %s%s", status, stdout, stderr)
	}
}

func TestAnAPIKeyFromCreationToRevocation(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	stdout, stderr, status := s.command("apikey", "create", "--account", "ada", "--email", "ada@example.com")
	if status != 0 || stderr != "" || !apiKeyPattern.MatchString(stdout) {
		t.Fatalf("create: status %d, %q, %q; want the key alone on stdout", status, stdout, stderr)
	}
	key := strings.TrimSpace(stdout)
	totp, _ := s.generate(withKey(key))
	if !strings.Contains(totp.OTPAuthURL, ":ada@example.com?") {
		t.Errorf("otpauth URL %s; want the key's e-mail address as label", totp.OTPAuthURL)
	}
	records := keyRecords(t, s)
	if len(records) != 1 || records[0].Account != "ada" || records[0].Email != "ada@example.com" ||
		records[0].Expires.Sub(records[0].Created) != 90*24*time.Hour {
		t.Fatalf("list = %+v; want ada's key for 90 days", records)
	}
	table, _, _ := s.command("apikey", "list")
	if !strings.Contains(table, records[0].ID) || strings.Contains(table, key) {
		t.Errorf("list prints %s; want the id and not the key", table)
	}
	revokeOnlyKey(t, s)
	if got := s.post(withKey(key)); got.status != http.StatusUnauthorized {
		t.Errorf("the call after the revocation: %d; want 401", got.status)
	}
	if _, stderr, status := s.command("apikey", "revoke", records[0].ID); status != exitFault ||
		stderr != "mfa: no API key with this id is valid; see mfa apikey list\n" {
		t.Errorf("second revoke: status %d: %s", status, stderr)
	}
	if records := keyRecords(t, s); len(records) != 0 {
		t.Errorf("list after the revocation = %+v; want nothing", records)
	}
}

func TestCommandLinesThatAreWrong(t *testing.T) {
	s := &service{t: t, environ: testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1")}
	create := []string{"apikey", "create", "--account", "ada", "--email", "ada@example.com"}
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, exitUsage, "mfa: usage: a command is missing; see mfa --help\n"},
		{[]string{"apikey"}, exitUsage, "mfa: usage: a command is missing; see mfa apikey --help\n"},
		{[]string{"frob"}, exitUsage, "mfa: usage: unknown command \"frob\"; see mfa --help\n"},
		{[]string{"apikey", "frob"}, exitUsage, "mfa: usage: unknown command \"frob\"; see mfa apikey --help\n"},
		{[]string{"serve", "--issuer", ""}, exitUsage, "mfa: settings:\n  --issuer: is empty\n"},
		{[]string{"serve", "now"}, exitUsage, "mfa: usage: want no arguments\n"},
		{[]string{"serve", "--seal-keys", "x"}, exitUsage, "mfa: usage: unknown flag: --seal-keys\n"},
		{[]string{"openapi", "--format", "xml"}, exitUsage, "mfa: usage: --format must be yaml or json\n"},
		{[]string{"apikey", "revoke"}, exitUsage, "mfa: usage: want the id of one API key\n"},
		{create[:4], exitUsage, "mfa: usage: --email must be an e-mail address\n"},
		{[]string{"apikey", "create", "--email", "ada@example.com"}, exitUsage, "mfa: usage: --account must be 1 to 255 bytes of UTF-8\n"},
		{append(create[:5:5], "Ada <ada@example.com>"), exitUsage, "mfa: usage: --email must be an e-mail address\n"},
		{append(create[:6:6], "--expires", "59s"), exitUsage, "mfa: usage: --expires must be from 1m to 43800h0m0s\n"},
		{append(create[:6:6], "--expires", "43801h"), exitUsage, "mfa: usage: --expires must be from 1m to 43800h0m0s\n"},
		{append(create[:6:6], "--account", strings.Repeat("x", 256)), exitUsage, "mfa: usage: --account must be 1 to 255 bytes of UTF-8\n"},
		{create, exitFault, "mfa: create API key: store unavailable: "},
	} {
		stdout, stderr, status := s.command(c.args...)
		if status != c.status || stdout != "" || !strings.HasPrefix(stderr, c.want) {
			t.Errorf("mfa %q: status %d, %q, %q; want %d, %q", c.args, status, stdout, stderr, c.status, c.want)
		}
	}
}

func TestAPIKeyCommandsNeedARedis(t *testing.T) {
	s := &service{t: t}
	if _, stderr, status := s.command("apikey", "list"); status != exitUsage || stderr != "mfa: settings:\n  MFA_REDIS_URL: is required\n" {
		t.Errorf("apikey list without Redis: status %d, %s", status, stderr)
	}
}

func TestAListOfKeysCannotDisturbATerminal(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	s.newAPIKey("a\n\x1b[2Jb")
	if stdout, _, _ := s.command("apikey", "list"); strings.Count(stdout, "\n") != 2 || !strings.Contains(stdout, `"a\n\x1b[2Jb"`) {
		t.Errorf("apikey list prints %q", stdout)
	}
}

func TestDevSettingsListenOnThisMachineAlone(t *testing.T) {
	s, err := loadSettings(nil, nil, devSettings())
	if err != nil || s.checkServe(true) != nil || s.Listen != "127.0.0.1:8080" || s.AdminListen != "127.0.0.1:0" {
		t.Errorf("settings of --dev: %v, %s, %s", err, s.Listen, s.AdminListen)
	}
	first, second := devSettings(), devSettings()
	if first["MFA_SEAL_KEYS"] == second["MFA_SEAL_KEYS"] || first["MFA_JWT_SECRET"] == second["MFA_JWT_SECRET"] {
		t.Error("two runs have the same keys")
	}
}

func TestVersionAndHelp(t *testing.T) {
	s := &service{t: t}
	if stdout, _, status := s.command("version"); status != 0 || !strings.HasPrefix(stdout, "mfa ") {
		t.Errorf("version: status %d, %q", status, stdout)
	}
	stdout, _, status := s.command("serve", "--help")
	for _, setting := range declared() {
		if !strings.Contains(stdout, setting.variable) || strings.Contains(stdout, "--"+setting.flag()+" ") == setting.secret {
			t.Errorf("serve --help, %s: want the variable, and the flag unless it is secret", setting.variable)
		}
	}
	if status != 0 {
		t.Errorf("serve --help: status %d", status)
	}
}

func TestABusyPortIsNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	busy, free := listener.Addr().String(), fmt.Sprint("127.0.0.1:", storetest.FreePort(t))
	for variable, environ := range map[string][]string{
		"MFA_LISTEN":       {"MFA_LISTEN=" + busy},
		"MFA_ADMIN_LISTEN": {"MFA_LISTEN=" + free, "MFA_ADMIN_LISTEN=" + busy},
	} {
		_, stderr, status := (&service{t: t, environ: environ}).command("serve", "--dev")
		if status != exitFault || !strings.HasSuffix(stderr, "mfa: "+variable+": listen tcp "+busy+": bind: address already in use\n") {
			t.Errorf("serve on a busy port: status %d, %s", status, stderr)
		}
	}
	again, err := net.Listen("tcp", free)
	if err != nil {
		t.Fatalf("the API's listener outlives the admin listener: %v", err)
	}
	again.Close()
}

// curlLine is a call as serve --dev prints it.
var curlLine = regexp.MustCompile(`curl -i -X POST -H '([^:]+): ([^']+)' (http://127\.0\.0\.1:\d+)(\S+)`)

// devKeys lists the API keys in redis.
func devKeys(t *testing.T, redis *storetest.RedisServer) []store.APIKey {
	t.Helper()
	return keyRecords(t, &service{t: t, environ: []string{"MFA_REDIS_URL=" + redis.URL}})
}

func TestDevPrintsCallsThatWork(t *testing.T) {
	redis := storetest.StartRedis(t)
	for name, environ := range map[string][]string{
		"in memory":    {"MFA_LISTEN=127.0.0.1:0"},
		"on Redis":     {"MFA_LISTEN=127.0.0.1:0", "MFA_REDIS_URL=" + redis.URL},
		"on all hosts": {"MFA_LISTEN=:0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startService(t, environ, "--dev")
			storetest.Eventually(t, func() bool { return len(curlLine.FindAllString(s.stdout.String(), -1)) == 2 })
			var secrets []string
			for _, token := range regexp.MustCompile(`Bearer (\S+)'`).FindAllStringSubmatch(s.stdout.String(), -1) {
				var claims jwt.RegisteredClaims
				if _, _, err := jwt.NewParser().ParseUnverified(token[1], &claims); err != nil || claims.ExpiresAt.Sub(claims.IssuedAt.Time) != 24*time.Hour {
					t.Errorf("the development token: %v, %+v; want 24 h", err, claims)
				}
			}
			for _, record := range devKeys(t, redis) {
				if lifetime := record.Expires.Sub(record.Created); lifetime != 24*time.Hour {
					t.Errorf("the development key lives for %v", lifetime)
				}
			}
			for _, call := range curlLine.FindAllStringSubmatch(s.stdout.String(), -1) {
				s.url = call[3]
				if call[4] != generatePath {
					t.Fatalf("the call goes to %s", call[4])
				}
				key, _ := s.generate(http.Header{call[1]: {call[2]}})
				secrets = append(secrets, key.Secret)
			}
			if secrets[0] != secrets[1] {
				t.Error("the two calls are not for the same account")
			}
			if loud := len(s.logLines("no MFA_REDIS_URL: secrets and API keys are kept in memory, for this process only, and lost when it stops")); loud != 1 == (name != "on Redis") {
				t.Errorf("%d warnings about the memory store", loud)
			}
			s.stop()
			if keys := redis.Client.Keys(t.Context(), "mfa:apikey:*").Val(); len(keys) != 0 {
				t.Error("the development key outlived the service")
			}
		})
	}
}
