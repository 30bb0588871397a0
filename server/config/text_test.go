package config

import (
	"strings"
	"testing"
)

func TestLoad_DropsLineBreaksAtTheEndOfAValue(t *testing.T) {
	for _, end := range []string{"\n", "\r", "\r\n", "\n\n"} {
		s, err := Load([]string{
			"MFA_JWT_ISSUER=https://issuer.test" + end, "MFA_JWT_SECRET=" + testSecret + end, "MFA_LOG_LEVEL=warn" + end,
			"MFA_SEAL_KEYS=" + testSealKey + end, "MFA_JWT_AUDIENCE_FILE=" + write(t, "mfa"+end) + end,
		}, flags(t, "--issuer", "from flag"+end), nil)
		if err != nil {
			t.Errorf("with %q at the end: %v", end, err)
			continue
		}
		if s.JWTIssuer != "https://issuer.test" || string(s.JWTSecret) != testSecret || s.LogLevel != "warn" || s.JWTAudience != "mfa" || s.Issuer != "from flag" {
			t.Errorf("with %q at the end: %+v, want it dropped", end, s)
		}
	}
	_, err := Load([]string{"MFA_JWT_ISSUER=\n", "MFA_JWT_SECRET=\r\n"}, flags(t, "--issuer", "\n"), nil)
	wantFaults(t, err, "MFA_JWT_ISSUER: is empty", "MFA_JWT_SECRET: is empty", "MFA_ISSUER: the flag --issuer is empty")
}

func TestLoad_RefusesTextThatIsNotWhatItLooksLike(t *testing.T) {
	forms := map[error][]string{
		errQuoted: {`"x"`, `'x'`, "`x`", "“x”", "„x“", "«x»", `\"x\"`, `"x'`, `""x""`},
		errSpace:  {" x", "x ", "\tx", "x\t", "\u00a0x", "x\u3000", "\nx", "x\n "},
		errHidden: {
			"x\x00", "x\x1b[31m", "x\x7f", "x\xff", "\xff\xfex", "\ufeffx", "x\u200b", "x\u200d", "x\u202e", "\u2066x", "x\u00ad", "x\u3164", "x\u2800",
			"x\ue000", "x\U000e0001", "x\ufffd", "x\nx", "x\r\nx",
		},
	}
	for variable, sound := range map[string]string{"MFA_JWT_ISSUER": "https://issuer.test", "MFA_JWT_SECRET": testSecret, "MFA_PENDING_TTL": "2m"} {
		for fault, values := range forms {
			for _, form := range values {
				_, err := Load([]string{variable + "=" + strings.ReplaceAll(form, "x", sound)}, nil, nil)
				wantFaults(t, err, variable+": "+fault.Error())
			}
		}
	}
	_, err := Load([]string{`MFA_JWT_SECRET_FILE="/x"`, "MFA_ISSUER_FILE= /x", "MFA_JWT_ISSUER_FILE=" + write(t, `"x"`)}, flags(t, "--jwt-audience", "'x'"), nil)
	wantFaults(t, err, "MFA_JWT_SECRET_FILE: "+errQuoted.Error(), "MFA_ISSUER_FILE: "+errSpace.Error(),
		"MFA_JWT_ISSUER: "+errQuoted.Error(), "MFA_JWT_AUDIENCE: "+errQuoted.Error())
}

func TestLoad_AQuotationMarkAtOneEndIsAllowedInASecretOnly(t *testing.T) {
	for _, secret := range []string{`"` + testSecret, testSecret + "'", `it"s ` + testSecret, "é語" + testSecret} {
		if s, err := Load([]string{"MFA_JWT_SECRET=" + secret}, nil, nil); err != nil || string(s.JWTSecret) != secret {
			t.Errorf("secret %s: %v; want it as it stands", secret, err)
		}
	}
	_, err := Load([]string{`MFA_JWT_ISSUER="https://issuer.test`, `MFA_JWT_AUDIENCE="mfa" # comment`, "MFA_LISTEN=:80'", `MFA_JWT_SECRET="` + testSecret + `" # comment`}, nil, nil)
	wantFaults(t, err, "MFA_LISTEN: "+errQuoted.Error(), "MFA_JWT_ISSUER: "+errQuoted.Error(), "MFA_JWT_AUDIENCE: "+errQuoted.Error(), "MFA_JWT_SECRET: "+errQuoted.Error())
	if s, err := Load([]string{"MFA_ISSUER=Rosie's 株式会社 ❤️"}, nil, nil); err != nil || s.Issuer != "Rosie's 株式会社 ❤️" {
		t.Errorf("a name that apps can show: %v", err)
	}
}

func TestLoad_AListMayHaveLineBreaksBetweenItsItems(t *testing.T) {
	s, err := Load([]string{
		"MFA_TRUSTED_PROXIES=\n  10.0.0.0/8,\r\n  fd00::/8\n", "MFA_SEAL_KEYS=" + testSealKey + ",\n\tk2" + testSealKey[2:] + "\n",
	}, nil, nil)
	if err != nil || len(s.Proxies) != 2 || s.SealKeys.Len() != 2 {
		t.Errorf("%v, %+v; want two networks and two sealing keys", err, s)
	}
	_, err = Load([]string{"MFA_TRUSTED_PROXIES='10.0.0.0/8'", "MFA_SEAL_KEYS=" + testSealKey + "\u200b"}, nil, nil)
	wantFaults(t, err, "MFA_SEAL_KEYS: "+errHidden.Error(), "MFA_TRUSTED_PROXIES: "+errQuoted.Error())
}
