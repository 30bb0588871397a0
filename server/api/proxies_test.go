package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func parseProxies(t testing.TB, text string) (proxies TrustedProxies) {
	t.Helper()
	if text == "" {
		return nil
	}
	if err := proxies.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return proxies
}

func TestTrustedProxies_ClientAddress(t *testing.T) {
	const trusted = "10.0.0.0/8, 192.0.2.7/32,fd00::/8,fe80::/10"
	for name, row := range map[string]struct {
		trusted, remote string
		forwarded       []string
		want            string
	}{
		"no proxy is trusted":            {"", "10.0.0.1:1", []string{"203.0.113.9"}, "10.0.0.1"},
		"a stranger's claim":             {trusted, "198.51.100.1:1", []string{"203.0.113.9"}, "198.51.100.1"},
		"the address after a proxy's":    {trusted, "192.0.2.8:1", []string{"203.0.113.9"}, "192.0.2.8"},
		"no claim":                       {trusted, "10.0.0.1:1", nil, "10.0.0.1"},
		"an empty claim":                 {trusted, "10.0.0.1:1", []string{""}, "10.0.0.1"},
		"one hop":                        {trusted, "10.0.0.1:1", []string{"203.0.113.9"}, "203.0.113.9"},
		"one hop after a client's claim": {trusted, "10.0.0.1:1", []string{"1.2.3.4, 10.0.0.2,203.0.113.9"}, "203.0.113.9"},
		"two hops":                       {trusted, "10.0.0.1:1", []string{"1.2.3.4, 203.0.113.9,\t192.0.2.7"}, "203.0.113.9"},
		"hops in two lines":              {trusted, "10.0.0.1:1", []string{"203.0.113.9", "192.0.2.7"}, "203.0.113.9"},
		"only trusted hops":              {trusted, "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"IPv6":                           {trusted, "[fd00::1]:1", []string{"2001:db8::9"}, "2001:db8::9"},
		"IPv6 with a zone":               {trusted, "[fe80::1%eth0]:1", []string{"2001:db8::9"}, "2001:db8::9"},
		"IPv4 in IPv6":                   {trusted, "[::ffff:10.0.0.1]:1", []string{"1.2.3.4, ::ffff:203.0.113.9, ::ffff:10.0.0.2"}, "203.0.113.9"},
		"a malformed entry":              {trusted, "10.0.0.1:1", []string{"203.0.113.9, unknown, 10.0.0.2"}, "10.0.0.2"},
		"an empty entry":                 {trusted, "10.0.0.1:1", []string{"203.0.113.9,,10.0.0.2"}, "10.0.0.2"},
		"a connection without address":   {trusted, "@", []string{"203.0.113.9"}, "invalid IP"},
	} {
		r := &http.Request{RemoteAddr: row.remote, Header: http.Header{"X-Forwarded-For": row.forwarded}}
		if got := parseProxies(t, row.trusted).clientAddress(r).String(); got != row.want {
			t.Errorf("%s: %s; want %s", name, got, row.want)
		}
	}
}

func TestTrustedProxies_ReadAddressesAsProxiesWriteThem(t *testing.T) {
	const gateway = "10.0.0.1"
	for entry, want := range map[string]string{
		"203.0.113.7:51234":                     "203.0.113.7", // Azure Application Gateway
		"[2001:db8::1]:443":                     "2001:db8::1",
		"[2001:db8::1]":                         "2001:db8::1",
		"[::ffff:203.0.113.7]:443":              "203.0.113.7",
		"198.51.100.1:1, 10.0.0.2:51234":        "198.51.100.1", // the trusted hop has a port too
		"198.51.100.1:1, 203.0.113.7:51234":     "203.0.113.7",
		"  203.0.113.7:1\t":                     "203.0.113.7",
		`"203.0.113.7:1"`:                       "203.0.113.7",
		`"[2001:db8::1]:443"`:                   "2001:db8::1",
		"fe80::1%eth0":                          "fe80::1",
		"[fe80::1%25eth0.7]:443":                "fe80::1",
		"::ffff:203.0.113.7%eth0":               "203.0.113.7",
		"fe80::1%\x1b[31m":                      gateway,
		"[fe80::1%a b]:1":                       gateway,
		"203.0.113.7:":                          gateway,
		"203.0.113.7:65536":                     gateway,
		"203.0.113.7:http":                      gateway,
		"203.0.113.7:-1":                        gateway,
		"203.0.113.7:1:2":                       gateway,
		"203.0.113.7 : 1":                       gateway,
		"203.0.113.07":                          gateway,
		"[203.0.113.7]":                         gateway,
		"[203.0.113.7]:1":                       gateway,
		"[2001:db8::1":                          gateway,
		"2001:db8::1]":                          gateway,
		"[[2001:db8::1]]":                       gateway,
		"[2001:db8::1]1":                        gateway,
		"[2001:db8::1]:":                        gateway,
		"[2001:db8::1]:443]":                    gateway,
		"[]":                                    gateway,
		`"`:                                     gateway,
		`""`:                                    gateway,
		`"203.0.113.7`:                          gateway,
		`""203.0.113.7""`:                       gateway,
		"for=203.0.113.7":                       gateway,
		"_hidden":                               gateway,
		"unknown":                               gateway,
		"203.0.113.7;203.0.113.8":               gateway,
		`"198.51.100.1, 203.0.113.7", 10.0.0.2`: "10.0.0.2", // a comma always ends an entry
	} {
		r := &http.Request{RemoteAddr: gateway + ":1", Header: http.Header{"X-Forwarded-For": {entry}}}
		if got := parseProxies(t, "10.0.0.0/8").clientAddress(r).String(); got != want {
			t.Errorf("%s: %s; want %s", entry, got, want)
		}
	}
}

func TestTrustedProxies_IgnoreClaimsOfClients(t *testing.T) {
	proxies := parseProxies(t, "10.0.0.0/8")
	claim := rapid.OneOf(rapid.String(), rapid.StringMatching(`(10\.0\.0\.[0-9]|203\.0\.113\.[0-9]|fd00::1%[a-z]|:[0-9]|["\[\], ]){0,9}`))
	client := netip.MustParseAddr("198.51.100.1")
	rapid.Check(t, func(t *rapid.T) {
		claims := rapid.SliceOf(claim).Draw(t, "claims")
		direct := &http.Request{RemoteAddr: "198.51.100.1:1", Header: http.Header{"X-Forwarded-For": claims}}
		if got := proxies.clientAddress(direct); got != client {
			t.Fatalf("directly: %v", got)
		}
		appended := slices.Concat(claims, []string{rapid.SampledFrom([]string{
			"198.51.100.1, 10.0.0.2", "198.51.100.1:51234,10.0.0.2:8080", `"198.51.100.1" , "[::ffff:10.0.0.2%eth0]:1"`,
		}).Draw(t, "appended")})
		if rapid.Bool().Draw(t, "in one line") {
			appended = []string{strings.Join(appended, ", ")}
		}
		through := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{"X-Forwarded-For": appended}}
		if got := proxies.clientAddress(through); got != client {
			t.Fatalf("through two proxies: %v", got)
		}
	})
}

func TestTrustedProxies_RejectOtherTexts(t *testing.T) {
	const want = "must be networks, comma separated, such as 10.1.0.0/16,192.0.2.7/32,fd00::/8"
	for _, text := range []string{
		"x", ",", "10.0.0.1", "10.0.0.1/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104", "fe80::%eth0/10", "10.0.0.0/8,", "10.0.0.0/8 fd00::/8",
	} {
		var proxies TrustedProxies
		if err := proxies.UnmarshalText([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
}
