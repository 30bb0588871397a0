package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// scripted is a backend where, call by call, something else is found: what other
// replicas put there meanwhile. In the end it has nothing, or fails.
type scripted struct {
	store.Backend
	found [][]byte
	err   error
	calls int
}

func (s *scripted) next() ([]byte, error) {
	s.calls++
	if s.calls > len(s.found) {
		return nil, s.err
	}
	return s.found[s.calls-1], nil
}

func (s *scripted) PutIfAbsent(context.Context, string, []byte, time.Duration) ([]byte, error) {
	return s.next()
}

func (s *scripted) Replace(context.Context, string, []byte, []byte, time.Duration) ([]byte, error) {
	return s.next()
}

// sealedAt returns what a replica whose clock shows now keeps for ada.
func sealedAt(t *testing.T, keyring *store.Keyring, now time.Time) []byte {
	t.Helper()
	memory := store.NewMemory(time.Now)
	replica := store.NewPending(memory, keyring, time.Minute, func() time.Time { return now })
	if _, err := replica.GetOrCreate(t.Context(), "ada", storetest.NewSecret()); err != nil {
		t.Fatal(err)
	}
	entries, err := memory.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range entries {
		return value
	}
	t.Fatal("nothing was kept")
	return nil
}

func TestOutcomeSaysWhatTheLastReplacementFound(t *testing.T) {
	keyring := storetest.NewKeyring(t, storetest.NewSealKey("k1"))
	now := time.Now()
	expired, unreadable := sealedAt(t, keyring, now.Add(-time.Hour)), []byte("foreign")
	for _, c := range []struct {
		found [][]byte
		want  store.Outcome
	}{
		{nil, store.Created},
		{[][]byte{unreadable}, store.ReplacedUnreadable},
		{[][]byte{expired}, store.ReplacedExpired},
		{[][]byte{unreadable, expired}, store.ReplacedExpired},
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

// The errors are compared as a whole: they have neither the secret nor the account.
func TestPendingFails(t *testing.T) {
	foreign := []byte("foreign")
	for _, c := range []struct {
		name  string
		found [][]byte
		want  string
		calls int
	}{
		{"at once if the backend does", nil, "keep pending secret: store unavailable", 1},
		{"if replacing does", [][]byte{foreign}, "keep pending secret: store unavailable", 2},
		{
			"after three replacements by a replica that cannot read ours", [][]byte{foreign, foreign, foreign, foreign, foreign},
			"keep pending secret: store unavailable: another replica seals with a key that this one lacks", 4,
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
				t.Error("a key was returned beside the error")
			}
		})
	}
}
