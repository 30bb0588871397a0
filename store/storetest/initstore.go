package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
)

// fewSlots is a cluster of which only some hash slots have an identity: to write all takes
// seconds.
type fewSlots struct {
	store.Backend
	keys []string
}

// IdentityKeys implements store.Backend.
func (f fewSlots) IdentityKeys() []string { return f.keys }

func newFewSlots(b store.Backend) fewSlots {
	entries := []string{"mfa:ready:0", factorKey("ada"), factorKey("bob"), factorKey("cy"), factorKey("dee")}
	for i := range 100 {
		entries = append(entries, fmt.Sprintf("mfa:%d", i))
	}
	few := fewSlots{Backend: b}
	for _, entry := range entries {
		if key := b.IdentityKey(entry); !slices.Contains(few.keys, key) {
			few.keys = append(few.keys, key)
		}
	}
	return few
}

func initAndReseal(t *testing.T, b store.Backend) {
	oldKey, newKey := NewSealKey("k1"), NewSealKey("k2")
	few := newFewSlots(b)
	// A store with factors is no new one: only an operator who accepts the loss gives it an identity.
	setEntry(t, b, factorKey("ada"), []byte("a factor"))
	if id, err := store.InitStore(t.Context(), few, NewKeyring(t, oldKey), false); id != "" || !errors.Is(err, store.ErrIdentity) {
		t.Fatalf("init of a store with factors = %q, %v; want ErrIdentity", id, err)
	}
	setEntry(t, b, factorKey("ada"), nil)
	id := initStore(t, few, NewKeyring(t, oldKey))
	factorRotation(t, few, id, oldKey, newKey)
	if len(few.keys) > 1 {
		_, other := NewIdentity(t, newKey)
		initPart(t, few, newKey, id, other)
	}
}

// initStore: a store keeps the first identity. In a cluster, each hash slot has one.
func initStore(t *testing.T, b store.Backend, keyring *store.Keyring) (id string) {
	ids := make([]string, 2)
	results := make([]error, len(ids))
	atOnce(len(ids), func(i int) { ids[i], results[i] = store.InitStore(t.Context(), b, keyring, false) })
	if results[0] != nil {
		ids[0], results[0], ids[1], results[1] = ids[1], results[1], ids[0], results[0]
	}
	// The other one came too late for the first identity, or found it.
	if results[0] != nil || results[1] == nil || ids[1] != "" && ids[1] != ids[0] {
		t.Fatalf("two inits at once = %q, %v; want one id", ids, results)
	}
	for _, acceptLoss := range []bool{false, true} {
		if id, err := store.InitStore(t.Context(), b, keyring, acceptLoss); id != ids[0] || !errors.Is(err, store.ErrConflict) {
			t.Fatalf("second init = %q, %v; want %q, ErrConflict", id, err, ids[0])
		}
	}
	if _, err := store.InitStore(t.Context(), b, NewKeyring(t, NewSealKey("k1")), true); !errors.Is(err, store.ErrIdentity) {
		t.Errorf("init without the sealing key = %v; want ErrIdentity", err)
	}
	return ids[0]
}

// initPart: only an operator who accepts the loss of data gives its hash slots an identity again.
func initPart(t *testing.T, b store.Backend, sealKey, id string, other []byte) {
	keyring := NewKeyring(t, sealKey)
	keys := b.IdentityKeys()
	for _, key := range keys[10:20] {
		setEntry(t, b, key, nil)
	}
	f := factorsOf(t, b, sealKey, id)
	absent := fmt.Sprintf("store unavailable: store identity is absent in 10 of %d hash slots: their data was lost, or an earlier init was interrupted", len(keys))
	_, initErr := store.InitStore(t.Context(), b, keyring, false)
	_, countErr := f.Count(t.Context())
	for name, err := range map[string]error{"init": initErr, "Count": countErr} {
		if !errors.Is(err, store.ErrIdentity) || err.Error() != absent {
			t.Errorf("%s with absent identities = %v; want %s", name, err, absent)
		}
	}
	must(t, f.Check(t.Context()))
	if got, err := store.InitStore(t.Context(), b, keyring, true); got != id || err != nil {
		t.Errorf("init that accepts the loss = %q, %v; want %q", got, err, id)
	}
	_, err := f.Count(t.Context())
	must(t, err)
	setEntry(t, b, keys[7], other)
	if _, err := store.InitStore(t.Context(), b, keyring, true); !errors.Is(err, store.ErrIdentity) {
		t.Errorf("init over the identities of two stores = %v; want ErrIdentity", err)
	}
}

// factorRotation: the old sealing key is needed until each factor was written again.
func factorRotation(t *testing.T, b store.Backend, id, oldKey, newKey string) {
	before := factorsOf(t, b, oldKey, id)
	ada, bob := before.MustEnrol(t, "ada", 1), before.MustEnrol(t, "bob", 2)
	before.MustEnrol(t, "cy", 3)
	before.MustChange(t, "cy", func(factor store.Factor) store.Factor { return factor.Remove(before.Clock.Now()) })
	setEntry(t, b, factorKey("dee"), []byte("unreadable"))

	both := factorsOf(t, b, newKey+","+oldKey, id)
	both.WantFactor(t, "ada", ada)
	ada = both.MustChange(t, "ada", func(factor store.Factor) store.Factor { factor.LastStep = 9; return factor })
	want := store.Census{
		States: map[store.State]int{store.Enrolled: 2, store.Removed: 1}, SealKeys: map[string]int{"k1": 2, "k2": 1},
		Unreadable: []string{store.Digest("dee")},
	}
	wantCensus(t, "Count", want, both.Count)
	want.Resealed = 2
	wantCensus(t, "Reseal", want, both.Reseal)
	before.wantRefused(t, "bob", store.ErrUnreadable, "the old key alone, which still opens the identity")
	setEntry(t, b, factorKey("dee"), nil)
	want.Resealed, want.SealKeys, want.Unreadable = 0, map[string]int{"k2": 3}, []string{}
	wantCensus(t, "second Reseal", want, both.Reseal)

	after := factorsOf(t, b, newKey, id)
	wantCensus(t, "Count without the old key", want, after.Count)
	after.WantFactor(t, "ada", ada)
	after.WantFactor(t, "bob", bob)
	before.wantRefused(t, "bob", store.ErrIdentity, "the old key alone")

	entries := mustList(t, b)
	stranger := factorsOf(t, b, NewSealKey("k3")+","+newKey, "another id")
	if _, err := stranger.Reseal(t.Context()); !errors.Is(err, store.ErrIdentity) {
		t.Errorf("Reseal of another store = %v; want ErrIdentity", err)
	}
	if !cmp.Equal(entries, mustList(t, b)) {
		t.Error("Reseal has changed another store")
	}
}

func wantCensus(t *testing.T, name string, want store.Census, take func(context.Context) (store.Census, error)) {
	t.Helper()
	got, err := take(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
	}
}
