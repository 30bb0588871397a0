package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
)

// factorLife takes a factor through all its states.
func factorLife(t *testing.T, b store.Backend) {
	f := NewFactors(t, b, NewSealKey("k1"))
	must(t, f.Check(t.Context()))
	f.WantFactor(t, "ada", store.Factor{State: store.None})
	if removed := f.MustChange(t, "ada", func(factor store.Factor) store.Factor { return factor.Remove(f.Clock.Now()) }); removed.State != store.None {
		t.Fatalf("removing nothing returned state %s", removed.State)
	}
	wantNothing(t, b, factorKey("ada"))

	pending := mustGetOrCreate(t, f.Pending, "ada", NewSecret())
	now := time.UnixMilli(f.Clock.Now().UnixMilli())
	enrolled, err := f.Confirm(t.Context(), "ada", f.Enrol(7))
	must(t, err)
	want := store.Factor{State: store.Enrolled, Changed: now, Secret: pending.Secret, ConfirmStep: 7, LastStep: 7, RecoveryCodes: NewRecoveryCodes(7)}
	if diff := cmp.Diff(want, enrolled); diff != "" {
		t.Fatalf("Confirm (-want +got):\n%s", diff)
	}
	f.WantFactor(t, "ada", want)
	wantNothing(t, b, pendingOfAda)
	f.WantFactor(t, "bob", store.Factor{State: store.None})

	want = f.MustChange(t, "ada", func(factor store.Factor) store.Factor {
		factor.LastStep, factor.RecoveryCodes = 8, factor.RecoveryCodes[:9]
		factor.TOTP = store.Attempts{Failures: 5, Until: now.Add(time.Minute)}
		return factor.SetEnabled(false)
	})
	f.WantFactor(t, "ada", want)
	if want.State != store.Off || len(want.RecoveryCodes) != 9 {
		t.Fatalf("factor after the change = %+v", want)
	}
	f.Clock.Advance(time.Hour)
	f.MustChange(t, "ada", func(factor store.Factor) store.Factor { return factor.Remove(f.Clock.Now()) })
	f.WantFactor(t, "ada", store.Factor{State: store.Removed, Changed: now.Add(time.Hour)})
}

// confirmAgain: a client whose reply was lost confirms again and gets the codes of the first time.
func confirmAgain(t *testing.T, b store.Backend) {
	f := NewFactors(t, b, NewSealKey("k1"))
	mustGetOrCreate(t, f.Pending, "ada", NewSecret())
	sealedPending := mustGet(t, b, pendingOfAda)
	first := f.MustEnrol(t, "ada", 1)
	sealed := mustGet(t, b, factorKey("ada"))
	unchanged := func(_ *store.PendingKey, factor store.Factor) (store.Factor, error) { return factor, nil }
	again, err := f.Confirm(t.Context(), "ada", unchanged)
	if diff := cmp.Diff(first, again); diff != "" || err != nil {
		t.Fatalf("second Confirm: %v (-want +got):\n%s", err, diff)
	}
	wantValue(t, b, factorKey("ada"), string(sealed))
	// An older entry came back: the secret of a factor must not stay pending.
	setEntry(t, b, pendingOfAda, sealedPending)
	_, err = f.Confirm(t.Context(), "ada", unchanged)
	must(t, err)
	wantNothing(t, b, pendingOfAda)
	f.WantFactor(t, "ada", first)
}

// enrolAgain: the old factor is live until the new one is confirmed.
func enrolAgain(t *testing.T, b store.Backend) {
	f := NewFactors(t, b, NewSealKey("k1"))
	first := f.MustEnrol(t, "ada", 1)
	mustGetOrCreate(t, f.Pending, "ada", NewSecret())
	f.WantFactor(t, "ada", first)
	// Another change of the factor leaves the pending secret alone.
	f.MustChange(t, "ada", func(factor store.Factor) store.Factor { return factor.SetEnabled(false) })
	second := f.MustEnrol(t, "ada", 2)
	if second.State != store.Enrolled || second.Secret == first.Secret || cmp.Equal(first.RecoveryCodes, second.RecoveryCodes) {
		t.Fatal("the second factor has a part of the first")
	}
	f.WantFactor(t, "ada", second)
	wantNothing(t, b, pendingOfAda)
}

// confirmNothing: without a live pending secret, Confirm has none to give.
func confirmNothing(t *testing.T, b store.Backend) {
	f := NewFactors(t, b, NewSealKey("k1"))
	unreadable := func() { setEntry(t, b, pendingOfAda, []byte("unreadable")) }
	expired := func() {
		setEntry(t, b, pendingOfAda, nil)
		key := mustGetOrCreate(t, f.Pending, "ada", NewSecret())
		f.Clock.Advance(key.Deadline.Sub(f.Clock.Now())) // The backend, on real time, still has the entry.
	}
	for name, prepare := range map[string]func(){"nothing": func() {}, "an unreadable entry": unreadable, "a secret at its deadline": expired} {
		prepare()
		if _, err := f.Confirm(t.Context(), "ada", f.Enrol(1)); !errors.Is(err, errNotPending) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Confirm with %s pending = %v; want the error of change", name, err)
		}
		wantNothing(t, b, factorKey("ada"))
	}
}

// forestalled is a backend on which meanwhile happens before each swap, up to n times.
type forestalled struct {
	store.Backend
	n         int
	meanwhile func()
}

func (f *forestalled) happen() {
	if f.n > 0 {
		f.n--
		f.meanwhile()
	}
}

func (f *forestalled) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	f.happen()
	return f.Backend.Swap(ctx, key, old, value, ttl)
}

func (f *forestalled) Promote(ctx context.Context, from, to string, oldFrom, oldTo, value []byte) error {
	f.happen()
	return f.Backend.Promote(ctx, from, to, oldFrom, oldTo, value)
}

// lostSwaps: each lost swap is counted, and the change judges again what it now finds.
func lostSwaps(t *testing.T, b store.Backend) {
	keys := NewSealKey("k1")
	other := NewFactors(t, b, keys)
	busy := &forestalled{Backend: b}
	f := factorsOf(t, busy, keys, other.id)
	add := func(factor store.Factor) store.Factor { factor.LastStep++; return factor }
	busy.meanwhile = func() { other.MustChange(t, "ada", add) }
	other.MustEnrol(t, "ada", 100)
	for name, change := range map[string]func() (store.Factor, error){
		"Change": func() (store.Factor, error) {
			return f.Change(t.Context(), "ada", func(factor store.Factor) (store.Factor, error) { return add(factor), nil })
		},
		"Confirm": func() (store.Factor, error) {
			mustGetOrCreate(t, f.Pending, "ada", NewSecret())
			return f.Confirm(t.Context(), "ada", func(pending *store.PendingKey, factor store.Factor) (store.Factor, error) {
				factor.Secret = pending.Secret
				return add(factor), nil
			})
		},
	} {
		before, err := f.Find(t.Context(), "ada")
		must(t, err)
		f.Lost, busy.n = 0, 9
		if got, err := change(); err != nil || f.Lost != 9 || got.LastStep != before.LastStep+10 {
			t.Errorf("%s after nine lost swaps = step %d, %v, %d counted; want step %d, 9 counted", name, got.LastStep, err, f.Lost, before.LastStep+10)
		}
		f.Lost, busy.n = 0, 10
		if _, err := change(); !errors.Is(err, store.ErrUnavailable) || f.Lost != 10 {
			t.Errorf("%s after ten lost swaps = %v, %d counted; want ErrUnavailable, 10 counted", name, err, f.Lost)
		}
		if after, err := f.Find(t.Context(), "ada"); err != nil || after.LastStep != before.LastStep+20 {
			t.Errorf("step after %s = %d, %v; want %d", name, after.LastStep, err, before.LastStep+20)
		}
	}
	// A pending secret that was replaced meanwhile is not confirmed.
	busy.n, busy.meanwhile = 1, func() { setEntry(t, b, pendingOfAda, []byte("another")) }
	mustGetOrCreate(t, f.Pending, "ada", NewSecret())
	if _, err := f.Confirm(t.Context(), "ada", f.Enrol(1)); !errors.Is(err, errNotPending) {
		t.Errorf("Confirm of a replaced pending secret = %v; want that nothing is pending", err)
	}
}

var errReplayed, errLocked = errors.New("replayed"), errors.New("locked")

// acceptOnce: of 100 calls with one right code at once, one succeeds. Of 100 with a wrong one, five
// are counted.
func acceptOnce(t *testing.T, b store.Backend) {
	keys := NewSealKey("k1")
	f := NewFactors(t, b, keys)
	instances := []*store.Factors{f.Instance(t, b, keys), f.Instance(t, b, keys)}
	f.MustEnrol(t, "ada", 1)
	for _, c := range []struct {
		name    string
		change  func(store.Factor) (store.Factor, error)
		refusal error
		want    int
	}{
		{"right codes", func(factor store.Factor) (store.Factor, error) {
			if factor.LastStep >= 2 {
				return factor, errReplayed
			}
			factor.LastStep = 2
			return factor, nil
		}, errReplayed, 1},
		{"wrong codes", func(factor store.Factor) (store.Factor, error) {
			if factor.TOTP.Failures == 5 {
				return factor, errLocked
			}
			factor.TOTP.Failures++
			return factor, nil
		}, errLocked, 5},
	} {
		results := make([]error, 100)
		atOnce(len(results), func(i int) { _, results[i] = instances[i%2].Change(t.Context(), "ada", c.change) })
		written := 0
		for _, err := range results {
			if err == nil {
				written++
			} else if !errors.Is(err, c.refusal) {
				t.Errorf("%s: %v; want %v", c.name, err, c.refusal)
			}
		}
		if written != c.want {
			t.Errorf("%s: %d were written; want %d", c.name, written, c.want)
		}
	}
}

// unstorable: a change may not write what cannot be read back.
func unstorable(t *testing.T, b store.Backend) {
	f := NewFactors(t, b, NewSealKey("k1"))
	want := f.MustEnrol(t, "ada", 1)
	for name, change := range map[string]func(*store.Factor){
		"no state":         func(factor *store.Factor) { *factor = store.Factor{} },
		"the state None":   func(factor *store.Factor) { factor.State = store.None },
		"an unknown state": func(factor *store.Factor) { factor.State = "lost" },
		"too many codes":   func(factor *store.Factor) { factor.RecoveryCodes = append(NewRecoveryCodes(0), NewRecoveryCodes(1)...) },
	} {
		_, err := f.Change(t.Context(), "ada", func(factor store.Factor) (store.Factor, error) { change(&factor); return factor, nil })
		if err == nil || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Change to %s = %v; want a refusal", name, err)
		}
	}
	f.WantFactor(t, "ada", want)
	// To an account without a factor, the zero Factor is none.
	if _, err := f.Change(t.Context(), "bob", func(store.Factor) (store.Factor, error) { return store.Factor{}, nil }); err != nil {
		t.Errorf("Change of no factor to none = %v; want nil", err)
	}
	wantNothing(t, b, factorKey("bob"))
}
