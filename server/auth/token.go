package auth

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// maxToken is the longest token in bytes. It bounds the work for a forged token.
const maxToken = 8 << 10

// tokenVerifier verifies JWTs. It reads a token once, with readMembers. golang-jwt checks the
// signature and validates the claims. golang-jwt's parser is not used: it takes SUB for sub,
// the last of two subs, and a payload of null.
type tokenVerifier struct {
	secret    []byte  // for HS256 and nothing else; empty: no HS256
	keys      *KeySet // for all other algorithms; nil: none
	validator *jwt.Validator
}

func newTokenVerifier(c Config) *tokenVerifier {
	return &tokenVerifier{
		secret: c.HMACSecret,
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

// verify returns the principal of a valid token. The error is a *Refusal, an *AwaitedKey or
// ErrKeysUnavailable. Claims are parsed only after the signature was verified.
func (v *tokenVerifier) verify(ctx context.Context, token string) (Principal, error) {
	jws, cause := split(token)
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
	var c claims
	if readMembers(jws.payload, c.read) != nil {
		return Principal{}, refuseToken(TokenClaimUnexpected)
	}
	if cause := c.validate(v.validator); cause != "" {
		return Principal{}, refuseToken(cause)
	}
	return Principal{
		Account: string(c.subject), Label: c.label(), AuthTime: c.authTime,
		Scheme: Bearer, KeyID: key.id,
	}, nil
}

// keyFor returns the key for a token, with the one algorithm of that key (RFC 8725, section
// 3.1). HS256 is for the configured secret alone, and the secret for HS256: a public key of
// the set is never used as a secret.
func (v *tokenVerifier) keyFor(ctx context.Context, h joseHeader) (verificationKey, error) {
	switch {
	case string(h.Algorithm) == jwt.SigningMethodHS256.Alg() && len(v.secret) > 0:
		return verificationKey{method: jwt.SigningMethodHS256, material: v.secret}, nil
	case isAsymmetric(string(h.Algorithm)) && v.keys != nil:
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

// jws is a JSON Web Signature in compact serialization (RFC 7515, section 7.1), decoded.
type jws struct {
	header    joseHeader
	payload   []byte
	signature []byte
	signed    string // header.payload as received
}

// canonical refuses padding and stray trailing bits: a token has one spelling.
var canonical = base64.RawURLEncoding.Strict()

// split decodes a token: exactly three segments of canonical base64url, the first of them a
// JSON object with a header that we accept.
func split(token string) (jws, Cause) {
	// encoding/base64 skips line breaks.
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return jws{}, TokenMalformed
	}
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return jws{}, TokenMalformed
	}
	var decoded [3][]byte
	buffer := make([]byte, 0, canonical.DecodedLen(len(token)))
	for i, segment := range segments {
		var err error
		begin := len(buffer)
		if buffer, err = canonical.AppendDecode(buffer, []byte(segment)); err != nil {
			return jws{}, TokenMalformed
		}
		decoded[i] = buffer[begin:]
	}
	var header joseHeader
	if readMembers(decoded[0], header.read) != nil {
		return jws{}, TokenMalformed
	}
	signed := token[:len(segments[0])+1+len(segments[1])]
	return jws{header: header, payload: decoded[1], signature: decoded[2], signed: signed}, header.check()
}

// joseHeader has the header parameters that we read. Parameters that say where to find a key
// (jku, jwk, x5u, x5c) are not among them.
type joseHeader struct {
	Algorithm text
	KeyID     text
	Type      jsontext.Value // nil: absent
	Critical  bool           // crit is there
}

// read is for readMembers.
func (h *joseHeader) read(name string, value jsontext.Value) error {
	switch name {
	case "alg":
		return h.Algorithm.read(value)
	case "kid":
		return h.KeyID.read(value)
	case "typ":
		h.Type = value.Clone()
	case "crit":
		h.Critical = true
	}
	return nil
}

// check refuses extensions that must be understood (RFC 7515, section 4.1.11: we know none)
// and tokens of another kind (RFC 8725, section 3.11).
func (h joseHeader) check() Cause {
	if h.Critical {
		return TokenHeaderUnexpected
	}
	if h.Type == nil {
		return ""
	}
	var typ text
	if typ.read(h.Type) != nil {
		return TokenHeaderUnexpected
	}
	for _, kind := range []string{"JWT", "at+jwt"} {
		if strings.EqualFold(string(typ), kind) || strings.EqualFold(string(typ), "application/"+kind) {
			return ""
		}
	}
	return TokenHeaderUnexpected
}
