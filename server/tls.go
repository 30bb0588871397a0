package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
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
		content, err := os.ReadFile(string(file))
		if err != nil {
			wrong = append(wrong, variable+": "+errors.Unwrap(err).Error()) // without the path
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
	current           atomic.Pointer[tls.Certificate]
	reported          string // the fault that is in the log already
}

// certificate returns nil if the API is to be served without TLS.
func (s settings) certificate(log *slog.Logger) (*certificate, error) {
	if s.TLSCert == "" {
		return nil, nil
	}
	pair, wrong := loadCertificate(s.TLSCert, s.TLSKey)
	if wrong != nil {
		return nil, wrong
	}
	c := &certificate{certFile: s.TLSCert, keyFile: s.TLSKey, log: log}
	c.current.Store(pair)
	return c, nil
}

// refresh takes the files as they are now. It must not run twice at once.
func (c *certificate) refresh(ctx context.Context) {
	pair, wrong := loadCertificate(c.certFile, c.keyFile)
	if wrong != nil {
		if c.reported != wrong.Error() {
			c.log.ErrorContext(ctx, "TLS files were not reloaded; the last good ones stay", "error", wrong.Error())
		}
		c.reported = wrong.Error()
		return
	}
	c.reported = ""
	if slices.EqualFunc(pair.Certificate, c.current.Load().Certificate, bytes.Equal) {
		return
	}
	c.current.Store(pair)
	c.log.InfoContext(ctx, "TLS files were reloaded", "not_after", pair.Leaf.NotAfter)
}

// config is for the listener. HTTP/2 is not offered: one short request at a time gains
// nothing by it, and the limits of a connection, and what is tested of them, are HTTP/1.1's.
func (c *certificate) config() *tls.Config {
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
