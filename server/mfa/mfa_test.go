package mfa

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// newOperations returns operations on a store in memory, and the clock of both.
func newOperations(t testing.TB) (*Operations, *store.Memory, *storetest.Clock) {
	t.Helper()
	clock := storetest.NewClock()
	memory := store.NewMemory(clock.Now)
	keyring := storetest.NewKeyring(t, storetest.NewSealKey("k1"))
	return New(Config{
		Issuer:     "quiva.ai",
		Pending:    store.NewPending(memory, keyring, 10*time.Minute, clock.Now),
		PendingTTL: 10 * time.Minute,
		Factors:    storetest.OpenFactors(t, memory, keyring, clock.Now),
		StepUp:     auth.StepUp{Now: clock.Now},
		Metrics:    telemetry.NewMetrics(),
		Now:        clock.Now,
	}), memory, clock
}

var ada = auth.Principal{Account: "ada", Label: "ada@example.com", Scheme: auth.APIKey, KeyID: "key_1"}

func generate(ctx context.Context, t testing.TB, o *Operations) (totpKeyResponse, error) {
	t.Helper()
	response, err := o.GenerateTOTPKey(auth.NewContext(ctx, ada), gen.GenerateTOTPKeyRequestObject{})
	if err != nil {
		return totpKeyResponse{}, err
	}
	return *response.(*totpKeyResponse), nil
}

func mustGenerate(t testing.TB, o *Operations) totpKeyResponse {
	t.Helper()
	response, err := generate(t.Context(), t, o)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func TestGenerateTOTPKey_ReturnsOneKeyUntilItsDeadline(t *testing.T) {
	o, _, clock := newOperations(t)
	start := clock.Now()
	first := mustGenerate(t, o)
	if first.Headers.TOTPKeyExpiresIn < 599 || len(first.Body.Data.Secret) != 32 {
		t.Errorf("%d s left and a secret of %d characters; want 10 min and 32", first.Headers.TOTPKeyExpiresIn, len(first.Body.Data.Secret))
	}
	for _, step := range []struct {
		at   time.Duration
		left int
	}{{time.Second, 598}, {5 * time.Minute, 299}, {10*time.Minute - time.Second, 0}} {
		clock.Advance(start.Add(step.at).Sub(clock.Now()))
		again := mustGenerate(t, o)
		// The deadline is a whole millisecond: up to 1 ms less, and so up to 1 s less.
		if left := again.Headers.TOTPKeyExpiresIn; again.Body != first.Body || left != step.left && left != step.left+1 {
			t.Errorf("after %v: same key %t, %d s left; want %d", step.at, again.Body == first.Body, left, step.left)
		}
	}
	clock.Advance(time.Second)
	if next := mustGenerate(t, o); next.Body == first.Body || next.Headers.TOTPKeyExpiresIn < 599 {
		t.Errorf("after the deadline: same key %t, %d s left; want a new key", next.Body == first.Body, next.Headers.TOTPKeyExpiresIn)
	}
}

func TestGenerateTOTPKey_MakesRandomSecrets(t *testing.T) {
	var seen [store.SecretSize]map[byte]bool
	for i := range seen {
		seen[i] = map[byte]bool{}
	}
	for range 200 {
		for i, b := range newSecret() {
			seen[i][b] = true
		}
	}
	for i := range seen {
		if len(seen[i]) < 50 { // 200 draws of 256 values give about 138
			t.Errorf("byte %d has %d values in 200 secrets", i, len(seen[i]))
		}
	}
}

// A replaced key may be in a person's app already: its event is a warning.
func TestGenerateTOTPKey_AuditsWhoGotAKey(t *testing.T) {
	o, _, _ := newOperations(t)
	for _, want := range []struct {
		outcome string
		level   slog.Level
	}{{"created", slog.LevelInfo}, {"reused", slog.LevelInfo}, {"replaced_unreadable", slog.LevelWarn}} {
		if want.outcome == "replaced_unreadable" {
			o.c.Pending.SetKeyring(storetest.NewKeyring(t, storetest.NewSealKey("k2"))) // which opens nothing of k1
		}
		request := &telemetry.Request{}
		if _, err := generate(telemetry.WithRequest(t.Context(), request), t, o); err != nil {
			t.Fatal(err)
		}
		event := slog.GroupValue(
			slog.String("event", "totp_key_issued"), slog.String("account", store.Digest("ada")),
			slog.String("outcome", want.outcome), slog.String("scheme", "api_key"), slog.String("key_id", "key_1"),
		).String()
		if got := slog.GroupValue(request.Event...).String(); got != event || request.EventLevel != want.level {
			t.Errorf("event %v %s; want %v %s", request.EventLevel, got, want.level, event)
		}
	}
}

func TestGenerateTOTPKey_ReturnsNoKeyThatTheStoreHasNotConfirmed(t *testing.T) {
	o, _, _ := newOperations(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	request := &telemetry.Request{}
	response, err := generate(telemetry.WithRequest(ctx, request), t, o)
	if response.Body.Data.Secret != "" || request.Event != nil || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("GenerateTOTPKey = %v, event %v, %v; want no key, no event, ErrUnavailable", response, request.Event, err)
	}
	const want = "generate TOTP key: keep pending secret: store unavailable: context canceled"
	if err != nil && err.Error() != want { // neither the secret nor the account
		t.Errorf("error %q; want %q", err, want)
	}
}

func TestWholeSeconds_RoundsDown(t *testing.T) {
	for d, want := range map[time.Duration]int{
		-time.Second: 0, 0: 0, 999 * time.Millisecond: 0, time.Second: 1, 1999 * time.Millisecond: 1, 24 * time.Hour: 86400,
	} {
		if got := wholeSeconds(d); got != want {
			t.Errorf("wholeSeconds(%v) = %d; want %d", d, got, want)
		}
	}
}

func TestTOTPKeyResponse_IsOneLineOfJSONWithALiteralAmpersand(t *testing.T) {
	var r totpKeyResponse
	r.Body.Data = gen.TOTPKey{OTPAuthURL: "otpauth://totp/a:b?secret=S&issuer=a", Secret: "S"}
	r.Headers.TOTPKeyExpiresIn = 7
	w := httptest.NewRecorder()
	if err := r.VisitGenerateTOTPKeyResponse(w); err != nil {
		t.Fatal(err)
	}
	const want = `{"data":{"otpauth_url":"otpauth://totp/a:b?secret=S&issuer=a","secret":"S"}}` + "\n"
	if w.Body.String() != want || w.Header().Get("Totp-Key-Expires-In") != "7" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("response %v %s; want %s", w.Header(), w.Body, want)
	}
}

// BenchmarkGenerateTOTPKey is the whole operation on a store in memory, with a key to make
// and with a key that is pending.
func BenchmarkGenerateTOTPKey(b *testing.B) {
	for name, passes := range map[string]time.Duration{"created": 10 * time.Minute, "reused": 0} {
		b.Run(name, func(b *testing.B) {
			o, _, clock := newOperations(b)
			b.ReportAllocs()
			for b.Loop() {
				clock.Advance(passes)
				mustGenerate(b, o)
			}
		})
	}
}
