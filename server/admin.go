package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// readinessCheck is one thing that the service needs in order to serve. check
// returns promptly once its context is done.
type readinessCheck struct {
	name  string
	check func(context.Context) error
}

// readinessTime bounds all checks of one request together.
const readinessTime = 500 * time.Millisecond

// checkState is what /readyz says of one check.
type checkState struct {
	Status string    `json:"status"` // ok or failing
	Since  time.Time `json:"since"`
	Error  string    `json:"error,omitempty"`
}

// readiness remembers since when each check has had its state, as far as anybody has
// asked: nothing looks in between.
type readiness struct {
	checks []readinessCheck
	now    func() time.Time

	mu     sync.Mutex
	states map[string]checkState
}

func newReadiness(checks []readinessCheck, now func() time.Time) *readiness {
	return &readiness{checks: checks, now: now, states: map[string]checkState{}}
}

// judge runs all checks and returns their states.
func (r *readiness) judge(ctx context.Context) (ready bool, states map[string]checkState) {
	// Whoever asks and leaves must not make a check fail.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readinessTime)
	defer cancel()
	ready, states = true, map[string]checkState{}
	for _, c := range r.checks {
		err := c.check(ctx)
		ready = ready && err == nil
		states[c.name] = r.note(c.name, err)
	}
	return ready, states
}

func (r *readiness) note(name string, err error) checkState {
	state := checkState{Status: "ok", Since: r.now().UTC().Truncate(time.Second)}
	if err != nil {
		state.Status, state.Error = "failing", tamed(err.Error())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, ok := r.states[name]; ok && before.Status == state.Status {
		state.Since = before.Since
	}
	r.states[name] = state
	return state
}

// newAdmin returns the handler of the admin listener, which is not for clients:
//
//	/livez         200: the process answers; if it does not, restart it
//	/readyz        200 or 503: send it requests, or not, and the state of each check
//	/metrics       200: what Prometheus scrapes
//	/openapi.json  200: the document of what the API listener serves
func newAdmin(ready *readiness, document json.RawMessage, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]bool{"live": true})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		ok, states := ready.judge(r.Context())
		if !ok {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, states)
	})
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, document)
	})
	return mux
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A failed write means that the client is gone.
	_ = json.NewEncoder(w).Encode(value)
}
