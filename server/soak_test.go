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
	soakTime = flag.Duration("soak.time", 10*time.Minute, "how long to go on")
	soakSeed = flag.Uint64("soak.seed", rand.Uint64(), "which faults come when; the callers have their own randomness")
)

// TestSoak has two replicas called for a long time while every fault of TestRedisFaults
// happens, again and again, at random, and keys reach their deadline. `make soak` runs it;
// with -soak.seed a run's faults come again.
func TestSoak(t *testing.T) {
	t.Logf("seed %d", *soakSeed)
	random := rand.New(rand.NewPCG(*soakSeed, 0))
	faults := slices.DeleteFunc(theFaults(), func(f fault) bool { return f.url != userURL }) // one URL for the whole run
	r := newRig(t, userURL, "MFA_PENDING_TTL=1m")
	replicas := []*service{r.service, startService(t, r.service.environ)}
	h := newHistory()
	ctx, cancel := context.WithTimeout(t.Context(), *soakTime)
	defer cancel()
	ended := make(chan struct{})
	go func() { h.drive(ctx, replicas, 20, 200); close(ended) }()

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
		for _, s := range replicas {
			s.log.discard()
		}
		over := time.Now()
		storetest.Eventually(t, func() bool { return r.service.post(asUser(t, "ada")).status == http.StatusOK })
		if took := time.Since(over); took > recoveryTime {
			t.Errorf("%s: well again after %v; want at most %v", f.name, took, recoveryTime)
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
	t.Logf("statuses %v, slowest answer %v, %d pending keys lost with Redis's data; faults: %v", statuses, h.slowest(), lost, happened)
}
