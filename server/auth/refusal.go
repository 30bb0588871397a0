package auth

import (
	"strconv"
	"time"
)

// Cause says in the log why a caller was refused. Clients do not see it: it would tell an
// attacker which guess was the better one.
type Cause string

// The causes of a Refusal.
const (
	NoCredentials       Cause = "no_credentials"
	SeveralCredentials  Cause = "several_credentials"   // a header field came more than once
	SchemeUnknown       Cause = "scheme_unknown"        // Authorization, but not Bearer
	ServiceKeyMisplaced Cause = "service_key_misplaced" // for an operation that takes none
	AccountsDiffer      Cause = "accounts_differ"       // token and API key are valid, but of two accounts

	KeyMalformed Cause = "key_malformed"
	KeyUnknown   Cause = "key_unknown" // never existed, expired or revoked

	TokenMalformed        Cause = "token_malformed"
	TokenAlgorithm        Cause = "token_algorithm"   // we have no key for this algorithm
	TokenKeyUnknown       Cause = "token_key_unknown" // not exactly one key of the JWK set fits
	TokenSignature        Cause = "token_signature"
	TokenExpired          Cause = "token_expired"
	TokenNotYetValid      Cause = "token_not_yet_valid" // nbf or iat in the future
	TokenIssuer           Cause = "token_issuer"
	TokenAudience         Cause = "token_audience"
	TokenClaimMissing     Cause = "token_claim_missing" // exp, iss, aud or sub
	TokenClaimUnexpected  Cause = "token_claim_unexpected"
	TokenHeaderUnexpected Cause = "token_header_unexpected" // typ, or crit

	SignInTooOld Cause = "sign_in_too_old" // see StepUp
)

// Refusal is the error for a request that is not authenticated.
type Refusal struct {
	Cause     Cause
	withToken bool
	maxAge    time.Duration // of SignInTooOld
}

// Error implements error. It has nothing of the credential.
func (r *Refusal) Error() string { return "refused: " + string(r.Cause) }

const realm = `Bearer realm="quiva.ai Gateway"`

// Challenge returns the value of WWW-Authenticate. It names an error only if a bearer token
// was presented (RFC 6750, section 3.1), and the same error for every fault of a token. The
// token of a person who has to sign in again is good: its error is that of RFC 9470, section 3.
func (r *Refusal) Challenge() string {
	if r.Cause == SignInTooOld {
		return realm + `, error="insufficient_user_authentication", max_age=` + strconv.Itoa(int(r.maxAge.Seconds()))
	}
	if r.withToken {
		return realm + `, error="invalid_token"`
	}
	return realm
}
