package config

import (
	"strings"
	"time"

	"quiva.ai/mfa/server/lifecycle"
)

// checkServe returns the faults that only serving has: required settings that are missing,
// and settings that contradict each other. A setting with one of the known faults counts as
// set: it must not be reported as missing too.
func (s *Settings) checkServe(dev bool, known Faults) Faults {
	var faults Faults
	if s.RedisURL == nil && !dev {
		faults = append(faults, "MFA_REDIS_URL: is required (mfa serve --dev works without)")
	}
	if s.SealKeys == nil {
		faults = append(faults, "MFA_SEAL_KEYS: is required")
	}
	if s.StoreID == "" && !dev {
		faults = append(faults, "MFA_STORE_ID: is required: mfa store init prints it")
	}
	if s.StepUp != s.StepUp.Truncate(time.Second) { // RFC 9470 has whole seconds.
		faults = append(faults, "MFA_STEP_UP_MAX_AGE: must be whole seconds")
	}
	if s.Listen.clashes(s.AdminListen) {
		faults = append(faults, "MFA_LISTEN and MFA_ADMIN_LISTEN: are the same address")
	}
	faults = append(faults, s.checkTokens(known)...)
	return append(faults, s.checkTLS()...)
}

// checkTokens checks that the settings of bearer tokens are either complete or all unset.
func (s *Settings) checkTokens(known Faults) Faults {
	given := func(set bool, variable string) bool { return set || known.concern(variable) }
	verifies := given(s.JWTSecret != nil, "MFA_JWT_SECRET") || given(s.JWTKeySet != nil, "MFA_JWT_JWKS")
	issuer, audience := given(s.JWTIssuer != "", "MFA_JWT_ISSUER"), given(s.JWTAudience != "", "MFA_JWT_AUDIENCE")
	var faults Faults
	if verifies && !issuer {
		faults = append(faults, "MFA_JWT_ISSUER: is required with MFA_JWT_SECRET or MFA_JWT_JWKS")
	}
	if verifies && !audience {
		faults = append(faults, "MFA_JWT_AUDIENCE: is required with MFA_JWT_SECRET or MFA_JWT_JWKS")
	}
	if !verifies && (issuer || audience) {
		faults = append(faults, "MFA_JWT_SECRET or MFA_JWT_JWKS: is required with MFA_JWT_ISSUER and MFA_JWT_AUDIENCE")
	}
	return faults
}

// checkTLS checks that there are either both TLS files or none, and reads them.
func (s *Settings) checkTLS() Faults {
	if s.TLSCert == "" && s.TLSKey == "" {
		return nil
	}
	var faults Faults
	if s.TLSCert == "" {
		faults = append(faults, "MFA_TLS_CERT: is required with MFA_TLS_KEY")
	}
	if s.TLSKey == "" {
		faults = append(faults, "MFA_TLS_KEY: is required with MFA_TLS_CERT")
	}
	if _, err := lifecycle.LoadKeyPair(s.TLSCert, s.TLSKey); err != nil {
		faults = faults.with(strings.Split(err.Error(), "\n"))
	}
	return faults
}
