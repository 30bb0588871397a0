package mfa

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
)

var signIn = auth.Principal{Scheme: auth.ServiceKey, KeyID: "service_1"}

// verify asks as the sign-in whether the code is ada's. The result is the method or the reason.
func (f *fixture) verify(code string) (result string, left int, retryAfter time.Duration) {
	f.Helper()
	f.caller = signIn
	defer func() { f.caller = ada }()
	err := f.call(func(ctx context.Context) error {
		response, err := f.VerifyMfaCode(ctx, gen.VerifyMfaCodeRequestObject{Body: &gen.VerifyMfaCodeJSONRequestBody{Account: "ada", Code: code}})
		if ok, is := response.(gen.VerifyMfaCode200JSONResponse); is {
			result, left = string(ok.Body.Data.Method), ok.Body.Data.RecoveryCodesLeft
		}
		return err
	})
	if refusal, refused := errors.AsType[*Refusal](err); refused {
		if refusal.Recovery != strings.Contains(f.event, "kind=recovery_code") {
			f.Errorf("Recovery %t of the refusal with the event %s", refusal.Recovery, f.event)
		}
		return string(refusal.Reason), 0, refusal.RetryAfter
	} else if err != nil {
		f.Fatal(err)
	}
	return result, left, 0
}

// attempt is one code at sign-in.
type attempt struct {
	code string        // "+1": of the step after someStep; "R3": the recovery code 3; else as it is
	want string        // the method or the reason
	wait time.Duration // that the failure starts, or that is left

	before  func(*fixture)
	at      time.Duration // since someStep began; 0: as before
	shifted time.Duration // how far the instance's clock is ahead
}

// try makes the attempt and checks all that is seen of it.
func (f *fixture) try(a attempt, codes []string) {
	f.Helper()
	if a.at != 0 {
		f.clock.Advance(startOf(someStep).Add(a.at).Sub(f.clock.Now()))
	}
	if a.before != nil {
		a.before(f)
	}
	text, method := a.code, "totp"
	if steps, err := strconv.ParseInt(a.code, 10, 64); err == nil && len(a.code) <= 2 {
		text = codeOf(f, rfcSecret, someStep+steps)
	} else if n, ok := strings.CutPrefix(a.code, "R"); ok {
		n, _ := strconv.Atoi(n)
		text = codes[n]
	}
	if len(text) > 6 {
		method = "recovery_code"
	}
	f.c.Now = func() time.Time { return f.clock.Now().Add(a.shifted) }
	before := f.entries()
	result, left, retryAfter := f.verify(text)
	f.c.Now = f.clock.Now
	locks, verified := a.want == "wrong_code" && a.wait > 0, a.want == method
	wantWait, wantLeft := a.wait, 0
	if a.want != "locked" {
		wantWait = 0
	}
	if verified {
		wantLeft = len(f.factor().UnusedCodes())
	}
	if result != a.want || retryAfter != wantWait || left != wantLeft {
		f.Errorf("%s: %s, retry after %v, %d recovery codes left; want %s, %v, %d", a.code, result, retryAfter, left, a.want, wantWait, wantLeft)
	}
	if changed := !cmp.Equal(before, f.entries()); changed != (verified || a.want == "wrong_code") {
		f.Errorf("%s: %s, and the entry has changed: %t", a.code, result, changed)
	}
	var more []slog.Attr
	level, name := slog.LevelInfo, "code_verified"
	if !verified {
		name, more = "code_refused", append(more, slog.String("reason", a.want))
	}
	if a.want != "malformed" && a.want != "not_enrolled" {
		more = append(more, slog.String("kind", method))
	}
	if locks {
		level, name, more = slog.LevelWarn, "factor_locked", append(more, slog.Int("locked_seconds", int(a.wait.Seconds())))
	}
	want := slog.GroupValue(eventOf(signIn, "ada", name, more)...).String()
	if f.event != want || f.level != level {
		f.Errorf("%s: event %v %s; want %v %s", a.code, f.level, f.event, level, want)
	}
}

// set returns a step that changes ada's factor.
func set(change func(store.Factor) store.Factor) func(*fixture) {
	return func(f *fixture) {
		f.Helper()
		if _, err := f.c.Factors.Change(f.Context(), "ada", func(factor store.Factor) (store.Factor, error) { return change(factor), nil }); err != nil {
			f.Fatal(err)
		}
	}
}

func times(n int, a attempt) []attempt { return slices.Repeat([]attempt{a}, n) }

// Each row is what happens to a factor whose secret was confirmed with the code of someStep.
func TestVerify_Decides(t *testing.T) {
	const unknown = "0414-8339-NF6Y-Y46F" // a recovery code of another account
	wrong := attempt{code: codeOf(t, otherSecret, someStep), want: "wrong_code"}
	locking := attempt{code: wrong.code, want: "wrong_code", wait: time.Minute}
	var backup store.Factor
	save := func(f *fixture) { backup = f.factor() }
	restore := set(func(store.Factor) store.Factor { return backup })
	off := store.Attempts{Failures: 50, Recent: 100, RecentAt: startOf(someStep)}
	for name, row := range map[string]struct {
		attempts         []attempt
		totp, recoveries uint8 // failures since the last success
	}{
		"the next code":                    {attempts: []attempt{{code: "+1", want: "totp"}}},
		"a wrong code":                     {[]attempt{wrong}, 1, 0},
		"the code that confirmed":          {attempts: []attempt{{code: "0", want: "replayed"}}},
		"a code twice":                     {attempts: []attempt{{code: "+1", want: "totp"}, {code: "+1", want: "replayed"}}},
		"a code from before the last one":  {attempts: []attempt{{code: "+1", want: "totp"}, {code: "0", want: "replayed"}}},
		"a code before the confirming one": {attempts: []attempt{{code: "-1", want: "replayed"}}},
		"a code that is not valid yet":     {[]attempt{{code: "+2", want: "wrong_code"}}, 1, 0},
		"a code of the previous step":      {attempts: []attempt{{code: "+3", want: "totp", at: 4 * period}, {code: "+4", want: "totp"}}},
		"a code of the step before that":   {[]attempt{{code: "+2", want: "wrong_code", at: 4 * period}}, 1, 0},
		"a second click after the code's time": {attempts: []attempt{
			{code: "+2", want: "totp", at: 4*period - time.Millisecond}, {code: "+2", want: "replayed", at: 4 * period}, {code: "+2", want: "replayed", at: time.Hour},
		}},
		"instances 1 s apart at a step's end": {attempts: []attempt{
			{code: "+3", want: "totp", at: 2*period - time.Millisecond, shifted: time.Second}, {code: "+3", want: "replayed"}, {code: "+2", want: "replayed"},
			{code: "+3", want: "replayed", shifted: -time.Second},
		}},
		"instances 1 s apart at a wait's end": {append(times(4, wrong), locking,
			attempt{code: "+2", want: "locked", wait: time.Millisecond, at: time.Minute - time.Second - time.Millisecond, shifted: time.Second},
			attempt{code: "+2", want: "locked", wait: time.Second + time.Millisecond}, attempt{code: "+2", want: "locked", wait: 2*time.Second + time.Millisecond, shifted: -time.Second},
			attempt{code: "+2", want: "totp", at: time.Minute - time.Second, shifted: time.Second}), 0, 0},
		"a right code while locked": {append(times(4, wrong), locking, attempt{code: "+1", want: "locked", wait: time.Minute},
			attempt{code: "+2", want: "totp", at: time.Minute}, attempt{code: wrong.code, want: "wrong_code"}), 1, 0},
		"a replay while locked":      {append(times(4, wrong), locking, attempt{code: "0", want: "locked", wait: time.Minute}), 5, 0},
		"a success between failures": {slices.Concat(times(4, wrong), []attempt{{code: "+1", want: "totp"}}, times(4, wrong)), 4, 0},
		"a typo in a recovery code":  {attempts: times(20, attempt{code: unknown[:18] + "0", want: "malformed"})},
		"a code of five digits":      {attempts: times(20, attempt{code: "12345", want: "malformed"})},
		"a code with a space":        {attempts: []attempt{{code: " 123456", want: "malformed"}}},
		"a code of other digits":     {attempts: []attempt{{code: "١٢٣٤٥٦", want: "malformed"}}},
		"no code":                    {attempts: []attempt{{code: "", want: "malformed"}}},
		"each recovery code":         {attempts: []attempt{{code: "R0", want: "recovery_code"}, {code: "R9", want: "recovery_code"}, {code: "R5", want: "recovery_code"}}},
		"a recovery code twice, and five wrong ones": {slices.Concat([]attempt{{code: "R0", want: "recovery_code"}}, times(6, attempt{code: "R0", want: "replayed"}),
			times(4, attempt{code: unknown, want: "wrong_code"}), []attempt{
				{code: unknown, want: "wrong_code", wait: time.Minute}, {code: "R1", want: "locked", wait: time.Minute}, {code: "+1", want: "totp"},
				{code: "R1", want: "locked", wait: time.Minute}, {code: "R1", want: "recovery_code", at: time.Minute},
			}), 0, 0},
		"recovery codes while locked": {append(times(4, wrong), locking, attempt{code: "R0", want: "recovery_code"}), 5, 0},
		"recovery codes while off": {attempts: []attempt{
			{before: set(func(f store.Factor) store.Factor { f.TOTP = off; return f }), code: "+1", want: "locked", wait: time.Hour, at: time.Millisecond},
			{code: "R0", want: "recovery_code"}, {code: "+1", want: "totp"},
		}},
		"an unlocked account": {attempts: []attempt{
			{before: set(func(f store.Factor) store.Factor { f.TOTP, f.Recovery = off, off; return f }), code: "+1", want: "locked", wait: time.Hour},
			{before: set(store.Factor.Unlock), code: "+1", want: "totp"}, {code: "R0", want: "recovery_code"},
		}},
		"a factor that is off":         {attempts: []attempt{{before: set(func(f store.Factor) store.Factor { return f.SetEnabled(false) }), code: "+1", want: "not_enrolled"}}},
		"a removed factor":             {attempts: []attempt{{before: set(func(f store.Factor) store.Factor { return f.Remove(startOf(someStep)) }), code: "+1", want: "not_enrolled"}}},
		"a restored store, soon after": {attempts: []attempt{{before: save, code: "+1", want: "totp"}, {before: restore, code: "+1", want: "totp"}}},
		"a restored store, later": {[]attempt{
			{before: save, code: "+1", want: "totp"}, {code: "R0", want: "recovery_code"},
			{before: restore, at: 3 * period, code: "+1", want: "wrong_code"}, {code: "R0", want: "recovery_code"},
		}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			codes := f.enrol(rfcSecret)
			want := map[string]int{}
			for _, a := range row.attempts {
				f.try(a, codes)
				want[a.want]++
			}
			if got := f.factor(); got.TOTP.Failures != row.totp || got.Recovery.Failures != row.recoveries {
				t.Errorf("%d and %d failures; want %d and %d", got.TOTP.Failures, got.Recovery.Failures, row.totp, row.recoveries)
			}
			var lines []string
			for _, outcome := range slices.Sorted(maps.Keys(want)) {
				lines = append(lines, fmt.Sprintf(`{outcome=%q} %d`, outcome, want[outcome]))
			}
			if diff := cmp.Diff(lines, f.samples("mfa_verify_outcomes_total")); diff != "" {
				t.Errorf("metrics (-want +got):\n%s", diff)
			}
		})
	}
}

// One code of two steps uses up both.
func TestVerify_UsesUpBothStepsOfACode(t *testing.T) {
	for now, code := range map[int64]struct{ first, last int64 }{37353815: {-1, 1}, 37079357: {-1, 0}, 37079356: {0, 1}} {
		f := newFixture(t)
		f.enrol(rfcSecret)
		f.clock.Advance(startOf(now).Sub(f.clock.Now()))
		text := codeOf(t, rfcSecret, now+code.first)
		if got, _, _ := f.verify(text); got != "totp" || f.factor().LastStep != now+code.last {
			t.Errorf("first use: %s, last step %+d; want %+d", got, f.factor().LastStep-now, code.last)
		}
		for step := now + code.first; step <= now+code.last; step++ {
			f.clock.Advance(startOf(step).Sub(f.clock.Now()))
			for _, again := range []string{text, codeOf(t, rfcSecret, step)} {
				if got, _, _ := f.verify(again); got != "replayed" {
					t.Errorf("code of the steps %+d and %+d: at %+d %s; want replayed", code.first, code.last, step-now, got)
				}
			}
		}
	}
}

func TestIssueRecoveryCodes_InvalidatesAllOldCodes(t *testing.T) {
	f := newFixture(t)
	old := f.enrol(rfcSecret)
	if got, _, _ := f.verify(old[0]); got != "recovery_code" {
		t.Fatal(got)
	}
	var issued []string
	if err := f.call(func(ctx context.Context) error {
		response, err := f.IssueRecoveryCodes(ctx, gen.IssueRecoveryCodesRequestObject{})
		if ok, is := response.(gen.IssueRecoveryCodes200JSONResponse); is {
			issued = ok.Body.Data
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if want := event("recovery_codes_issued"); f.event != want {
		t.Errorf("event %s; want %s", f.event, want)
	}
	if got := formatRecoveryCodes(f.factor().RecoveryCodes); len(issued) != 10 || !slices.Equal(got, issued) {
		t.Errorf("%d codes issued, and the factor has others: %t", len(issued), !slices.Equal(got, issued))
	}
	for _, code := range old {
		f.clock.Advance(2 * time.Hour) // Longer than each wait.
		if got, _, _ := f.verify(code); got != "wrong_code" {
			t.Errorf("an old code: %s; want wrong_code", got)
		}
	}
	f.clock.Advance(2 * time.Hour)
	if got, left, _ := f.verify(issued[9]); got != "recovery_code" || left != 9 {
		t.Errorf("a new code: %s, %d left; want recovery_code, 9", got, left)
	}
}

// TestVerify_DecidesAnewAfterALostSwap decides twice, as the store does if another call came first.
// The request began in another step than it ends.
func TestVerify_DecidesAnewAfterALostSwap(t *testing.T) {
	enrolled := store.Factor{State: store.Enrolled, Secret: rfcSecret, LastStep: someStep - 5, RecoveryCodes: []store.RecoveryCode{{1}}}
	enrolled.TOTP = store.Attempts{Failures: 4, Recent: 4, RecentAt: startOf(someStep)}
	accepted := enrolled
	accepted.LastStep = someStep
	locked := enrolled
	locked.TOTP = store.Attempts{Failures: 5, Recent: 5, RecentAt: startOf(someStep), Until: startOf(someStep + 3)}
	for name, row := range map[string]struct {
		code   string
		second store.Factor
		want   Reason
	}{
		"the same code came first":     {codeOf(t, rfcSecret, someStep), accepted, Replayed},
		"a fifth failure came first":   {codeOf(t, rfcSecret, someStep), locked, Locked},
		"a lock after a wrong code":    {codeOf(t, otherSecret, someStep), locked, Locked},
		"the recovery code came first": {formatRecoveryCode(store.RecoveryCode{1}), store.Factor{State: store.Enrolled}, WrongCode},
	} {
		v := &verification{code: row.code, now: startOf(someStep + 1).Add(-time.Millisecond)}
		if _, err := v.decide(enrolled); err != nil {
			t.Errorf("%s: first %v", name, err)
		}
		after, err := v.decide(row.second)
		counted := v.refusal != nil && v.refusal.Reason == row.want && !cmp.Equal(after, row.second)
		if row.want == WrongCode != counted || row.want != WrongCode != isRefusal(err, row.want) || v.wait != 0 {
			t.Errorf("%s: %v, counted refusal %v, wait %v; want %s", name, err, v.refusal, v.wait, row.want)
		}
	}
}

func TestVerify_IsForServicesAlone(t *testing.T) {
	f := newFixture(t)
	f.enrol(rfcSecret)
	body := &gen.VerifyMfaCodeJSONRequestBody{Account: "ada", Code: codeOf(t, rfcSecret, someStep+1)}
	if _, err := f.VerifyMfaCode(auth.NewContext(t.Context(), ada), gen.VerifyMfaCodeRequestObject{Body: body}); !errors.Is(err, errNoPrincipal) {
		t.Errorf("verify by a person: %v; want errNoPrincipal", err)
	}
}

// After a 503 the outcome is unknown: the audit event says no more.
func TestVerify_SaysNothingThatTheStoreHasNotConfirmed(t *testing.T) {
	f := newFixture(t)
	f.enrol(rfcSecret)
	for _, code := range []string{codeOf(t, rfcSecret, someStep+1), codeOf(t, otherSecret, someStep)} {
		ctx, cancel := context.WithCancel(auth.NewContext(t.Context(), signIn))
		cancel()
		request := &telemetry.Request{}
		response, err := f.VerifyMfaCode(telemetry.WithRequest(ctx, request), gen.VerifyMfaCodeRequestObject{Body: &gen.VerifyMfaCodeJSONRequestBody{Account: "ada", Code: code}})
		if response != nil || !errors.Is(err, store.ErrUnavailable) || !strings.Contains(fmt.Sprint(request.Event), "event=code_refused") || !strings.Contains(fmt.Sprint(request.Event), "reason=unavailable") {
			t.Errorf("%v, event %v, %v; want ErrUnavailable alone", response, request.Event, err)
		}
	}
	request := &telemetry.Request{}
	v := &verification{refusal: &Refusal{Reason: WrongCode}, wait: time.Minute}
	f.auditVerification(telemetry.WithRequest(t.Context(), request), signIn, "ada", v, store.ErrUnavailable)
	if strings.Contains(fmt.Sprint(request.Event), "factor_locked") {
		t.Errorf("event %v of a lock that may not be stored", request.Event)
	}
	if got := f.samples("mfa_verify_outcomes_total"); !slices.Equal(got, []string{`{outcome="unavailable"} 2`}) {
		t.Errorf("metrics %v", got)
	}
}
