package mfa

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
)

// retryTime is how long after a confirmation the same call returns the same recovery codes. Its
// first response may have been lost, and with it the only copy of the codes.
const retryTime = 10 * time.Minute

// ConfirmTOTPRegistration makes the pending secret the caller's factor, if the code is of that
// secret, and returns the recovery codes. There is no limit of attempts: the caller can read the
// secret.
func (o *Operations) ConfirmTOTPRegistration(ctx context.Context, request gen.ConfirmTOTPRegistrationRequestObject) (gen.ConfirmTOTPRegistrationResponseObject, error) {
	principal, err := principalOf(ctx)
	if err != nil {
		return nil, err
	}
	result := &confirmation{o: o, principal: principal}
	factor, err := result.commit(ctx, struct{ Code, Secret string }(*request.Body))
	o.c.Metrics.CountConfirmation(outcomeOf(err))
	if err != nil {
		return nil, o.refused(ctx, principal, "confirm", err)
	}
	if !result.repeated {
		o.c.Metrics.ObserveEnrolment(max(0, o.c.PendingTTL-result.deadline.Sub(factor.Changed)))
	}
	event := "totp_confirmed"
	if result.replaced {
		event = "totp_replaced"
	}
	o.audit(ctx, principal, event, slog.Bool("repeated", result.repeated))
	data := gen.ConfirmedTOTP(struct{ RecoveryCodes []string }{formatRecoveryCodes(factor.UnusedCodes())})
	return gen.ConfirmTOTPRegistration200JSONResponse{
		Body: gen.ConfirmTOTPRegistration200JSONResponseBody(struct{ Data gen.ConfirmedTOTP }{data}),
	}, nil
}

// confirmation is one confirm call and what came of it.
type confirmation struct {
	o         *Operations
	principal auth.Principal

	secret store.Secret
	code   string

	deadline time.Time // of the pending secret
	replaced bool      // the account had another factor
	repeated bool      // an earlier call has confirmed the secret
}

func (c *confirmation) commit(ctx context.Context, body struct{ Code, Secret string }) (store.Factor, error) {
	secret, ok := parseSecret(body.Secret)
	if !ok || !isCode(body.Code) {
		return store.Factor{}, &Refusal{Reason: Malformed}
	}
	c.secret, c.code = secret, body.Code
	return c.o.c.Factors.Confirm(ctx, c.principal.Account, c.decide)
}

// decide returns the factor after the confirmation. The store calls it again if the entries have
// changed.
func (c *confirmation) decide(pending *store.PendingKey, factor store.Factor) (store.Factor, error) {
	now := c.o.c.Now()
	switch {
	case pending != nil && equalSecrets(pending.Secret, c.secret):
		return c.enrol(pending, factor, now)
	case factor.State == store.Enrolled && equalSecrets(factor.Secret, c.secret) && now.Sub(factor.Changed) < retryTime:
		return c.repeat(factor, now)
	}
	return factor, &Refusal{Reason: NotPending}
}

func (c *confirmation) enrol(pending *store.PendingKey, factor store.Factor, now time.Time) (store.Factor, error) {
	if factor.Exists() {
		if err := c.o.c.StepUp.Check(c.principal); err != nil {
			return factor, err
		}
	}
	step, ok := matchStep(c.secret, c.code, now)
	if !ok {
		return factor, c.wrongCode(now)
	}
	c.deadline, c.replaced, c.repeated = pending.Deadline, factor.Exists(), false
	return factor.Enrol(c.secret, step, newRecoveryCodes(), now), nil
}

// repeat accepts the code that has confirmed the secret, and a later valid one, which is used up
// then.
func (c *confirmation) repeat(factor store.Factor, now time.Time) (store.Factor, error) {
	c.replaced, c.repeated = false, true
	if isCodeOf(c.secret, c.code, factor.ConfirmStep) {
		return factor, nil
	}
	step, ok := matchStep(c.secret, c.code, now)
	if !ok || step < factor.ConfirmStep {
		return factor, c.wrongCode(now)
	}
	factor.LastStep = max(factor.LastStep, step)
	return factor, nil
}

// wrongCode says whether the code is wrong or the clock of the device.
func (c *confirmation) wrongCode(now time.Time) error {
	if ahead, ok := clockAhead(c.secret, c.code, now); ok {
		return &Refusal{Reason: ClockOff, Ahead: ahead}
	}
	return &Refusal{Reason: WrongCode}
}

// Outcomes in the metrics beside the reasons of a Refusal.
const (
	outcomeConfirmed   = "confirmed"
	outcomeStepUp      = "step_up"
	outcomeUnavailable = "unavailable"
)

// outcomeOf names the result of a confirmation for the metric.
func outcomeOf(err error) string {
	if err == nil {
		return outcomeConfirmed
	}
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return string(refusal.Reason)
	}
	if _, ok := errors.AsType[*auth.Refusal](err); ok || errors.Is(err, auth.ErrPersonRequired) {
		return outcomeStepUp
	}
	return outcomeUnavailable
}

// refused adds the audit event of a refused code to the request's log line and returns err.
func (o *Operations) refused(ctx context.Context, principal auth.Principal, operation string, err error) error {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		o.audit(ctx, principal, "code_refused", slog.String("operation", operation), slog.String("reason", string(refusal.Reason)))
	}
	return err
}

// audit adds an event to the request's log line. The label, an e-mail address, stays out of it.
func (o *Operations) audit(ctx context.Context, principal auth.Principal, event string, more ...slog.Attr) {
	telemetry.Audit(ctx, slog.LevelInfo, eventOf(principal, principal.Account, event, more)...)
}

// eventOf returns the members of an audit event.
func eventOf(principal auth.Principal, account, event string, more []slog.Attr) []slog.Attr {
	return append([]slog.Attr{
		slog.String("event", event),
		slog.String("account", store.Digest(account)),
		slog.String("scheme", string(principal.Scheme)),
		slog.String("key_id", principal.KeyID),
	}, more...)
}
