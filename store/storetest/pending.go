package storetest

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
)

// WantOneSecret makes 100 concurrent calls for one account, each with another secret. All
// must return the same pending secret with the same deadline, one of them with the outcome
// first and the others with Reused. WantOneSecret returns that pending secret.
func WantOneSecret(t *testing.T, instances []*store.Pending, first store.Outcome) store.PendingKey {
	t.Helper()
	keys := make([]store.PendingKey, 100)
	failures := make([]error, len(keys))
	atOnce(len(keys), func(i int) {
		keys[i], failures[i] = instances[i%len(instances)].GetOrCreate(t.Context(), "ada", NewSecret())
	})
	must(t, errors.Join(failures...))
	outcomes := map[store.Outcome]int{}
	for _, key := range keys {
		outcomes[key.Outcome]++
		if key.Secret != keys[0].Secret || !key.Deadline.Equal(keys[0].Deadline) {
			t.Fatal("two callers got different secrets")
		}
	}
	want := map[store.Outcome]int{first: 1, store.Reused: len(keys) - 1}
	if diff := cmp.Diff(want, outcomes); diff != "" {
		t.Fatalf("outcomes (-want +got):\n%s", diff)
	}
	return keys[0]
}

func oneSecret(t *testing.T, b store.Backend) {
	keyring := NewKeyring(t, NewSealKey("k1"))
	instances := []*store.Pending{
		store.NewPending(b, keyring, time.Minute, time.Now),
		store.NewPending(b, keyring, time.Minute, time.Now),
	}
	WantOneSecret(t, instances, store.Created)
}

func absoluteDeadline(t *testing.T, b store.Backend) {
	clock := NewClock()
	keyring := NewKeyring(t, NewSealKey("k1"))
	pending := store.NewPending(b, keyring, 10*time.Minute, clock.Now)
	first := mustGetOrCreate(t, pending, "ada", NewSecret())
	if left := first.Deadline.Sub(clock.Now()); left > 10*time.Minute || left <= 10*time.Minute-time.Millisecond {
		t.Fatalf("time left after creation = %v; want 10m, less than 1 ms short", left)
	}
	clock.Advance(10*time.Minute - 2*time.Millisecond)
	want := first
	want.Outcome = store.Reused
	if again := mustGetOrCreate(t, pending, "ada", NewSecret()); again != want {
		t.Fatalf("second call just before the deadline = %+v; want %+v", again, want)
	}
	// A longer MFA_PENDING_TTL does not move the deadline of a pending secret.
	longer := store.NewPending(b, keyring, time.Hour, clock.Now)
	if again := mustGetOrCreate(t, longer, "ada", NewSecret()); again != want {
		t.Fatalf("call with a longer ttl = %+v; want %+v", again, want)
	}
}

func isolation(t *testing.T, b store.Backend) {
	pending := store.NewPending(b, NewKeyring(t, NewSealKey("k1")), time.Minute, time.Now)
	ada := mustGetOrCreate(t, pending, "ada", NewSecret())
	adaKey := onlyKey(t, b)
	bobSecret := NewSecret()
	bob := mustGetOrCreate(t, pending, "bob", bobSecret)
	if bob.Secret != bobSecret || bob.Outcome != store.Created {
		t.Fatal("bob did not get a secret of his own")
	}
	// A sealed value that is copied to another account's key does not open there.
	entries := mustList(t, b)
	sealedForAda := entries[adaKey]
	delete(entries, adaKey)
	bobKey := slices.Collect(maps.Keys(entries))[0]
	must(t, b.Swap(t.Context(), bobKey, entries[bobKey], sealedForAda, time.Minute))
	got := mustGetOrCreate(t, pending, "bob", bobSecret)
	if got.Secret == ada.Secret || got.Outcome != store.ReplacedUnreadable {
		t.Fatalf("bob after ada's value was copied to his key: outcome %s, ada's secret %t",
			got.Outcome, got.Secret == ada.Secret)
	}
}

func expiredSecret(t *testing.T, b store.Backend) {
	clock := NewClock()
	pending := store.NewPending(b, NewKeyring(t, NewSealKey("k1")), time.Minute, clock.Now)
	first := mustGetOrCreate(t, pending, "ada", NewSecret())
	clock.Advance(first.Deadline.Sub(clock.Now())) // The backend, on real time, still has the entry.
	fresh := NewSecret()
	second := mustGetOrCreate(t, pending, "ada", fresh)
	if second.Secret != fresh || second.Outcome != store.ReplacedExpired || !second.Deadline.After(first.Deadline) {
		t.Fatalf("call at the deadline: outcome %s, old secret %t; want a new one",
			second.Outcome, second.Secret == first.Secret)
	}
}

func unreadableSecret(t *testing.T, b store.Backend) {
	retired := store.NewPending(b, NewKeyring(t, NewSealKey("k1")), time.Minute, time.Now)
	lost := mustGetOrCreate(t, retired, "ada", NewSecret())
	// Another sealing key has the id of the retired one, as after a mistake.
	keyring := NewKeyring(t, NewSealKey("k2")+","+NewSealKey("k1"))
	instances := []*store.Pending{
		store.NewPending(b, keyring, time.Minute, time.Now),
		store.NewPending(b, keyring, time.Minute, time.Now),
	}
	if WantOneSecret(t, instances, store.ReplacedUnreadable).Secret == lost.Secret {
		t.Fatal("the unreadable secret was returned")
	}
}

func damagedSecret(t *testing.T, b store.Backend) {
	pending := store.NewPending(b, NewKeyring(t, NewSealKey("k1")), time.Minute, time.Now)
	mustGetOrCreate(t, pending, "ada", NewSecret())
	key := onlyKey(t, b)
	sound := mustList(t, b)[key]
	damaged := [][]byte{{}, []byte("x"), sound[:len(sound)-1], append(bytes.Clone(sound), 0), {1, 255, 0}}
	for i := range sound { // in every part: version, key id, nonce, ciphertext, tag
		flipped := bytes.Clone(sound)
		flipped[i] ^= 1
		damaged = append(damaged, flipped)
	}
	for _, value := range damaged {
		current := mustList(t, b)[key]
		must(t, b.Swap(t.Context(), key, current, value, time.Minute))
		fresh := NewSecret()
		got := mustGetOrCreate(t, pending, "ada", fresh)
		if got.Secret != fresh || got.Outcome != store.ReplacedUnreadable {
			t.Fatalf("after damage to %x: outcome %s", value, got.Outcome)
		}
	}
}

func rotation(t *testing.T, b store.Backend) {
	oldKey, newKey := NewSealKey("k1"), NewSealKey("k2")
	before := store.NewPending(b, NewKeyring(t, oldKey), time.Minute, time.Now)
	after := store.NewPending(b, NewKeyring(t, newKey+","+oldKey), time.Minute, time.Now)
	first := mustGetOrCreate(t, before, "ada", NewSecret())
	if got := mustGetOrCreate(t, after, "ada", NewSecret()); got.Secret != first.Secret {
		t.Fatal("the rotated keyring did not open what the old one sealed")
	}
	sealedNew := mustGetOrCreate(t, after, "bob", NewSecret())
	if got := mustGetOrCreate(t, before, "bob", NewSecret()); got.Secret == sealedNew.Secret {
		t.Fatal("the new keyring sealed with the old key")
	}
}

func mustGetOrCreate(t testing.TB, p *store.Pending, account string, fresh store.Secret) store.PendingKey {
	t.Helper()
	key, err := p.GetOrCreate(t.Context(), account, fresh)
	must(t, err)
	return key
}
