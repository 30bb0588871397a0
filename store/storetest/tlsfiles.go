package storetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TLSFiles are paths of PEM files: an authority's certificate, and a certificate for
// 127.0.0.1 and mfa.internal that the authority signed. It suits servers and clients.
type TLSFiles struct{ CA, Cert, Key string }

// NewTLSFiles makes an authority and a certificate, both valid for an hour.
func NewTLSFiles(t testing.TB) TLSFiles { t.Helper(); return newTLSFiles(t, net.IPv4(127, 0, 0, 1)) }

// NewNamedTLSFiles is NewTLSFiles with a certificate for mfa.internal alone.
func NewNamedTLSFiles(t testing.TB) TLSFiles { t.Helper(); return newTLSFiles(t) }

func newTLSFiles(t testing.TB, ips ...net.IP) TLSFiles {
	t.Helper()
	dir := t.TempDir()
	files := TLSFiles{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		}
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	authority := template(1, "authority")
	authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	leaf := template(2, "leaf")
	leaf.IPAddresses, leaf.DNSNames = ips, []string{"mfa.internal"}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	for path, block := range map[string]*pem.Block{
		files.CA: {Type: "CERTIFICATE", Bytes: authorityDER}, files.Cert: {Type: "CERTIFICATE", Bytes: leafDER}, files.Key: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	}
	return files
}
