package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quiva.ai/mfa/store/storetest"
)

// A primary ends while 20 callers call and one person after the other enrols. No secret is ever
// wrong and no response late. What the replica had not received is lost: pending secrets, and
// confirmed factors unless MFA_REDIS_WAIT_REPLICAS is 1. The replica loses its primary a while before
// the primary ends, so there is something to lose.
func TestFailover_LosesNoMoreThanPendingSecrets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct { // the longest rows first
		name     string
		replicas int           // MFA_REDIS_WAIT_REPLICAS
		most     time.Duration // for which callers may see failures
		start    func(t *testing.T) failover
	}{
		{"Cluster, one of three primaries killed", 0, 9 * time.Second, func(t *testing.T) failover {
			c := startClusterWithReplicas(t)
			return failover{c.URL, c.Primaries[1], c.Replicas[1], c.Primaries[1].Kill, func() {}}
		}},
		{"Cluster, one of three primaries stopped, back later", 1, 9 * time.Second, func(t *testing.T) failover {
			c := startClusterWithReplicas(t)
			return failover{c.URL, c.Primaries[1], c.Replicas[1], func() { c.Primaries[1].Stop(t) }, func() { c.Primaries[1].Continue(t) }}
		}},
		{"Sentinel, primary killed", 0, 6 * time.Second, func(t *testing.T) failover {
			s := storetest.StartSentinel(t)
			return failover{s.URL, s.Primary, s.Replica, s.Primary.Kill, func() {}}
		}},
		{"Sentinel, primary and a sentinel killed", 1, 8 * time.Second, func(t *testing.T) failover {
			s := storetest.StartSentinel(t)
			return failover{s.URL, s.Primary, s.Replica, func() { s.Primary.Kill(); s.KillFirstSentinel() }, func() {}}
		}},
		{"Sentinel, primary stopped, back later", 1, 6 * time.Second, func(t *testing.T) failover {
			s := storetest.StartSentinel(t)
			return failover{s.URL, s.Primary, s.Replica, func() { s.Primary.Stop(t) }, func() { s.Primary.Continue(t) }}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // each waits for its failover most of the time
			f := c.start(t)
			h, e, stop := underLoad(t, f.url, "MFA_REDIS_WAIT_REPLICAS="+strconv.Itoa(c.replicas))
			f.replica.Stop(t)
			if err := f.primary.Client.ClientKillByFilter(t.Context(), "TYPE", "replica").Err(); err != nil {
				t.Fatal(err)
			}
			standstill := e.tried.Load()
			storetest.Eventually(t, func() bool { return e.tried.Load() > standstill+int64(30/(1+2*c.replicas)) })
			failed := time.Now()
			f.fail()
			f.replica.Continue(t)
			storetest.Eventually(t, func() bool { n, _, settled := h.outage(failed); return n > 0 && settled })
			h.lose(failed)
			f.after()
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
			lost = e.verify(t)
			if c.replicas == 0 && lost == 0 || c.replicas > 0 && lost > 0 {
				t.Errorf("%d factors lost; want none if a replica had each, and else some", lost)
			}
			if c.replicas > 0 && e.reusable > 0 {
				t.Errorf("%d codes were accepted twice; want none if a replica had each", e.reusable)
			}
			t.Logf("MFA_REDIS_WAIT_REPLICAS %d: %d of %d acknowledged factors lost, %d confirms had a 503; %d of %d used codes accepted again",
				c.replicas, lost, len(e.confirmed), e.refused, e.reusable, len(e.verified))
		})
	}
}

// failover is a primary, its replica, and a fault of the primary.
type failover struct {
	url              string
	primary, replica *storetest.RedisServer
	fail, after      func()
}

func startClusterWithReplicas(t *testing.T) *storetest.Cluster {
	t.Helper()
	cluster := storetest.StartCluster(t)
	cluster.AddReplicas(t)
	return cluster
}

// enrolments are people who enrol one after the other. Each confirms once and signs in once.
type enrolments struct {
	*instance
	service http.Header

	tried     atomic.Int64
	confirmed map[string]string // secrets of the confirms with a 200, by account
	refused   int               // confirms with a 503
	verified  map[string]string // codes of the sign-ins with a 200, by account
	reusable  int               // codes that were accepted twice
}

func (e *enrolments) run(ctx context.Context) {
	for ctx.Err() == nil {
		account := fmt.Sprint("person-", e.tried.Add(1))
		fields := asUser(e.t, account)
		secret := secretPattern.FindString(e.post(fields).body)
		if secret == "" {
			continue
		}
		switch got := e.call(confirm(e.t, secret, 0), fields); got.status {
		case http.StatusOK:
			e.confirmed[account] = secret
			if code := codesAt(e.t, secret, 1, 1)[0]; e.call(verify(account, code), e.service).status == http.StatusOK {
				e.verified[account] = code
			}
		case http.StatusServiceUnavailable:
			e.refused++
		case http.StatusBadRequest: // The pending secret is lost.
		default:
			e.t.Errorf("confirm = %d %s", got.status, got.body)
		}
	}
}

// verify returns the number of confirmed factors that are lost. A lost one leaves its pending
// secret, or nothing: the person can enrol again.
func (e *enrolments) verify(t *testing.T) (lost int) {
	t.Helper()
	for account, secret := range e.confirmed {
		fields := asUser(t, account)
		if got := e.call(callInfo, fields); got.status != http.StatusOK {
			t.Errorf("info of %s = %d %s", account, got.status, got.body)
		} else if !strings.Contains(got.body, `"totp_enabled":true`) {
			lost++
			if key, _ := e.generate(fields); key.Secret != secret && e.call(confirm(t, secret, 0), fields).status != http.StatusBadRequest {
				t.Errorf("%s has a factor again, and another pending secret", account)
			}
		} else if code := e.verified[account]; code != "" && e.call(verify(account, code), e.service).status == http.StatusOK {
			e.reusable++
		}
	}
	return lost
}

// underLoad starts an instance on the Redis at url, 20 callers and the enrolments. It returns
// after a second without failures.
func underLoad(t *testing.T, url string, settings ...string) (h *history, e *enrolments, stop func()) {
	t.Helper()
	s := startInstance(t, testEnviron(nil, append(settings, "MFA_REDIS_URL="+url, "MFA_STORE_ID="+initStore(url))...))
	storetest.Eventually(t, func() bool { return s.post(asUser(t, "first")).status == http.StatusOK })
	h, e = newHistory(), &enrolments{instance: s, service: http.Header{"X-Service-Key": {s.newServiceKey()}}, confirmed: map[string]string{}, verified: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() { h.drive(ctx, []*instance{s}, 20, 200) })
	load.Go(func() { e.run(ctx) })
	start := time.Now()
	storetest.Eventually(t, func() bool { _, _, settled := h.outage(start); return settled })
	return h, e, func() { cancel(); load.Wait() }
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

// Slots move with their entries from one primary to another. Callers who want a pending secret see
// no failure, and no factor is lost.
func TestFailover_MovedSlotsCostNoCall(t *testing.T) {
	t.Parallel()
	cluster := storetest.StartCluster(t)
	h, e, stop := underLoad(t, cluster.URL)
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
	lost := h.verify(t) + e.verify(t)
	if moved == 0 || n > 0 && h.stalled < 50*time.Millisecond || lost > 0 {
		t.Errorf("%d slots moved, %d calls failed, %d secrets lost; want some, none and none", moved, n, lost)
	}
	t.Logf("%d slots moved during %d calls, slowest response %v; %d of %d confirms had a 503",
		moved, len(h.all(time.Time{})), h.slowest().Round(time.Millisecond), e.refused, e.refused+len(e.confirmed))
}
