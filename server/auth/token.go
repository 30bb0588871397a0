package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
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

// verify returns the principal that a valid token names. The error is a *Refusal or
// ErrKeysUnavailable. Claims are not even parsed before the signature was found good.
func (v *tokenVerifier) verify(ctx context.Context, token string) (Principal, error) {
	jws, cause := splitJWS(token)
	if cause != "" {
		return Principal{}, refuseToken(cause)
	}
	if cause := jws.header.check(); cause != "" {
		return Principal{}, refuseToken(cause)
	}
	key, err := v.keyFor(ctx, jws.header)
	if err != nil {
		return Principal{}, err
	}
	if key.method.Verify(jws.signed, jws.signature, key.material) != nil {
		return Principal{}, refuseToken(TokenSignature)
	}
	var c claims
	if unmarshalObject(jws.payload, &c) != nil {
		return Principal{}, refuseToken(TokenClaimUnexpected)
	}
	if cause := c.judge(v.validator); cause != "" {
		return Principal{}, refuseToken(cause)
	}
	return Principal{Account: string(c.Subject), Label: c.label(), Scheme: Bearer, KeyID: key.id}, nil
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
	header    joseHeader
	payload   []byte
	signature []byte
	signed    string // header.payload as received
}

// canonical refuses padding and stray trailing bits: one token, one spelling.
var canonical = base64.RawURLEncoding.Strict()

// splitJWS takes the token apart: exactly three segments, each canonical
// base64url, the first one a JSON object.
func splitJWS(token string) (jws, Cause) {
	// encoding/base64 skips line breaks wherever they are.
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return jws{}, TokenMalformed
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return jws{}, TokenMalformed
	}
	var decoded [3][]byte
	for i, segment := range [3]string{header, payload, signature} {
		var err error
		if decoded[i], err = canonical.DecodeString(segment); err != nil {
			return jws{}, TokenMalformed
		}
	}
	t := jws{payload: decoded[1], signature: decoded[2], signed: token[:len(header)+1+len(payload)]}
	if unmarshalObject(decoded[0], &t.header) != nil {
		return jws{}, TokenMalformed
	}
	return t, ""
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

// UnmarshalJSON accepts a string only.
func (t *text) UnmarshalJSON(b []byte) error {
	if jsontext.Value(b).Kind() != jsontext.KindString {
		return errors.New("not a string")
	}
	var short [64]byte // long enough for nearly all
	unquoted, err := jsontext.AppendUnquote(short[:0], b)
	*t = text(unquoted)
	return err
}

// claims are those of RFC 7519 section 4.1 that are used, and the e-mail address
// of OpenID Connect Core section 5.1. It implements jwt.Claims.
type claims struct {
	Issuer    text        `json:"iss"`
	Subject   text        `json:"sub"`
	Audience  audience    `json:"aud"`
	Expires   numericDate `json:"exp"`
	NotBefore numericDate `json:"nbf"`
	IssuedAt  numericDate `json:"iat"`
	Email     text        `json:"email"`
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
	case c.Subject == "":
		return TokenClaimMissing
	case len(c.Subject) > MaxAccount:
		return TokenClaimUnexpected
	}
	return ""
}

func (c *claims) label() string {
	if c.Email != "" {
		return string(c.Email)
	}
	return string(c.Subject)
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires.orNil(), nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.IssuedAt.orNil(), nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.NotBefore.orNil(), nil }
func (c *claims) GetIssuer() (string, error)                   { return string(c.Issuer), nil }
func (c *claims) GetSubject() (string, error)                  { return string(c.Subject), nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings(c.Audience), nil }

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

// UnmarshalJSON accepts a JSON number only: not null, not a string.
func (n *numericDate) UnmarshalJSON(b []byte) error {
	seconds, err := strconv.ParseFloat(string(b), 64)
	if err != nil || seconds < 0 || seconds > endOfYear9999 {
		return errors.New("not a date")
	}
	n.date, n.given = jwt.NumericDate{Time: time.UnixMicro(int64(seconds * 1e6))}, true
	return nil
}

// audience is one string or an array of strings (RFC 7519 section 4.1.3).
type audience jwt.ClaimStrings

// UnmarshalJSON accepts both forms.
func (a *audience) UnmarshalJSON(b []byte) error {
	switch jsontext.Value(b).Kind() {
	case jsontext.KindString:
		var one text
		err := one.UnmarshalJSON(b)
		*a = audience{string(one)}
		return err
	case jsontext.KindBeginArray:
		var all []text
		err := json.Unmarshal(b, &all)
		*a = make(audience, len(all))
		for i, one := range all {
			(*a)[i] = string(one)
		}
		return err
	default:
		return errors.New("neither a string nor an array")
	}
}
