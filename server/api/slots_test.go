package api

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"quiva.ai/mfa/gen"
)

func TestSlots_RejectWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fails on a deadlock
		begun, finish := make(chan struct{}, 3), make(chan struct{})
		a := newTestAPI(t, withOperation(blockingOperation(begun, finish)), func(c *Config) { c.MaxInFlight = 2 })
		user := asUser(t, "ada")
		body, send := io.Pipe()
		sending := make(chan reply)
		go func() { sending <- a.send(http.MethodPost, generatePath, user, body) }()
		if _, err := send.Write([]byte("x")); err != nil { // returns once the body is read
			t.Fatal(err)
		}
		var held sync.WaitGroup
		for range 2 {
			held.Go(func() { a.post(user) })
			<-begun
		}
		for name, header := range map[string]http.Header{"a user": user, "a stranger": nil} {
			if got := a.post(header); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" {
				t.Errorf("%s: %d %s; want 503", name, got.status, got.body)
			}
		}
		send.Close()
		if got := <-sending; got.status != http.StatusServiceUnavailable {
			t.Errorf("a request whose body has come: %d; want 503", got.status)
		}
		for _, line := range a.lines() {
			if line["cause"] != "overloaded" || line["level"] != "INFO" {
				t.Errorf("log line %v; want INFO and cause overloaded", line)
			}
		}
		if got := a.send(http.MethodGet, generatePath, nil, http.NoBody); got.status != http.StatusMethodNotAllowed {
			t.Errorf("a request without an operation: %d; want 405", got.status)
		}
		a.wantMetric(t, "mfa_overloaded_total 3")
		close(finish)
		held.Wait()
	})
}

// TestSlots_AreReleased sends a request of each kind more often than there are slots.
func TestSlots_AreReleased(t *testing.T) {
	a := newTestAPI(t, withOperation(func(context.Context) (gen.GenerateTOTPKeyResponseObject, error) { panic("x") }), func(c *Config) { c.MaxInFlight = 1 })
	user := asUser(t, "ada")
	for name, row := range map[string]struct {
		header http.Header
		body   string
		status int
	}{
		"panic":            {user, "", http.StatusInternalServerError},
		"panic after body": {user, "x", http.StatusInternalServerError},
		"refusal":          {nil, "", http.StatusUnauthorized},
		"refusal, body":    {nil, "x", http.StatusUnauthorized},
		"body too large":   {user, strings.Repeat("x", maxBody+1), http.StatusRequestEntityTooLarge},
	} {
		for range 2 {
			if got := a.send(http.MethodPost, generatePath, row.header, strings.NewReader(row.body)); got.status != row.status {
				t.Errorf("%s: %d %s; want %d", name, got.status, got.body, row.status)
			}
		}
	}
}
