package mfa

import (
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"

	"quiva.ai/mfa/store"
)

// The URL has to fit a QR code that a phone reads off a screen. With both limits
// used up it is 510 bytes, which version 18 holds at error correction level M
// (560 bytes, ISO/IEC 18004 table 7). 254 is the longest e-mail address (RFC
// 5321 section 4.5.3.1.3), so plain ones are never cut.
const (
	maxIssuer  = 96  // bytes when percent-encoded; the issuer appears twice
	maxAccount = 254 // bytes when percent-encoded
)

// Issuer is the name of the service as the authenticator app shows it.
type Issuer string

// UnmarshalText refuses an issuer that cannot be shown: empty, not UTF-8, longer
// than 96 bytes when percent-encoded, or with a colon, which separates issuer and
// account in the label and which apps find there encoded or not.
func (i *Issuer) UnmarshalText(text []byte) error {
	issuer := string(text)
	switch {
	case issuer == "":
		return errors.New("must not be empty")
	case !utf8.ValidString(issuer):
		return errors.New("must be UTF-8")
	case strings.Contains(issuer, ":"):
		return errors.New("must not contain a colon: authenticator apps split the label there")
	case len(percentEncode(issuer)) > maxIssuer:
		return errors.New("must not exceed 96 bytes when percent-encoded: the QR code would be too dense")
	}
	*i = Issuer(issuer)
	return nil
}

// accountName turns a principal's label into what the app shows below the
// issuer. Colons, which a label cannot hold, become underscores. What exceeds
// 254 bytes when percent-encoded is cut off at a character's end.
func accountName(label string) string {
	name := strings.ReplaceAll(label, ":", "_")
	if 3*len(name) <= maxAccount {
		return name // even if every byte of it is encoded
	}
	size := 0
	for i, r := range name {
		if size += len(percentEncode(string(r))); size > maxAccount {
			return name[:i]
		}
	}
	return name
}

// otpauthURL returns the URL that authenticator apps take, usually as a QR code
// (Key URI Format). Every strict parser reads back from it exactly the issuer and
// account that went in; neither may hold a colon. Algorithm, digits and period
// are left at their defaults (SHA1, 6, 30 s): apps ignore others without a word,
// and would then show wrong codes.
//
// The URL method of pquerna/otp is not used: up to 1.5.0 it leaves &, = and + in
// values as they are, so that an issuer could add a parameter.
func otpauthURL(issuer Issuer, account string, secret store.Secret) string {
	name := percentEncode(string(issuer))
	return "otpauth://totp/" + name + ":" + percentEncode(account) +
		"?secret=" + secret.Base32() + "&issuer=" + name
}

// percentEncode encodes all but RFC 3986's unreserved characters, and @, which
// stays itself in a path (section 3.3) and in a query (section 3.4) and keeps
// the URL readable. A space becomes %20, never +, which apps show as a plus: it is what
// QueryEscape leaves + for, and nothing else.
func percentEncode(s string) string {
	if strings.Trim(s, plain) == "" {
		return s // as nearly all are
	}
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(s), "+", "%20"), "%40", "@")
}

const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~@"
