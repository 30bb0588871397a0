// Package auth answers one question: on behalf of which account does this
// request come?
//
// Two kinds of credential exist, a bearer JWT (a signed-in person) and an API key
// (a program that acts for one account). The rules, in the order in which they
// are applied:
//
//   - Only the Authorization and X-Api-Key header fields carry credentials, each
//     at most once. Whatever else a client says about itself is ignored.
//   - Every credential that is presented must be valid. One that is not is never
//     made good by another that is.
//   - All of them must name the same account. We never choose between two.
//   - Each verification key is for one algorithm, whatever a token says.
//   - Anything else is a Refusal. What the client sees of it does not tell one
//     cause from another; the Cause is for the log.
//
// A token is judged without any call to the store, so strangers with junk cost
// none. An API key is looked up only if it is well formed and no token in
// the same request was refused.
package auth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// MaxAccount is the longest account id, in bytes.
const MaxAccount = 255

// Principal is who a request is made for.
type Principal struct {
	Account string // opaque and unique: the token's sub, or the account of the API key
	Label   string // for a person to recognise the account by: an e-mail address, else the account

	// What an audit tells of the credential. KeyID is the id of the API key, if one was
	// presented, else the kid of the key in the JWK set that verified the token; empty
	// if that has none.
	Scheme Scheme
	KeyID  string
}

// Scheme is a kind of credential.
type Scheme string

// The schemes. Their values are those of the audit's schema.
const (
	Bearer Scheme = "bearer"
	APIKey Scheme = "api_key"
	Both   Scheme = "both"
)

// ErrUnknownKey says that an API key does not exist, has expired or was revoked.
var ErrUnknownKey = errors.New("unknown API key")

// KeyFinder looks API keys up.
//
// FindAPIKey returns the principal without its Scheme. It MUST return ErrUnknownKey for
// a key that is not valid now, and any other error only if it cannot tell. It MUST NOT
// remember an earlier answer: a revoked key is refused from the next call on.
type KeyFinder interface {
	FindAPIKey(ctx context.Context, key string) (Principal, error)
}

// Config says whom to trust.
type Config struct {
	// Keys looks up API keys, each within KeyTime, which is above 0. Required.
	Keys    KeyFinder
	KeyTime time.Duration

	// HMACSecret verifies HS256 tokens: at least 32 bytes (RFC 7518 section
	// 3.2). Empty: they are refused.
	HMACSecret []byte

	// KeySet verifies tokens of all other algorithms. Nil: they are refused.
	KeySet *KeySet

	// Issuer and Audience are what a token's iss must be and its aud must
	// contain. Required with HMACSecret or KeySet.
	Issuer, Audience string

	// Leeway is the clock skew granted to exp, nbf and iat. 0 or more.
	Leeway time.Duration

	// Now is the clock. Required.
	Now func() time.Time
}

// Authenticator finds the principal of a request. It is safe for concurrent use.
type Authenticator struct {
	tokens  *tokenVerifier
	keys    KeyFinder
	keyTime time.Duration
}

// MinHMACSecret is the shortest accepted HS256 key in bytes: the size of the
// hash (RFC 7518 section 3.2).
const MinHMACSecret = 32

// New returns an Authenticator, or an error that says what c lacks.
func New(c Config) (*Authenticator, error) {
	if c.Keys == nil || c.KeyTime <= 0 || c.Now == nil {
		return nil, errors.New("auth: Keys, KeyTime and Now are required")
	}
	if len(c.HMACSecret) > 0 && len(c.HMACSecret) < MinHMACSecret {
		return nil, errors.New("auth: the HS256 key is shorter than 32 bytes")
	}
	if (len(c.HMACSecret) > 0 || c.KeySet != nil) && (c.Issuer == "" || c.Audience == "") {
		return nil, errors.New("auth: tokens need an expected issuer and audience")
	}
	return &Authenticator{tokens: newTokenVerifier(c), keys: c.Keys, keyTime: c.KeyTime}, nil
}

// Authenticate returns the one principal that every credential in header names.
// The error is a *Refusal, or says why that cannot be told: ErrKeysUnavailable, or
// what the KeyFinder returned; or not yet: *AwaitedKey.
func (a *Authenticator) Authenticate(ctx context.Context, header http.Header) (Principal, error) {
	token, hasToken, err := bearerToken(header)
	if err != nil {
		return Principal{}, err
	}
	key, hasKey, err := apiKey(header, hasToken)
	if err != nil {
		return Principal{}, err
	}
	switch {
	case hasToken && hasKey:
		return a.both(ctx, token, key)
	case hasToken:
		return a.tokens.verify(ctx, token)
	case hasKey:
		return a.find(ctx, key, false)
	}
	return Principal{}, &Refusal{Cause: NoCredentials}
}

// both demands that the token and the key are valid and agree. The label is the
// token's: it is the person's own.
func (a *Authenticator) both(ctx context.Context, token, key string) (Principal, error) {
	byToken, err := a.tokens.verify(ctx, token)
	if err != nil {
		return Principal{}, err
	}
	byKey, err := a.find(ctx, key, true)
	if err != nil {
		return Principal{}, err
	}
	if byToken.Account != byKey.Account {
		return Principal{}, &Refusal{Cause: AccountsDiffer, withToken: true}
	}
	byToken.Scheme, byToken.KeyID = Both, byKey.KeyID
	return byToken, nil
}

func (a *Authenticator) find(ctx context.Context, key string, withToken bool) (Principal, error) {
	ctx, cancel := context.WithTimeout(ctx, a.keyTime)
	defer cancel()
	principal, err := a.keys.FindAPIKey(ctx, key)
	if errors.Is(err, ErrUnknownKey) {
		return Principal{}, &Refusal{Cause: KeyUnknown, withToken: withToken}
	}
	principal.Scheme = APIKey
	return principal, err
}

// bearerToken returns the token of the Authorization field (RFC 6750 section
// 2.1). The scheme's name is case-insensitive and followed by one or more spaces
// (RFC 9110 section 11.1).
func bearerToken(header http.Header) (token string, present bool, err error) {
	lines := header.Values("Authorization")
	if len(lines) == 0 {
		return "", false, nil
	}
	if len(lines) > 1 {
		return "", false, &Refusal{Cause: SeveralCredentials, withToken: slices.ContainsFunc(lines, isBearer)}
	}
	if !isBearer(lines[0]) {
		return "", false, &Refusal{Cause: SchemeUnknown}
	}
	_, token, _ = strings.Cut(lines[0], " ")
	return strings.TrimLeft(token, " "), true, nil
}

func isBearer(line string) bool {
	scheme, _, _ := strings.Cut(line, " ")
	return strings.EqualFold(scheme, "Bearer")
}

// apiKey returns the key of the X-Api-Key field.
func apiKey(header http.Header, withToken bool) (key string, present bool, err error) {
	lines := header.Values("X-Api-Key")
	switch {
	case len(lines) == 0:
		return "", false, nil
	case len(lines) > 1:
		return "", false, &Refusal{Cause: SeveralCredentials, withToken: withToken}
	case !wellFormedAPIKey(lines[0]):
		return "", false, &Refusal{Cause: KeyMalformed, withToken: withToken}
	}
	return lines[0], true, nil
}

type contextKey struct{}

// principalContext is one that a principal is in.
type principalContext struct {
	context.Context //nolint:containedctx // This is a context.
	principal       Principal
}

// Value implements context.Context.
func (c *principalContext) Value(key any) any {
	if key == (contextKey{}) {
		return &c.principal
	}
	return c.Context.Value(key)
}

// NewContext returns ctx with p in it.
func NewContext(ctx context.Context, p Principal) context.Context {
	return &principalContext{ctx, p}
}

// FromContext returns the principal that NewContext put into ctx.
func FromContext(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(contextKey{}).(*Principal)
	if !ok {
		return Principal{}, false
	}
	return *p, true
}
