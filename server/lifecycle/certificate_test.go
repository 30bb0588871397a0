package lifecycle

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"
)

// certificateFiles are TLS files that a test changes.
type certificateFiles struct {
	t         *testing.T
	cert, key string
}

func newCertificateFiles(t *testing.T) certificateFiles {
	return certificateFiles{t, filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")}
}

func (f certificateFiles) write(certPEM, keyPEM string) {
	f.t.Helper()
	writeFile(f.t, f.cert, certPEM)
	writeFile(f.t, f.key, keyPEM)
}

func (f certificateFiles) load(now func() time.Time, log *slog.Logger) *Certificate {
	f.t.Helper()
	certificate, err := LoadCertificate(f.cert, f.key, now, log)
	if err != nil {
		f.t.Fatal(err)
	}
	return certificate
}

// serial returns the serial number of the certificate that clients get.
func (c *Certificate) serial(t *testing.T) int64 {
	t.Helper()
	pair, err := c.config().GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.SerialNumber.Int64()
}

func TestLoadCertificate_NamesFaultySettings(t *testing.T) {
	files, other := newCertificateFiles(t), newCertificateFiles(t)
	files.write(newCertificate(t, 1, time.Time{}, time.Now()))
	other.write(newCertificate(t, 2, time.Time{}, time.Now()))
	for _, row := range []struct{ cert, key, want string }{
		{files.cert, files.key, ""},
		{files.cert, "absent", "MFA_TLS_KEY: no such file or directory"},
		{"absent", "absent", "MFA_TLS_CERT: no such file or directory\nMFA_TLS_KEY: no such file or directory"},
		{files.cert, other.key, "MFA_TLS_CERT and MFA_TLS_KEY: tls: private key does not match public key"},
		{files.cert, files.cert, "MFA_TLS_CERT and MFA_TLS_KEY: tls: found a certificate rather than a key in the PEM for the private key"},
	} {
		c, err := LoadCertificate(row.cert, row.key, time.Now, slog.New(slog.DiscardHandler))
		if errorText(err) != row.want || (c == nil) != (row.want != "") {
			t.Errorf("LoadCertificate(%q, %q) = %v, %v; want %s", row.cert, row.key, c, err, row.want)
		}
	}
}

func TestLoadCertificate_WarnsOfInvalidTime(t *testing.T) {
	from := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	until := from.Add(time.Hour)
	const warning = `level=WARN msg="the certificate of MFA_TLS_CERT is not valid now" not_before=2026-11-01T00:00:00.000Z not_after=2026-11-01T01:00:00.000Z` + "\n"
	files := newCertificateFiles(t)
	files.write(newCertificate(t, 1, from, until))
	for now, want := range map[time.Time]string{
		from.Add(-time.Second): warning, from: "", until: "", until.Add(time.Second): warning,
	} {
		log, lines := newLog(slog.LevelInfo)
		files.load(func() time.Time { return now }, log)
		lines.wantLog(t, now.String(), want)
	}
}

func TestCertificate_RefreshKeepsLastGoodPair(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	const (
		reloaded = `level=INFO msg="TLS files were reloaded" not_after=2026-11-01T01:00:00.000Z` + "\n"
		kept     = `level=ERROR msg="TLS files were not reloaded; the last good ones stay" error="`
		mismatch = kept + `MFA_TLS_CERT and MFA_TLS_KEY: tls: private key does not match public key"` + "\n"
		invalid  = kept + `MFA_TLS_CERT: has a certificate that is not valid now"` + "\n"
	)
	cert1, key1 := newCertificate(t, 1, now, now.Add(time.Hour))
	cert2, key2 := newCertificate(t, 2, now, now.Add(time.Hour))
	expiredCert, expiredKey := newCertificate(t, 3, now.Add(-time.Hour), now.Add(-time.Second))
	earlyCert, earlyKey := newCertificate(t, 4, now.Add(2*time.Second), now.Add(time.Hour))
	files := newCertificateFiles(t)
	files.write(cert1, key1)
	log, lines := newLog(slog.LevelInfo)
	certificate := files.load(func() time.Time { return now }, log)
	for _, step := range []struct {
		name      string
		cert, key string
		serial    int64
		log       string
	}{
		{"the same", cert1, key1, 1, ""},
		{"between two writes", cert2, key1, 1, ""},
		{"after both writes", cert2, key2, 2, reloaded},
		{"first mismatch", cert1, key2, 2, ""},
		{"second mismatch", cert1, key2, 2, mismatch},
		{"third mismatch", cert1, key2, 2, ""},
		{"another pair", cert1, key1, 1, reloaded},
		{"first mismatch again", cert2, key1, 1, ""},
		{"second mismatch again", cert2, key1, 1, mismatch},
		{"first expired", expiredCert, expiredKey, 1, ""},
		{"second expired", expiredCert, expiredKey, 1, invalid},
		{"the same again", cert1, key1, 1, ""},
		{"another chain", cert1 + cert2, key1, 1, reloaded},
		{"first early", earlyCert, earlyKey, 1, ""},
		{"second early", earlyCert, earlyKey, 1, invalid},
	} {
		files.write(step.cert, step.key)
		certificate.refresh(context.Background())
		if got := certificate.serial(t); got != step.serial {
			t.Errorf("%s: serial %d; want %d", step.name, got, step.serial)
		}
		lines.wantLog(t, step.name, step.log)
	}
}

// An expired certificate may be replaced by another one that is not valid.
func TestCertificate_RefreshReplacesInvalidPair(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	files := newCertificateFiles(t)
	files.write(newCertificate(t, 1, now.Add(-time.Hour), now.Add(-time.Minute)))
	certificate := files.load(func() time.Time { return now }, slog.New(slog.DiscardHandler))
	files.write(newCertificate(t, 2, now.Add(time.Minute), now.Add(time.Hour)))
	certificate.refresh(t.Context())
	if got := certificate.serial(t); got != 2 {
		t.Errorf("serial %d; want 2", got)
	}
}
