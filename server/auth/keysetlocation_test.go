package auth

import "testing"

func TestKeySetLocation_IsAFileOrAnHTTPSURL(t *testing.T) {
	for text, want := range map[string]KeySetLocation{
		"jwks.json":                  {path: "jwks.json"},
		"/etc/mfa/jwks.json":         {path: "/etc/mfa/jwks.json"},
		"https://issuer.test/jwks":   {url: "https://issuer.test/jwks"},
		"http://127.0.0.1:80/jwks":   {url: "http://127.0.0.1:80/jwks"},
		"http://[::1]/jwks":          {url: "http://[::1]/jwks"},
		"http://issuer.test/jwks":    {},
		"http://localhost/jwks":      {}, // a name can be resolved elsewhere
		"https://u:p@issuer.test/":   {},
		"https://issuer.test/#x":     {},
		"https:///jwks":              {},
		"ftp://issuer.test/jwks":     {},
		"https://issuer.test:x/jwks": {},
	} {
		var got KeySetLocation
		err := got.UnmarshalText([]byte(text))
		if got != want || (err == nil) != (want != KeySetLocation{}) {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
}
