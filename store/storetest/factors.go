package storetest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"quiva.ai/mfa/store"
)

// Factors is a store.Factors with all that a test wants to see and change of it.
type Factors struct {
	*store.Factors

	Backend store.Backend
	Pending *store.Pending
	Clock   *Clock
	Lost    int // lost swaps

	id string // of the store
}

// accounts are the accounts of the tests. In a cluster, NewFactors writes the identities of
// their hash slots alone: to write all takes a second.
var accounts = []string{"ada", "bob"}

// NewFactors returns the factors of ada and bob in b, which gets an identity. sealKeys has the
// form of MFA_SEAL_KEYS.
func NewFactors(t testing.TB, b store.Backend, sealKeys string) *Factors {
	t.Helper()
	id, sealed := NewIdentity(t, sealKeys)
	setIdentities(t, b, sealed)
	return factorsOf(t, b, sealKeys, id)
}

// factorsOf returns the factors in b, whose identity is id.
func factorsOf(t testing.TB, b store.Backend, sealKeys, id string) *Factors {
	t.Helper()
	f := &Factors{Backend: b, Clock: NewClock(), id: id}
	keyring := NewKeyring(t, sealKeys)
	f.Pending = store.NewPending(b, keyring, time.Minute, f.Clock.Now)
	c := config(b, keyring, id, f.Clock.Now)
	c.SwapLost = func() { f.Lost++ }
	f.Factors = store.NewFactors(c)
	return f
}

func config(b store.Backend, keyring *store.Keyring, id string, now func() time.Time) store.FactorsConfig {
	return store.FactorsConfig{
		Backend: b, Keyring: keyring, Identity: store.NewIdentity(b, id), Now: now,
		SwapLost: func() {}, Unreadable: func() {}, Written: func() {},
	}
}

// OpenFactors returns the factors in b, and gives b a store identity if it has none.
func OpenFactors(t testing.TB, b store.Backend, keyring *store.Keyring, now func() time.Time) *store.Factors {
	t.Helper()
	id, err := store.InitStore(t.Context(), b, keyring, false)
	if err != nil && !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	return store.NewFactors(config(b, keyring, id, now))
}

// Instance returns the factors of the same store on another instance, whose lost swaps do not
// count.
func (f *Factors) Instance(t testing.TB, b store.Backend, sealKeys string) *store.Factors {
	t.Helper()
	c := config(b, NewKeyring(t, sealKeys), f.id, f.Clock.Now)
	c.Rewrite = true
	return store.NewFactors(c)
}

// NewIdentity returns the id of a new store and its sealed identity.
func NewIdentity(t testing.TB, sealKeys string) (id string, sealed []byte) {
	t.Helper()
	memory := store.NewMemory(time.Now)
	id, err := store.InitStore(context.Background(), memory, NewKeyring(t, sealKeys), false)
	must(t, err)
	return id, mustGet(t, memory, memory.IdentityKeys()[0])
}

// setIdentities sets the identities beside the accounts, and one that Check reads. A nil sealed
// stands for none.
func setIdentities(t testing.TB, b store.Backend, sealed []byte) {
	t.Helper()
	keys := map[string]bool{b.IdentityKey("mfa:ready:0"): true}
	for _, account := range accounts {
		keys[b.IdentityKey(factorKey(account))] = true
	}
	for key := range keys {
		setEntry(t, b, key, sealed)
	}
}

// setEntry sets or removes an entry without a deadline.
func setEntry(t testing.TB, b store.Backend, key string, value []byte) {
	t.Helper()
	ctx := context.Background()
	if err := b.Delete(ctx, key); !errors.Is(err, store.ErrNotFound) {
		must(t, err)
	}
	if value != nil {
		must(t, b.Swap(ctx, key, nil, value, 0))
	}
}

// pendingOfAda is the entry of ada's pending secret.
var pendingOfAda = "mfa:{" + store.Digest("ada") + "}:pending"

func factorKey(account string) string { return "mfa:{" + store.Digest(account) + "}:factor" }

// NewRecoveryCodes returns the recovery codes of a factor, which begin with first.
func NewRecoveryCodes(first byte) []store.RecoveryCode {
	codes := make([]store.RecoveryCode, store.MaxRecoveryCodes)
	for i := range codes {
		codes[i] = store.RecoveryCode{first, byte(i)}
	}
	return codes
}

var errNotPending = errors.New("not pending")

// Enrol returns a change for Confirm that makes the pending secret a factor.
func (f *Factors) Enrol(step int64) func(*store.PendingKey, store.Factor) (store.Factor, error) {
	return func(pending *store.PendingKey, factor store.Factor) (store.Factor, error) {
		if pending == nil {
			return store.Factor{}, errNotPending
		}
		return factor.Enrol(pending.Secret, step, NewRecoveryCodes(byte(step)), f.Clock.Now()), nil
	}
}

// MustEnrol gives account a new pending secret and makes it the factor.
func (f *Factors) MustEnrol(t testing.TB, account string, step int64) store.Factor {
	t.Helper()
	mustGetOrCreate(t, f.Pending, account, NewSecret())
	factor, err := f.Confirm(context.Background(), account, f.Enrol(step))
	must(t, err)
	return factor
}

// MustChange changes the factor of account.
func (f *Factors) MustChange(t testing.TB, account string, change func(store.Factor) store.Factor) store.Factor {
	t.Helper()
	factor, err := f.Change(context.Background(), account, func(factor store.Factor) (store.Factor, error) { return change(factor), nil })
	must(t, err)
	return factor
}

// WantFactor checks the factor of account.
func (f *Factors) WantFactor(t testing.TB, account string, want store.Factor) {
	t.Helper()
	got, err := f.Find(context.Background(), account)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Fatalf("factor of %s: %v (-want +got):\n%s", account, err, diff)
	}
}

// calls returns a call of each method for account, which would change its factor.
func (f *Factors) calls(ctx context.Context, account string) map[string]func() error {
	return map[string]func() error{
		"Find": func() error { _, err := f.Find(ctx, account); return err },
		"Change": func() error {
			_, err := f.Change(ctx, account, func(factor store.Factor) (store.Factor, error) {
				return factor.Enrol(NewSecret(), 9, nil, f.Clock.Now()), nil
			})
			return err
		},
		"Confirm": func() error { _, err := f.Confirm(ctx, account, f.Enrol(9)); return err },
	}
}

// wantRefused checks that each method returns want for account, and that no entry changes.
func (f *Factors) wantRefused(t *testing.T, account string, want error, state string) {
	t.Helper()
	before := mustList(t, f.Backend)
	for name, call := range f.calls(t.Context(), account) {
		if err := call(); !errors.Is(err, want) || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s with %s = %v; want %v", name, state, err, want)
		}
	}
	if after := mustList(t, f.Backend); !cmp.Equal(before, after, cmp.Comparer(bytes.Equal)) {
		t.Errorf("with %s, an entry has changed", state)
	}
}
