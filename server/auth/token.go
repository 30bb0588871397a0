package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// maxToken bounds what is decoded for a stranger, in bytes.
const maxToken = 8 << 10

// tokenVerifier reads a JWT once, strictly, and trusts what it read: golang-jwt
// checks the signature and judges the claims, but its own lenient parser (which
// takes SUB for sub, the last of two subs, a payload of null) is not used.
type tokenVerifier struct {
	secret    *hmacKey // for HS256 and nothing else; may be nil
	keys      *KeySet  // for everything else; may be nil
	validator *jwt.Validator
	usual     atomic.Pointer[usualHeader]
}

// usualHeader is the JOSE header of a token that was good. Until an issuer changes its key,
// all of its tokens have the same one, letter for letter, which need not be read again.
type usualHeader struct {
	segment string // as received
	header  joseHeader
}

func newTokenVerifier(c Config) *tokenVerifier {
	return &tokenVerifier{
		secret: newHMACKey(c.HMACSecret),
		keys:   c.KeySet,
		validator: jwt.NewValidator(
			jwt.WithIssuer(c.Issuer),
			jwt.WithAudience(c.Audience),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(c.Leeway),
			jwt.WithTimeFunc(c.Now),
		),
	}
}

// verify returns the principal that a valid token names. The error is a *Refusal,
// *AwaitedKey or ErrKeysUnavailable. Claims are not even parsed before the signature was
// found good.
func (v *tokenVerifier) verify(ctx context.Context, token string) (Principal, error) {
	jws, cause := v.split(token)
	if cause != "" {
		return Principal{}, refuseToken(cause)
	}
	key, err := v.keyFor(ctx, jws.header)
	if err != nil {
		return Principal{}, err
	}
	if key.method.Verify(jws.signed, jws.signature, key.material) != nil {
		return Principal{}, refuseToken(TokenSignature)
	}
	v.remember(jws)
	var c claims
	if unmarshalObject(jws.payload, &c) != nil {
		return Principal{}, refuseToken(TokenClaimUnexpected)
	}
	if cause := c.judge(v.validator); cause != "" {
		return Principal{}, refuseToken(cause)
	}
	return Principal{Account: string(c.subject), Label: c.label(), Scheme: Bearer, KeyID: key.id}, nil
}

// remember keeps the header of a token whose signature is good: strangers have no part in
// what is kept. The copy keeps nothing else of the token alive.
func (v *tokenVerifier) remember(t jws) {
	if usual := v.usual.Load(); usual == nil || usual.segment != t.encodedHeader {
		v.usual.Store(&usualHeader{strings.Clone(t.encodedHeader), t.header})
	}
}

// keyFor returns the key for a token and the algorithm that belongs to the key
// (RFC 8725 section 3.1). HS256 is for the configured secret alone, and the secret
// for HS256: no key of a set is ever used as a secret, nor the reverse.
func (v *tokenVerifier) keyFor(ctx context.Context, h joseHeader) (verificationKey, error) {
	switch {
	case string(h.Algorithm) == jwt.SigningMethodHS256.Alg() && v.secret != nil:
		return verificationKey{method: v.secret}, nil
	case asymmetric(string(h.Algorithm)) && v.keys != nil:
		key, ok, err := v.keys.find(ctx, string(h.KeyID), string(h.Algorithm))
		if err != nil {
			return verificationKey{}, err
		}
		if !ok {
			return verificationKey{}, refuseToken(TokenKeyUnknown)
		}
		return key, nil
	}
	return verificationKey{}, refuseToken(TokenAlgorithm)
}

func refuseToken(cause Cause) *Refusal { return &Refusal{Cause: cause, withToken: true} }

// jws is a JSON Web Signature in compact serialization (RFC 7515 section 7.1).
type jws struct {
	encodedHeader string
	header        joseHeader
	payload       []byte
	signature     []byte
	signed        string // header.payload as received
}

// canonical refuses padding and stray trailing bits: one token, one spelling.
var canonical = base64.RawURLEncoding.Strict()

// split takes the token apart: exactly three segments, each canonical base64url, the
// first one a JSON object with what a header may have.
func (v *tokenVerifier) split(token string) (jws, Cause) {
	// encoding/base64 skips line breaks wherever they are.
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return jws{}, TokenMalformed
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return jws{}, TokenMalformed
	}
	decoded, err := canonical.AppendDecode(make([]byte, 0, len(rest)), []byte(payload))
	size := len(decoded)
	if err == nil {
		decoded, err = canonical.AppendDecode(decoded, []byte(signature))
	}
	if err != nil {
		return jws{}, TokenMalformed
	}
	t := jws{encodedHeader: header, payload: decoded[:size], signature: decoded[size:], signed: token[:len(header)+1+len(payload)]}
	if usual := v.usual.Load(); usual != nil && usual.segment == header {
		t.header = usual.header
		return t, ""
	}
	var cause Cause
	t.header, cause = readHeader(header)
	return t, cause
}

// readHeader reads the first segment of a token.
func readHeader(segment string) (joseHeader, Cause) {
	decoded, err := canonical.DecodeString(segment)
	if err != nil {
		return joseHeader{}, TokenMalformed
	}
	var header joseHeader
	if unmarshalObject(decoded, &header) != nil {
		return joseHeader{}, TokenMalformed
	}
	return header, header.check()
}

// unmarshalObject reads one JSON object. The library refuses by design what
// encoding/json lets pass: duplicate members, names in another case, invalid
// UTF-8, anything after the object.
func unmarshalObject(data []byte, into any) error {
	if jsontext.Value(data).Kind() != jsontext.KindBeginObject {
		return errors.New("not an object")
	}
	return json.Unmarshal(data, into)
}

// joseHeader has the header parameters that we look at. Those that would tell us
// where to find a key (jku, jwk, x5u, x5c) are not among them.
type joseHeader struct {
	Algorithm text           `json:"alg"`
	KeyID     text           `json:"kid"`
	Type      jsontext.Value `json:"typ"`
	Critical  jsontext.Value `json:"crit"`
}

// check refuses extensions that must be understood (RFC 7515 section 4.1.11:
// we know none) and tokens of another kind (RFC 8725 section 3.11).
func (h joseHeader) check() Cause {
	if h.Critical != nil {
		return TokenHeaderUnexpected
	}
	if h.Type == nil {
		return ""
	}
	var typ text
	if json.Unmarshal(h.Type, &typ) != nil {
		return TokenHeaderUnexpected
	}
	for _, kind := range []string{"JWT", "at+jwt"} {
		if strings.EqualFold(string(typ), kind) || strings.EqualFold(string(typ), "application/"+kind) {
			return ""
		}
	}
	return TokenHeaderUnexpected
}

// text is a JSON string and, unlike string, not null.
type text string

// UnmarshalJSONFrom accepts a string only.
func (t *text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	token, err := d.ReadToken()
	if err == nil && token.Kind() != jsontext.KindString {
		err = errors.New("not a string")
	}
	if err == nil {
		*t = text(token.String())
	}
	return err
}

// claims are those of RFC 7519 section 4.1 that are used, and the e-mail address
// of OpenID Connect Core section 5.1. It implements jwt.Claims.
type claims struct {
	issuer    text
	subject   text
	audience  audience
	expires   numericDate
	notBefore numericDate
	issuedAt  numericDate
	email     text
}

// member returns the claim of this name, or nil if it is none of ours.
func (c *claims) member(name string) json.UnmarshalerFrom {
	switch name {
	case "iss":
		return &c.issuer
	case "sub":
		return &c.subject
	case "aud":
		return &c.audience
	case "exp":
		return &c.expires
	case "nbf":
		return &c.notBefore
	case "iat":
		return &c.issuedAt
	case "email":
		return &c.email
	}
	return nil
}

// UnmarshalJSONFrom reads the claims of an object. The library could find the members by
// itself, by reflection: that takes most of the time in which a token is verified.
func (c *claims) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != jsontext.KindEndObject {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		if member := c.member(name.String()); member != nil {
			err = member.UnmarshalJSONFrom(d)
		} else {
			err = d.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

func (c *claims) judge(validator *jwt.Validator) Cause {
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
		{err, TokenClaimUnexpected}, // whatever else the library may come to check
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

func (c *claims) label() string {
	if c.email != "" {
		return string(c.email)
	}
	return string(c.subject)
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.expires.orNil(), nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.issuedAt.orNil(), nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.notBefore.orNil(), nil }
func (c *claims) GetIssuer() (string, error)                   { return string(c.issuer), nil }
func (c *claims) GetSubject() (string, error)                  { return string(c.subject), nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audience.all, nil }

// numericDate is seconds since 1970, possibly with a fraction (RFC 7519 section
// 2), up to the year 9999: beyond it, or below zero, somebody made a mistake that
// should not become a token without end.
type numericDate struct {
	date  jwt.NumericDate
	given bool
}

func (n *numericDate) orNil() *jwt.NumericDate {
	if !n.given {
		return nil
	}
	return &n.date
}

const endOfYear9999 = 253402300799

// UnmarshalJSONFrom accepts a JSON number only: not null, not a string.
func (n *numericDate) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || seconds < 0 || seconds > endOfYear9999 {
		return errors.New("not a date")
	}
	n.date, n.given = jwt.NumericDate{Time: time.UnixMicro(int64(seconds * 1e6))}, true
	return nil
}

// audience is one string or an array of strings (RFC 7519 section 4.1.3).
type audience struct {
	all []string
	one [1]string // what all is, if it is one
}

// UnmarshalJSONFrom accepts both forms.
func (a *audience) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != jsontext.KindBeginArray {
		var one text
		err := one.UnmarshalJSONFrom(d)
		a.one[0] = string(one)
		a.all = a.one[:]
		return err
	}
	var all []text
	err := json.UnmarshalDecode(d, &all)
	for _, one := range all {
		a.all = append(a.all, string(one))
	}
	return err
}
