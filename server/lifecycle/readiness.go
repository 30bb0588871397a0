package lifecycle

import (
	"context"
	"errors"
	"sync"
	"time"

	"quiva.ai/mfa/server/telemetry"
)

// readinessTimeout bounds all checks of one request together.
const readinessTimeout = 500 * time.Millisecond

// Check is one condition of serving. Its function returns promptly once its context is done.
// A Warning is reported, but does not make the service unready.
type Check struct {
	Name  string
	Check func(context.Context) error
}

// Warning is the error of a check that a person must look at, although the service can serve.
type Warning string

// Error implements error.
func (w Warning) Error() string { return string(w) }

// Readiness runs checks and remembers how long each check has had its state. The state counts
// from the request that first saw it: between requests, no check runs. It is safe for
// concurrent use.
type Readiness struct {
	checks []Check
	now    func() time.Time

	mu     sync.Mutex
	states map[string]checkState
}

// NewReadiness returns the readiness that consists of checks.
func NewReadiness(checks []Check, now func() time.Time) *Readiness {
	return &Readiness{checks: checks, now: now, states: map[string]checkState{}}
}

// checkState is the state of one check in the response of /readyz.
type checkState struct {
	Status string    `json:"status"` // ok, warning or failing
	Since  time.Time `json:"since"`
	Error  string    `json:"error,omitempty"`
}

// run runs all checks. A client that leaves does not make a check fail.
func (r *Readiness) run(ctx context.Context) (ready bool, states map[string]checkState) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readinessTimeout)
	defer cancel()
	ready, states = true, map[string]checkState{}
	for _, c := range r.checks {
		err := c.Check(ctx)
		states[c.Name] = r.record(c.Name, err)
		ready = ready && states[c.Name].Status != "failing"
	}
	return ready, states
}

// Value returns 0 if the check failed when it last ran, and else 1. It is for a metric.
func (r *Readiness) Value(name string) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.states[name].Status == "failing" {
		return 0
	}
	return 1
}

// record stores the state of a check. The time stays if the status has not changed.
func (r *Readiness) record(name string, err error) checkState {
	state := checkState{Status: "ok", Since: r.now().UTC().Truncate(time.Second)}
	if err != nil {
		state.Status, state.Error = "failing", telemetry.Sanitize(err.Error())
	}
	if _, ok := errors.AsType[Warning](err); ok {
		state.Status = "warning"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if before, ok := r.states[name]; ok && before.Status == state.Status {
		state.Since = before.Since
	}
	r.states[name] = state
	return state
}
