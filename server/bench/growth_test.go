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

// Limits for any number of requests and of pending secrets.
const (
	maxPendingSize = 250 // bytes of Redis for a pending secret
	maxMemory      = 64  // MiB of an instance, without what many connections take
	maxGrowth      = 2   // MiB, after a million requests
)

// TestGrowth is `make growth`: the cost of a request with more instances, with more
// pending secrets, and after more requests.
func TestGrowth(t *testing.T) {
	mfa := build(t).mfa
	t.Run("instances on one Redis", func(t *testing.T) {
		redis := storetest.StartRedis(t)
		compareInstances(t, mfa, redis.URL, redis)
	})
	t.Run("instances on a cluster", func(t *testing.T) {
		cluster := storetest.StartCluster(t)
		compareInstances(t, mfa, cluster.URL, cluster.Primaries...)
	})
	t.Run("pending secrets", func(t *testing.T) { comparePending(t, mfa) })
	t.Run("long run", func(t *testing.T) { runLong(t, mfa) })
}

// compareInstances measures one, two and four instances, each with as many connections.
// On one machine they do not serve more together, but a request has to cost the same.
func compareInstances(t *testing.T, mfa, redisURL string, redis ...*storetest.RedisServer) {
	w := workload{50, 25_000}
	hs256 := newHS256()
	environ, requests := slices.Concat(hs256.environ, benchEnviron(redisURL)), hs256.newAccounts(t, warmUp+w.measured)
	var candidates []candidate
	for _, n := range []int{1, 2, 4} {
		candidates = append(candidates, candidate{fmt.Sprintf("%d× mfa", n), func(t testing.TB) (instances []*process) {
			storeID := initStore(t, redisURL, redis...)
			for range n {
				instances = append(instances, start(t, mfa, environ, storeID))
			}
			return instances
		}, redis, requests, nil, issued})
	}
	compare(t, w, []ratio{{1, 0}, {2, 0}}, candidates...)
}

// comparePending measures calls that return pending secrets, among more and more others.
func comparePending(t *testing.T, mfa string) {
	w := workload{50, 25_000}
	hs256 := newHS256()
	var candidates []candidate
	for _, n := range []int{10_000, 1_000_000, 5_000_000} {
		redis := storetest.StartRedis(t)
		environ := slices.Concat(hs256.environ, benchEnviron(redis.URL), []string{initStore(t, redis.URL, redis)})
		fill(t, redis, n)
		distinct := min(n, warmUp+w.measured)
		candidates = append(candidates, candidate{fmt.Sprintf("%d pending", n), func(t testing.TB) []*process {
			return []*process{start(t, mfa, environ)}
		}, []*storetest.RedisServer{redis}, hs256.requests(t, 0, distinct, n/distinct), nil, issued})
	}
	compare(t, w, []ratio{{1, 0}, {2, 0}}, candidates...)
}

// fill stores n pending secrets that outlive the measurement, and checks their size.
func fill(t *testing.T, redis *storetest.RedisServer, n int) {
	t.Helper()
	backend := open(t, redis.URL)
	pending := store.NewPending(backend, storetest.NewKeyring(t, sealKey), 24*time.Hour, time.Now)
	clients, before := info(t, redis, "connected_clients"), info(t, redis, "used_memory")
	pid := int(info(t, redis, "process_id"))
	cpu := cpuTime(t, pid)
	var taken atomic.Int64
	var running errgroup.Group
	for range 32 { // the default number of connections to Redis
		running.Go(func() (err error) {
			for i := int(taken.Add(1)) - 1; i < n && err == nil; i = int(taken.Add(1)) - 1 {
				for range 10 { // on a busy machine Redis may exceed the client's timeout
					_, err = pending.GetOrCreate(context.Background(), accountName(i), storetest.NewSecret())
					if err == nil {
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
	// Redis has buffers for each connection.
	storetest.Eventually(t, func() bool { return info(t, redis, "connected_clients") == clients })
	size := (info(t, redis, "used_memory") - before) / float64(n)
	fmt.Fprintf(os.Stdout, "%d pending secrets: each takes %.0f B of Redis and %.1f µs of its CPU\n", n, size, microseconds(cpu)/float64(n))
	if size > maxPendingSize {
		t.Errorf("a pending secret takes %.0f B of Redis; want at most %d", size, maxPendingSize)
	}
}

// runLong checks that the memory of an instance does not grow with the requests.
func runLong(t *testing.T, mfa string) {
	const step = 250_000
	hs256, redis := newHS256(), storetest.StartRedis(t)
	servers := []*process{start(t, mfa, slices.Concat(hs256.environ, benchEnviron(redis.URL)), initStore(t, redis.URL, redis))}
	requests := hs256.requests(t, 0, step, 1) // before dial: the service closes silent connections
	connections := dial(t, servers, 50)
	peaks := map[int]float64{}
	for sent := step; sent <= 6*step; sent += step {
		load(t, connections, requests, 0, step, issued)
		peaks[sent] = peakMemory(t, servers)
		fmt.Fprintf(os.Stdout, "%d requests: peak memory %.1f MiB\n", sent, peaks[sent])
		requests = hs256.requests(t, sent, step, 1)
	}
	if million, last := peaks[4*step], peaks[6*step]; last >= maxMemory || last-million > maxGrowth {
		t.Errorf("peak memory is %.1f MiB after a million requests and %.1f MiB at the end; want less than %d MiB and at most %d MiB of growth",
			million, last, maxMemory, maxGrowth)
	}
}
