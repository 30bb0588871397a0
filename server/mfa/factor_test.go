package mfa

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	openapi_types "github.com/oapi-codegen/runtime/types"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

// operation is a call of one operation.
type operation func(context.Context, *Operations) error

// info expects the answer enabled if the call succeeds.
func info(email string, enabled bool) operation {
	return func(ctx context.Context, o *Operations) error {
		response, err := o.GetUserMfaInfo(ctx, gen.GetUserMfaInfoRequestObject{Params: gen.GetUserMfaInfoParams{Email: openapi_types.Email(email)}})
		got, _ := response.(gen.GetUserMfaInfo200JSONResponse)
		if err == nil && got.Body.Data != (gen.MfaInfo{TOTPEnabled: enabled}) {
			return errors.New("wrong info")
		}
		return err
	}
}

func remove(email string) operation {
	return func(ctx context.Context, o *Operations) error {
		_, err := o.RemoveTOTP(ctx, gen.RemoveTOTPRequestObject{Body: &gen.RemoveTOTPJSONRequestBody{Email: openapi_types.Email(email)}})
		return err
	}
}

func removeWithoutBody(ctx context.Context, o *Operations) error {
	_, err := o.RemoveTOTP(ctx, gen.RemoveTOTPRequestObject{})
	return err
}

func settings(passkey, totp *bool) operation {
	return func(ctx context.Context, o *Operations) error {
		_, err := o.UpdateMfaSettings(ctx, gen.UpdateMfaSettingsRequestObject{Body: &gen.UpdateMfaSettingsJSONRequestBody{PasskeyEnabled: passkey, TOTPEnabled: totp}})
		return err
	}
}

func removed(existed bool) string { return event("totp_removed", slog.Bool("existed", existed)) }

func switched(enabled, changed bool) string {
	return event("mfa_settings_changed", slog.Bool("totp_enabled", enabled), slog.Bool("changed", changed))
}

// TestFactor_IsChangedByItsOwner is one story. Each step has a call, what comes of it and the
// state of the factor then.
func TestFactor_IsChangedByItsOwner(t *testing.T) {
	f := newFixture(t)
	yes, no := new(true), new(false)
	enrol := func(context.Context, *Operations) error { f.enrol(rfcSecret); return nil }
	for _, step := range []struct {
		name   string
		call   operation
		reason Reason
		event  string
		state  store.State
	}{
		{"info without a factor", info("", false), "", noEvent, store.None},
		{"info of another account", info("bob@example.com", false), OtherAccount, noEvent, store.None},
		{"info of the account id", info("ada", false), OtherAccount, noEvent, store.None},
		{"remove without a factor", remove(""), "", removed(false), store.None},
		{"switch on without a factor", settings(nil, yes), NotEnrolled, noEvent, store.None},
		{"switch off without a factor", settings(nil, no), "", switched(false, false), store.None},
		{"enrol", enrol, "", noEvent, store.Enrolled},
		{"info", info("ADA@example.COM", true), "", noEvent, store.Enrolled},
		{"no settings", settings(nil, nil), "", noEvent, store.Enrolled},
		{"switch a passkey off", settings(no, nil), "", noEvent, store.Enrolled},
		{"switch a passkey on and the factor off", settings(yes, no), NotEnrolled, noEvent, store.Enrolled},
		{"switch on what is on", settings(no, yes), "", switched(true, false), store.Enrolled},
		{"switch off", settings(nil, no), "", switched(false, true), store.Off},
		{"switch off what is off", settings(nil, no), "", switched(false, false), store.Off},
		{"info of a factor that is off", info("", false), "", noEvent, store.Off},
		{"switch on", settings(nil, yes), "", switched(true, true), store.Enrolled},
		{"remove that of another account", remove("bob@example.com"), OtherAccount, noEvent, store.Enrolled},
		{"remove", remove("ADA@example.COM"), "", removed(true), store.Removed},
		{"remove again", removeWithoutBody, "", removed(false), store.Removed},
		{"info after that", info("", false), "", noEvent, store.Removed},
		{"switch on after that", settings(nil, yes), NotEnrolled, noEvent, store.Removed},
	} {
		f.clock.Advance(time.Minute)
		if step.name == "enrol" {
			f.clock.Advance(startOf(someStep).Sub(f.clock.Now()))
		}
		before := f.factor()
		err := f.call(func(ctx context.Context) error { return step.call(ctx, f.Operations) })
		if (err == nil) != (step.reason == "") || err != nil && !isRefusal(err, step.reason) {
			t.Errorf("%s: %v; want %q", step.name, err, step.reason)
		}
		after := f.factor()
		if f.event != step.event || after.State != step.state {
			t.Errorf("%s: event %s, state %s; want %s, %s", step.name, f.event, after.State, step.event, step.state)
		}
		if before.State == after.State && !cmp.Equal(before, after) {
			t.Errorf("%s: factor (-before +after):\n%s", step.name, cmp.Diff(before, after))
		}
	}
	if factor := f.factor(); factor.Secret != (store.Secret{}) || factor.RecoveryCodes != nil {
		t.Error("the removed factor has a secret or recovery codes")
	}
}

// Only what takes a factor away demands a recent sign-in.
func TestFactor_DemandsStepUp(t *testing.T) {
	off, on := settings(nil, new(false)), settings(nil, new(true))
	for name, row := range map[string]struct {
		state store.State
		call  operation
		want  error
	}{
		"remove":                       {store.Enrolled, remove(""), auth.ErrPersonRequired},
		"remove a factor that is off":  {store.Off, remove(""), auth.ErrPersonRequired},
		"remove without a factor":      {store.None, remove(""), nil},
		"switch off":                   {store.Enrolled, off, auth.ErrPersonRequired},
		"switch off what is off":       {store.Off, off, nil},
		"switch off without a factor":  {store.None, off, nil},
		"switch on":                    {store.Off, on, nil},
		"switch on what is on":         {store.Enrolled, on, nil},
		"switch on without a factor":   {store.None, on, &Refusal{Reason: NotEnrolled}},
		"info":                         {store.Enrolled, info("", true), nil},
		"info of a factor that is off": {store.Off, info("", false), nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if row.state != store.None {
				f.enrol(rfcSecret)
			}
			if row.state == store.Off {
				_ = f.call(func(ctx context.Context) error { return off(ctx, f.Operations) })
			}
			f.c.StepUp.MaxAge = time.Hour
			before := f.entries()
			err := f.call(func(ctx context.Context) error { return row.call(ctx, f.Operations) })
			if want, ok := errors.AsType[*Refusal](row.want); !errors.Is(err, row.want) && (!ok || !isRefusal(err, want.Reason)) {
				t.Errorf("%v; want %v", err, row.want)
			}
			if err != nil && (f.event != noEvent || !cmp.Equal(before, f.entries())) {
				t.Errorf("event %s, entries changed: %t", f.event, !cmp.Equal(before, f.entries()))
			}
		})
	}
}

func TestFactor_NeedsAPrincipal(t *testing.T) {
	o, memory, _ := newOperations(t)
	generate := func(ctx context.Context, o *Operations) error {
		_, err := o.GenerateTOTPKey(ctx, gen.GenerateTOTPKeyRequestObject{})
		return err
	}
	confirm := func(ctx context.Context, o *Operations) error {
		_, err := o.ConfirmTOTPRegistration(ctx, gen.ConfirmTOTPRegistrationRequestObject{})
		return err
	}
	for name, call := range map[string]operation{"generate": generate, "confirm": confirm, "info": info("", false), "remove": remove(""), "settings": settings(nil, nil)} {
		if err := call(t.Context(), o); !errors.Is(err, errNoPrincipal) {
			t.Errorf("%s: %v; want errNoPrincipal", name, err)
		}
	}
	if entries, err := store.Entries(t.Context(), memory, "mfa:{"); err != nil || len(entries) != 0 {
		t.Errorf("the store holds %d entries, %v; want none", len(entries), err)
	}
}
