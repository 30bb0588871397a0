package mfa

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"quiva.ai/mfa/store"
)

// The URL must fit into a QR code that a phone can read from a screen. With both limits
// reached it has 510 bytes. Version 18 at error correction level M holds 560 (ISO/IEC 18004,
// table 7). The longest e-mail address has 254 bytes (RFC 5321, section 4.5.3.1.3), so plain
// addresses are never cut.
const (
	maxIssuer  = 96  // bytes when percent-encoded; the URL has the issuer twice
	maxAccount = 254 // bytes when percent-encoded
)

// Issuer is the name of the service in the authenticator app.
type Issuer string

// UnmarshalText reads an issuer. It refuses text that is blank, not UTF-8, or longer than 96
// bytes when percent-encoded, and text with a control or format character. It refuses a colon
// too: a colon, encoded or not, separates issuer and account in a label.
func (i *Issuer) UnmarshalText(text []byte) error {
	issuer := string(text)
	switch {
	case strings.TrimSpace(issuer) == "":
		return errors.New("must not be empty")
	case !utf8.ValidString(issuer):
		return errors.New("must be UTF-8")
	case strings.ContainsFunc(issuer, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("must not contain a line break or another character that authenticator apps cannot show")
	case strings.Contains(issuer, ":"):
		return errors.New("must not contain a colon: authenticator apps split the label there")
	case len(percentEncode(issuer)) > maxIssuer:
		return errors.New("must not exceed 96 bytes when percent-encoded: the QR code would be too dense")
	}
	*i = Issuer(issuer)
	return nil
}

// accountName returns the name that the app shows below the issuer. Colons, which a label
// cannot hold, and characters that cannot be shown become underscores. A name of more than 254 bytes when percent-encoded is cut
// at the end of a character.
func accountName(label string) string {
	name := strings.Map(func(r rune) rune {
		if r == ':' || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, label)
	if len(percentEncode(name)) <= maxAccount {
		return name
	}
	size := 0
	for i, r := range name {
		if size += len(percentEncode(string(r))); size > maxAccount {
			return name[:i]
		}
	}
	return name
}

// otpauthURL returns the URL for authenticator apps (Key URI Format). A strict parser reads
// exactly issuer and account back from it; neither may hold a colon. Algorithm, digits and
// period are left out: apps ignore other values than the defaults (SHA1, 6, 30 s) silently
// and would show wrong codes.
//
// The URL of pquerna/otp is not used. Up to 1.5.0 it leaves &, = and + in values unescaped,
// so an issuer could add a parameter.
func otpauthURL(issuer Issuer, account string, secret store.Secret) string {
	name := percentEncode(string(issuer))
	return "otpauth://totp/" + name + ":" + percentEncode(account) +
		"?secret=" + secret.Base32() + "&issuer=" + name
}

// percentEncode encodes all characters but the unreserved ones of RFC 3986 and @, which may
// stand in a path (section 3.3) and in a query (section 3.4). A space becomes %20: apps show
// a + as a plus. QueryEscape encodes every other + as %2B.
func percentEncode(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(s), "+", "%20"), "%40", "@")
}
