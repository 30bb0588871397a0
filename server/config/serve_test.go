package config

import (
	"testing"

	"quiva.ai/mfa/store/storetest"
)

func TestLoadServe_NamesSettingsThatAreMissing(t *testing.T) {
	files := storetest.NewTLSFiles(t)
	other := storetest.NewTLSFiles(t)
	const (
		issuer   = "MFA_JWT_ISSUER: is required with MFA_JWT_SECRET or MFA_JWT_JWKS"
		audience = "MFA_JWT_AUDIENCE: is required with MFA_JWT_SECRET or MFA_JWT_JWKS"
		keys     = "MFA_JWT_SECRET or MFA_JWT_JWKS: is required with MFA_JWT_ISSUER and MFA_JWT_AUDIENCE"
	)
	for name, c := range map[string]struct {
		environ []string // beside Redis, its identity and a sealing key
		want    []string
	}{
		"nothing more":               {nil, nil},
		"all of a secret":            {[]string{"MFA_JWT_SECRET=" + testSecret, "MFA_JWT_ISSUER=x", "MFA_JWT_AUDIENCE=x"}, nil},
		"all of a JWK set":           {[]string{"MFA_JWT_JWKS=set.json", "MFA_JWT_ISSUER=x", "MFA_JWT_AUDIENCE=x"}, nil},
		"a secret alone":             {[]string{"MFA_JWT_SECRET=" + testSecret}, []string{issuer, audience}},
		"a faulty secret alone":      {[]string{"MFA_JWT_SECRET=" + testSecret[1:]}, []string{"MFA_JWT_SECRET: must have at least 32 bytes", issuer, audience}},
		"a JWK set and an issuer":    {[]string{"MFA_JWT_JWKS=set.json", "MFA_JWT_ISSUER=x"}, []string{audience}},
		"a faulty JWK set":           {[]string{"MFA_JWT_JWKS=https://", "MFA_JWT_ISSUER=x"}, []string{"MFA_JWT_JWKS: must be a file path or an https URL without user and fragment", audience}},
		"an audience alone":          {[]string{"MFA_JWT_AUDIENCE=x"}, []string{keys}},
		"an issuer alone":            {[]string{"MFA_JWT_ISSUER=x"}, []string{keys}},
		"an issuer's missing file":   {[]string{"MFA_JWT_ISSUER_FILE=/no/such/file"}, []string{"MFA_JWT_ISSUER_FILE: no such file or directory", keys}},
		"an audience's missing file": {[]string{"MFA_JWT_AUDIENCE_FILE=/no/such/file", "MFA_JWT_JWKS=x", "MFA_JWT_ISSUER=x"}, []string{"MFA_JWT_AUDIENCE_FILE: no such file or directory"}},
		"both TLS files":             {[]string{"MFA_TLS_CERT=" + files.Cert, "MFA_TLS_KEY=" + files.Key}, nil},
		"a certificate alone":        {[]string{"MFA_TLS_CERT=" + files.Cert}, []string{"MFA_TLS_KEY: is required with MFA_TLS_CERT"}},
		"a TLS key alone":            {[]string{"MFA_TLS_KEY=" + files.Key}, []string{"MFA_TLS_CERT: is required with MFA_TLS_KEY"}},
		"another's TLS key":          {[]string{"MFA_TLS_CERT=" + files.Cert, "MFA_TLS_KEY=" + other.Key}, []string{"MFA_TLS_CERT and MFA_TLS_KEY: tls: private key does not match public key"}},
		"no TLS files":               {[]string{"MFA_TLS_CERT=/no/such/file", "MFA_TLS_KEY=/no/such/file"}, []string{"MFA_TLS_CERT: no such file or directory", "MFA_TLS_KEY: no such file or directory"}},
		"a part of a second":         {[]string{"MFA_STEP_UP_MAX_AGE=1500ms"}, []string{"MFA_STEP_UP_MAX_AGE: must be whole seconds"}},
		"one address":                {[]string{"MFA_ADMIN_LISTEN=127.0.0.1:8080"}, []string{"MFA_LISTEN and MFA_ADMIN_LISTEN: are the same address"}},
	} {
		t.Run(name, func(t *testing.T) {
			environ := append([]string{"MFA_REDIS_URL=redis://h", "MFA_STORE_ID=x", "MFA_SEAL_KEYS=" + testSealKey}, c.environ...)
			s, err := LoadServe(environ, nil, nil, false)
			wantFaults(t, err, c.want...)
			if s != nil != (err == nil) {
				t.Errorf("settings %v beside the error %v", s, err)
			}
		})
	}
}

func TestLoadServe_RequiresRedisUnlessDev(t *testing.T) {
	_, err := LoadServe(nil, nil, nil, false)
	wantFaults(t, err, "MFA_REDIS_URL: is required (mfa serve --dev works without)", "MFA_SEAL_KEYS: is required", "MFA_STORE_ID: is required: mfa store init prints it")
	if s, err := LoadServe(nil, nil, map[string]string{"MFA_SEAL_KEYS": testSealKey}, true); err != nil || s.RedisURL != nil {
		t.Errorf("with dev: %v, %+v; want settings without Redis", err, s)
	}
}
