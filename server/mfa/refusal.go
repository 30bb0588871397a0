package mfa

import (
	"fmt"
	"time"
)

// Reason says to programs why a request was not carried out. Clients depend on the words.
type Reason string

// The reasons of a Refusal.
const (
	Malformed    Reason = "malformed"     // the code or the secret has the wrong form
	WrongCode    Reason = "wrong_code"    // the code is not the secret's
	ClockOff     Reason = "clock_off"     // the code is the secret's at another time
	NotPending   Reason = "not_pending"   // the secret is not the pending one
	NotEnrolled  Reason = "not_enrolled"  // the account lacks the factor
	Replayed     Reason = "replayed"      // the code was right and is used up
	Locked       Reason = "locked"        // too many wrong codes; this one was not evaluated
	OtherAccount Reason = "other_account" // the request names another account than the caller's
)

// Refusal is the error for a request that is understood and not carried out. Nothing has
// changed, except that a WrongCode of sign-in is counted.
type Refusal struct {
	Reason Reason

	// Ahead is how far the clock of the person's device is ahead, for ClockOff; negative: behind.
	Ahead time.Duration

	// Recovery says that the code was a recovery code, for WrongCode, Replayed and Locked.
	Recovery bool

	// RetryAfter is the time until the next code may come, for Locked.
	RetryAfter time.Duration
}

// Error implements error. It has nothing of the request.
func (r *Refusal) Error() string {
	if r.Reason == ClockOff {
		return fmt.Sprintf("refused: %s by %v", r.Reason, r.Ahead)
	}
	return "refused: " + string(r.Reason)
}
