package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"quiva.ai/mfa/store/smallfile"
)

// certificateInterval is how often the TLS files are looked at.
const certificateInterval = 2 * time.Second

// tlsFile is the path of a PEM file.
type tlsFile string

func (f *tlsFile) UnmarshalText(text []byte) error {
	if strings.ContainsAny(string(text), "\r\n") {
		return errors.New("must be the path of a PEM file, not what is in it")
	}
	*f = tlsFile(text)
	return nil
}

// checkTLS returns what is wrong with the TLS settings and the files they name.
func (s settings) checkTLS() faults {
	switch {
	case s.TLSCert == "" && s.TLSKey == "":
		return nil
	case s.TLSCert == "":
		return faults{"MFA_TLS_CERT: is required with MFA_TLS_KEY"}
	case s.TLSKey == "":
		return faults{"MFA_TLS_KEY: is required with MFA_TLS_CERT"}
	}
	_, wrong := loadCertificate(s.TLSCert, s.TLSKey)
	return wrong
}

// loadCertificate reads both files.
func loadCertificate(certFile, keyFile tlsFile) (*tls.Certificate, faults) {
	var wrong faults
	read := func(variable string, file tlsFile) []byte {
		content, err := smallfile.Read(string(file))
		if err != nil {
			wrong = append(wrong, variable+": "+err.Error())
		}
		return content
	}
	certPEM, keyPEM := read("MFA_TLS_CERT", certFile), read("MFA_TLS_KEY", keyFile)
	if wrong != nil {
		return nil, wrong
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, faults{"MFA_TLS_CERT and MFA_TLS_KEY: " + err.Error()}
	}
	return &pair, nil
}

// certificate is what the API shows its clients, kept up to date with its files. A
// faulty file leaves the last good pair in place.
type certificate struct {
	certFile, keyFile tlsFile
	log               *slog.Logger
	now               func() time.Time
	current           atomic.Pointer[tls.Certificate]
	fault             string // of the last look
	looks             int    // that have found it
}

// certificate returns nil if the API is to be served without TLS.
func (s settings) certificate(now func() time.Time, log *slog.Logger) (*certificate, error) {
	if s.TLSCert == "" {
		return nil, nil
	}
	pair, wrong := loadCertificate(s.TLSCert, s.TLSKey)
	if wrong != nil {
		return nil, wrong
	}
	c := &certificate{certFile: s.TLSCert, keyFile: s.TLSKey, now: now, log: log}
	c.current.Store(pair)
	if !c.valid(pair) {
		log.Warn("the certificate of MFA_TLS_CERT is not valid now", "not_before", pair.Leaf.NotBefore, "not_after", pair.Leaf.NotAfter)
	}
	return c, nil
}

// valid tells whether clients may accept the certificate now.
func (c *certificate) valid(pair *tls.Certificate) bool {
	now := c.now()
	return !now.Before(pair.Leaf.NotBefore) && !now.After(pair.Leaf.NotAfter)
}

// refresh takes the files as they are now. It must not run twice at once. A fault that the
// next look does not find any more is not worth a word: one file was written before the
// other.
func (c *certificate) refresh(ctx context.Context) {
	pair, wrong := loadCertificate(c.certFile, c.keyFile)
	if wrong == nil && !c.valid(pair) && c.valid(c.current.Load()) {
		wrong = faults{"MFA_TLS_CERT: has a certificate that is not valid now"}
	}
	if wrong != nil {
		if c.fault != wrong.Error() {
			c.fault, c.looks = wrong.Error(), 0
		}
		if c.looks++; c.looks == 2 {
			c.log.ErrorContext(ctx, "TLS files were not reloaded; the last good ones stay", "error", c.fault)
		}
		return
	}
	c.fault = ""
	if slices.EqualFunc(pair.Certificate, c.current.Load().Certificate, bytes.Equal) {
		return
	}
	c.current.Store(pair)
	c.log.InfoContext(ctx, "TLS files were reloaded", "not_after", pair.Leaf.NotAfter)
}

// config is for the listener; nil without a certificate. HTTP/2 is not offered: one short
// request at a time gains nothing by it, and the limits of a connection, and what is tested
// of them, are HTTP/1.1's.
func (c *certificate) config() *tls.Config {
	if c == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// scheme is that of the API's URL.
func (s settings) scheme() string {
	if s.TLSCert != "" {
		return "https"
	}
	return "http"
}
