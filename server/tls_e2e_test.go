package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/server/api/apitest"
	"quiva.ai/mfa/store/storetest"
)

// newCertificate returns the PEM texts of a certificate for 127.0.0.1 and of its private key.
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

func TestServe_RotatesTLSFiles(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	// publish replaces both files in one step, as Kubernetes does with a mounted secret.
	publish := func(serial int64) {
		version := t.TempDir()
		certPEM, keyPEM := newCertificate(t, serial)
		write(t, filepath.Join(version, "cert"), certPEM)
		write(t, filepath.Join(version, "key"), keyPEM)
		if err := os.Symlink(version, filepath.Join(folder, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(folder, "new"), filepath.Join(folder, "data")); err != nil {
			t.Fatal(err)
		}
	}
	publish(1)
	s := startInstance(t, testEnviron(storetest.StartRedis(t), "MFA_TLS_CERT="+folder+"/data/cert", "MFA_TLS_KEY="+folder+"/data/key"))
	s.url = strings.Replace(s.url, "http:", "https:", 1)
	insecure := &tls.Config{InsecureSkipVerify: true}
	serial := func() int64 {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), insecure)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("serial %d; want 1", got)
	}
	transport := &http.Transport{TLSClientConfig: insecure}
	t.Cleanup(transport.CloseIdleConnections)
	s.client.Transport = apitest.NewContract(t, transport, nil)
	s.generate(asUser(t, "ada"))
	publish(2)
	const message = "TLS files were reloaded"
	storetest.Eventually(t, func() bool { return len(s.logLines(message)) == 1 })
	if line, got := s.logLines(message)[0], serial(); line["level"] != "INFO" || got != 2 {
		t.Errorf("log record %v, serial %d; want an INFO, 2", line, got)
	}
}
