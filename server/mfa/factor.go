package mfa

import (
	"context"
	"log/slog"
	"strings"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

// GetUserMfaInfo says which factors the caller has switched on. It answers from the factor
// alone: what cannot be read is an error, and never false.
func (o *Operations) GetUserMfaInfo(ctx context.Context, request gen.GetUserMfaInfoRequestObject) (gen.GetUserMfaInfoResponseObject, error) {
	principal, err := principalOf(ctx)
	if err != nil {
		return nil, err
	}
	if err := checkEmail(principal, string(request.Params.Email)); err != nil {
		return nil, err
	}
	factor, err := o.c.Factors.Find(ctx, principal.Account)
	if err != nil {
		return nil, err
	}
	info := gen.MfaInfo(struct{ PasskeyEnabled, TOTPEnabled bool }{
		PasskeyEnabled: false, // This service has no passkeys yet.
		TOTPEnabled:    factor.State == store.Enrolled,
	})
	return gen.GetUserMfaInfo200JSONResponse{
		Body: gen.GetUserMfaInfo200JSONResponseBody(struct{ Data gen.MfaInfo }{info}),
	}, nil
}

// RemoveTOTP removes the caller's factor and its recovery codes. It succeeds without a factor
// too.
func (o *Operations) RemoveTOTP(ctx context.Context, request gen.RemoveTOTPRequestObject) (gen.RemoveTOTPResponseObject, error) {
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
	removed := false
	_, err = o.c.Factors.Change(ctx, principal.Account, func(factor store.Factor) (store.Factor, error) {
		if removed = factor.Exists(); !removed {
			return factor, nil
		}
		return factor.Remove(o.c.Now()), o.c.StepUp.Check(principal)
	})
	if err != nil {
		return nil, err
	}
	o.audit(ctx, principal, "totp_removed", slog.Bool("existed", removed))
	return gen.RemoveTOTP200JSONResponse{Body: success("The TOTP factor is removed.")}, nil
}

// UpdateMfaSettings switches the caller's factor on or off. An absent member changes nothing.
func (o *Operations) UpdateMfaSettings(ctx context.Context, request gen.UpdateMfaSettingsRequestObject) (gen.UpdateMfaSettingsResponseObject, error) {
	principal, err := principalOf(ctx)
	if err != nil {
		return nil, err
	}
	settings := struct{ PasskeyEnabled, TOTPEnabled *bool }(*request.Body)
	if settings.PasskeyEnabled != nil && *settings.PasskeyEnabled {
		return nil, &Refusal{Reason: NotEnrolled} // This service has no passkeys yet.
	}
	if settings.TOTPEnabled == nil {
		return gen.UpdateMfaSettings200JSONResponse{Body: success("Nothing has changed.")}, nil
	}
	enabled, changed := *settings.TOTPEnabled, false
	_, err = o.c.Factors.Change(ctx, principal.Account, func(factor store.Factor) (store.Factor, error) {
		switch {
		case enabled && !factor.Exists():
			return factor, &Refusal{Reason: NotEnrolled}
		case !enabled && factor.State == store.Enrolled:
			if err := o.c.StepUp.Check(principal); err != nil {
				return factor, err
			}
		}
		after := factor.SetEnabled(enabled)
		changed = after.State != factor.State
		return after, nil
	})
	if err != nil {
		return nil, err
	}
	o.audit(ctx, principal, "mfa_settings_changed", slog.Bool("totp_enabled", enabled), slog.Bool("changed", changed))
	if !changed {
		return gen.UpdateMfaSettings200JSONResponse{Body: success("Nothing has changed.")}, nil
	}
	return gen.UpdateMfaSettings200JSONResponse{Body: success("The MFA settings are changed.")}, nil
}

func success(message string) gen.SuccessResponse {
	return gen.SuccessResponse(struct{ Message string }{message})
}

// checkEmail accepts the caller's own address, in any case, or none. To act for another account
// needs a role, and roles are not in the token.
func checkEmail(principal auth.Principal, email string) error {
	if email != "" && !strings.EqualFold(email, principal.Label) {
		return &Refusal{Reason: OtherAccount}
	}
	return nil
}

// principalOf returns the caller.
func principalOf(ctx context.Context) (auth.Principal, error) {
	principal, ok := auth.FromContext(ctx)
	if !ok {
		return auth.Principal{}, errNoPrincipal
	}
	return principal, nil
}
