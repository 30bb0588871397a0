package auth

import (
	"errors"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// claims are the claims of RFC 7519, section 4.1, that we read, and two of OpenID Connect
// Core: the e-mail address (section 5.1) and the time of the sign-in (section 2). It implements
// jwt.Claims.
type claims struct {
	Issuer    text        `json:"iss"`
	Subject   text        `json:"sub"`
	Audience  audience    `json:"aud"`
	Expires   numericDate `json:"exp"`
	NotBefore numericDate `json:"nbf"`
	IssuedAt  numericDate `json:"iat"`
	Email     text        `json:"email"`
	AuthTime  signInTime  `json:"auth_time"`
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
	case c.Subject == "":
		return TokenClaimMissing
	case len(c.Subject) > MaxAccount:
		return TokenClaimUnexpected
	}
	return ""
}

// label returns the e-mail address, or the account if there is none.
func (c *claims) label() string {
	if c.Email != "" {
		return string(c.Email)
	}
	return string(c.Subject)
}

// GetExpirationTime implements jwt.Claims.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires.date, nil }

// GetIssuedAt implements jwt.Claims.
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return c.IssuedAt.date, nil }

// GetNotBefore implements jwt.Claims.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return c.NotBefore.date, nil }

// GetIssuer implements jwt.Claims.
func (c *claims) GetIssuer() (string, error) { return string(c.Issuer), nil }

// GetSubject implements jwt.Claims.
func (c *claims) GetSubject() (string, error) { return string(c.Subject), nil }

// GetAudience implements jwt.Claims.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return jwt.ClaimStrings(c.Audience), nil }

// numericDate is seconds since 1970, possibly with a fraction (RFC 7519, section 2), up to
// the year 9999. A later or negative date is a mistake that must not make a token without end.
type numericDate struct{ date *jwt.NumericDate }

const endOfYear9999 = 253402300799 // Unix seconds

// UnmarshalJSONFrom implements json.UnmarshalerFrom. It accepts numbers only.
func (n *numericDate) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || seconds < 0 || seconds > endOfYear9999 {
		return errors.New("not a date")
	}
	n.date = &jwt.NumericDate{Time: time.UnixMicro(int64(seconds * 1e6))}
	return nil
}

// signInTime is a numericDate that may be malformed: then it is zero.
type signInTime struct{ time.Time }

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (s *signInTime) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	var date numericDate
	if json.Unmarshal(value, &date) == nil {
		s.Time = date.date.UTC()
	}
	return nil
}

// audience is one string or an array of strings (RFC 7519, section 4.1.3).
type audience []string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (a *audience) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	var all []text
	if d.PeekKind() == jsontext.KindBeginArray {
		if err := json.UnmarshalDecode(d, &all); err != nil {
			return err
		}
	} else {
		all = make([]text, 1)
		if err := all[0].UnmarshalJSONFrom(d); err != nil {
			return err
		}
	}
	for _, one := range all {
		*a = append(*a, string(one))
	}
	return nil
}
