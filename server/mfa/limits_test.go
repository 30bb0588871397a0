package mfa

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
)

const day = 24 * time.Hour

// failures returns the attempts after failures that come after one another, each at the first
// allowed moment, and the waits.
func failures(t testing.TB, a store.Attempts, now time.Time, n int) (_ store.Attempts, got []time.Duration) {
	t.Helper()
	for range n {
		now = now.Add(lockedFor(a, now))
		a = failed(a, now)
		got = append(got, lockedFor(a, now))
	}
	return a, got
}

func TestLimits_WaitLongerAfterEachFailure(t *testing.T) {
	const m, h = time.Minute, time.Hour
	now := startOf(someStep)
	for name, row := range map[string]struct {
		before store.Attempts
		want   []time.Duration
	}{
		"from nothing":                {store.Attempts{}, []time.Duration{0, 0, 0, 0, m, 5 * m, 15 * m, h, h, h}},
		"after a success":             {store.Attempts{Recent: 3, RecentAt: now}, []time.Duration{0, 0, 0, 0, m, h, h}},
		"with eight recent failures":  {store.Attempts{Recent: 8, RecentAt: now}, []time.Duration{h, h}},
		"when one is forgotten":       {store.Attempts{Recent: 8, RecentAt: now.Add(-forgetTime)}, []time.Duration{0, h}},
		"just before it is forgotten": {store.Attempts{Recent: 8, RecentAt: now.Add(time.Millisecond - forgetTime)}, []time.Duration{h}},
		"with the most failures":      {store.Attempts{Failures: 101, Recent: 1, RecentAt: now}, []time.Duration{h, h}},
	} {
		if _, got := failures(t, row.before, now, len(row.want)); !slices.Equal(got, row.want) {
			t.Errorf("%s: waits %v; want %v", name, got, row.want)
		}
	}
}

// At 100 recent failures, no time ends the lock.
func TestLimits_AreOffUntilTheOtherKindSucceeds(t *testing.T) {
	now := startOf(someStep)
	off := failed(store.Attempts{Failures: 50, Recent: 99, RecentAt: now}, now)
	for _, passed := range []time.Duration{0, time.Hour, 1000 * day} {
		if got := lockedFor(off, now.Add(passed)); got != time.Hour {
			t.Errorf("off for %v: locked for %v; want 1h0m0s", passed, got)
		}
	}
	later := now.Add(10 * day)
	used, on := succeeded(store.Attempts{Failures: 3, Recent: 3, RecentAt: now, Until: now}, off, later)
	if want := (store.Attempts{Recent: 3, RecentAt: now}); !cmp.Equal(want, used) {
		t.Errorf("the kind that succeeded: %s", cmp.Diff(want, used))
	}
	if got := lockedFor(on, later); got != 0 {
		t.Errorf("the other kind is locked for %v; want one attempt", got)
	}
	if again := failed(on, later); lockedFor(again, later.Add(1000*day)) == 0 {
		t.Error("one more failure does not end in off again")
	}
	waiting := failed(store.Attempts{Failures: 50, Recent: 50, RecentAt: now}, now)
	if _, got := succeeded(store.Attempts{}, waiting, now); !cmp.Equal(waiting, got) {
		t.Errorf("a success changes the other kind, which is not off: %s", cmp.Diff(waiting, got))
	}
	if got := (store.Factor{TOTP: off, Recovery: off}).Unlock(); !cmp.Equal(store.Factor{}, got) {
		t.Errorf("unlock leaves %v", got)
	}
}

// guesser tells whether to guess at now. next is the owner's next sign-in.
type guesser func(a store.Attempts, now, next time.Time) bool

// below guesses only while fewer than limit recent failures remain.
func below(limit int) guesser {
	return func(a store.Attempts, now, _ time.Time) bool { return int(failed(a, now).Recent) < limit }
}

func guessers() map[string]guesser {
	all := map[string]guesser{
		"at every allowed moment":    func(store.Attempts, time.Time, time.Time) bool { return true },
		"pauses before each sign-in": func(a store.Attempts, now, next time.Time) bool { return lockedFor(failed(a, now), next) == 0 },
		"only without a wait":        func(a store.Attempts, now, _ time.Time) bool { return lockedFor(failed(a, now), now) == 0 },
		"free ones, then hourly": func(a store.Attempts, now, _ time.Time) bool {
			a = failed(a, now)
			return lockedFor(a, now) == 0 || a.Recent >= slowFrom
		},
		"off just before the sign-in": func(a store.Attempts, now, next time.Time) bool {
			return now.Equal(next) || below(offFrom)(a, now, next)
		},
	}
	for _, limit := range []int{slowFrom, slowFrom + 1, offFrom / 2, offFrom} {
		all[fmt.Sprintf("below %d recent failures", limit)] = below(limit)
	}
	return all
}

// owner signs in every day at these times: with a code of the app or, every so many sign-ins and
// while codes of the app are locked, with a recovery code.
type owner struct {
	name    string
	at      []time.Duration
	recover int // 0: only while locked
}

func owners() (all []owner) {
	all = []owner{{name: "never"}}
	for name, at := range map[string][]time.Duration{
		"daily": {0}, "4 a day": {0, day / 4, day / 2, day * 3 / 4}, "5 a day": {0, 5 * time.Hour, 10 * time.Hour, 15 * time.Hour, 20 * time.Hour},
		"5 in 4 minutes": {0, time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute},
	} {
		all = append(all, owner{name, at, 0}, owner{name + ", half by recovery code", at, 2}, owner{name + " by recovery code", at, 1})
	}
	return all
}

// signIn returns the moment of a sign-in, counted from the first one.
func (o owner) signIn(n int, start time.Time) time.Time {
	if len(o.at) == 0 {
		return start.Add(1000 * day)
	}
	return start.Add(day + time.Duration(n/len(o.at))*day + o.at[n%len(o.at)])
}

// simulate returns the moments of all guesses in 120 days.
func simulate(t testing.TB, guess guesser, o owner) (guesses []time.Time) {
	t.Helper()
	start := startOf(someStep)
	now, next, signIns := start, o.signIn(0, start), 0
	var app, recovery store.Attempts
	guessAll := func() {
		for lockedFor(app, now) == 0 && guess(app, now, next) {
			app, guesses = failed(app, now), append(guesses, now)
		}
	}
	for now.Before(start.Add(120 * day)) {
		guessAll()
		if now.Equal(next) {
			signIns++
			if lockedFor(recovery, now) != 0 {
				t.Fatal("wrong codes of the app have locked the recovery codes")
			}
			if byRecovery := o.recover > 0 && signIns%o.recover == 0; byRecovery || lockedFor(app, now) > 0 {
				recovery, app = succeeded(recovery, app, now)
			} else {
				app, recovery = succeeded(app, recovery, now)
			}
			next = o.signIn(signIns, start)
			guessAll()
		}
		now = nextMoment(app, now, next)
	}
	return guesses
}

// nextMoment returns the next moment at which something changes: a sign-in, the end of a wait, or
// a failure that is forgotten.
func nextMoment(a store.Attempts, now, next time.Time) time.Time {
	forgotten := now.Add(forgetTime - max(0, now.Sub(a.RecentAt))%forgetTime)
	for _, moment := range []time.Time{a.Until, forgotten} {
		if moment.After(now) && moment.Before(next) {
			next = moment
		}
	}
	return next
}

// most returns the most moments within length, both ends counted.
func most(moments []time.Time, length time.Duration) (count int) {
	first := 0
	for last := range moments {
		for moments[last].Sub(moments[first]) > length {
			first++
		}
		count = max(count, last-first+1)
	}
	return count
}

// Three of a million codes are right at any moment: 33 guesses are 9.9e-5, and 280 are 8.4e-4.
func TestLimits_KeepGuessersBelow1In10000ADayAnd1In1000AMonth(t *testing.T) {
	for name, guess := range guessers() {
		for _, o := range owners() {
			guesses := simulate(t, guess, o)
			inDay, inMonth := most(guesses, day), most(guesses, 30*day)
			if inDay > 33 || inMonth > 280 { // as the comment in limits.go says
				t.Errorf("guesses %s, owner %s: %d a day, %d a month; want at most 33 and 280", name, o.name, inDay, inMonth)
			}
		}
	}
}
