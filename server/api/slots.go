package api

import "errors"

// errOverloaded says that as many requests are in flight as may be. The next one is rejected
// at once: in a queue it would wait, and hold memory, until its client has gone.
var errOverloaded = errors.New("too many requests in flight")

// slots bounds the requests in flight. The channel holds a value for each of them.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

// slot returns a slot that is not acquired yet. overloaded is called whenever none is free.
func (s slots) slot(overloaded func()) *slot { return &slot{slots: s, overloaded: overloaded} }

// slot is a request's place in flight. It belongs to the request's goroutine.
type slot struct {
	slots      slots
	overloaded func()
	acquired   bool
}

// acquire takes a place, or returns errOverloaded.
func (s *slot) acquire() error {
	select {
	case s.slots <- struct{}{}:
		s.acquired = true
		return nil
	default:
		s.overloaded()
		return errOverloaded
	}
}

// release gives the place back, if the slot has one.
func (s *slot) release() {
	if s.acquired {
		<-s.slots
		s.acquired = false
	}
}
