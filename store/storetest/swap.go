package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"quiva.ai/mfa/store"
)

func swap(t *testing.T, b store.Backend) {
	ctx := t.Context()
	old, value := []byte("old"), []byte("new")
	for _, c := range []struct {
		name          string
		present, read []byte // nil: no entry
		want          []byte // after the swap
	}{
		{"the value that was read", old, old, value},
		{"nothing, as was read", nil, nil, value},
		{"another value", []byte("other"), old, []byte("other")},
		{"a longer value", []byte("old!"), old, []byte("old!")},
		{"a value instead of nothing", old, nil, old},
		{"nothing instead of a value", nil, old, nil},
		{"nothing instead of an empty value", nil, []byte{}, nil},
		{"an empty value instead of nothing", []byte{}, nil, []byte{}},
		{"an empty value", []byte{}, []byte{}, value},
	} {
		for _, ttl := range []time.Duration{0, time.Minute} {
			key := fmt.Sprintf("mfa:%s:%s", c.name, ttl)
			if c.present != nil {
				mustPut(t, b, key, string(c.present))
			}
			var want error
			if !bytes.Equal(c.want, value) {
				want = store.ErrConflict
			}
			if err := b.Swap(ctx, key, c.read, value, ttl); !errors.Is(err, want) {
				t.Errorf("Swap over %s = %v; want %v", c.name, err, want)
			}
			wantEntry(t, b, key, c.want)
		}
	}
}

// swapDeadline sets, changes and removes the deadline of an entry.
func swapDeadline(t *testing.T, b store.Backend) {
	ctx := t.Context()
	const short = 200 * time.Millisecond
	must(t, b.Swap(ctx, "mfa:kept", nil, []byte("v"), short))
	must(t, b.Swap(ctx, "mfa:kept", []byte("v"), []byte("w"), 0))
	must(t, b.Swap(ctx, "mfa:gone", nil, []byte("v"), 0))
	must(t, b.Swap(ctx, "mfa:gone", []byte("v"), []byte("w"), short))
	wantExpiry(t, b, "mfa:gone")
	wantValue(t, b, "mfa:kept", "w")
}

func swapOnce(t *testing.T, b store.Backend) {
	mustPut(t, b, "mfa:k", "old")
	wantOneSwap(t, b, func(value []byte) error { return b.Swap(t.Context(), "mfa:k", []byte("old"), value, 0) })
}

func promote(t *testing.T, b store.Backend) {
	ctx := t.Context()
	old, value := []byte("old"), []byte("new")
	for _, c := range []struct {
		name              string
		from, to          []byte // nil: no entry
		readFrom, readTo  []byte
		wantFrom, wantsTo []byte
	}{
		{"both as read", old, old, old, old, nil, value},
		{"the first as read, no second", old, nil, old, nil, nil, value},
		{"another first", []byte("other"), old, old, old, []byte("other"), old},
		{"another second", old, []byte("other"), old, old, old, []byte("other")},
		{"no first any more", nil, old, old, old, nil, old},
		{"no second any more", old, nil, old, old, old, nil},
		{"a second meanwhile", old, old, old, nil, old, old},
	} {
		from, to := "mfa:{"+c.name+"}:from", "mfa:{"+c.name+"}:to"
		for key, present := range map[string][]byte{from: c.from, to: c.to} {
			if present != nil {
				mustPut(t, b, key, string(present))
			}
		}
		var want error
		if !bytes.Equal(c.wantsTo, value) {
			want = store.ErrConflict
		}
		if err := b.Promote(ctx, from, to, c.readFrom, c.readTo, value); !errors.Is(err, want) {
			t.Errorf("Promote with %s = %v; want %v", c.name, err, want)
		}
		wantEntry(t, b, from, c.wantFrom)
		wantEntry(t, b, to, c.wantsTo)
	}
}

func promoteOnce(t *testing.T, b store.Backend) {
	mustPut(t, b, "mfa:{k}:from", "old")
	wantOneSwap(t, b, func(value []byte) error {
		return b.Promote(t.Context(), "mfa:{k}:from", "mfa:{k}:to", []byte("old"), nil, value)
	})
}

// wantOneSwap calls swap 50 times at once, each time with another value. One call must succeed,
// and all others must return ErrConflict.
func wantOneSwap(t *testing.T, b store.Backend, swap func(value []byte) error) {
	t.Helper()
	results := make([]error, 50)
	atOnce(len(results), func(i int) { results[i] = swap(fmt.Appendf(nil, "value %d", i)) })
	entries := mustList(t, b)
	won := 0
	for i, err := range results {
		if err == nil {
			won++
			wantValue(t, b, slices.Collect(maps.Keys(entries))[0], fmt.Sprintf("value %d", i))
		} else if !errors.Is(err, store.ErrConflict) {
			t.Errorf("call %d = %v; want nil or ErrConflict", i, err)
		}
	}
	if won != 1 || len(entries) != 1 {
		t.Errorf("%d calls succeeded and %d entries remain; want 1 and 1", won, len(entries))
	}
}
