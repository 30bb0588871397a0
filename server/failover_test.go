package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/store/storetest"
)

// TestFailover takes a primary away while 20 callers call, and looks at what they see.
// No secret is ever wrong, and no answer late; pending keys may be lost, where a replica
// had not got them yet.
func TestFailover(t *testing.T) {
	var table strings.Builder
	for _, c := range []struct {
		name  string
		most  time.Duration // that callers may see failures
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
			fmt.Fprintf(&table, "%s: callers saw 503 for %v (%d of %d calls), slowest answer %v, %d pending keys lost\n",
				c.name, outage.Round(10*time.Millisecond), n, len(h.all(time.Time{})), h.slowest().Round(time.Millisecond), lost)
		})
	}
	if err := publish("failovers", table.String()); err != nil {
		t.Error(err)
	}
	t.Log(table.String())
}

// underLoad starts a service on the Redis at url, and 20 callers, and returns once that
// goes well.
func underLoad(t *testing.T, url string) (h *history, stop func()) {
	t.Helper()
	s := startService(t, testEnviron(nil, "MFA_REDIS_URL="+url))
	storetest.Eventually(t, func() bool { return s.post(asUser(t, "first")).status == http.StatusOK })
	h = newHistory()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { h.drive(ctx, []*service{s}, 20, 200); close(ended) }()
	stop = func() { cancel(); <-ended }
	start := time.Now()
	storetest.Eventually(t, func() bool { _, _, settled := h.outage(start); return settled })
	return h, stop
}

// verify fails the test for what the callers were promised and did not get, and returns
// how many pending keys were lost.
func (h *history) verify(t *testing.T) (lost int) {
	t.Helper()
	broken, lost := h.check()
	for _, b := range broken {
		t.Error(b)
	}
	if slowest := h.slowest(); slowest > answerTime+h.stalled {
		t.Errorf("an answer took %v; want at most %v, and %v for which the machine stood still", slowest, answerTime, h.stalled)
	}
	return lost
}

// While slots with their keys move from one primary to another, nobody notices.
func TestSlotsMoveUnderLoad(t *testing.T) {
	cluster := storetest.StartCluster(t)
	h, stop := underLoad(t, cluster.URL)
	start := time.Now()
	from, to := cluster.Primaries[0], cluster.Primaries[2]
	moved := 0
	for account := range 200 {
		slot := int(from.Client.ClusterKeySlot(t.Context(), pendingKey(accountName(account))).Val())
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
		t.Errorf("%d slots moved, %d calls failed, %d pending keys lost; want some, none and none", moved, n, lost)
	}
	t.Logf("Cluster, %d slots moved: %d of %d calls failed, slowest answer %v", moved, n, len(h.all(time.Time{})), h.slowest().Round(time.Millisecond))
}
