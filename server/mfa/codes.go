package mfa

import (
	"context"
	"log/slog"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/store"
)

// IssueRecoveryCodes replaces all recovery codes of the caller's factor. No code of the old set
// is good once the new set was returned.
func (o *Operations) IssueRecoveryCodes(ctx context.Context, request gen.IssueRecoveryCodesRequestObject) (gen.IssueRecoveryCodesResponseObject, error) {
	principal, err := principalOf(ctx)
	if err != nil {
		return nil, err
	}
	var email string
	if request.Body != nil {
		email = string(request.Body.Email)
	}
	if err := checkEmail(principal, email); err != nil {
		return nil, err
	}
	codes := newRecoveryCodes()
	_, err = o.c.Factors.Change(ctx, principal.Account, func(factor store.Factor) (store.Factor, error) {
		if !factor.Exists() {
			return factor, &Refusal{Reason: NotEnrolled}
		}
		factor.RecoveryCodes = codes
		return factor, o.c.StepUp.Check(principal)
	})
	if err != nil {
		return nil, err
	}
	o.audit(ctx, principal, "recovery_codes_issued")
	return gen.IssueRecoveryCodes200JSONResponse{
		Body: gen.IssueRecoveryCodes200JSONResponseBody(struct{ Data []string }{formatRecoveryCodes(codes)}),
	}, nil
}

// ViewRecoveryCodes returns the caller's unused recovery codes: none without a factor. Upstream's
// contract has them shown again, so the store seals them and does not hash them.
func (o *Operations) ViewRecoveryCodes(ctx context.Context, request gen.ViewRecoveryCodesRequestObject) (gen.ViewRecoveryCodesResponseObject, error) {
	principal, err := principalOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkEmail(principal, string(request.Params.Email)); err != nil {
		return nil, err
	}
	if err := o.c.StepUp.Check(principal); err != nil {
		return nil, err
	}
	factor, err := o.c.Factors.Find(ctx, principal.Account)
	if err != nil {
		return nil, err
	}
	unused := factor.UnusedCodes()
	o.audit(ctx, principal, "recovery_codes_viewed", slog.Int("recovery_codes_left", len(unused)))
	return gen.ViewRecoveryCodes200JSONResponse{
		Body: gen.ViewRecoveryCodes200JSONResponseBody(struct{ Data []string }{formatRecoveryCodes(unused)}),
	}, nil
}
