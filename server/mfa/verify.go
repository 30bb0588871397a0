package mfa

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"slices"
	"time"
	"unicode/utf8"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
)

// GetMfaStatus says which factors the sign-in has to verify for an account. What cannot be read
// is an error, and never false.
func (o *Operations) GetMfaStatus(ctx context.Context, request gen.GetMfaStatusRequestObject) (gen.GetMfaStatusResponseObject, error) {
	account := struct{ Account string }(*request.Body).Account
	if _, err := serviceOf(ctx, account); err != nil {
		return nil, err
	}
	factor, err := o.c.Factors.Find(ctx, account)
	if err != nil {
		return nil, err
	}
	status := gen.MfaStatus(struct {
		PasskeyEnabled    bool // This service has no passkeys yet.
		RecoveryCodesLeft int
		TOTPEnabled       bool
	}{RecoveryCodesLeft: len(factor.UnusedCodes()), TOTPEnabled: factor.State == store.Enrolled})
	return gen.GetMfaStatus200JSONResponse{
		Body: gen.GetMfaStatus200JSONResponseBody(struct{ Data gen.MfaStatus }{status}),
	}, nil
}

// VerifyMfaCode accepts a code of the app or a recovery code, each once. The store has confirmed
// that a code is used up, or that a failure is counted, before the sign-in gets the response. It
// says nothing of clocks: a guesser must not learn that a code is of the future.
func (o *Operations) VerifyMfaCode(ctx context.Context, request gen.VerifyMfaCodeRequestObject) (gen.VerifyMfaCodeResponseObject, error) {
	body := struct{ Account, Code string }(*request.Body)
	principal, err := serviceOf(ctx, body.Account)
	if err != nil {
		return nil, err
	}
	v := &verification{code: body.Code, now: o.c.Now()}
	factor, err := o.c.Factors.Change(ctx, body.Account, v.decide)
	if err == nil && v.refusal != nil {
		err = v.refusal
	}
	o.c.Metrics.CountVerification(v.outcome(err))
	o.auditVerification(ctx, principal, body.Account, v, err)
	if err != nil {
		return nil, err
	}
	data := gen.VerifiedCode(struct {
		Method            gen.VerifiedCodeMethod
		RecoveryCodesLeft int
	}{v.method, len(factor.UnusedCodes())})
	return gen.VerifyMfaCode200JSONResponse{
		Body: gen.VerifyMfaCode200JSONResponseBody(struct{ Data gen.VerifiedCode }{data}),
	}, nil
}

// verification is one code and what came of it.
type verification struct {
	code string
	now  time.Time

	method  gen.VerifiedCodeMethod
	refusal *Refusal      // after a failure, which is counted
	wait    time.Duration // that the failure has started
}

// decide returns the factor after the attempt. A refusal that is not counted is an error. The
// store calls decide again if the factor has changed.
func (v *verification) decide(factor store.Factor) (store.Factor, error) {
	v.refusal, v.wait = nil, 0
	if factor.State != store.Enrolled {
		return factor, &Refusal{Reason: NotEnrolled}
	}
	if isCode(v.code) {
		v.method = gen.TOTP
		return v.decideTOTP(factor)
	}
	code, ok := parseRecoveryCode(v.code)
	if !ok {
		return factor, &Refusal{Reason: Malformed} // A typo is not a guess.
	}
	v.method = gen.RecoveryCode
	return v.decideRecovery(factor, code)
}

// decideTOTP accepts a time step only if it is later than the last accepted one (RFC 6238,
// section 5.2): of equal codes at once, the store lets one through.
func (v *verification) decideTOTP(factor store.Factor) (store.Factor, error) {
	if wait := lockedFor(factor.TOTP, v.now); wait > 0 {
		return factor, &Refusal{Reason: Locked, RetryAfter: wait}
	}
	step, ok := matchStep(factor.Secret, v.code, v.now)
	switch isLast := isCodeOf(factor.Secret, v.code, factor.LastStep); {
	case !ok && isLast:
		return factor, &Refusal{Reason: Replayed} // The second click came after the code's time.
	case !ok:
		factor.TOTP = v.fail(factor.TOTP)
	case step <= factor.LastStep:
		return factor, &Refusal{Reason: Replayed} // A double click is not a guess.
	default:
		factor.LastStep = step
		factor.TOTP, factor.Recovery = succeeded(factor.TOTP, factor.Recovery, v.now)
	}
	return factor, nil
}

func (v *verification) decideRecovery(factor store.Factor, code store.RecoveryCode) (store.Factor, error) {
	if wait := lockedFor(factor.Recovery, v.now); wait > 0 {
		return factor, &Refusal{Reason: Locked, Recovery: true, RetryAfter: wait}
	}
	used, found := code.Use(), -1
	for i, known := range factor.RecoveryCodes {
		known = known.Use()
		if subtle.ConstantTimeCompare(known[:], used[:]) == 1 {
			found = i
		}
	}
	switch {
	case found < 0:
		factor.Recovery = v.fail(factor.Recovery)
		return factor, nil
	case factor.RecoveryCodes[found].Used():
		return factor, &Refusal{Reason: Replayed, Recovery: true} // A double click is not a guess.
	}
	factor.RecoveryCodes = slices.Clone(factor.RecoveryCodes)
	factor.RecoveryCodes[found] = used
	factor.Recovery, factor.TOTP = succeeded(factor.Recovery, factor.TOTP, v.now)
	return factor, nil
}

// fail counts a failure.
func (v *verification) fail(attempts store.Attempts) store.Attempts {
	attempts = failed(attempts, v.now)
	v.refusal, v.wait = &Refusal{Reason: WrongCode, Recovery: v.method == gen.RecoveryCode}, lockedFor(attempts, v.now)
	return attempts
}

// outcome names the result for the metric.
func (v *verification) outcome(err error) string {
	if err == nil {
		return string(v.method)
	}
	return outcomeOf(err)
}

// auditVerification adds the event to the request's log line. The start of a wait is a warning:
// someone may be guessing.
func (o *Operations) auditVerification(ctx context.Context, principal auth.Principal, account string, v *verification, err error) {
	level, event := slog.LevelInfo, "code_verified"
	var more []slog.Attr
	if err != nil { // With unavailable, the code may be used up, or counted.
		event, more = "code_refused", append(more, slog.String("reason", outcomeOf(err)))
	}
	if v.method != "" {
		more = append(more, slog.String("kind", string(v.method)))
	}
	if v.wait > 0 && errors.Is(err, v.refusal) { // Otherwise it is unknown whether the wait has started.
		level, event, more = slog.LevelWarn, "factor_locked", append(more, slog.Int("locked_seconds", int(v.wait.Seconds())))
	}
	telemetry.Audit(ctx, level, eventOf(principal, account, event, more)...)
}

// serviceOf returns the sign-in that calls, if it may ask about account.
func serviceOf(ctx context.Context, account string) (auth.Principal, error) {
	principal, err := principalOf(ctx)
	if err == nil && principal.Scheme != auth.ServiceKey {
		err = errNoPrincipal // Package api lets no other caller through.
	}
	// The document counts characters.
	if err == nil && (len(account) > auth.MaxAccount || !utf8.ValidString(account)) {
		err = &Refusal{Reason: Malformed}
	}
	return principal, err
}
