package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/store/storetest"
)

// newCertificate returns a certificate for 127.0.0.1 with this serial number, and its key.
func newCertificate(t *testing.T, serial int64) (certPEM, keyPEM string) {
	t.Helper()
	return newCertificateFor(t, serial, time.Time{}, time.Now().Add(time.Hour))
}

func newCertificateFor(t *testing.T, serial int64, from, until time.Time) (certPEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: from, NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
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
	s := startService(t, testEnviron(storetest.StartRedis(t), "MFA_TLS_CERT="+folder+"/data/cert.pem", "MFA_TLS_KEY="+folder+"/data/key.pem", "MFA_LOG_LEVEL=debug"))
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

	// Anybody can take it for HTTP, which must not hide what matters in the log.
	mistaken, answer := s.dial()
	if _, err := io.WriteString(mistaken, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(answer); err != nil || string(got) != "HTTP/1.0 400 Bad Request\r\n\r\nHere is HTTPS spoken, and not HTTP.\n" {
		t.Errorf("HTTP instead of HTTPS: %q, %v; want it said", got, err)
	}
	storetest.Eventually(t, func() bool { return len(s.logLines("TLS handshake failed")) == 2 })
	for _, line := range s.logLines("TLS handshake failed") {
		if line["level"] != "DEBUG" || !strings.HasPrefix(line["client"].(string), "127.0.0.1:") || !strings.HasPrefix(line["error"].(string), "tls: ") {
			t.Errorf("log record %v; want it at DEBUG, with who and why", line)
		}
	}

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

// The watch looks every 2 s; here each look is a call.
func TestWhatEachLookAtTheTLSFilesLogs(t *testing.T) {
	const (
		taken = "INFO TLS files were reloaded"
		kept  = "ERROR TLS files were not reloaded; the last good ones stay: settings: "
		twins = kept + "MFA_TLS_CERT and MFA_TLS_KEY: tls: private key does not match public key"
		stale = kept + "MFA_TLS_CERT: has a certificate that is not valid now"
	)
	folder, clock := t.TempDir(), storetest.NewClock()
	cert, key := filepath.Join(folder, "cert"), filepath.Join(folder, "key")
	now := clock.Now()
	cert1, key1 := newCertificateFor(t, 1, time.Time{}, now.Add(time.Hour))
	cert2, key2 := newCertificateFor(t, 2, time.Time{}, now.Add(time.Hour))
	expiredCert, expiredKey := newCertificateFor(t, 3, time.Time{}, now.Add(-time.Second))
	earlyCert, earlyKey := newCertificateFor(t, 4, now.Add(2*time.Second), now.Add(time.Hour))
	write(t, cert, cert1)
	write(t, key, key1)
	log := &output{}
	watched, err := settings{TLSCert: tlsFile(cert), TLSKey: tlsFile(key)}.certificate(clock.Now, newLogger(log, slog.LevelInfo, "json"))
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		cert, key string
		serial    int64 // of the certificate that is shown after it
		want      string
	}{
		{cert1, key1, 1, ""},
		{cert2, key1, 1, ""}, // in two steps
		{cert2, key2, 2, taken},
		{cert1, key2, 2, ""},
		{cert1, key2, 2, twins},
		{cert1, key2, 2, ""}, // has been said
		{cert1, key1, 1, taken},
		{cert2, key1, 1, ""},
		{cert2, key1, 1, twins}, // is news again
		{expiredCert, expiredKey, 1, ""},
		{expiredCert, expiredKey, 1, stale},
		{cert1, key1, 1, ""},
		{cert1 + cert2, key1, 1, taken}, // the same leaf, with an issuer
		{earlyCert, earlyKey, 1, ""},
		{earlyCert, earlyKey, 1, stale},
		{cert1 + cert2, key1, 1, ""},
	} {
		write(t, cert, step.cert)
		write(t, key, step.key)
		log.discard()
		watched.refresh(t.Context())
		got := strings.Join(recordTexts(log), "\n")
		if serial := watched.current.Load().Leaf.SerialNumber.Int64(); serial != step.serial || got != step.want {
			t.Errorf("look %d: serial %d, log %q; want %d, %q", i+1, serial, got, step.serial, step.want)
		}
	}
}

// recordTexts are the records of a log in short.
func recordTexts(log *output) []string {
	var texts []string
	for line := range strings.Lines(log.String()) {
		var record struct{ Level, Msg, Error string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			return []string{err.Error()}
		}
		text := record.Level + " " + record.Msg
		if record.Error != "" {
			text += ": " + strings.Join(strings.Fields(record.Error), " ")
		}
		texts = append(texts, text)
	}
	return texts
}

// At the start it is the only one there is.
func TestACertificateThatIsNotValidIsServedWithAWarning(t *testing.T) {
	folder := t.TempDir()
	certPEM, keyPEM := newCertificateFor(t, 1, time.Time{}, time.Now().Add(-time.Hour))
	cert, key := filepath.Join(folder, "cert"), filepath.Join(folder, "key")
	write(t, cert, certPEM)
	write(t, key, keyPEM)
	s := startService(t, testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1", "MFA_TLS_CERT="+cert, "MFA_TLS_KEY="+key))
	if lines := s.logLines("the certificate of MFA_TLS_CERT is not valid now"); len(lines) != 1 || lines[0]["level"] != "WARN" {
		t.Errorf("log records %v; want one WARN", lines)
	}
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
