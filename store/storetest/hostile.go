package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"quiva.ai/mfa/store"
)

// hostileFactors: no method takes a factor that it cannot read for none, or writes over it.
func hostileFactors(t *testing.T, b store.Backend) {
	sealKey := NewSealKey("k1")
	f := NewFactors(t, b, sealKey)
	f.MustEnrol(t, "bob", 2)
	f.MustEnrol(t, "ada", 1)
	mustGetOrCreate(t, f.Pending, "ada", NewSecret())
	sound := mustGet(t, b, factorKey("ada"))
	records := map[string][]byte{
		"another account's":                      mustGet(t, b, factorKey("bob")),
		"a pending secret":                       mustGet(t, b, pendingOfAda),
		"another sealing key's":                  factorOf(t, NewSealKey("k2")),
		"another sealing key's with the same id": factorOf(t, NewSealKey("k1")),
		"a later version of sealing":             append([]byte{2}, sound[1:]...),
		"a byte too long":                        append(slices.Clone(sound), 0),
	}
	for n := range sound {
		records[fmt.Sprintf("%d bytes", n)] = sound[:n]
	}
	for name, record := range records {
		setEntry(t, b, factorKey("ada"), record)
		f.wantRefused(t, "ada", store.ErrUnreadable, "a record of "+name)
	}
}

// factorOf returns ada's sealed factor in another store.
func factorOf(t *testing.T, sealKey string) []byte {
	t.Helper()
	memory := store.NewMemory(time.Now)
	NewFactors(t, memory, sealKey).MustEnrol(t, "ada", 1)
	return mustGet(t, memory, factorKey("ada"))
}

// otherStores: in a store that is not the pinned one, an absent factor is no evidence.
func otherStores(t *testing.T, b store.Backend) {
	sealKey := NewSealKey("k1")
	f := NewFactors(t, b, sealKey)
	want := f.MustEnrol(t, "ada", 1)
	_, other := NewIdentity(t, sealKey)
	_, unreadable := NewIdentity(t, NewSealKey("k1"))
	factor, right := mustGet(t, b, factorKey("ada")), mustGet(t, b, b.IdentityKey(factorKey("ada")))
	for name, identity := range map[string][]byte{
		"no identity": nil, "another identity": other, "an unreadable identity": unreadable, "an empty identity": {}, "a factor as identity": factor,
	} {
		setIdentities(t, b, identity)
		for _, account := range accounts { // bob has no factor.
			mustGetOrCreate(t, f.Pending, account, NewSecret())
			f.wantRefused(t, account, store.ErrIdentity, name)
		}
		if err := f.Check(t.Context()); !errors.Is(err, store.ErrIdentity) || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Check with %s = %v; want ErrIdentity", name, err)
		}
	}
	setIdentities(t, b, right)
	must(t, f.Check(t.Context()))
	f.WantFactor(t, "ada", want)
}
