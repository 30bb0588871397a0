package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// scripted is a backend on which other instances store one more of the values in found before
// each call. When found is used up, it stores what it is given, or fails with err.
type scripted struct {
	store.Backend
	found [][]byte
	err   error
	calls int
}

func (s *scripted) PutIfAbsent(context.Context, string, []byte, time.Duration) ([]byte, error) {
	s.calls++
	if len(s.found) == 0 {
		return nil, s.err
	}
	return s.found[0], nil
}

func (s *scripted) Swap(context.Context, string, []byte, []byte, time.Duration) error {
	s.calls++
	if s.found = s.found[1:]; len(s.found) > 0 {
		return store.ErrConflict
	}
	return s.err
}

// sealedAt returns the sealed pending secret of ada that an instance creates at now.
func sealedAt(t *testing.T, keyring *store.Keyring, now time.Time) []byte {
	t.Helper()
	memory := store.NewMemory(time.Now)
	instance := store.NewPending(memory, keyring, time.Minute, func() time.Time { return now })
	if _, err := instance.GetOrCreate(t.Context(), "ada", storetest.NewSecret()); err != nil {
		t.Fatal(err)
	}
	entries, err := store.Entries(t.Context(), memory, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range entries {
		return value
	}
	t.Fatal("the instance stored nothing")
	return nil
}

func TestPending_OutcomeSaysWhatTheLastReplacementFound(t *testing.T) {
	keyring := storetest.NewKeyring(t, storetest.NewSealKey("k1"))
	now := time.Now()
	expired, unreadable := sealedAt(t, keyring, now.Add(-time.Hour)), []byte("unreadable")
	for _, c := range []struct {
		found [][]byte
		want  store.Outcome
	}{
		{nil, store.Created},
		{[][]byte{unreadable}, store.ReplacedUnreadable},
		{[][]byte{expired}, store.ReplacedExpired},
		{[][]byte{unreadable, expired}, store.ReplacedExpired}, // after a conflict
		{[][]byte{expired, unreadable}, store.ReplacedUnreadable},
		{[][]byte{unreadable, sealedAt(t, keyring, now)}, store.Reused},
	} {
		pending := store.NewPending(&scripted{found: c.found}, keyring, time.Minute, func() time.Time { return now })
		got, err := pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret())
		if got.Outcome != c.want || err != nil {
			t.Errorf("GetOrCreate after %q = %s, %v; want %s", c.found, got.Outcome, err, c.want)
		}
	}
}

// The whole text is compared: it must show neither the secret nor the account.
func TestPending_IsUnavailable(t *testing.T) {
	unreadable := []byte("unreadable")
	for _, c := range []struct {
		name  string
		found [][]byte
		want  string
		calls int
	}{
		{"when PutIfAbsent fails", nil, "keep pending secret: store unavailable", 1},
		{"when Swap fails", [][]byte{unreadable}, "replace pending secret: store unavailable", 2},
		{
			"after three conflicts over unreadable values", [][]byte{unreadable, unreadable, unreadable, unreadable},
			"keep pending secret: store unavailable: another instance seals with a key that this instance lacks", 6,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			backend := &scripted{found: c.found, err: store.ErrUnavailable}
			pending := store.NewPending(backend, storetest.NewKeyring(t, storetest.NewSealKey("k1")), time.Minute, time.Now)
			got, err := pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret())
			if !errors.Is(err, store.ErrUnavailable) || err.Error() != c.want || backend.calls != c.calls {
				t.Errorf("GetOrCreate = %v after %d calls; want %s after %d", err, backend.calls, c.want, c.calls)
			}
			if got != (store.PendingKey{}) {
				t.Error("GetOrCreate returned a secret beside the error")
			}
		})
	}
}
