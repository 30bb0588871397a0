package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
)

func TestMoreThanMayBeInFlightAreTurnedAwayAtOnce(t *testing.T) {
	arrived, finish := make(chan struct{}, testInFlight+1), make(chan struct{})
	s := serveOps(t, spec(t), anyKey{}, opsFunc(func(context.Context) (gen.GenerateTOTPKeyResponseObject, error) {
		arrived <- struct{}{}
		<-finish
		return nil, errors.New("enough")
	}))
	key := withKey(auth.NewAPIKey())
	var held sync.WaitGroup
	for range testInFlight {
		held.Go(func() { s.post(key) })
		<-arrived
	}
	// Whoever they are: nothing is looked at. What costs nothing is answered all the same.
	for _, header := range []http.Header{key, nil} {
		if got := s.post(header); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" {
			t.Errorf("one too many: %d %s; want 503", got.status, got.body)
		}
	}
	if got := s.send(http.MethodGet, generatePath, nil, http.NoBody); got.status != http.StatusMethodNotAllowed {
		t.Errorf("no operation, meanwhile: %d; want 405", got.status)
	}
	close(finish)
	held.Wait()
	if got := s.post(key); got.status != http.StatusInternalServerError || len(arrived) != 1 {
		t.Errorf("afterwards: %d, %d operations; want the operation's own answer", got.status, len(arrived))
	}
	causes := map[any]int{}
	for _, line := range s.logLines("request") {
		if line["level"] == "INFO" {
			causes[line["cause"]]++
		}
	}
	if causes["overloaded"] != 2 {
		t.Errorf("causes %v; want overloaded twice, at INFO", causes)
	}
}
