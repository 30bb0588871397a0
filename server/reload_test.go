package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/store/storetest"
)

// write puts text at path as a whole, as Kubernetes and careful scripts do.
func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// reload sends SIGHUP and waits until the log has one more record with this message.
func (s *service) reload(message string) map[string]any {
	s.t.Helper()
	before := len(s.logLines(message))
	s.signal(syscall.SIGHUP)
	storetest.Eventually(s.t, func() bool { return len(s.logLines(message)) > before })
	return s.logLines(message)[before]
}

const (
	reloaded     = "settings were reloaded"
	notReloaded  = "settings were not reloaded; the old ones stay"
	needsRestart = "some settings have changed that need a restart"
)

func TestAHangupReloadsKeysAndLogLevel(t *testing.T) {
	folder := t.TempDir()
	seal, level, set, issuer := filepath.Join(folder, "seal"), filepath.Join(folder, "level"), filepath.Join(folder, "jwks"), filepath.Join(folder, "issuer")
	k1, k2 := storetest.NewSealKey("k1"), storetest.NewSealKey("k2")
	before, after := newIssuerKey(t, "1", jwt.SigningMethodES256), newIssuerKey(t, "2", jwt.SigningMethodES256)
	write(t, seal, k1)
	write(t, level, "info\n")
	write(t, set, keySet(t, before.member(t, nil)))
	write(t, issuer, testIssuer)
	redis := storetest.StartRedis(t)
	s := startProcess(t, testEnviron(redis, "MFA_SEAL_KEYS", "MFA_SEAL_KEYS_FILE="+seal, "MFA_LOG_LEVEL_FILE="+level,
		"MFA_JWT_JWKS="+set, "MFA_JWT_JWKS_REFRESH=1h", "MFA_JWT_ISSUER", "MFA_JWT_ISSUER_FILE="+issuer))
	storetest.Eventually(t, func() bool { return s.admin("/readyz").status == http.StatusOK })
	first, _ := s.generate(bearer(before.token(t, goodClaims("ada", nil), nil)))

	// The old key still opens, and the new one seals: it alone opens what comes now.
	write(t, seal, k2+","+k1)
	write(t, set, keySet(t, after.member(t, nil)))
	began := time.Now().Unix()
	s.reload(reloaded)
	storetest.Eventually(t, func() bool { return s.metric("mfa_seal_keys") == 2 })
	if at := int64(s.metric("mfa_keyring_loaded_timestamp_seconds")); at < began || at > time.Now().Unix() {
		t.Errorf("the keyring was loaded at %d; want between %d and now", at, began)
	}
	storetest.Eventually(t, func() bool {
		return s.post(bearer(before.token(t, goodClaims("ada", nil), nil))).status == http.StatusUnauthorized
	})
	if key, _ := s.generate(bearer(after.token(t, goodClaims("ada", nil), nil))); key != first {
		t.Error("the pending key changed with the keyring")
	}
	bob, _ := s.generate(bearer(after.token(t, goodClaims("bob", nil), nil)))
	other := startService(t, testEnviron(redis, "MFA_SEAL_KEYS="+k2))
	if key, _ := other.generate(asUser(t, "bob")); key != bob {
		t.Error("the new sealing key did not seal")
	}

	// A fault anywhere changes nothing, and is named without the value.
	write(t, seal, "k3:hunter2")
	write(t, level, "hunter2")
	write(t, set, keySet(t, before.member(t, nil)))
	if got := s.reload(notReloaded); got["level"] != "ERROR" ||
		got["error"] != "settings:\n  MFA_SEAL_KEYS: key 1: want base64 of 32 bytes\n  MFA_LOG_LEVEL: must be debug, info, warn or error" {
		t.Errorf("log record %v; want the faults by name", got)
	}
	// The set would be read by another goroutine: that it was not can only be seen for a while.
	for range 20 {
		if key, _ := s.generate(bearer(after.token(t, goodClaims("bob", nil), nil))); key != bob {
			t.Fatal("a faulty file replaced the keyring")
		}
	}

	// What cannot be reloaded is named, each time.
	write(t, seal, k2)
	write(t, level, "info")
	write(t, issuer, "https://elsewhere.test")
	for range 2 {
		if got := s.reload(needsRestart); fmt.Sprint(got["settings"]) != "[MFA_JWT_ISSUER]" {
			t.Errorf("log record %v; want MFA_JWT_ISSUER", got)
		}
	}
	storetest.Eventually(t, func() bool {
		return s.post(bearer(before.token(t, goodClaims("bob", nil), nil))).status == http.StatusOK
	})
	// At level error, requests leave no line but the audit's. The level changes after its
	// reload is in the log: a first round may come too early.
	write(t, level, "error")
	s.reload(reloaded)
	storetest.Eventually(t, func() bool {
		requests, audits := len(s.logLines("request")), len(s.logLines("audit"))
		for range 20 {
			s.generate(bearer(before.token(t, goodClaims("bob", nil), nil)))
		}
		return len(s.logLines("audit")) == audits+20 && len(s.logLines("request")) == requests
	})
}

// A pipe that nobody writes to holds up neither the service nor its end. A setting that is
// more than its text, here with a file of its own, differs only if its text does.
func TestWhatTookTheFilesPlaceIsJudgedAtAHangup(t *testing.T) {
	folder := t.TempDir()
	redis, seal, cert, key := filepath.Join(folder, "redis"), filepath.Join(folder, "seal"), filepath.Join(folder, "cert"), filepath.Join(folder, "key")
	ca := filepath.Join(folder, "ca")
	sealKey := storetest.NewSealKey("k1")
	certPEM, keyPEM := newCertificate(t, 1)
	write(t, cert, certPEM)
	url := "rediss://127.0.0.1:1?tls_ca_file=" + ca
	write(t, redis, url)
	sound := func() { write(t, seal, sealKey); write(t, key, keyPEM); write(t, ca, certPEM) }
	sound()
	s := startProcess(t, testEnviron(nil, "MFA_REDIS_URL_FILE="+redis, "MFA_SEAL_KEYS", "MFA_SEAL_KEYS_FILE="+seal, "MFA_TLS_CERT="+cert, "MFA_TLS_KEY="+key,
		"OTEL_EXPORTER_OTLP_ENDPOINT=https://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CERTIFICATE="+ca))
	pipes := func() {
		for _, path := range []string{seal, key, ca} {
			if err := errors.Join(syscall.Mkfifo(path+".new", 0o600), os.Rename(path+".new", path)); err != nil {
				t.Fatal(err)
			}
		}
		const want = "settings:\n  MFA_SEAL_KEYS_FILE: is empty\n  MFA_REDIS_URL: tls_ca_file cannot be read as PEM certificates\n" +
			"  MFA_TLS_CERT and MFA_TLS_KEY: tls: failed to find any PEM data in key input\n  OTEL_EXPORTER_OTLP_CERTIFICATE: must be a PEM file of certificates"
		if got := s.reload(notReloaded); got["error"] != want {
			t.Errorf("log record %v; want %s", got, want)
		}
	}
	pipes()
	sound()
	s.reload(reloaded)
	if got := s.logLines(needsRestart); len(got) != 0 {
		t.Errorf("log records %v; want none", got)
	}
	write(t, redis, url+"&pool_size=7")
	if got := s.reload(needsRestart); fmt.Sprint(got["settings"]) != "[MFA_REDIS_URL]" {
		t.Errorf("log record %v; want MFA_REDIS_URL", got)
	}
	pipes()
	if status := s.stop(); status != 0 {
		t.Errorf("exit status %d; want 0", status)
	}
}

// A change that comes while another one is read is not forgotten.
func TestAHangupIsKeptUntilThereIsTimeForIt(t *testing.T) {
	hangup, release := hangups(false)
	defer release()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, func() bool { return len(hangup) == 1 })
}

// serve --dev belongs to a terminal, and ends with it.
func TestAHangupEndsDev(t *testing.T) {
	// Under nohup the signal is ignored, by children as well unless it is caught here.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	s := startProcess(t, testEnviron(nil), "--dev")
	s.status = -1 // ended by a signal
	defer time.AfterFunc(10*time.Second, func() { s.stop() }).Stop()
	s.signal(syscall.SIGHUP)
	if status := s.wait(); status != -1 {
		t.Errorf("exit status %d; want -1", status)
	}
	s.log = &output{} // its last line says how it ended, and is not JSON
}
