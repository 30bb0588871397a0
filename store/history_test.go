package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// factorHistory is what concurrent callers did to one factor. Each change gives the factor a
// number that no other change gives, so the history is linearizable exactly if check finds
// nothing: all changes form one chain, in which calls that followed each other keep their order.
type factorHistory struct {
	mu      sync.Mutex
	calls   []factorCall
	secrets []pendingSeen
}

// factorCall is a change from one number to another, or a read: before and after are the same.
type factorCall struct {
	before, after int64
	begin, end    time.Time
	unknown       bool // it may have happened, at any time after begin
	confirmed     store.Secret
}

// pendingSeen is a secret that GetOrCreate has returned.
type pendingSeen struct {
	secret store.Secret
	begin  time.Time
}

// numberOf returns the number of a factor; 0: none.
func numberOf(f store.Factor) int64 {
	if f.State == store.Removed {
		return f.Changed.UnixMilli()
	}
	return f.LastStep
}

// chain returns the place of each number, or an error if the changes form no chain. A change whose
// outcome is unknown happened if another call has found its number.
func (h *factorHistory) chain() (map[int64]int, error) {
	found := map[int64]bool{}
	for _, c := range h.calls {
		found[c.before] = true
	}
	next := map[int64]int64{}
	for _, c := range h.calls {
		if c.before == c.after || c.unknown && !found[c.after] {
			continue
		}
		if other, ok := next[c.before]; ok {
			return nil, fmt.Errorf("both %d and %d replaced %d", other, c.after, c.before)
		}
		next[c.before] = c.after
	}
	places := map[int64]int{0: 0}
	for at, ok := next[0]; ok; at, ok = next[at] {
		places[at] = len(places)
	}
	if lost := len(next) + 1 - len(places); lost != 0 {
		return nil, fmt.Errorf("%d changes were lost", lost)
	}
	return places, nil
}

// check returns the first contradiction in the history.
func (h *factorHistory) check() error {
	places, err := h.chain()
	if err != nil {
		return err
	}
	var known []factorCall
	for _, c := range h.calls {
		if _, ok := places[c.after]; !ok && !c.unknown {
			return fmt.Errorf("a read found %d, which was never written", c.after)
		}
		if !c.unknown {
			known = append(known, c)
		}
	}
	for _, x := range known {
		for _, y := range known {
			changed := y.before != y.after
			if x.end.Before(y.begin) && (places[x.after] > places[y.after] || changed && places[x.after] == places[y.after]) {
				return fmt.Errorf("%d was found after %d, and is older", y.after, x.after)
			}
		}
		for _, p := range h.secrets {
			if x.confirmed == p.secret && x.end.Before(p.begin) {
				return errors.New("the secret of a factor was handed out as a pending one")
			}
		}
	}
	return nil
}

// call makes one random call to one of the instances and notes it.
func (h *factorHistory) call(ctx context.Context, f *store.Factors, pending *store.Pending, number int64) {
	c := factorCall{begin: time.Now()}
	note := func(factor, next store.Factor) store.Factor {
		c.before, c.after = numberOf(factor), numberOf(next)
		return next
	}
	var err error
	switch rand.IntN(5) {
	case 0:
		var factor store.Factor
		factor, err = f.Find(ctx, "ada")
		c.before, c.after = numberOf(factor), numberOf(factor)
	case 1:
		_, err = f.Change(ctx, "ada", func(factor store.Factor) (store.Factor, error) {
			return note(factor, factor.Remove(time.UnixMilli(number))), nil
		})
	case 2:
		if key, err := pending.GetOrCreate(ctx, "ada", storetest.NewSecret()); err == nil {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.secrets = append(h.secrets, pendingSeen{key.Secret, c.begin})
		}
		return
	case 3:
		_, err = f.Confirm(ctx, "ada", func(key *store.PendingKey, factor store.Factor) (store.Factor, error) {
			if key == nil {
				return note(factor, factor), nil
			}
			c.confirmed = key.Secret
			return note(factor, factor.Enrol(key.Secret, number, nil, time.Now())), nil
		})
	default:
		_, err = f.Change(ctx, "ada", func(factor store.Factor) (store.Factor, error) {
			next := factor
			if factor.Exists() {
				next.LastStep = number
			}
			return note(factor, next), nil
		})
	}
	c.end, c.unknown = time.Now(), err != nil
	h.mu.Lock()
	defer h.mu.Unlock()
	if !c.unknown || c.before != c.after {
		h.calls = append(h.calls, c)
	}
}

// Some replies are lost, and some commands.
func TestFactors_AreLinearizable(t *testing.T) {
	server := storetest.SharedRedis(t)
	proxy := storetest.StartProxy(t, server.Addr)
	sealKey := storetest.NewSealKey("k1")
	fixture := storetest.NewFactors(t, newRedis(t, server.URL), sealKey)
	proxy.Do(storetest.Fault{Command: "eval", Action: func(x *storetest.Exchange) bool {
		switch rand.IntN(40) {
		case 0:
			return storetest.LoseReply(x)
		case 1:
			return storetest.DropBefore(x)
		}
		return storetest.Pass(x)
	}})
	h := &factorHistory{}
	var number atomic.Int64
	var callers sync.WaitGroup
	for range 2 { // instances
		backend := newRedis(t, proxy.URL)
		factors, pending := fixture.Instance(t, backend, sealKey), store.NewPending(backend, storetest.NewKeyring(t, sealKey), time.Minute, time.Now)
		for range 4 {
			callers.Go(func() {
				for range 100 {
					h.call(t.Context(), factors, pending, number.Add(1))
				}
			})
		}
	}
	callers.Wait()
	proxy.Do()
	final, err := fixture.Find(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	h.calls = append(h.calls, factorCall{before: numberOf(final), after: numberOf(final), begin: time.Now(), end: time.Now()})
	if err := h.check(); err != nil {
		t.Error(err)
	}
	unknown := slices.DeleteFunc(slices.Clone(h.calls), func(c factorCall) bool { return !c.unknown })
	t.Logf("%d calls, %d with an unknown outcome, %d pending secrets", len(h.calls), len(unknown), len(h.secrets))
	if len(h.calls) < 200 || len(unknown) == 0 || len(h.secrets) == 0 {
		t.Error("too few calls of a kind")
	}
}

func TestFactorHistory_FindsContradictions(t *testing.T) {
	epoch := time.Now()
	call := func(second int, before, after int64, unknown bool) factorCall {
		at := epoch.Add(time.Duration(second) * time.Second)
		return factorCall{before: before, after: after, begin: at, end: at, unknown: unknown}
	}
	for name, c := range map[string]struct {
		calls []factorCall
		want  string
	}{
		"sound":                      {[]factorCall{call(0, 0, 1, false), call(1, 1, 1, false), call(2, 1, 2, false)}, ""},
		"an unknown change happened": {[]factorCall{call(0, 0, 1, true), call(1, 1, 2, false)}, ""},
		"an unknown change did not":  {[]factorCall{call(0, 0, 1, true), call(1, 0, 2, false)}, ""},
		"two changes of one":         {[]factorCall{call(0, 0, 1, false), call(0, 0, 2, false)}, "both 1 and 2 replaced 0"},
		"a lost change":              {[]factorCall{call(0, 0, 1, false), call(1, 5, 6, false)}, "1 changes were lost"},
		"a read of what never was":   {[]factorCall{call(0, 7, 7, false)}, "a read found 7, which was never written"},
		"a read of an older state":   {[]factorCall{call(0, 0, 1, false), call(1, 0, 0, false)}, "0 was found after 1, and is older"},
		"a read of a future state":   {[]factorCall{call(0, 1, 1, false), call(1, 0, 1, false)}, "1 was found after 1, and is older"},
	} {
		got := ""
		if err := (&factorHistory{calls: c.calls}).check(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q; want %q", name, got, c.want)
		}
	}
}
