package mfa

import (
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"quiva.ai/mfa/store"
)

// otpauth is what an authenticator app reads from a URL.
type otpauth struct{ issuer, account, secret string }

// parseStrictly reads an otpauth URL by RFC 3986 and the Key URI Format. It shares no code
// with the code under test. It allows exactly the two parameters, each once, and demands the
// same issuer in label and parameter.
func parseStrictly(text string) (otpauth, error) {
	rest, ok := strings.CutPrefix(text, "otpauth://totp/")
	if !ok {
		return otpauth{}, errors.New("scheme, type or slash")
	}
	path, query, ok := strings.Cut(rest, "?")
	if !ok || strings.ContainsAny(query, "?#") {
		return otpauth{}, errors.New("not one query")
	}
	label, err := unescape(path)
	if err != nil {
		return otpauth{}, err
	}
	parts := strings.Split(label, ":")
	if len(parts) != 2 {
		return otpauth{}, fmt.Errorf("%d colons in the label", len(parts)-1)
	}
	params := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, escaped, ok := strings.Cut(pair, "=")
		if _, dup := params[name]; !ok || dup || strings.Contains(escaped, "=") {
			return otpauth{}, fmt.Errorf("parameter %q", pair)
		}
		if params[name], err = unescape(escaped); err != nil {
			return otpauth{}, err
		}
	}
	if len(params) != 2 || params["issuer"] != parts[0] {
		return otpauth{}, fmt.Errorf("parameters %v; want the issuer of the label, and the secret", params)
	}
	return otpauth{params["issuer"], parts[1], params["secret"]}, nil
}

// escaped matches %XX, unreserved characters, @ and : (RFC 3986, sections 2.3 and 3.3). A plus is
// none of these.
var escaped = regexp.MustCompile(`^(%[0-9A-Fa-f]{2}|[-._~@:0-9A-Za-z])*$`)

func unescape(s string) (string, error) {
	text, err := url.PathUnescape(s)
	if err != nil || !escaped.MatchString(s) || !utf8.ValidString(text) {
		return "", fmt.Errorf("%q is not escaped UTF-8", s)
	}
	return text, nil
}

var hostileNames = []string{
	"A&digits=8", "AT&T", "a=b", "a+b", "a b", "  ", "%41", "100%", "a/b", "/", "//", "a#b", "a?b", "?", "&secret=AAAA",
	`"quoted"`, "it's", "<b>", `back\slash`, "~tilde_-.", "a@b@c", "日本語", "株式会社", "👩‍👩‍👧‍👦", "مرحبا", "\u202eevil",
	"\x00", "line\nbreak", "é", "e\u0301", "\ufeff", strings.Repeat("x", 300), strings.Repeat("語", 300), strings.Repeat("&", 300),
}

// hostileName draws names without a colon.
func hostileName() *rapid.Generator[string] {
	character := rapid.OneOf(
		rapid.SampledFrom([]rune("&=+%/#?@ \"'<>\\;,~")),
		rapid.SampledFrom([]rune("日語👩مر\u202e\u200d\x00\x7f")),
		rapid.Rune(),
	).Filter(func(r rune) bool { return r != ':' })
	return rapid.OneOf(rapid.SampledFrom(hostileNames), rapid.StringOfN(character, 1, 300, -1))
}

func TestOTPAuthURL_ReadsBackInAStrictParser(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := otpauth{issuer: hostileName().Draw(t, "issuer"), account: hostileName().Draw(t, "account")}
		secret := store.Secret(rapid.SliceOfN(rapid.Byte(), store.SecretSize, store.SecretSize).Draw(t, "secret"))
		want.secret = base32.StdEncoding.EncodeToString(secret[:])
		url := otpauthURL(Issuer(want.issuer), want.account, secret)
		got, err := parseStrictly(url)
		if err != nil || got != want {
			t.Fatalf("%s reads back as %q, %v; want %q", url, got, err, want)
		}
	})
}

func TestAccountName_ReplacesColonsAndIsCut(t *testing.T) {
	for _, c := range []struct{ label, want string }{
		{"user@example.com", "user@example.com"},
		{"urn:user:7", "urn_user_7"},
		{"::", "__"},
		{"a\nb\u202ec", "a_b_c"},
		{strings.Repeat("x", 254), strings.Repeat("x", 254)},
		{strings.Repeat("x", 255), strings.Repeat("x", 254)},
		{strings.Repeat("語", 300), strings.Repeat("語", 28)}, // 9 bytes each
		{strings.Repeat("x", 250) + "語", strings.Repeat("x", 250)},
	} {
		if got := accountName(c.label); got != c.want {
			t.Errorf("accountName(%q) = %q; want %q", c.label, got, c.want)
		}
	}
}

func TestOTPAuthURL_FitsAScannableQRCode(t *testing.T) {
	var issuer Issuer
	if err := issuer.UnmarshalText([]byte(strings.Repeat("&", 32))); err != nil {
		t.Fatal(err)
	}
	for _, name := range hostileNames {
		if url := otpauthURL(issuer, accountName(strings.Repeat(name, 300)), store.Secret{}); len(url) > 510 {
			t.Errorf("%d bytes for %.20q; want at most 510", len(url), name)
		}
	}
}

func TestIssuer_RefusesWhatAppsCannotShow(t *testing.T) {
	const hidden = "must not contain a line break or another character that authenticator apps cannot show"
	for _, c := range []struct{ issuer, want string }{
		{"", "must not be empty"},
		{" \n", "must not be empty"},
		{"quiva.ai\n", hidden},
		{"quiva\u202e.ai", hidden},
		{"a:b", "must not contain a colon: authenticator apps split the label there"},
		{"\xff", "must be UTF-8"},
		{strings.Repeat("x", 97), "must not exceed 96 bytes when percent-encoded: the QR code would be too dense"},
		{strings.Repeat("語", 11), "must not exceed 96 bytes when percent-encoded: the QR code would be too dense"},
	} {
		if err := new(Issuer).UnmarshalText([]byte(c.issuer)); err == nil || err.Error() != c.want {
			t.Errorf("issuer %q: %v; want %s", c.issuer, err, c.want)
		}
	}
}
