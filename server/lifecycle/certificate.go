package lifecycle

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"quiva.ai/mfa/store/smallfile"
)

// certificateInterval is the time between two looks at the TLS files.
const certificateInterval = 2 * time.Second

// Certificate is the API's TLS certificate. It is reloaded when its files change; a faulty file
// leaves the last good pair in place. The TLS server may use it concurrently with the reload.
type Certificate struct {
	certFile, keyFile string
	now               func() time.Time
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]

	fault string // of the last look at the files
	looks int    // successive looks with this fault
}

// LoadCertificate reads the PEM files of a certificate chain and its private key. It warns if
// the certificate is not valid now.
func LoadCertificate(certFile, keyFile string, now func() time.Time, log *slog.Logger) (*Certificate, error) {
	pair, err := LoadKeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile, now: now, log: log}
	c.current.Store(pair)
	if !c.valid(pair) {
		log.Warn("the certificate of MFA_TLS_CERT is not valid now", "not_before", pair.Leaf.NotBefore, "not_after", pair.Leaf.NotAfter)
	}
	return c, nil
}

// LoadKeyPair reads the PEM files of a certificate chain and its private key. Its error has
// a line for each setting at fault.
func LoadKeyPair(certFile, keyFile string) (*tls.Certificate, error) {
	chain, chainErr := smallfile.Read(certFile)
	if chainErr != nil {
		chainErr = fmt.Errorf("MFA_TLS_CERT: %w", chainErr)
	}
	key, keyErr := smallfile.Read(keyFile)
	if keyErr != nil {
		keyErr = fmt.Errorf("MFA_TLS_KEY: %w", keyErr)
	}
	if err := errors.Join(chainErr, keyErr); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("MFA_TLS_CERT and MFA_TLS_KEY: %w", err)
	}
	return &pair, nil
}

// valid tells whether now is within the certificate's time.
func (c *Certificate) valid(pair *tls.Certificate) bool {
	now := c.now()
	return !now.Before(pair.Leaf.NotBefore) && !now.After(pair.Leaf.NotAfter)
}

// refresh reads the files again. It must not run concurrently with itself. It logs a fault only
// at the second look: a single look may fall between the writes of the two files.
func (c *Certificate) refresh(ctx context.Context) {
	pair, err := LoadKeyPair(c.certFile, c.keyFile)
	if err == nil && !c.valid(pair) && c.valid(c.current.Load()) {
		err = errors.New("MFA_TLS_CERT: has a certificate that is not valid now")
	}
	if err != nil {
		if c.fault != err.Error() {
			c.fault, c.looks = err.Error(), 0
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

func (c *Certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
