package auth

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

type noKeys struct{}

func (noKeys) FindAPIKey(context.Context, string) (Principal, error) {
	return Principal{}, ErrUnknownKey
}

func TestAnAuthenticatorIsNotMadeOfHalfAConfiguration(t *testing.T) {
	sound := Config{Keys: noKeys{}, KeyTime: time.Second, HMACSecret: []byte(testSecret), KeySet: &KeySet{}, Issuer: testIssuer, Audience: testAudience, Now: time.Now}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"sound":                           {func(*Config) {}, ""},
		"API keys only":                   {func(c *Config) { c.HMACSecret, c.KeySet, c.Issuer, c.Audience = nil, nil, "", "" }, ""},
		"no look-up":                      {func(c *Config) { c.Keys = nil }, "auth: Keys, KeyTime and Now are required"},
		"no time for it":                  {func(c *Config) { c.KeyTime = 0 }, "auth: Keys, KeyTime and Now are required"},
		"no clock":                        {func(c *Config) { c.Now = nil }, "auth: Keys, KeyTime and Now are required"},
		"31 bytes":                        {func(c *Config) { c.HMACSecret = c.HMACSecret[:31] }, "auth: the HS256 key is shorter than 32 bytes"},
		"no issuer":                       {func(c *Config) { c.Issuer = "" }, "auth: tokens need an expected issuer and audience"},
		"no audience":                     {func(c *Config) { c.Audience = "" }, "auth: tokens need an expected issuer and audience"},
		"no issuer for a secret":          {func(c *Config) { c.KeySet, c.Issuer = nil, "" }, "auth: tokens need an expected issuer and audience"},
		"no audience for a key set":       {func(c *Config) { c.HMACSecret, c.Audience = nil, "" }, "auth: tokens need an expected issuer and audience"},
		"no issuer, but no way to use it": {func(c *Config) { c.HMACSecret, c.KeySet, c.Issuer = nil, nil, "" }, ""},
	} {
		config := sound
		c.change(&config)
		_, err := New(config)
		if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
}

func TestAnAPIKeyIsRandomAllOver(t *testing.T) {
	var seen [apiKeyRandom]map[byte]bool
	for i := range seen {
		seen[i] = map[byte]bool{}
	}
	for range 200 {
		key := NewAPIKey()
		if !wellFormedAPIKey(key) {
			t.Fatalf("%s is not well formed", key)
		}
		b, err := apiKeyEncoding.DecodeString(strings.TrimPrefix(key, "mfa_"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range seen {
			seen[i][b[i]] = true
		}
	}
	for i := range seen {
		if len(seen[i]) < 50 { // of 200 draws from 256, some 138 differ
			t.Errorf("byte %d of a key takes %d values in 200 keys", i, len(seen[i]))
		}
	}
}

func TestAnAPIKeyHasOneSpelling(t *testing.T) {
	withChecksum := func(random int) string {
		b := make([]byte, random)
		return "mfa_" + apiKeyEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
	}
	sound := withChecksum(apiKeyRandom)
	if !wellFormedAPIKey(sound) {
		t.Fatalf("%s is not well formed", sound)
	}
	for _, key := range []string{
		"", "mfa_", withChecksum(apiKeyRandom + 5), withChecksum(apiKeyRandom - 5), "MFA_" + sound[4:], strings.ToUpper(sound),
		sound + "=", sound[:20] + "\n" + sound[20:], sound[:43] + "\n", " " + sound, sound[:43] + "1",
	} {
		if wellFormedAPIKey(key) {
			t.Errorf("%q is well formed", key)
		}
	}
	// A single wrong character never goes unnoticed: that is what the CRC is for.
	for i := 4; i < len(sound); i++ {
		other := "b"
		if sound[i] == 'b' {
			other = "c"
		}
		if typo := sound[:i] + other + sound[i+1:]; wellFormedAPIKey(typo) {
			t.Errorf("%s is well formed", typo)
		}
	}
}

// The table through HTTP (package main) has most rows; these cannot come through
// HTTP, or need a clock that stands.
func TestTokensThatAreRefusedWhateverTheirSignature(t *testing.T) {
	sound := sign(headers()[0], payloads()[0])
	payload := func(name string, value any) string {
		claims := testClaims()
		claims[name] = value
		text, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		return sign(headers()[0], string(text))
	}
	now := float64(testNow.Unix())
	for _, c := range []struct {
		name, token string
		cause       Cause
	}{
		{"sound", sound, ""},
		{"line break in a segment", sound[:5] + "\n" + sound[5:], TokenMalformed},
		{"carriage return at the end", sound + "\r", TokenMalformed},
		{"8193 bytes", sound + strings.Repeat("A", maxToken+1-len(sound)), TokenMalformed},
		{"expires at the end of the leeway", payload("exp", now-30), TokenExpired},
		{"expires a moment later", payload("exp", now-29.5), ""},
		{"valid at the end of the leeway", payload("nbf", now+30), ""},
		{"valid a moment later", payload("nbf", now+30.5), TokenNotYetValid},
		{"issued at the end of the leeway", payload("iat", now+30), ""},
		{"issued a moment later", payload("iat", now+30.5), TokenNotYetValid},
		{"expires with the year 9999", payload("exp", endOfYear9999), ""},
		{"expires after the year 9999", payload("exp", endOfYear9999+1), TokenClaimUnexpected},
		{"sub of 255 bytes", payload("sub", strings.Repeat("x", 255)), ""},
		{"sub of 256 bytes", payload("sub", strings.Repeat("é", 128)), TokenClaimUnexpected},
	} {
		_, err := newTestVerifier().verify(t.Context(), c.token)
		if c.cause == "" && err != nil || c.cause != "" && (err == nil || err.Error() != "refused: "+string(c.cause)) {
			t.Errorf("%s: %v; want %s", c.name, err, c.cause)
		}
	}
}

// golang-jwt may come to find faults that we have no name for.
func TestAFaultWithoutANameIsAFault(t *testing.T) {
	c := claims{subject: "ada"}
	validator := jwt.NewValidator(jwt.WithSubject("somebody else"))
	if cause := c.judge(validator); cause != TokenClaimUnexpected {
		t.Errorf("cause %q; want %s", cause, TokenClaimUnexpected)
	}
}

// What a header field may look like is decided before anything is decoded.
func TestTheSchemeOfACredential(t *testing.T) {
	for value, want := range map[string]string{
		"Bearer x": "x", "bearer   x": "x", "BEARER x ": "x ", "Bearer  ": "", "Bearer": "",
	} {
		token, present, err := bearerToken(map[string][]string{"Authorization": {value}})
		if token != want || !present || err != nil {
			t.Errorf("%q: %q, %t, %v; want %q", value, token, present, err, want)
		}
	}
	for _, value := range []string{"", "x", "Bearerx y", "Basic Bearer", " Bearer x", "Bearer\tx"} {
		if _, present, err := bearerToken(map[string][]string{"Authorization": {value}}); present || err == nil {
			t.Errorf("%q is taken for a bearer token", value)
		}
	}
}

func TestCanonicalBase64HasNoStrayBits(t *testing.T) {
	// "QQ" and "QR" both decode to A where trailing bits are not looked at.
	if _, err := base64.RawURLEncoding.DecodeString("QR"); err != nil {
		t.Fatal("the example is no example")
	}
	if _, err := canonical.DecodeString("QR"); err == nil {
		t.Error("QR was decoded")
	}
}
