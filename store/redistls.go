package store

import (
	"crypto/tls"
	"crypto/x509"

	"quiva.ai/mfa/store/smallfile"
)

// tlsFiles are the paths of PEM files. Each may be empty.
type tlsFiles struct{ ca, cert, key string }

// addTo reads the files into config and returns the faults.
func (f tlsFiles) addTo(config *tls.Config) (faults []string) {
	if f.ca != "" {
		text, err := smallfile.Read(f.ca)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(text) {
			faults = append(faults, "tls_ca_file cannot be read as PEM certificates")
		}
	}
	if f.cert+f.key != "" {
		certificate, err := smallfile.KeyPair(f.cert, f.key)
		if err != nil {
			faults = append(faults, "tls_cert_file and tls_key_file cannot be read as a PEM certificate and its key")
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return faults
}
