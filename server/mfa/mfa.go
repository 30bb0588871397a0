// Package mfa implements the operations of the OpenAPI document.
//
// An operation is a method from a typed request to a typed response or an error. Package
// api decides the HTTP status of an error. The caller is in the context
// (auth.FromContext). An operation without a caller is a fault of the wiring and fails.
package mfa

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
)

// Config is what the operations work with. All of it is required.
type Config struct {
	Issuer     Issuer         // the name of the service in the authenticator app
	Pending    *store.Pending // the pending secrets
	PendingTTL time.Duration  // their lifetime
	Factors    *store.Factors
	StepUp     auth.StepUp // for sensitive operations
	Metrics    *telemetry.Metrics
	Now        func() time.Time
}

// Operations implements the operations. It is safe for concurrent use.
type Operations struct{ c Config }

// A changed document breaks the build here and in the methods. A method builds its response
// as the struct that it knows, and converts it to the generated type: Go converts only
// between structs of the same members, so no member is sent that the method did not set.
var _ gen.StrictServerInterface = (*Operations)(nil)

// New returns the operations.
func New(c Config) *Operations {
	c.Metrics.AddFactorOutcomes(
		[]string{outcomeConfirmed, outcomeUnavailable, outcomeStepUp, string(Malformed), string(WrongCode), string(ClockOff), string(NotPending)},
		[]string{string(gen.TOTP), string(gen.RecoveryCode), outcomeUnavailable, string(Malformed), string(WrongCode), string(Replayed), string(Locked), string(NotEnrolled)})
	return &Operations{c}
}

var errNoPrincipal = errors.New("no principal in the context of an operation")

// GenerateTOTPKey returns the caller's pending TOTP key, and makes one if there is none. It
// returns a key only after the store has confirmed it: a key that an app shows and the store
// has lost would lock its owner out.
func (o *Operations) GenerateTOTPKey(ctx context.Context, request gen.GenerateTOTPKeyRequestObject) (gen.GenerateTOTPKeyResponseObject, error) {
	_ = struct{}(request) // does not compile once the document gives the operation an input
	principal, err := principalOf(ctx)
	if err != nil {
		return nil, err
	}
	key, err := o.c.Pending.GetOrCreate(ctx, principal.Account, newSecret())
	o.c.Metrics.CountGenerated(key.Outcome, err)
	if err != nil {
		return nil, fmt.Errorf("generate TOTP key: %w", err)
	}
	// A replaced key may be in a person's app already: an operator should know. The label, an
	// e-mail address, stays out of the audit.
	level := slog.LevelInfo
	if key.Outcome == store.ReplacedUnreadable || key.Outcome == store.ReplacedExpired {
		level = slog.LevelWarn
	}
	telemetry.Audit(ctx, level,
		slog.String("event", "totp_key_issued"),
		slog.String("account", key.Account),
		slog.String("outcome", string(key.Outcome)),
		slog.String("scheme", string(principal.Scheme)),
		slog.String("key_id", principal.KeyID))
	data := gen.TOTPKey(struct{ OTPAuthURL, Secret string }{
		otpauthURL(o.c.Issuer, accountName(principal.Label), key.Secret),
		key.Secret.Base32(),
	})
	return &totpKeyResponse{
		Body: gen.GenerateTOTPKey200JSONResponseBody(struct{ Data gen.TOTPKey }{data}),
		Headers: gen.GenerateTOTPKey200ResponseHeaders(struct {
			TOTPKeyExpiresIn int
			XRequestID       string // package api sets it
		}{TOTPKeyExpiresIn: wholeSeconds(key.Deadline.Sub(o.c.Now()))}),
	}, nil
}

// newSecret makes a secret of 160 random bits (RFC 4226, section 4, R6).
func newSecret() (secret store.Secret) {
	rand.Read(secret[:]) // never fails: crypto/rand ends the process instead
	return secret
}

// wholeSeconds rounds down, so that a client which waits that long is never late.
func wholeSeconds(d time.Duration) int { return int(max(d, 0) / time.Second) }

// totpKeyResponse is the generated 200 with a literal & in its URL. The generated one writes
// \u0026: the same JSON, but it breaks clients that look at the text.
type totpKeyResponse gen.GenerateTOTPKey200JSONResponse

// VisitGenerateTOTPKeyResponse implements gen.GenerateTOTPKeyResponseObject.
func (r *totpKeyResponse) VisitGenerateTOTPKeyResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Totp-Key-Expires-In", strconv.Itoa(r.Headers.TOTPKeyExpiresIn))
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(&r.Body)
}
