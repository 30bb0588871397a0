// Package auth turns the credentials of a request into its Principal: the account that the
// request acts for.
//
// There are three kinds of credential. A bearer token is a JWT of a signed-in person, signed by
// the token issuer. An API key is a random string of a program that acts for one account. A
// service key is one of the gateway's sign-in, which asks about all accounts: it comes alone, in
// X-Service-Key, opens only the operations that are made for it, and no other credential does.
// The rules, in the order in which they are applied:
//
//  1. A token comes in the header field Authorization, an API key in X-Api-Key, each field at
//     most once. Authorization has no other scheme than Bearer. All other header fields, such
//     as X-User-Id, are ignored.
//  2. An API key must be well formed.
//  3. A token must be well formed and at most 8 KiB long. Its header must have no crit. Its
//     typ, if present, must be JWT or at+jwt.
//  4. The token's alg and kid select exactly one verification key. Each verification key has
//     one algorithm: HS256 for the configured secret, the key's own for a key of the JWK set.
//  5. The signature must be good.
//  6. The claims must be one JSON object with each name once. iss, aud, exp and sub are required;
//     they, nbf and iat must have their type. exp, nbf and iat are compared with the clock, with
//     some leeway. No other claim refuses a token: a malformed email or auth_time is ignored.
//  7. The KeyFinder must find the API key.
//  8. A token and an API key in one request must be of the same account.
//
// Every credential of a request must be valid: a good one does not make up for a bad one. A
// request that breaks a rule, or has no credential, gets a Refusal. Its Cause is for the log.
// The response does not depend on it, so an attacker learns nothing from the response.
//
// A token needs no call to the store. An API key is looked up last, so malformed credentials
// and forged tokens do not reach the store.
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

// Principal is the account that a request is made for.
type Principal struct {
	Account string // opaque and unique: the token's sub, or the account of the API key
	Label   string // the account's name for a person: an e-mail address that can be shown, else the account

	// AuthTime is when the person signed in: the token's auth_time. It is zero if the token does
	// not say, and for an API key alone.
	AuthTime time.Time

	// Scheme and KeyID are for audit events. KeyID is the id of the API key if the request has
	// one. Otherwise it is the kid of the JWK that verified the token, or empty.
	Scheme Scheme
	KeyID  string
}

// Scheme tells which kinds of credential a request had.
type Scheme string

// The schemes. Audit events have these values.
const (
	Bearer Scheme = "bearer"
	APIKey Scheme = "api_key"
	Both   Scheme = "both"

	ServiceKey Scheme = "service_key"
)

// ErrUnknownKey says that an API key or a service key does not exist, has expired or was revoked.
var ErrUnknownKey = errors.New("unknown API key")

// KeyFinder looks up API keys. It is safe for concurrent use.
//
// FindAPIKey returns the principal of a key that is valid now, without its Scheme. It MUST
// return ErrUnknownKey for every other key. Any other error means that the look-up failed. It
// MUST NOT cache: a revoked key is refused from the next call on. FindServiceKey is the same for
// service keys, whose principal has no account.
type KeyFinder interface {
	FindAPIKey(ctx context.Context, key string) (Principal, error)
	FindServiceKey(ctx context.Context, key string) (Principal, error)
}

// Config has the verification keys, the expected claims and the clock of an Authenticator.
type Config struct {
	// Keys looks up API keys, each within KeyTime, which is above 0. Required.
	Keys    KeyFinder
	KeyTime time.Duration

	// HMACSecret verifies HS256 tokens: at least 32 bytes (RFC 7518, section 3.2). Empty: HS256
	// tokens are refused.
	HMACSecret []byte

	// KeySet verifies tokens of all other algorithms. Nil: those tokens are refused.
	KeySet *KeySet

	// A token's iss must be Issuer, and its aud must contain Audience. Required with HMACSecret
	// or KeySet.
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

// MinHMACSecret is the shortest HS256 key in bytes: the size of the hash (RFC 7518, section
// 3.2).
const MinHMACSecret = 32

// New returns an Authenticator, or an error that names a missing or weak setting of c.
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

// Authenticate returns the principal that every credential in header names. The error is a
// *Refusal if a credential is missing or invalid. Otherwise validity is unknown: the error is
// ErrKeysUnavailable, the KeyFinder's error, or an *AwaitedKey, after which the caller tries
// once more.
func (a *Authenticator) Authenticate(ctx context.Context, header http.Header) (Principal, error) {
	if header["X-Service-Key"] != nil {
		return Principal{}, &Refusal{Cause: ServiceKeyMisplaced}
	}
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

// AuthenticateService returns the principal of the one service key in header, and accepts no
// other credential beside it. The errors are those of Authenticate.
func (a *Authenticator) AuthenticateService(ctx context.Context, header http.Header) (Principal, error) {
	keys := header.Values("X-Service-Key")
	switch {
	case len(keys) == 0:
		return Principal{}, &Refusal{Cause: NoCredentials}
	case len(keys) > 1 || header["Authorization"] != nil || header["X-Api-Key"] != nil:
		return Principal{}, &Refusal{Cause: SeveralCredentials}
	case !wellFormedKey(serviceKeyPrefix, keys[0]):
		return Principal{}, &Refusal{Cause: KeyMalformed}
	}
	return a.look(ctx, keys[0], a.keys.FindServiceKey, ServiceKey, false)
}

// both demands that token and API key are valid and of the same account. Label and AuthTime
// are the token's: the person's own.
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
	return a.look(ctx, key, a.keys.FindAPIKey, APIKey, withToken)
}

// look calls finder within the time for a look-up.
func (a *Authenticator) look(ctx context.Context, key string, finder func(context.Context, string) (Principal, error), scheme Scheme, withToken bool) (Principal, error) {
	ctx, cancel := context.WithTimeout(ctx, a.keyTime)
	defer cancel()
	principal, err := finder(ctx, key)
	if errors.Is(err, ErrUnknownKey) {
		return Principal{}, &Refusal{Cause: KeyUnknown, withToken: withToken}
	}
	if err != nil {
		return Principal{}, err
	}
	principal.Scheme = scheme
	return principal, nil
}

// bearerToken returns the token of the Authorization field (RFC 6750, section 2.1). The
// scheme's name is case-insensitive, and one or more spaces follow it (RFC 9110, section 11.1).
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
	case !wellFormedKey(apiKeyPrefix, lines[0]):
		return "", false, &Refusal{Cause: KeyMalformed, withToken: withToken}
	}
	return lines[0], true, nil
}

type contextKey struct{}

// NewContext returns ctx with p in it.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext returns the principal that NewContext put into ctx.
func FromContext(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(contextKey{}).(Principal)
	return p, ok
}
