// Package mfa implements the operations of the OpenAPI document.
//
// A method per operation, from a typed request to a typed response or an error;
// HTTP statuses for errors are not decided here. The caller is in the context
// (auth.FromContext): an operation without one is a fault of the wiring, and
// fails.
package mfa

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

// PendingKeys keeps the keys that are pending: store.Pending, whose GetOrCreate is the
// contract, or one that is observed.
type PendingKeys interface {
	GetOrCreate(ctx context.Context, account string, fresh store.Secret) (store.PendingKey, error)
}

// Config is what the operations work with. All of it is required.
type Config struct {
	Issuer  Issuer      // in whose name keys are issued
	Pending PendingKeys // where they are kept
	Now     func() time.Time
	Log     *slog.Logger
	Audit   *slog.Logger // for the events that README.md documents
}

// Operations implements the operations. It is safe for concurrent use.
type Operations struct {
	c      Config
	issued slog.Handler // of the audit, with what all of its events begin with
}

// A changed document breaks the build here, and in the methods: they build what they
// answer as the struct that they know of, and convert it to the document's. Go does that
// only while both have the same members, so none is sent that nobody has set.
var _ gen.StrictServerInterface = (*Operations)(nil)

// New returns the operations.
func New(c Config) *Operations {
	return &Operations{c, c.Audit.With("event", "totp_key_issued").Handler()}
}

var errNoPrincipal = errors.New("no principal in the context of an operation")

// GenerateTOTPKey returns the caller's pending TOTP key, and makes one if there is
// none. Nothing is returned before the store has confirmed what is pending: a key
// that an app shows but nobody remembers would lock its owner out.
func (o *Operations) GenerateTOTPKey(ctx context.Context, request gen.GenerateTOTPKeyRequestObject) (gen.GenerateTOTPKeyResponseObject, error) {
	_ = struct{}(request) // There is no input; should there be any, this breaks the build.
	principal, ok := auth.FromContext(ctx)
	if !ok {
		return nil, errNoPrincipal
	}
	key, err := o.c.Pending.GetOrCreate(ctx, principal.Account, newSecret())
	if err != nil {
		return nil, fmt.Errorf("generate TOTP key: %w", err)
	}
	if key.Outcome == store.ReplacedUnreadable || key.Outcome == store.ReplacedExpired {
		o.c.Log.WarnContext(ctx, "pending secret has been replaced", "outcome", string(key.Outcome))
	}
	o.auditIssued(ctx, principal, key)
	data := gen.TOTPKey(struct{ OTPAuthURL, Secret string }{
		otpauthURL(o.c.Issuer, accountName(principal.Label), key.Secret),
		key.Secret.Base32(),
	})
	return totpKeyResponse{
		Body: gen.GenerateTOTPKey200JSONResponseBody(struct{ Data gen.TOTPKey }{data}),
		Headers: gen.GenerateTOTPKey200ResponseHeaders(struct {
			TOTPKeyExpiresIn int
			XRequestID       string // Every answer has it, so it is not set here.
		}{TOTPKeyExpiresIn: wholeSeconds(key.Deadline.Sub(o.c.Now()))}),
	}, nil
}

// auditIssued records who was given a key. Its members are documented in README.md and
// stay: programs read them. The label, an e-mail address, is withheld.
func (o *Operations) auditIssued(ctx context.Context, p auth.Principal, key store.PendingKey) {
	// Not by way of Audit, which would look up each time in which line of code it is called.
	record := slog.NewRecord(o.c.Now(), slog.LevelInfo, "audit", 0)
	record.AddAttrs(
		slog.String("account", key.Account),
		slog.String("outcome", string(key.Outcome)),
		slog.String("scheme", string(p.Scheme)),
		slog.String("key_id", p.KeyID))
	_ = o.issued.Handle(ctx, record) // there is nowhere to tell that nothing can be told
}

// newSecret makes a 160-bit secret. pquerna/otp, which reads the same source, would cost
// more than the sealing of it: it builds a URL that is not used, and encodes what would
// have to be decoded again.
func newSecret() (secret store.Secret) {
	rand.Read(secret[:]) // It never fails: crypto/rand would end the process instead.
	return secret
}

// wholeSeconds rounds down: a client that waits no longer than it says is never
// late.
func wholeSeconds(d time.Duration) int { return int(max(d, 0) / time.Second) }

// totpKeyResponse is the generated 200, except that & in the URL stays literal.
// The generated one writes \u0026, as encoding/json does: the same JSON, and it breaks
// every client that looks at the text.
type totpKeyResponse gen.GenerateTOTPKey200JSONResponse

var applicationJSON = []string{"application/json"}

// VisitGenerateTOTPKeyResponse implements gen.GenerateTOTPKeyResponseObject.
func (r totpKeyResponse) VisitGenerateTOTPKeyResponse(w http.ResponseWriter) error {
	body, err := appendTOTPKey(make([]byte, 0, 1<<10), r.Body)
	if err != nil {
		return fmt.Errorf("encode TOTP key: %w", err)
	}
	header := w.Header()
	header["Content-Type"] = applicationJSON
	header["Totp-Key-Expires-In"] = []string{strconv.Itoa(r.Headers.TOTPKeyExpiresIn)}
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(body)
	return err
}

// appendTOTPKey appends the body as JSON. Its names are the document's, which the tests
// hold it against; a new member breaks the build where the body is made.
func appendTOTPKey(b []byte, body gen.GenerateTOTPKey200JSONResponseBody) ([]byte, error) {
	b, err := jsontext.AppendQuote(append(b, `{"data":{"otpauth_url":`...), body.Data.OTPAuthURL)
	if err != nil {
		return nil, err
	}
	b, err = jsontext.AppendQuote(append(b, `,"secret":`...), body.Data.Secret)
	return append(b, "}}\n"...), err
}
