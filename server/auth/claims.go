package auth

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// claims are the claims of RFC 7519, section 4.1, that we read, and two of OpenID Connect
// Core: the e-mail address (section 5.1) and the time of the sign-in (section 2). It implements
// jwt.Claims.
type claims struct {
	issuer    text
	subject   text
	audience  texts
	expires   numericDate
	notBefore numericDate
	issuedAt  numericDate

	// The faults of these two do not refuse a token: it says who the person is without them.
	email    text      // empty: none that can be shown
	authTime time.Time // zero: none
}

// read is for readMembers.
func (c *claims) read(name string, value jsontext.Value) error {
	switch name {
	case "iss":
		return c.issuer.read(value)
	case "sub":
		return c.subject.read(value)
	case "aud":
		return c.audience.read(value)
	case "exp":
		return c.expires.read(value)
	case "nbf":
		return c.notBefore.read(value)
	case "iat":
		return c.issuedAt.read(value)
	case "email":
		if c.email.read(value) != nil || !isShown(string(c.email)) {
			c.email = ""
		}
	case "auth_time":
		var at numericDate
		if at.read(value) == nil {
			c.authTime = at.date.UTC()
		}
	}
	return nil
}

// validate returns the cause for which a token with these claims is refused, or "".
func (c *claims) validate(validator *jwt.Validator) Cause {
	err := validator.Validate(c)
	for _, fault := range []struct {
		err   error
		cause Cause
	}{
		{jwt.ErrTokenRequiredClaimMissing, TokenClaimMissing},
		{jwt.ErrTokenExpired, TokenExpired},
		{jwt.ErrTokenNotValidYet, TokenNotYetValid},
		{jwt.ErrTokenUsedBeforeIssued, TokenNotYetValid},
		{jwt.ErrTokenInvalidIssuer, TokenIssuer},
		{jwt.ErrTokenInvalidAudience, TokenAudience},
		{err, TokenClaimUnexpected}, // a later version of the library may check more
	} {
		if err != nil && errors.Is(err, fault.err) {
			return fault.cause
		}
	}
	switch {
	case c.subject == "":
		return TokenClaimMissing
	case len(c.subject) > MaxAccount:
		return TokenClaimUnexpected
	}
	return ""
}

// label returns the e-mail address, or the account if there is none.
func (c *claims) label() string {
	if c.email != "" {
		return string(c.email)
	}
	return string(c.subject)
}

// maxEmail is the longest e-mail address in bytes (RFC 5321, section 4.5.3.1.3).
const maxEmail = 254

// isShown tells whether an app can show email in one line: it is not blank, not too long, and
// has no line breaks, control characters or invisible characters.
func isShown(email string) bool {
	return len(email) <= maxEmail && strings.ContainsFunc(email, isInked) &&
		!strings.ContainsFunc(email, func(r rune) bool {
			return !unicode.IsGraphic(r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
		})
}

// isInked tells whether r is visible by itself. U+2800 is the blank of Braille.
func isInked(r rune) bool { return r != 0x2800 && !unicode.IsSpace(r) && !unicode.IsMark(r) }

// GetExpirationTime implements jwt.Claims.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.expires.date, nil }

// GetIssuedAt implements jwt.Claims.
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return c.issuedAt.date, nil }

// GetNotBefore implements jwt.Claims.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return c.notBefore.date, nil }

// GetIssuer implements jwt.Claims.
func (c *claims) GetIssuer() (string, error) { return string(c.issuer), nil }

// GetSubject implements jwt.Claims.
func (c *claims) GetSubject() (string, error) { return string(c.subject), nil }

// GetAudience implements jwt.Claims.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return jwt.ClaimStrings(c.audience), nil }

// numericDate is seconds since 1970, possibly with a fraction (RFC 7519, section 2), up to
// the year 9999. A later or negative date is a mistake that must not make a token without end.
type numericDate struct{ date *jwt.NumericDate }

const endOfYear9999 = 253402300799 // Unix seconds

// read sets n. It accepts numbers only.
func (n *numericDate) read(value jsontext.Value) error {
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || seconds < 0 || seconds > endOfYear9999 {
		return errors.New("not a date")
	}
	n.date = &jwt.NumericDate{Time: time.UnixMicro(int64(seconds * 1e6))}
	return nil
}

// texts is one string or an array of strings (RFC 7519, section 4.1.3).
type texts []string

// read sets t.
func (t *texts) read(value jsontext.Value) error {
	values := []jsontext.Value{value}
	if value.Kind() == jsontext.KindBeginArray {
		if err := json.Unmarshal(value, &values); err != nil {
			return err
		}
	}
	for _, value := range values {
		var one text
		if err := one.read(value); err != nil {
			return err
		}
		*t = append(*t, string(one))
	}
	return nil
}
