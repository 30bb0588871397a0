//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// What the service may need, however much there is to do.
const (
	maxPendingSize = 250 // bytes of Redis for a pending key
	maxMemory      = 64  // MiB
	maxGrowth      = 2   // MiB, after a million requests
)

// TestGrowth is `make growth`: whether a request costs the same with more replicas, more
// pending keys and after more requests.
func TestGrowth(t *testing.T) {
	mfa := build(t).mfa
	t.Run("replicas on one Redis", func(t *testing.T) {
		redis := storetest.StartRedis(t)
		compareReplicas(t, mfa, redis.URL, redis)
	})
	t.Run("replicas on a cluster", func(t *testing.T) {
		cluster := storetest.StartCluster(t)
		compareReplicas(t, mfa, cluster.URL, cluster.Primaries...)
	})
	t.Run("pending keys", func(t *testing.T) { comparePending(t, mfa) })
	t.Run("long run", func(t *testing.T) { runLong(t, mfa) })
}

// compareReplicas has more and more replicas, with as many connections each. On one machine
// they cannot do more together; each request has to cost them the same.
func compareReplicas(t *testing.T, mfa, redisURL string, redis ...*storetest.RedisServer) {
	w := workload{50, 25_000}
	hs256 := newHS256()
	environ, requests := slices.Concat(hs256.environ, environOn(redisURL)), hs256.newAccounts(t, warmUp+w.measured)
	var candidates []candidate
	for _, n := range []int{1, 2, 4} {
		candidates = append(candidates, candidate{fmt.Sprintf("%d× mfa", n), func(t testing.TB) (replicas []*process) {
			emptied(t, redis...)
			for range n {
				replicas = append(replicas, start(t, mfa, environ))
			}
			return replicas
		}, redis, requests, 200})
	}
	compare(t, w, 0, candidates...)
}

// comparePending has keys read that are among more and more of them.
func comparePending(t *testing.T, mfa string) {
	w := workload{50, 25_000}
	hs256 := newHS256()
	var candidates []candidate
	for _, n := range []int{10_000, 1_000_000, 5_000_000} {
		redis := storetest.StartRedis(t)
		fill(t, redis, n)
		distinct := min(n, warmUp+w.measured)
		candidates = append(candidates, candidate{fmt.Sprintf("%d pending", n), func(t testing.TB) []*process {
			return []*process{start(t, mfa, slices.Concat(hs256.environ, environOn(redis.URL)))}
		}, []*storetest.RedisServer{redis}, hs256.requests(t, 0, distinct, n/distinct), 200})
	}
	compare(t, w, 0, candidates...)
}

// fill makes n keys pending, for long enough, and tells what they cost Redis.
func fill(t *testing.T, redis *storetest.RedisServer, n int) {
	t.Helper()
	backend := open(t, redis.URL)
	pending := store.NewPending(backend, storetest.NewKeyring(t, sealKey), 24*time.Hour, time.Now)
	clients, before := info(t, redis, "connected_clients"), info(t, redis, "used_memory")
	pid := int(info(t, redis, "process_id"))
	cpu := cpuTime(t, pid)
	var taken atomic.Int64
	var running errgroup.Group
	for range 32 { // as many as there are connections
		running.Go(func() (err error) {
			for i := int(taken.Add(1)) - 1; i < n && err == nil; i = int(taken.Add(1)) - 1 {
				for attempt := 1; ; attempt++ { // a busy machine is late at times
					_, err = pending.GetOrCreate(context.Background(), accountName(i), storetest.NewSecret())
					if err == nil || attempt == 10 {
						break
					}
				}
			}
			return err
		})
	}
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	cpu = cpuTime(t, pid) - cpu
	backend.Close()
	// Each connection has buffers of its own.
	storetest.Eventually(t, func() bool { return info(t, redis, "connected_clients") == clients })
	size := (info(t, redis, "used_memory") - before) / float64(n)
	fmt.Fprintf(os.Stdout, "%d pending keys: %.0f B of Redis and %.1f µs of its CPU for each\n", n, size, microseconds(cpu)/float64(n))
	if size > maxPendingSize {
		t.Errorf("a pending key takes %.0f B of Redis; want at most %d", size, maxPendingSize)
	}
}

// runLong shows the memory of one process: bounded, and not growing with the requests.
func runLong(t *testing.T, mfa string) {
	const step = 250_000
	hs256, redis := newHS256(), storetest.StartRedis(t)
	servers := []*process{start(t, mfa, slices.Concat(hs256.environ, environOn(redis.URL)))}
	requests := hs256.requests(t, 0, step, 1) // before there are connections, which may not stay silent for long
	connections := dial(t, servers, 50)
	peaks := map[int]float64{}
	for sent := step; sent <= 6*step; sent += step {
		load(t, connections, requests, 0, step, 200)
		peaks[sent] = peakMemory(t, servers)
		fmt.Fprintf(os.Stdout, "%d requests: peak memory %.1f MiB\n", sent, peaks[sent])
		requests = hs256.requests(t, sent, step, 1)
	}
	if million, most := peaks[4*step], peaks[6*step]; most >= maxMemory || most-million > maxGrowth {
		t.Errorf("peak memory is %.1f MiB after a million requests and %.1f MiB in the end; want less than %d, and flat", million, most, maxMemory)
	}
}
