package auth

import (
	"testing"
	"time"
)

func TestNew_RefusesAnIncompleteConfig(t *testing.T) {
	sound := Config{Keys: &fakeKeys{}, KeyTime: time.Second, HMACSecret: []byte(testSecret), KeySet: &KeySet{}, Issuer: testIssuer, Audience: testAudience, Now: time.Now}
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

func TestFromContext_ReturnsThePrincipalOfNewContext(t *testing.T) {
	want := Principal{Account: "ada", Label: "a", Scheme: Both, KeyID: "k"}
	if got, ok := FromContext(NewContext(t.Context(), want)); got != want || !ok {
		t.Errorf("FromContext = %+v, %t; want %+v", got, ok, want)
	}
	if got, ok := FromContext(t.Context()); got != (Principal{}) || ok {
		t.Errorf("FromContext of an empty context = %+v, %t", got, ok)
	}
}
