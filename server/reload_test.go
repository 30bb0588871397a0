package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

// write puts text at path as a whole, as Kubernetes and careful scripts do.
func write(t *testing.T, path, text string) {
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
	reloaded    = "settings were reloaded"
	notReloaded = "settings were not reloaded; the old ones stay"
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
	s.reload(reloaded)
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
	if got := s.reload(notReloaded); got["level"] != "ERROR" ||
		got["error"] != "settings:\n  MFA_SEAL_KEYS: key 1: want base64 of 32 bytes\n  MFA_LOG_LEVEL: must be debug, info, warn or error" {
		t.Errorf("log record %v; want the faults by name", got)
	}
	if key, _ := s.generate(bearer(after.token(t, goodClaims("bob", nil), nil))); key != bob {
		t.Error("a faulty file replaced the keyring")
	}

	// What cannot be reloaded is named.
	write(t, seal, k2)
	write(t, level, "error")
	write(t, issuer, "https://elsewhere.test")
	if got := s.reload("some settings have changed that need a restart"); fmt.Sprint(got["settings"]) != "[MFA_JWT_ISSUER]" {
		t.Errorf("log record %v; want MFA_JWT_ISSUER", got)
	}
	// At level error, requests leave no line.
	storetest.Eventually(t, func() bool {
		lines := len(s.logLines("request"))
		s.generate(bearer(after.token(t, goodClaims("bob", nil), nil)))
		return len(s.logLines("request")) == lines
	})
}

// newCertificate returns a certificate for 127.0.0.1 with this serial number, and its key.
func newCertificate(t *testing.T, serial int64) (certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, content []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", private)
}

// serial is that of the certificate which the service shows.
func (s *service) serial(config *tls.Config) int64 {
	s.t.Helper()
	connection, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "http://"), config)
	if err != nil {
		s.t.Error(err)
		return 0
	}
	defer connection.Close()
	state := connection.ConnectionState()
	if state.NegotiatedProtocol != "http/1.1" {
		s.t.Errorf("protocol %q; want http/1.1", state.NegotiatedProtocol)
	}
	return state.PeerCertificates[0].SerialNumber.Int64()
}

func TestTLSFilesAreReloadedWhenTheyChange(t *testing.T) {
	folder := t.TempDir()
	// As Kubernetes mounts a secret: ..data is a link that is swapped.
	publish := func(serial int64, spoil string) {
		version := t.TempDir()
		certPEM, keyPEM := newCertificate(t, serial)
		write(t, filepath.Join(version, "cert.pem"), certPEM)
		write(t, filepath.Join(version, "key.pem"), spoil+keyPEM[len(spoil):])
		if err := os.Symlink(version, filepath.Join(folder, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(folder, "new"), filepath.Join(folder, "data")); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, "")
	s := startService(t, testEnviron(storetest.StartRedis(t), "MFA_TLS_CERT="+folder+"/data/cert.pem", "MFA_TLS_KEY="+folder+"/data/key.pem"))
	insecure := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}
	if got := s.serial(insecure); got != 1 {
		t.Errorf("serial %d; want 1", got)
	}
	if _, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "http://"), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	transport := &http.Transport{TLSClientConfig: insecure}
	s.client.Transport = newContract(t, spec(t), transport)
	t.Cleanup(transport.CloseIdleConnections)
	plain := s.url
	s.url = strings.Replace(s.url, "http:", "https:", 1)
	s.generate(asUser(t, "ada"))
	s.url = plain

	publish(2, "")
	storetest.Eventually(t, func() bool { return s.serial(insecure) == 2 })
	publish(3, "spoilt")
	const fault = "TLS files were not reloaded; the last good ones stay"
	storetest.Eventually(t, func() bool { return len(s.logLines(fault)) == 1 })
	if got := s.logLines(fault)[0]; got["level"] != "ERROR" || !strings.HasPrefix(got["error"].(string), "settings:\n  MFA_TLS_CERT and MFA_TLS_KEY: tls: ") {
		t.Errorf("log record %v; want an ERROR that names the settings", got)
	}
	if got := s.serial(insecure); got != 2 {
		t.Errorf("serial %d after a faulty file; want 2", got)
	}
	publish(4, "")
	storetest.Eventually(t, func() bool { return s.serial(insecure) == 4 })
}

func TestFaultyTLSSettings(t *testing.T) {
	folder := t.TempDir()
	certPEM, keyPEM := newCertificate(t, 1)
	_, otherPEM := newCertificate(t, 2)
	cert, other := filepath.Join(folder, "cert"), filepath.Join(folder, "other")
	write(t, cert, certPEM)
	write(t, other, otherPEM)
	for _, c := range []struct {
		cert, key, want string
	}{
		{cert, "", "MFA_TLS_KEY: is required with MFA_TLS_CERT"},
		{"", other, "MFA_TLS_CERT: is required with MFA_TLS_KEY"},
		{cert, other, "MFA_TLS_CERT and MFA_TLS_KEY: tls: private key does not match public key"},
		{"/no/such", "/no/such", "MFA_TLS_CERT: no such file or directory\n  MFA_TLS_KEY: no such file or directory"},
		{cert, keyPEM, "MFA_TLS_KEY: must be the path of a PEM file, not what is in it"},
	} {
		s := &service{t: t, environ: []string{"MFA_TLS_CERT=" + c.cert, "MFA_TLS_KEY=" + c.key}}
		if _, stderr, status := s.command("serve", "--dev"); status != exitUsage || stderr != "mfa: settings:\n  "+c.want+"\n" {
			t.Errorf("status %d, %s; want %s", status, stderr, c.want)
		}
	}
}

func TestSystemdIsToldTheState(t *testing.T) {
	for name, address := range map[string]string{"path": filepath.Join(t.TempDir(), "s"), "abstract": "@mfa-test-" + auth.NewAPIKey()} {
		t.Run(name, func(t *testing.T) {
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
				if got := string(buffer[:n]); err != nil || !regexp.MustCompile("^"+want+"$").MatchString(got) {
					t.Errorf("%q, %v; want %s", got, err, want)
				}
			}
			s := startProcess(t, append(testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1"), "NOTIFY_SOCKET="+address))
			next("READY=1")
			s.signal(syscall.SIGHUP)
			next(`RELOADING=1\nMONOTONIC_USEC=[1-9]\d{5,}`)
			next("READY=1")
			s.signal(syscall.SIGTERM)
			next("STOPPING=1")
			if status := s.wait(); status != 0 {
				t.Errorf("exit status %d; want 0", status)
			}
		})
	}
}

func TestHealthCheckAsksTheAdminListener(t *testing.T) {
	s := startService(t, testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1"))
	_, port, err := net.SplitHostPort(s.logLines("listening")[0]["admin_address"].(string))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address string
		args    []string
		status  int
		stderr  string
	}{
		{"127.0.0.1:" + port, nil, 0, ""},
		{":" + port, nil, 0, ""},
		{"0.0.0.0:" + port, nil, 0, ""},
		{"[::]:" + port, nil, 0, ""},
		{":" + port, []string{"--ready"}, exitFault, "mfa: http://127.0.0.1:" + port + "/readyz answers 503 Service Unavailable\n"},
		{"127.0.0.1:1", nil, exitFault, "mfa: dial tcp 127.0.0.1:1: connect: connection refused\n"},
	} {
		check := &service{t: t, environ: []string{"MFA_ADMIN_LISTEN=" + c.address}}
		if stdout, stderr, status := check.command(append([]string{"healthcheck"}, c.args...)...); status != c.status || stdout != "" || stderr != c.stderr {
			t.Errorf("healthcheck %q of %s: status %d, %q; want %d, %q", c.args, c.address, status, stderr, c.status, c.stderr)
		}
	}
}
