//go:build bench

package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"quiva.ai/mfa/store/storetest"
)

// warmUp is the number of requests before a measurement.
const warmUp = 5000

// monitored is how many requests of the warm-up have their commands to Redis counted.
const monitored = 500

// workload is what every candidate of a table is measured with.
type workload struct {
	connections int // to each server
	measured    int // requests, after the warm-up
}

// candidate is a column of a table.
type candidate struct {
	name     string
	start    func(t testing.TB) []*process // new processes for each measurement
	redis    []*storetest.RedisServer
	requests [][]byte // sent in this order, from the first again after the last
	prepare  preparation
	want     expected // of all responses
}

// preparation makes the requests to measure from requests to generate, before the
// measurement. It brings the accounts at p into the state that the requests are for.
type preparation func(t testing.TB, p *process, generate [][]byte) [][]byte

// commandsSent is the index of a figure.
const commandsSent = 2

// compare measures the candidates in turn, as many times as -rounds says, and prints the
// table.
func compare(t *testing.T, w workload, ratios []ratio, candidates ...candidate) table {
	t.Helper()
	results := table{
		title: fmt.Sprintf("%d requests on %d connections to each server", w.measured, w.connections),
		figures: []string{
			"server CPU, µs a request", "Redis CPU, µs a request", "commands to Redis a request", "allocated, B a request", "allocations a request",
			"requests a second", "p50, µs", "p99, µs", "p99.9, µs", "peak memory, MiB",
		},
		ratios: ratios,
	}
	for _, c := range candidates {
		results.columns = append(results.columns, column{name: c.name})
	}
	for round := range *rounds {
		for i := range candidates {
			next := (round + i) % len(candidates) // no candidate is always first
			results.add(next, w.measure(t, candidates[next])...)
		}
	}
	results.print(t)
	return results
}

// measure measures a candidate once and returns its figures.
func (w workload) measure(t testing.TB, c candidate) []float64 {
	t.Helper()
	servers := c.start(t)
	var pids, redis []int
	for _, p := range servers {
		defer p.stop()
		pids = append(pids, p.pid)
	}
	for _, server := range c.redis {
		redis = append(redis, int(info(t, server, "process_id")))
	}
	requests := c.requests
	if c.prepare != nil {
		requests = c.prepare(t, servers[0], requests)
	}
	connections := dial(t, servers, w.connections*len(servers))
	load(t, connections, requests, 0, warmUp-monitored, c.want)
	commands := sent(t, c.redis, func() { load(t, connections, requests, warmUp-monitored, monitored, c.want) })

	size, objects := allocated(t, servers)
	cpu, redisCPU := cpuTime(t, pids...), cpuTime(t, redis...)
	latencies, took := load(t, connections, requests, warmUp, w.measured, c.want)
	cpu, redisCPU = cpuTime(t, pids...)-cpu, cpuTime(t, redis...)-redisCPU
	sizeAfter, objectsAfter := allocated(t, servers)

	n := float64(w.measured)
	slices.Sort(latencies)
	return []float64{
		microseconds(cpu) / n, microseconds(redisCPU) / n, float64(commands) / monitored, (sizeAfter - size) / n, (objectsAfter - objects) / n,
		n / took.Seconds(), percentile(latencies, 500), percentile(latencies, 990), percentile(latencies, 999), peakMemory(t, servers),
	}
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// percentile returns the least latency, in microseconds, that perMille of a thousand do
// not exceed.
func percentile(sorted []time.Duration, perMille int) float64 {
	return microseconds(sorted[(perMille*len(sorted)+999)/1000-1])
}
