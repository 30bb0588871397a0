package main

import (
	"context"
	"net/http"
	"testing"
	"time"

	"quiva.ai/mfa/store/storetest"
)

// A primary ends while 20 callers call. No secret is ever wrong and no response late. Pending
// secrets may be lost that the replica had not received yet.
func TestFailover_LosesNoMoreThanPendingSecrets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		most  time.Duration // for which callers may see failures
		start func(t *testing.T) (url string, fail, after func())
	}{
		{"Sentinel, primary killed", 6 * time.Second, func(t *testing.T) (string, func(), func()) {
			s := storetest.StartSentinel(t)
			return s.URL, s.Primary.Kill, func() {}
		}},
		{"Sentinel, primary and a sentinel killed", 8 * time.Second, func(t *testing.T) (string, func(), func()) {
			s := storetest.StartSentinel(t)
			return s.URL, func() { s.Primary.Kill(); s.KillFirstSentinel() }, func() {}
		}},
		{"Sentinel, primary stopped, back later", 6 * time.Second, func(t *testing.T) (string, func(), func()) {
			s := storetest.StartSentinel(t)
			return s.URL, func() { s.Primary.Stop(t) }, func() { s.Primary.Continue(t) }
		}},
		{"Cluster, one of three primaries killed", 9 * time.Second, func(t *testing.T) (string, func(), func()) {
			cluster := storetest.StartCluster(t)
			cluster.AddReplicas(t)
			return cluster.URL, cluster.Primaries[1].Kill, func() {}
		}},
		{"Cluster, one of three primaries stopped, back later", 9 * time.Second, func(t *testing.T) (string, func(), func()) {
			cluster := storetest.StartCluster(t)
			cluster.AddReplicas(t)
			return cluster.URL, func() { cluster.Primaries[1].Stop(t) }, func() { cluster.Primaries[1].Continue(t) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // each waits for its failover most of the time
			url, fail, after := c.start(t)
			h, stop := underLoad(t, url)
			failed := time.Now()
			fail()
			storetest.Eventually(t, func() bool { n, _, settled := h.outage(failed); return n > 0 && settled })
			h.lose(failed)
			after()
			back := time.Now()
			storetest.Eventually(t, func() bool { _, _, settled := h.outage(back); return settled })
			stop()
			n, outage, _ := h.outage(failed)
			if outage > c.most {
				t.Errorf("callers saw failures for %v; want at most %v", outage, c.most)
			}
			lost := h.verify(t)
			t.Logf("callers saw 503 for %v (%d of %d calls), slowest response %v, %d pending secrets lost",
				outage.Round(10*time.Millisecond), n, len(h.all(time.Time{})), h.slowest().Round(time.Millisecond), lost)
		})
	}
}

// underLoad starts an instance on the Redis at url and 20 callers. It returns after a second
// without failures.
func underLoad(t *testing.T, url string) (h *history, stop func()) {
	t.Helper()
	s := startInstance(t, testEnviron(nil, "MFA_REDIS_URL="+url, "MFA_STORE_ID="+initStore(url)))
	storetest.Eventually(t, func() bool { return s.post(asUser(t, "first")).status == http.StatusOK })
	h = newHistory()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { h.drive(ctx, []*instance{s}, 20, 200); close(ended) }()
	stop = func() { cancel(); <-ended }
	start := time.Now()
	storetest.Eventually(t, func() bool { _, _, settled := h.outage(start); return settled })
	return h, stop
}

// verify fails the test for each broken promise and returns the number of lost pending
// secrets.
func (h *history) verify(t *testing.T) (lost int) {
	t.Helper()
	broken, lost := h.check()
	for _, b := range broken {
		t.Error(b)
	}
	if slowest := h.slowest(); slowest > responseTime+h.stalled {
		t.Errorf("a response took %v; want at most %v, and %v for which the machine stood still", slowest, responseTime, h.stalled)
	}
	return lost
}

// Callers see no failure while slots move with their entries from one primary to another.
func TestFailover_MovedSlotsCostNoCall(t *testing.T) {
	cluster := storetest.StartCluster(t)
	h, stop := underLoad(t, cluster.URL)
	start := time.Now()
	from, to := cluster.Primaries[0], cluster.Primaries[2]
	moved := 0
	for account := range 200 {
		slot := int(from.Client.ClusterKeySlot(t.Context(), pendingEntry(accountName(account))).Val())
		if slot < 16384/3 {
			cluster.MoveSlot(t, slot, from, to)
			moved++
		}
	}
	storetest.Eventually(t, func() bool { _, _, settled := h.outage(start); return settled })
	stop()
	n, _, _ := h.outage(start)
	lost := h.verify(t)
	if moved == 0 || n > 0 || lost > 0 {
		t.Errorf("%d slots moved, %d calls failed, %d pending secrets lost; want some, none and none", moved, n, lost)
	}
	t.Logf("%d slots moved during %d calls, slowest response %v", moved, len(h.all(time.Time{})), h.slowest().Round(time.Millisecond))
}
