package config

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wantFaults compares the error of loading with faults, in this order.
func wantFaults(t *testing.T, err error, want ...string) {
	t.Helper()
	got, _ := err.(Faults) //nolint:errorlint // Faults are returned as they are.
	if diff := cmp.Diff(Faults(want), got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestLoad_ReportsAllFaultsTogetherWithoutValues(t *testing.T) {
	const hidden = "hunter2"
	_, err := LoadServe([]string{
		"MFA_REDIS_URL=http://:" + hidden + "@host",
		"MFA_SEAL_KEYS=k1:" + hidden,
		"MFA_ISSUER=" + hidden + ":x",
		"MFA_PENDING_TTL=" + hidden,
		"MFA_JWT_SECRET=" + hidden,
		"MFA_JWT_JWKS=http://" + hidden,
		"MFA_MAX_IN_FLIGHT=" + hidden,
		"MFA_TLS_CERT=" + hidden + "\n" + hidden,
		"MFA_JWT_AUDIENCE='" + hidden + "'",
		"MFA_TLS_KEY=" + hidden,
		"MFA_TRUSTED_PROXIES=10.0.0.0/8," + hidden,
		"MFA_LOG_LEVEL=" + hidden,
		"MFA_LOG_FORMAT=" + hidden,
		"MFA_JWT_ISSUER_FILE=/" + hidden,
		"MFA_REDIS_ADDR=" + hidden,
		"MFA_SEAL_KEYS_FILE=/dev/null",
		"MFA_DRAIN=",
		"MFA_LISTEN=" + hidden,
		"MFA_ADMIN_LISTEN=127.0.0.1:99999",
		"OTHER_VARIABLE=x",
	}, nil, nil, false)
	wantFaults(t, err,
		"MFA_JWT_ISSUER_FILE: no such file or directory",
		"MFA_REDIS_ADDR: there is no such setting",
		"MFA_SEAL_KEYS: is set twice, such as by variable and by file",
		"MFA_LISTEN: must be host:port, or :port for all addresses",
		"MFA_ADMIN_LISTEN: must be host:port, or :port for all addresses",
		"MFA_REDIS_URL: must be a URL with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://",
		"MFA_SEAL_KEYS: key 1: want base64 of 32 bytes",
		"MFA_ISSUER: must not contain a colon: authenticator apps split the label there",
		"MFA_PENDING_TTL: must be a duration from 1m to 24h, such as 90s",
		"MFA_JWT_AUDIENCE: "+errQuoted.Error(),
		"MFA_JWT_SECRET: must have at least 32 bytes",
		"MFA_JWT_JWKS: must be a file path or an https URL (http to a loopback address only): an attacker who can change the keys in transit can sign in to every account",
		"MFA_MAX_IN_FLIGHT: must be a number from 1 to 65536",
		"MFA_TLS_CERT: "+errHidden.Error(),
		"MFA_TRUSTED_PROXIES: must be networks, comma separated, such as 10.1.0.0/16,192.0.2.7/32,fd00::/8",
		"MFA_LOG_LEVEL: must be debug, info, warn or error",
		"MFA_LOG_FORMAT: must be json or text",
		"MFA_STORE_ID: is required: mfa store init prints it",
		"MFA_TLS_KEY: no such file or directory",
	)
	if err == nil || strings.Contains(err.Error(), hidden) || !strings.HasPrefix(err.Error(), "settings:\n  MFA_JWT_ISSUER_FILE: no such file or directory\n  MFA_REDIS_ADDR: ") {
		t.Errorf("the error is %v; want a line for each fault, without a value", err)
	}
}

func TestLoad_TakesAFlagOverAVariableOverExtraOverADefault(t *testing.T) {
	s, err := Load(
		[]string{"MFA_ISSUER=from variable", "MFA_PENDING_TTL=2m", "MFA_LOG_LEVEL=", "MFA_LOG_FORMAT="},
		flags(t, "--issuer", "from flag", "--jwt-audience", "from flag"),
		map[string]string{"MFA_ISSUER": "from extra", "MFA_PENDING_TTL": "3m", "MFA_JWT_ISSUER": "from extra", "MFA_LOG_FORMAT": "text"},
	)
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s, %s, %s, %s, %s, %s, %s", s.Issuer, s.JWTAudience, s.PendingTTL, s.JWTIssuer, s.LogFormat, s.LogLevel, s.Listen)
	if want := "from flag, from flag, 2m0s, from extra, text, info, :8080"; got != want {
		t.Errorf("settings %s; want %s", got, want)
	}
}

func TestLoad_RefusesEmptySecretsFilesAndFlags(t *testing.T) {
	_, err := LoadServe([]string{"MFA_JWT_SECRET=", "MFA_SEAL_KEYS_FILE=/dev/null", "MFA_ISSUER_FILE=/dev/null", "MFA_LOG_LEVEL=", "MFA_TLS_CERT=x"},
		flags(t, "--drain", "", "--tls-key", ""), nil, false)
	wantFaults(t, err,
		"MFA_JWT_SECRET: is empty",
		"MFA_SEAL_KEYS_FILE: is empty",
		"MFA_ISSUER_FILE: is empty",
		"MFA_TLS_KEY: the flag --tls-key is empty",
		"MFA_DRAIN: the flag --drain is empty",
		"MFA_REDIS_URL: is required (mfa serve --dev works without)",
		"MFA_STORE_ID: is required: mfa store init prints it",
		"MFA_JWT_ISSUER: is required with MFA_JWT_SECRET or MFA_JWT_JWKS",
		"MFA_JWT_AUDIENCE: is required with MFA_JWT_SECRET or MFA_JWT_JWKS",
		"MFA_TLS_CERT: no such file or directory",
	)
}

func TestLoad_IgnoresVariablesOfKubernetesServices(t *testing.T) {
	_, err := Load([]string{
		"MFA_SERVICE_HOST=10.0.0.1", // of a Service called mfa
		"MFA_SERVICE_PORT=8080",
		"MFA_SERVICE_PORT_HTTP=8080",
		"MFA_PORT=tcp://10.0.0.1:8080",
		"MFA_PORT_8080_TCP=tcp://10.0.0.1:8080",
		"MFA_PORT_8080_TCP_PROTO=tcp",
		"MFA_PORT_8080_TCP_PORT=8080",
		"MFA_PORT_8080_TCP_ADDR=10.0.0.1",
		"MFA_REDIS_SERVICE_HOST=10.0.0.2", // of a Service called mfa-redis
		"MFA_REDIS_PORT=tcp://10.0.0.2:6379",
		"MFA_REDIS_PORT_6379_TCP_ADDR=10.0.0.2",
	}, nil, nil)
	if err != nil {
		t.Error(err)
	}
	_, err = Load([]string{"MFA_PORT_TYPO=x", "MFA_PORT=8080", "MFA_REDIS_PORT=6379", "MFA_PORT_FILE=x", "MFA_=x", "MFA_JWT_SECRET:hunter2==", "MFA_REDIS_URL redis://:hunter2@h?db=1"}, nil, nil)
	wantFaults(t, err,
		"MFA_PORT_TYPO: there is no such setting",
		"MFA_PORT: there is no such setting",
		"MFA_REDIS_PORT: there is no such setting",
		"MFA_PORT_FILE: there is no such setting",
		"MFA_: there is no such setting",
		"MFA_JWT_SECRET: there is no such setting",
		"MFA_REDIS_URL: there is no such setting",
	)
}

func TestLoad_ReadsAPipe(t *testing.T) {
	reader, writer, err := os.Pipe() // as a shell's process substitution makes one
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	go func() {
		defer writer.Close()
		_, _ = writer.WriteString(testSecret + "\r\n\n")
	}()
	s, err := Load([]string{fmt.Sprint("MFA_JWT_SECRET_FILE=/dev/fd/", reader.Fd())}, nil, nil)
	if err != nil || string(s.JWTSecret) != testSecret {
		t.Errorf("the secret of a pipe: %v, %+v; want %q", err, s, testSecret)
	}
}

func TestLoad_NamesFilesThatItCannotUse(t *testing.T) {
	_, err := Load([]string{
		"MFA_JWT_ISSUER_FILE=" + write(t, "\r\n"),
		"MFA_LISTEN_FILE=",
		"MFA_TLS_KEY_FILE=" + t.TempDir(),
	}, nil, nil)
	wantFaults(t, err,
		"MFA_JWT_ISSUER_FILE: is empty",
		"MFA_LISTEN_FILE: no such file or directory",
		"MFA_TLS_KEY_FILE: is a directory",
	)
}
