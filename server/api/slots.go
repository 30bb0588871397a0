package api

import "errors"

// errOverloaded says that as many requests are in flight as may be. The next one is rejected
// at once: in a queue it would wait, and hold memory, until its client has gone.
var errOverloaded = errors.New("too many requests in flight")

// slots bounds the requests in flight.
type slots struct {
	taken      chan struct{} // holds a value for each request in flight
	overloaded func()        // is called whenever no slot is free
}

func newSlots(n int, overloaded func()) slots { return slots{make(chan struct{}, n), overloaded} }

// slot returns a slot that is not acquired yet.
func (s slots) slot() slot { return slot{slots: s} }

// slot is a request's place in flight. It belongs to the request's goroutine.
type slot struct {
	slots
	acquired bool
}

// acquire takes a place, or returns errOverloaded.
func (s *slot) acquire() error {
	select {
	case s.taken <- struct{}{}:
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
		<-s.taken
		s.acquired = false
	}
}
