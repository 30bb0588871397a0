package auth

import (
	"errors"
	"time"
)

// StepUp demands of sensitive operations that the person has signed in a short time ago (RFC
// 9470): a stolen token then cannot take the factor away. It is safe for concurrent use.
type StepUp struct {
	MaxAge time.Duration // of the sign-in; 0: any age, and API keys too
	Leeway time.Duration // for a token issuer whose clock is ahead
	Now    func() time.Time
}

// ErrPersonRequired says that an API key asked for an operation that only a person may do who
// has signed in recently.
var ErrPersonRequired = errors.New("the operation needs a person's recent sign-in")

// Check returns nil if p may do a sensitive operation. The error is ErrPersonRequired or a
// *Refusal. A token without auth_time, or with one in the future, is not recent.
func (s StepUp) Check(p Principal) error {
	if s.MaxAge == 0 {
		return nil
	}
	if p.Scheme == APIKey {
		return ErrPersonRequired
	}
	age := s.Now().Sub(p.AuthTime)
	if p.AuthTime.IsZero() || age > s.MaxAge || age < -s.Leeway {
		return &Refusal{Cause: SignInTooOld, maxAge: s.MaxAge}
	}
	return nil
}
