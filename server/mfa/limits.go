package mfa

import (
	"time"

	"quiva.ai/mfa/store"
)

// The limits of attempts at sign-in, for each account and each kind of code.
//
// A guess of a TOTP code is right with a probability of 3 in a million. The waits allow at most
// 33 guesses in 24 hours, nine and one an hour: below 1 in 10 000 a day. A success of the owner
// ends the wait but not the memory of recent failures. Otherwise a guesser who paused before each
// sign-in of the owner would get as many guesses every day. So there are at most 280 guesses in
// 30 days, 100 and six a day: below 1 in 1000 a month. limits_test.go has the model.
const (
	// freeFailures cost no wait: people mistype.
	freeFailures = 4

	// slowFrom is the number of recent failures from which each failure costs the longest wait.
	slowFrom = 9

	// offFrom is the number of recent failures from which the kind of code is off, until the
	// other kind succeeds or an operator unlocks the account.
	offFrom = 100

	// forgetTime is the time after which one recent failure is forgotten: six a day.
	forgetTime = 4 * time.Hour
)

// waits are the waits after the fifth and each further failure.
var waits = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// lockedFor returns how long no attempt is evaluated at now. Where only the other kind of code
// can end that, it returns the longest wait.
func lockedFor(a store.Attempts, now time.Time) time.Duration {
	if IsOff(a) {
		return waits[len(waits)-1]
	}
	return max(0, a.Until.Sub(now))
}

// IsOff tells whether a kind of code is off until the other kind succeeds or an operator unlocks
// the account.
func IsOff(a store.Attempts) bool { return a.Recent >= offFrom }

// failed returns a after one more failure at now.
func failed(a store.Attempts, now time.Time) store.Attempts {
	a = forget(a, now)
	a.Recent++
	a.Failures = min(a.Failures, offFrom) + 1
	wait := int(a.Failures) - freeFailures - 1
	if a.Recent >= slowFrom {
		wait = len(waits)
	}
	if wait >= 0 {
		a.Until = now.Add(waits[min(wait, len(waits)-1)])
	}
	return a
}

// forget returns a without the failures that are forgotten at now.
func forget(a store.Attempts, now time.Time) store.Attempts {
	for a.Recent > 0 && now.Sub(a.RecentAt) >= forgetTime {
		a.Recent--
		a.RecentAt = a.RecentAt.Add(forgetTime)
	}
	if a.Recent == 0 {
		a.RecentAt = now
	}
	return a
}

// succeeded returns the attempts of both kinds after a success with the kind of used.
func succeeded(used, other store.Attempts, now time.Time) (_, _ store.Attempts) {
	used.Failures, used.Until = 0, time.Time{}
	if IsOff(other) {
		// One more attempt: more would let a guesser begin anew with each sign-in. It counts as the
		// next failure to be forgotten. Otherwise each sign-in would add an attempt to the six a day.
		other.Recent, other.RecentAt = offFrom-1, latest(now, other.RecentAt.Add(forgetTime))
	}
	return used, other
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
