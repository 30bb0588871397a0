//go:build soak

package main

import (
	"context"
	"flag"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"quiva.ai/mfa/store/storetest"
)

var (
	soakTime = flag.Duration("soak.time", 10*time.Minute, "duration of the test")
	soakSeed = flag.Uint64("soak.seed", rand.Uint64(), "seed of the faults and their times; the callers have their own randomness")
)

// TestSoak calls two instances for a long time. Meanwhile the faults of TestFaults happen at
// random, and pending secrets reach their deadline. `make soak` runs it. -soak.seed repeats a
// run's faults.
func TestSoak(t *testing.T) {
	t.Logf("seed %d", *soakSeed)
	random := rand.New(rand.NewPCG(*soakSeed, 0))
	faults := slices.DeleteFunc(allFaults(), func(f fault) bool { return f.url != userURL }) // one URL for the whole run
	r := newFaultTest(t, userURL, "MFA_PENDING_TTL=1m")
	instances := []*instance{r.instance, startInstance(t, r.environ)}
	h := newHistory()
	ctx, cancel := context.WithTimeout(t.Context(), *soakTime)
	defer cancel()
	ended := make(chan struct{})
	go func() { h.drive(ctx, instances, 20, 200); close(ended) }()

	happened := map[string]int{}
	for ctx.Err() == nil {
		f := faults[random.IntN(len(faults))]
		begin := time.Now()
		f.begin(r)
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
		f.end(r)
		if f.after == nothing {
			h.lose(begin)
		}
		happened[f.name]++
		for _, s := range instances {
			s.log.discard()
		}
		over := time.Now()
		storetest.Eventually(t, func() bool { return r.post(asUser(t, "ada")).status == http.StatusOK })
		if took := time.Since(over); took > recoveryTime {
			t.Errorf("%s: recovered after %v; want at most %v", f.name, took, recoveryTime)
		}
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	}
	<-ended
	lost := h.verify(t)
	statuses := map[int]int{}
	for _, a := range h.all(time.Time{}) {
		statuses[a.status]++
	}
	if statuses[http.StatusOK] == 0 || statuses[http.StatusServiceUnavailable] == 0 {
		t.Errorf("statuses %v; want both 200 and 503", statuses)
	}
	t.Logf("statuses %v, slowest response %v, %d pending secrets lost; faults: %v", statuses, h.slowest(), lost, happened)
}
