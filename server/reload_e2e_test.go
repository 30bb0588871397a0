package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store/storetest"
)

const (
	reloaded     = "settings were reloaded"
	notReloaded  = "settings were not reloaded; the old ones stay"
	needsRestart = "some settings have changed that need a restart"
)

func TestServe_ReloadsOnHangup(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	seal, level, jwks, issuer := filepath.Join(folder, "seal"), filepath.Join(folder, "level"), filepath.Join(folder, "jwks"), filepath.Join(folder, "issuer")
	k1, k2 := testSealKeys, storetest.NewSealKey("k2") // the store identity is sealed with k1
	oldKey, newKey := newIssuerKey(t, "1", jwt.SigningMethodES256), newIssuerKey(t, "2", jwt.SigningMethodES256)
	as := func(key issuerKey, account string) http.Header {
		return bearer(key.token(t, goodClaims(account, nil), nil))
	}
	write(t, seal, k1)
	write(t, level, "info\n")
	write(t, jwks, keySet(t, oldKey.member(t)))
	write(t, issuer, testIssuer)
	redis := storetest.StartRedis(t)
	s := startProcess(t, testEnviron(redis, "MFA_SEAL_KEYS", "MFA_SEAL_KEYS_FILE="+seal, "MFA_LOG_LEVEL_FILE="+level,
		"MFA_JWT_JWKS="+jwks, "MFA_JWT_JWKS_REFRESH=1h", "MFA_JWT_ISSUER", "MFA_JWT_ISSUER_FILE="+issuer))
	storetest.Eventually(t, func() bool { return s.admin("/readyz").status == http.StatusOK })
	ada, _ := s.generate(as(oldKey, "ada"))

	// The new sealing key seals, and the old one still opens. The JWK set is replaced.
	write(t, seal, k2+","+k1)
	write(t, jwks, keySet(t, newKey.member(t)))
	s.reload(reloaded)
	// The old key comes first: a token of an unknown key would have the set read again.
	storetest.Eventually(t, func() bool { return s.post(as(oldKey, "ada")).status == http.StatusUnauthorized })
	if key, _ := s.generate(as(newKey, "ada")); key != ada {
		t.Error("the pending secret has changed with the keyring")
	}
	bob, _ := s.generate(as(newKey, "bob"))
	other := startInstance(t, testEnviron(redis, "MFA_SEAL_KEYS="+k2))
	if key, _ := other.generate(asUser(t, "bob")); key != bob {
		t.Error("the new sealing key did not seal")
	}

	// With a fault no setting changes, but the JWK set is read. The fault is logged without the
	// value.
	write(t, jwks, keySet(t, oldKey.member(t), newKey.member(t)))
	write(t, seal, "k3:hunter2")
	write(t, level, "hunter2")
	const faults = "settings:\n  MFA_SEAL_KEYS: key 1: want base64 of 32 bytes\n  MFA_LOG_LEVEL: must be debug, info, warn or error"
	if got := s.reload(notReloaded); got["level"] != "ERROR" || got["error"] != faults {
		t.Errorf("log record %v; want an ERROR with %s", got, faults)
	}
	if key, _ := s.generate(as(newKey, "bob")); key != bob {
		t.Error("a faulty file has replaced the keyring")
	}
	storetest.Eventually(t, func() bool { return s.post(as(oldKey, "ada")).status == http.StatusOK })

	// The changed settings that need a restart are named.
	write(t, seal, k2)
	write(t, level, "error")
	write(t, issuer, "https://elsewhere.test")
	if got := s.reload(needsRestart); got["level"] != "WARN" || fmt.Sprint(got["settings"]) != "[MFA_JWT_ISSUER]" {
		t.Errorf("log record %v; want a WARN with MFA_JWT_ISSUER", got)
	}
	// At level error a refused call leaves no line, and an audit event still does. The lines of
	// a process are in order. The level is set after the log record.
	storetest.Eventually(t, func() bool {
		before := len(s.logLines("request"))
		s.post(nil)
		s.generate(as(newKey, "bob"))
		storetest.Eventually(t, func() bool {
			lines := s.logLines("request")[before:]
			return len(lines) > 0 && lines[len(lines)-1]["event"] == "totp_key_issued"
		})
		return len(s.logLines("request")) == before+1
	})
}

// serve --dev belongs to a terminal and ends with it.
func TestServe_DevEndsOnHangup(t *testing.T) {
	// Under nohup the signal is ignored, and child processes inherit that.
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
	s.log = &output{} // its last line is not JSON
}

func TestServe_NotifiesSystemd(t *testing.T) {
	t.Parallel()
	address := filepath.Join(t.TempDir(), "s")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	next := func(want string) {
		t.Helper()
		buffer := make([]byte, 1000)
		_ = socket.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := socket.Read(buffer)
		if err != nil || !regexp.MustCompile("^"+want+"$").Match(buffer[:n]) {
			t.Fatalf("%q, %v; want %s", buffer[:n], err, want)
		}
	}
	s := startProcess(t, append(testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1", "MFA_DRAIN=1s"), "NOTIFY_SOCKET="+address))
	next("READY=1")
	s.signal(syscall.SIGHUP)
	next(`RELOADING=1\nMONOTONIC_USEC=\d+`)
	next("READY=1")
	s.signal(syscall.SIGTERM)
	// 1 s of MFA_DRAIN, 0.1 s for late requests, 12 s of MFA_STOP_TIMEOUT, 3 s for traces, 5 s to spare.
	next("STOPPING=1\nEXTEND_TIMEOUT_USEC=21100000")
	s.signal(syscall.SIGHUP) // has no effect any more
	if status := s.wait(); status != 0 {
		t.Errorf("exit status %d; want 0", status)
	}
	_ = socket.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := socket.Read(make([]byte, 1000)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v after STOPPING=1; want none", n, err)
	}
}

func TestServe_WaitsForRedisAndReportsItsSetup(t *testing.T) {
	t.Parallel()
	redis := storetest.StartRedis(t, "--maxmemory-policy", "allkeys-lru") // and without AOF
	redis.Kill()
	s := startInstance(t, testEnviron(redis))
	storetest.Eventually(t, func() bool { return len(s.logLines("redis does not answer yet")) == 1 })
	if got := s.post(asUser(t, "ada")); got.status != http.StatusServiceUnavailable {
		t.Errorf("without Redis: %d; want 503", got.status)
	}
	redis.Restart(t)
	storetest.Eventually(t, func() bool { return len(s.logLines("redis is fit to serve")) == 1 })
	var findings []string
	for _, line := range s.logLines("redis is not set up as it should be") {
		finding, _, _ := strings.Cut(line["finding"].(string), " is ")
		findings = append(findings, fmt.Sprint(line["level"], " ", finding))
	}
	if diff := cmp.Diff([]string{"ERROR appendonly", "ERROR maxmemory-policy", "ERROR store identity"}, findings); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	s.generate(asUser(t, "ada"))
}
