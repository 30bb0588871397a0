package mfa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

var otherSecret = store.Secret([]byte("another secret of 20"))

// fixture calls operations for ada at someStep, and keeps the audit event of the last call.
type fixture struct {
	*testing.T
	*Operations
	memory *store.Memory
	clock  *storetest.Clock
	caller auth.Principal
	event  string
	level  slog.Level // of event
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	o, memory, clock := newOperations(t)
	clock.Advance(startOf(someStep).Sub(clock.Now()))
	return &fixture{T: t, Operations: o, memory: memory, clock: clock, caller: ada}
}

// call calls an operation as the caller.
func (f *fixture) call(operation func(ctx context.Context) error) error {
	request := &telemetry.Request{}
	err := operation(telemetry.WithRequest(auth.NewContext(f.Context(), f.caller), request))
	f.event, f.level = slog.GroupValue(request.Event...).String(), request.EventLevel
	return err
}

// event returns the text of an audit event.
func event(name string, more ...slog.Attr) string {
	return slog.GroupValue(append([]slog.Attr{
		slog.String("event", name), slog.String("account", store.Digest("ada")), slog.String("scheme", "api_key"), slog.String("key_id", "key_1"),
	}, more...)...).String()
}

const noEvent = "[]"

// pend makes secret the pending one of ada.
func (f *fixture) pend(secret store.Secret) {
	f.Helper()
	if key, err := f.c.Pending.GetOrCreate(f.Context(), "ada", secret); err != nil || key.Secret != secret {
		f.Fatalf("pending secret: %v, %v", key.Outcome, err)
	}
}

// confirm sends the code of the step that comes steps after someStep.
func (f *fixture) confirm(secret store.Secret, steps int64) ([]string, error) {
	return f.confirmText(secret.Base32(), codeOf(f, secret, someStep+steps))
}

func (f *fixture) confirmText(secret, code string) (codes []string, err error) {
	return codes, f.call(func(ctx context.Context) error {
		response, err := f.ConfirmTOTPRegistration(ctx, gen.ConfirmTOTPRegistrationRequestObject{
			Body: &gen.ConfirmTOTPRegistrationJSONRequestBody{Code: code, Secret: secret},
		})
		if ok, is := response.(gen.ConfirmTOTPRegistration200JSONResponse); is {
			codes = ok.Body.Data.RecoveryCodes
		}
		return err
	})
}

// enrol gives ada the factor of secret and returns the recovery codes.
func (f *fixture) enrol(secret store.Secret) []string {
	f.Helper()
	f.pend(secret)
	codes, err := f.confirm(secret, 0)
	if err != nil {
		f.Fatal(err)
	}
	return codes
}

func (f *fixture) factor() store.Factor {
	f.Helper()
	factor, err := f.c.Factors.Find(f.Context(), "ada")
	if err != nil {
		f.Fatal(err)
	}
	return factor
}

func (f *fixture) entries() map[string][]byte {
	f.Helper()
	entries, err := store.Entries(f.Context(), f.memory, "mfa:{")
	if err != nil {
		f.Fatal(err)
	}
	return entries
}

// wantMetrics checks all metrics of confirm calls that are not zero.
func (f *fixture) wantMetrics(want ...string) {
	f.Helper()
	if diff := cmp.Diff(want, f.samples("mfa_confirm_outcomes_total", "mfa_enrolment_duration_seconds_")); diff != "" {
		f.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// samples returns the metrics with these names that are not zero, without the names.
func (f *fixture) samples(names ...string) (got []string) {
	f.Helper()
	w := httptest.NewRecorder()
	f.c.Metrics.Handler().ServeHTTP(w, httptest.NewRequestWithContext(f.Context(), http.MethodGet, "/metrics", http.NoBody))
	for line := range strings.Lines(w.Body.String()) {
		line = strings.TrimSpace(line)
		for _, name := range names {
			if sample, ok := strings.CutPrefix(line, name); ok && !strings.HasSuffix(line, " 0") && !strings.Contains(line, "bucket") {
				got = append(got, sample)
			}
		}
	}
	return got
}

func TestConfirm_MakesThePendingSecretTheFactor(t *testing.T) {
	f := newFixture(t)
	f.pend(rfcSecret)
	f.clock.Advance(90*time.Second + time.Microsecond)
	codes, err := f.confirmText("gezd gnbv gy3t qojq-GEZD GNBV GY3T QOJQ", codeOf(t, rfcSecret, someStep+2))
	if err != nil {
		t.Fatal(err)
	}
	var read []store.RecoveryCode
	for _, text := range codes {
		code, ok := parseRecoveryCode(text)
		if !ok || slices.Contains(read, code) {
			t.Errorf("%s is not another recovery code", text)
		}
		read = append(read, code)
	}
	want := store.Factor{
		State: store.Enrolled, Changed: startOf(someStep + 3), Secret: rfcSecret, ConfirmStep: someStep + 2, LastStep: someStep + 2, RecoveryCodes: read,
	}
	if got := f.factor(); len(read) != 10 || !cmp.Equal(want, got) {
		t.Errorf("factor (-want +got):\n%s", cmp.Diff(want, got))
	}
	if want := event("totp_confirmed", slog.Bool("repeated", false)); f.event != want {
		t.Errorf("event %s; want %s", f.event, want)
	}
	f.wantMetrics(`{outcome="confirmed"} 1`, "sum 90", "count 1")
	f.pend(otherSecret) // The confirmed secret is not pending any more.
}

func TestConfirm_Refuses(t *testing.T) {
	type row struct {
		arrange func(*fixture) // with rfcSecret pending
		steps   int64
		code    string // empty: that of rfcSecret at steps
		want    Refusal
	}
	rows := map[string]row{
		"a code of another secret": {code: codeOf(t, otherSecret, someStep), want: Refusal{Reason: WrongCode}},
		"a code with spaces":       {code: "123 456", want: Refusal{Reason: Malformed}},
		"a secret after its time":  {arrange: func(f *fixture) { f.clock.Advance(10 * time.Minute) }, steps: 20, want: Refusal{Reason: NotPending}},
		"a secret of another account": {
			arrange: func(f *fixture) { f.caller.Account = "bob" }, want: Refusal{Reason: NotPending},
		},
		"a secret that was replaced": {
			arrange: func(f *fixture) { f.clock.Advance(10 * time.Minute); f.pend(otherSecret) }, steps: 20, want: Refusal{Reason: NotPending},
		},
		"a wrong code of a secret that is not pending": {
			arrange: func(f *fixture) { f.caller.Account = "bob" }, steps: 2, want: Refusal{Reason: NotPending},
		},
	}
	for steps := int64(-22); steps <= 22; steps++ {
		want := Refusal{Reason: ClockOff, Ahead: time.Duration(steps) * period}
		switch {
		case steps == -22 || steps == -21 || steps == 21 || steps == 22:
			want = Refusal{Reason: WrongCode}
		case steps >= -1 && steps <= 1:
			continue
		}
		rows[fmt.Sprintf("a code of %d steps ahead", steps)] = row{steps: steps, want: want}
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.pend(rfcSecret)
			if row.arrange != nil {
				row.arrange(f)
			}
			before := f.entries()
			if row.code == "" {
				row.code = codeOf(t, rfcSecret, someStep+row.steps)
			}
			codes, err := f.confirmText(rfcSecret.Base32(), row.code)
			if refusal, ok := errors.AsType[*Refusal](err); !ok || *refusal != row.want || codes != nil {
				t.Errorf("%d recovery codes, %v; want %v", len(codes), err, &row.want)
			}
			want := strings.Replace(event("code_refused", slog.String("operation", "confirm"), slog.String("reason", string(row.want.Reason))),
				store.Digest("ada"), store.Digest(f.caller.Account), 1)
			if f.event != want {
				t.Errorf("event %s; want %s", f.event, want)
			}
			f.wantMetrics(`{outcome="` + string(row.want.Reason) + `"} 1`)
			if diff := cmp.Diff(before, f.entries()); diff != "" {
				t.Errorf("entries (-before +after):\n%s", diff)
			}
		})
	}
}

// The first response may have been lost.
func TestConfirm_RepeatsItsResponse(t *testing.T) {
	for name, row := range map[string]struct {
		after  time.Duration
		change func(*fixture)
		steps  int64
		want   Reason // empty: the same recovery codes
	}{
		"with the same code":                      {0, nil, 0, ""},
		"with the same code before 10 minutes":    {10*time.Minute - time.Millisecond, nil, 0, ""},
		"with the same code after 10 minutes":     {10 * time.Minute, nil, 0, NotPending},
		"with a later code":                       {2 * time.Minute, nil, 4, ""},
		"with a later code after 10 minutes":      {10 * time.Minute, nil, 20, NotPending},
		"with the next code":                      {0, nil, 1, ""},
		"with an earlier code":                    {0, nil, -1, WrongCode},
		"with a later code that is not valid yet": {0, nil, 2, ClockOff},
		"with a later code that is valid no more": {2 * time.Minute, nil, 2, ClockOff},
		"with a wrong code":                       {0, nil, 1000, WrongCode},
		"beside a new pending secret":             {time.Minute, func(f *fixture) { f.pend(otherSecret) }, 0, ""},
		"from a sign-in that is too old":          {0, func(f *fixture) { f.c.StepUp.MaxAge = time.Hour }, 0, ""},
		"of a factor that is off":                 {0, set(func(f store.Factor) store.Factor { return f.SetEnabled(false) }), 0, NotPending},
		"of a factor that was removed":            {0, set(func(f store.Factor) store.Factor { return f.Remove(startOf(someStep)) }), 0, NotPending},
		"of another account":                      {0, func(f *fixture) { f.caller.Account = "bob" }, 0, NotPending},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			want := f.enrol(rfcSecret)
			f.clock.Advance(row.after)
			if row.change != nil {
				row.change(f)
			}
			before := f.entries()
			got, err := f.confirm(rfcSecret, row.steps)
			if row.want == "" {
				if want := event("totp_confirmed", slog.Bool("repeated", true)); f.event != want {
					t.Errorf("event %s; want %s", f.event, want)
				}
				f.wantMetrics(`{outcome="confirmed"} 2`, "count 1")
			} else {
				want = nil
			}
			refusal, _ := errors.AsType[*Refusal](err)
			if !slices.Equal(got, want) || (err == nil) != (row.want == "") || err != nil && (refusal == nil || refusal.Reason != row.want) {
				t.Errorf("recovery codes the same: %t, %v; want %q", slices.Equal(got, want), err, row.want)
			}
			// A later code is used up, so that it is not good at sign-in too.
			if diff := cmp.Diff(before, f.entries()); diff != "" != (row.want == "" && row.steps > 0) {
				t.Errorf("entries (-before +after):\n%s", diff)
			}
		})
	}
}

func TestConfirm_ReplacesAFactorOnlyOnSuccess(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		f := newFixture(t)
		f.enrol(otherSecret)
		before, err := f.c.Factors.Change(t.Context(), "ada", func(factor store.Factor) (store.Factor, error) { return factor.SetEnabled(enabled), nil })
		if err != nil {
			t.Fatal(err)
		}
		f.pend(rfcSecret)
		if _, err := f.confirm(rfcSecret, 2); err == nil || !cmp.Equal(before, f.factor()) {
			t.Errorf("a wrong code: %v; the factor changed: %t", err, !cmp.Equal(before, f.factor()))
		}
		codes, err := f.confirm(rfcSecret, 0)
		after := f.factor()
		if err != nil || after.Secret != rfcSecret || after.State != store.Enrolled || !slices.Equal(codes, formatRecoveryCodes(after.RecoveryCodes)) {
			t.Errorf("the right code: %v, factor %v", err, after)
		}
		if want := event("totp_replaced", slog.Bool("repeated", false)); f.event != want {
			t.Errorf("event %s; want %s", f.event, want)
		}
		if _, err := f.confirm(otherSecret, 0); !isRefusal(err, NotPending) {
			t.Errorf("the former secret: %v; want %s", err, NotPending)
		}
	}
}

func isRefusal(err error, reason Reason) bool {
	refusal, ok := errors.AsType[*Refusal](err)
	return ok && refusal.Reason == reason
}

// TestConfirm_IsRepeatedAfterALostSwap decides twice, as the store does if the same call came
// first on another instance.
func TestConfirm_IsRepeatedAfterALostSwap(t *testing.T) {
	f := newFixture(t)
	c := &confirmation{o: f.Operations, principal: ada, secret: rfcSecret, code: codeOf(t, rfcSecret, someStep)}
	first, err := c.decide(&store.PendingKey{Secret: rfcSecret}, store.Factor{State: store.Enrolled, Secret: otherSecret})
	if err != nil || !c.replaced || c.repeated {
		t.Errorf("first: replaced %t, repeated %t, %v", c.replaced, c.repeated, err)
	}
	second, err := c.decide(nil, first)
	if err != nil || c.replaced || !c.repeated || !cmp.Equal(first, second) {
		t.Errorf("second: replaced %t, repeated %t, %v", c.replaced, c.repeated, err)
	}
}

func TestConfirm_DemandsStepUpToReplaceAFactor(t *testing.T) {
	f := newFixture(t)
	f.c.StepUp.MaxAge = time.Hour
	f.enrol(otherSecret) // by an API key: there is no factor to replace
	f.pend(rfcSecret)
	before := f.entries()
	if _, err := f.confirm(rfcSecret, 0); !errors.Is(err, auth.ErrPersonRequired) || f.event != noEvent || !cmp.Equal(before, f.entries()) {
		t.Errorf("by an API key: %v, event %s; want ErrPersonRequired, and that nothing changed", err, f.event)
	}
	f.wantMetrics(`{outcome="confirmed"} 1`, `{outcome="step_up"} 1`, "count 1")
	f.caller.Scheme, f.caller.AuthTime = auth.Bearer, startOf(someStep)
	if _, err := f.confirm(rfcSecret, 0); err != nil {
		t.Errorf("by a person who has just signed in: %v", err)
	}
}

func TestConfirm_NamesItsOutcome(t *testing.T) {
	for want, err := range map[string]error{
		"confirmed":   nil,
		"clock_off":   fmt.Errorf("change factor: %w", &Refusal{Reason: ClockOff}),
		"step_up":     fmt.Errorf("change factor: %w", &auth.Refusal{Cause: auth.SignInTooOld}),
		"unavailable": errors.New("any other"),
	} {
		if got := outcomeOf(err); got != want {
			t.Errorf("outcome of %v: %s; want %s", err, got, want)
		}
	}
}
