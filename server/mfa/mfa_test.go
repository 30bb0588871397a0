package mfa

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// newOperations returns operations on a memory store and the clock that they live by.
func newOperations(t testing.TB, log *strings.Builder) (*Operations, *store.Memory, *storetest.Clock) {
	t.Helper()
	clock := storetest.NewClock()
	memory := store.NewMemory(clock.Now)
	pending := store.NewPending(memory, storetest.NewKeyring(t, storetest.NewSealKey("k1")), 10*time.Minute, clock.Now)
	return New(Config{
		Issuer: "quiva.ai", Pending: pending, Now: clock.Now,
		Log: slog.New(slog.NewTextHandler(log, nil)), Audit: slog.New(slog.DiscardHandler),
	}), memory, clock
}

func generate(t testing.TB, o *Operations) (totpKeyResponse, error) {
	t.Helper()
	ctx := auth.NewContext(t.Context(), auth.Principal{Account: "ada", Label: "ada@example.com"})
	response, err := o.GenerateTOTPKey(ctx, gen.GenerateTOTPKeyRequestObject{})
	if err != nil {
		return totpKeyResponse{}, err
	}
	return response.(totpKeyResponse), nil
}

func TestTheSecondsLeftFallAndTheKeyStays(t *testing.T) {
	var log strings.Builder
	o, _, clock := newOperations(t, &log)
	first, err := generate(t, o)
	if err != nil {
		t.Fatal(err)
	}
	start := clock.Now()
	for _, step := range []struct {
		at   time.Duration
		left int
	}{{time.Second, 598}, {5 * time.Minute, 299}, {10*time.Minute - time.Second, 0}} {
		clock.Advance(start.Add(step.at).Sub(clock.Now()))
		again, err := generate(t, o)
		if err != nil {
			t.Fatal(err)
		}
		// The deadline is a whole millisecond, hence up to 1 ms and so 1 s less.
		if left := again.Headers.TOTPKeyExpiresIn; again.Body != first.Body || left != step.left && left != step.left+1 {
			t.Errorf("after %v: same key %t, %d s left; want %d", step.at, again.Body == first.Body, left, step.left)
		}
	}
	clock.Advance(time.Second)
	if next, err := generate(t, o); err != nil || next.Body == first.Body || next.Headers.TOTPKeyExpiresIn < 599 {
		t.Errorf("after the deadline: %v, same key %t, %d s left", err, next.Body == first.Body, next.Headers.TOTPKeyExpiresIn)
	}
	if log.Len() > 0 {
		t.Errorf("the log has %s; nothing was out of the ordinary", log.String())
	}
}

func TestWholeSecondsNeverPromiseMoreThanIsLeft(t *testing.T) {
	for d, want := range map[time.Duration]int{
		-time.Second: 0, 0: 0, 999 * time.Millisecond: 0, time.Second: 1, 1999 * time.Millisecond: 1, 24 * time.Hour: 86400,
	} {
		if got := wholeSeconds(d); got != want {
			t.Errorf("wholeSeconds(%v) = %d; want %d", d, got, want)
		}
	}
}

func TestAnOperationWithoutAPrincipalFailsAndTouchesNothing(t *testing.T) {
	o, memory, _ := newOperations(t, &strings.Builder{})
	if _, err := o.GenerateTOTPKey(t.Context(), gen.GenerateTOTPKeyRequestObject{}); !errors.Is(err, errNoPrincipal) {
		t.Errorf("GenerateTOTPKey = %v; want errNoPrincipal", err)
	}
	if entries, err := memory.List(t.Context(), ""); err != nil || len(entries) != 0 {
		t.Errorf("the store holds %d entries, %v; want none", len(entries), err)
	}
}

func TestNoKeyIsReturnedThatTheStoreHasNotConfirmed(t *testing.T) {
	o, _, _ := newOperations(t, &strings.Builder{})
	ctx, cancel := context.WithCancel(auth.NewContext(t.Context(), auth.Principal{Account: "ada", Label: "ada"}))
	cancel()
	response, err := o.GenerateTOTPKey(ctx, gen.GenerateTOTPKeyRequestObject{})
	if response != nil || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("GenerateTOTPKey = %v, %v; want nothing, ErrUnavailable", response, err)
	}
	const want = "generate TOTP key: keep pending secret: store unavailable: context canceled"
	if err != nil && err.Error() != want { // nothing of the secret, nor the account
		t.Errorf("error %q; want %q", err, want)
	}
}

func TestTheAnswerIsOneLineOfJSONWithALiteralAmpersand(t *testing.T) {
	var r totpKeyResponse
	r.Body.Data = gen.TOTPKey{OTPAuthURL: "otpauth://totp/a:b?secret=S&issuer=a", Secret: "S"}
	r.Headers.TOTPKeyExpiresIn = 7
	w := httptest.NewRecorder()
	if err := r.VisitGenerateTOTPKeyResponse(w); err != nil {
		t.Fatal(err)
	}
	const want = `{"data":{"otpauth_url":"otpauth://totp/a:b?secret=S&issuer=a","secret":"S"}}` + "\n"
	if w.Body.String() != want || w.Header().Get("Totp-Key-Expires-In") != "7" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("answer %v %s; want %s", w.Header(), w.Body, want)
	}
}
