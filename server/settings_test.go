package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"quiva.ai/mfa/store/storetest"
)

func TestAllFaultySettingsAreReportedTogetherAndWithoutTheirValues(t *testing.T) {
	const hidden = "hunter2"
	s := &service{t: t, environ: []string{
		"MFA_REDIS_URL=http://:" + hidden + "@host",
		"MFA_SEAL_KEYS=k1:" + hidden,
		"MFA_ISSUER=" + hidden + ":x",
		"MFA_PENDING_TTL=59s",
		"MFA_JWT_SECRET=" + hidden,
		"MFA_JWT_LEEWAY=" + hidden,
		"MFA_TRUSTED_PROXIES=10.0.0.0/8," + hidden,
		"MFA_LOG_LEVEL=" + hidden,
		"MFA_LOG_FORMAT=" + hidden,
		"MFA_JWT_ISSUER_FILE=/no/such/file",
		"MFA_REDIS_ADDR=" + hidden,
		"MFA_SEAL_KEYS_FILE=/dev/null",
		"MFA_DRAIN=",
		"MFA_JWT_JWKS=set.json", // without MFA_JWT_AUDIENCE
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + hidden,
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=%zz" + hidden,
		"OTHER_VARIABLE=x",
		"MFA_SERVICE_HOST=10.0.0.1", // Kubernetes, for a Service called mfa
		"MFA_PORT_8080_TCP_ADDR=10.0.0.1",
		"MFA_REDIS_SERVICE_HOST=10.0.0.2", // and for one called mfa-redis
		"MFA_REDIS_PORT=tcp://10.0.0.2:6379",
		"MFA_REDIS_PORT_6379_TCP_ADDR=10.0.0.2",
		"MFA_PORT_TYPO=" + hidden,
		"MFA_PORT=" + hidden, // Kubernetes' would be a URL
		"MFA_REDIS_PORT=6379",
		"MFA_LISTEN=" + hidden,
		"MFA_ADMIN_LISTEN=127.0.0.1:99999",
	}}
	stdout, stderr, status := s.command("serve")
	want := `mfa: settings:
  MFA_JWT_ISSUER_FILE: no such file or directory
  MFA_REDIS_ADDR: there is no such setting
  MFA_SEAL_KEYS: is set twice, as variable and as file
  MFA_PORT_TYPO: there is no such setting
  MFA_PORT: there is no such setting
  MFA_REDIS_PORT: there is no such setting
  MFA_LISTEN: must be host:port, or :port for all addresses
  MFA_ADMIN_LISTEN: must be host:port, or :port for all addresses
  MFA_REDIS_URL: must be a URL with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://
  MFA_SEAL_KEYS: key 1: want base64 of 32 bytes
  MFA_ISSUER: must not contain a colon: authenticator apps split the label there
  MFA_PENDING_TTL: must be a duration from 1m0s to 24h0m0s, such as 90s
  MFA_JWT_SECRET: must have at least 32 bytes
  MFA_JWT_LEEWAY: must be a duration from 0s to 5m0s, such as 90s
  MFA_TRUSTED_PROXIES: must be networks, comma separated, such as 10.1.0.0/16,192.0.2.7/32,fd00::/8
  MFA_LOG_LEVEL: must be debug, info, warn or error
  MFA_LOG_FORMAT: must be json or text
  MFA_JWT_AUDIENCE: is required with MFA_JWT_SECRET or MFA_JWT_JWKS
  OTEL_EXPORTER_OTLP_ENDPOINT: must be an http or https URL
  OTEL_EXPORTER_OTLP_HEADERS: must be name=value pairs, comma separated, percent-encoded
`
	if status != exitUsage || stdout != "" || stderr != want {
		t.Errorf("status %d\n%s; want %d\n%s", status, stdout+stderr, exitUsage, want)
	}
}

func TestAnEmptySecretIsNoSecret(t *testing.T) {
	s := &service{t: t, environ: []string{"MFA_JWT_SECRET=", "MFA_SEAL_KEYS_FILE=/dev/null", "MFA_ISSUER_FILE=/dev/null", "MFA_LOG_LEVEL="}}
	const want = "mfa: settings:\n  MFA_JWT_SECRET: is empty\n  MFA_SEAL_KEYS_FILE: is empty\n  MFA_ISSUER_FILE: is empty\n" +
		"  MFA_REDIS_URL: is required (mfa serve --dev does without)\n" // all at once, and none of them twice
	if _, stderr, status := s.command("serve"); status != exitUsage || stderr != want {
		t.Errorf("status %d, %s; want %s", status, stderr, want)
	}
}

func TestSettingsThatServeCannotDoWithout(t *testing.T) {
	key, secret := "MFA_SEAL_KEYS="+storetest.NewSealKey("k1"), "MFA_JWT_SECRET="+testSecret
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{nil, "  MFA_REDIS_URL: is required (mfa serve --dev does without)\n  MFA_SEAL_KEYS: is required\n"},
		{[]string{key, "MFA_REDIS_URL=redis://h", secret}, "  MFA_JWT_ISSUER: is required with MFA_JWT_SECRET or MFA_JWT_JWKS\n  MFA_JWT_AUDIENCE: is required with MFA_JWT_SECRET or MFA_JWT_JWKS\n"},
		{[]string{key, "MFA_REDIS_URL=redis://h", "MFA_JWT_AUDIENCE=x"}, "  MFA_JWT_SECRET or MFA_JWT_JWKS: is required with MFA_JWT_ISSUER and MFA_JWT_AUDIENCE\n"},
		{[]string{key, "MFA_REDIS_URL=redis://h", "MFA_PENDING_TTL=24h1s"}, "  MFA_PENDING_TTL: must be a duration from 1m0s to 24h0m0s, such as 90s\n"},
		{[]string{key, "MFA_REDIS_URL=redis://h", "MFA_JWT_SECRET=" + testSecret[:31]}, "  MFA_JWT_SECRET: must have at least 32 bytes\n"},
		{[]string{key, "MFA_REDIS_URL=redis://h", "MFA_ADMIN_LISTEN=127.0.0.1"}, "  MFA_ADMIN_LISTEN: must be host:port, or :port for all addresses\n"},
		{[]string{key, "MFA_REDIS_URL=redis://h", "MFA_LOG_LEVEL=warn+3"}, "  MFA_LOG_LEVEL: must be debug, info, warn or error\n"},
		{[]string{key, "MFA_REDIS_URL=redis://h", "MFA_STOP_TIMEOUT=5s"}, "  MFA_STOP_TIMEOUT: must be a duration from 6s to 5m0s, such as 90s\n"},
		{[]string{key, "MFA_REDIS_URL=redis://h", "MFA_JWT_ISSUER=x"}, "  MFA_JWT_SECRET or MFA_JWT_JWKS: is required with MFA_JWT_ISSUER and MFA_JWT_AUDIENCE\n"},
	} {
		s := &service{t: t, environ: c.environ}
		if _, stderr, status := s.command("serve"); status != exitUsage || stderr != "mfa: settings:\n"+c.want {
			t.Errorf("serve with %q: status %d, %s; want %s", c.environ, status, stderr, c.want)
		}
	}
}

// A file may be a pipe, as a shell's process substitution is. Only its line break goes.
func TestASettingMayComeFromAPipe(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	const secret = " " + testSecret + "\t "
	go func() {
		defer writer.Close()
		_, _ = io.WriteString(writer, secret+"\r\n")
	}()
	s, err := loadSettings([]string{fmt.Sprint("MFA_JWT_SECRET_FILE=/dev/fd/", reader.Fd())}, nil, nil)
	if err != nil || string(s.JWTSecret) != secret {
		t.Errorf("%v, %q; want %q", err, string(s.JWTSecret), secret)
	}
}

func TestTheListenersNeedTwoAddresses(t *testing.T) {
	for addresses, want := range map[[2]listenAddress]bool{
		{"127.0.0.1:80", "127.0.0.1:80"}: true, {":80", "127.0.0.1:80"}: true, {"127.0.0.1:80", "[::]:80"}: true,
		{"127.0.0.1:80", "127.0.0.1:81"}: false, {"127.0.0.1:80", "127.0.0.2:80"}: false, {":0", ":0"}: false, {"", ""}: false,
	} {
		s := settings{Listen: addresses[0], AdminListen: addresses[1]}
		if got := slices.Contains(s.checkServe(true), "MFA_LISTEN and MFA_ADMIN_LISTEN: are the same address"); got != want {
			t.Errorf("%q: a fault: %t; want %t", addresses, got, want)
		}
	}
}

func TestAFileThatIsNoneIsRefusedByName(t *testing.T) {
	folder := t.TempDir()
	large, nobody, silent := filepath.Join(folder, "large"), filepath.Join(folder, "nobody"), filepath.Join(folder, "silent")
	marked := filepath.Join(folder, "marked")
	write(t, marked, "\ufeffmfa")
	write(t, large, strings.Repeat("x", 1<<20+1))
	for _, pipe := range []string{nobody, silent} {
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writer, err := os.OpenFile(silent, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	_, err = loadSettings([]string{"MFA_ISSUER_FILE=" + large, "MFA_JWT_ISSUER_FILE=" + nobody, "MFA_JWT_SECRET_FILE=" + silent, "MFA_JWT_AUDIENCE_FILE=" + marked}, nil, nil)
	const want = "settings:\n  MFA_ISSUER_FILE: is larger than 1 MiB\n  MFA_JWT_ISSUER_FILE: is empty\n  MFA_JWT_SECRET_FILE: i/o timeout\n  MFA_JWT_AUDIENCE_FILE: begins with a byte order mark"
	if err == nil || err.Error() != want {
		t.Errorf("%v; want %s", err, want)
	}
}

func TestAFlagGoesBeforeAVariableAndAVariableBeforeTheDefault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(testSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := (&process{}).serveCommand()
	if err := cmd.ParseFlags([]string{"--issuer", "from flag"}); err != nil {
		t.Fatal(err)
	}
	s, err := loadSettings([]string{"MFA_ISSUER=from variable", "MFA_PENDING_TTL=2m", "MFA_LOG_LEVEL=", "MFA_JWT_SECRET_FILE=" + file},
		cmd.Flags(), map[string]string{"MFA_PENDING_TTL": "3m", "MFA_JWT_ISSUER": "from dev"})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(s.Issuer, s.PendingTTL, s.JWTIssuer, s.LogLevel, s.Listen, string(s.JWTSecret))
	if want := fmt.Sprint("from flag", int64(120e9), "from dev", "INFO", ":8080", testSecret); got != want {
		t.Errorf("settings %s; want %s", got, want)
	}
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	printed := fmt.Sprintf("%v %+v %#v %s", s, s, s, encoded)
	for _, secret := range []string{testSecret, base64.StdEncoding.EncodeToString([]byte(testSecret))} {
		if strings.Contains(printed, secret) {
			t.Errorf("settings print the secret: %s", printed)
		}
	}
}

func TestTheREADMEListsTheSettingsAsDeclared(t *testing.T) {
	readme := readFile(t, "../README.md")
	for _, s := range declared() {
		fallback := s.fallback
		if fallback != "" {
			fallback = "`" + fallback + "`"
		}
		if row := fmt.Sprintf("| `%s` | %s | %s |\n", s.variable, fallback, s.help); !strings.Contains(readme, row) {
			t.Errorf("README.md lacks %s", row)
		}
	}
}
