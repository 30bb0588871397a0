//go:build bench

package bench

import (
	"flag"
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"quiva.ai/mfa/store/storetest"
)

var (
	goodTime     = flag.Duration("good", 5*time.Second, "how long good callers are measured in a round: without and with abuse")
	overloadTime = flag.Duration("overload", time.Minute, "how long twice the capacity is offered")
)

const (
	goodCallers = 8
	goodRate    = 200 // calls a second, of all good callers together

	// Limits for good callers under abuse: their p50 as a multiple of that in quiet, and
	// their p99 in microseconds, which varies by itself on a shared machine.
	maxSlower = 2
	maxP99    = 25_000

	// maxAcceptedSlower is the same for requests that are accepted at twice the capacity:
	// they wait for a processor together with those that are turned away.
	maxAcceptedSlower = 10

	// refusalTime is a bucket of mfa_request_duration_seconds. At least minPrompt of a
	// thousand requests that are turned away have to be in it.
	refusalTime = "0.004"
	minPrompt   = 900

	maxInFlight         = 256 // the default of MFA_MAX_IN_FLIGHT
	overloadConnections = 1000
)

// TestOverload is `make overload`: the effect of harmful clients, and of twice the
// capacity, on an instance with its default limits.
func TestOverload(t *testing.T) {
	mfa, redis := build(t).mfa, storetest.StartRedis(t)
	hs256 := newHS256()
	requests := hs256.requests(t, 0, 10_000, 1)
	environ := slices.Concat(hs256.environ, defaultEnviron(redis.URL), []string{initStore(t, redis.URL, redis)})
	for _, a := range abuses(hs256.credential(t, accountName(0))) {
		t.Run(a.name, func(t *testing.T) { a.measure(t, start(t, mfa, environ), requests) })
	}
	t.Run("twice the capacity", func(t *testing.T) { overload(t, start(t, mfa, environ), requests) })
}

// goodFigures are the figures of good callers, and the indices of some.
var goodFigures = []string{"good callers' p50, µs", "p99, µs", "longest, µs", "connections", "memory, MiB"}

const goodP50, goodP99, goodConnections = 0, 1, 3

// measureGood makes calls at the rate of good callers and returns goodFigures.
func measureGood(t testing.TB, p *process, good []*connection, requests [][]byte) []float64 {
	t.Helper()
	latencies := callSteadily(t, good, requests, *goodTime)
	return []float64{
		percentile(latencies, 500), percentile(latencies, 990), percentile(latencies, 1000),
		p.metric(t, "mfa_connections"), p.memory(t, "VmRSS"),
	}
}

// callSteadily makes calls at goodRate, whatever their latency, and returns the latencies
// from the time when each call was due, sorted.
func callSteadily(t testing.TB, connections []*connection, requests [][]byte, d time.Duration) []time.Duration {
	t.Helper()
	latencies := make([]time.Duration, int(d.Seconds()*goodRate))
	begin := time.Now()
	var running errgroup.Group
	for first, c := range connections {
		running.Go(func() error {
			for i := first; i < len(latencies); i += len(connections) {
				due := begin.Add(time.Duration(i) * time.Second / goodRate)
				if early := time.Until(due); early > 0 {
					time.Sleep(early)
					due = time.Now() // a late wake-up is the generator's
				}
				if err := c.call(requests[i%len(requests)], issued); err != nil {
					return err
				}
				latencies[i] = time.Since(due)
			}
			return nil
		})
	}
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(latencies)
	return latencies
}

// overload measures the capacity, offers twice as much, and measures the capacity again.
func overload(t *testing.T, p *process, requests [][]byte) {
	load(t, dial(t, []*process{p}, goodCallers), requests, 0, 2*warmUp, issued)
	before := flood(t, p, maxInFlight, requests, 0, *goodTime)
	offered := 2 * before.rate(before.accepted)
	over := flood(t, p, overloadConnections, requests, offered, *overloadTime)
	peak := p.memory(t, "VmHWM")
	after := flood(t, p, maxInFlight, requests, 0, *goodTime)

	results := table{
		title:   fmt.Sprintf("%.0f requests a second offered on %d connections for %v, peak memory %.1f MiB", offered, overloadConnections, *overloadTime, peak),
		figures: floodFigures,
		columns: []column{{name: "capacity"}, {name: "overload"}, {name: "capacity again"}},
		ratios:  []ratio{{1, 0}},
	}
	for i, f := range []traffic{before, over, after} {
		results.add(i, f.values(t)...)
	}
	results.print(t)

	if before.overloaded+after.overloaded > 0 || over.overloaded == 0 {
		t.Errorf("turned away: %v at capacity, %v above it, %v at capacity again; want none, some and none", before.overloaded, over.overloaded, after.overloaded)
	}
	if prompt := over.prompt(t); prompt < minPrompt {
		t.Errorf("of 1000 requests that were turned away, %.0f took at most %s s; want %d", prompt, refusalTime, minPrompt)
	}
	for _, perMille := range []int{500, 990} {
		capacity := max(percentile(before.accepted, perMille), percentile(after.accepted, perMille))
		if slow := percentile(over.accepted, perMille); slow > maxAcceptedSlower*capacity {
			t.Errorf("of 1000 accepted requests, %d took at most %.0f µs, and %.0f µs at capacity; want at most %d times that", perMille, slow, capacity, maxAcceptedSlower)
		}
	}
	if most := maxMemory + float64(overloadConnections*perConnection)/1024; peak > most {
		t.Errorf("peak memory is %.1f MiB; want at most %.1f", peak, most)
	}
}

// traffic is the result of a flood.
type traffic struct {
	accepted, refused []time.Duration // latencies, sorted
	took              time.Duration
	before, after     string        // the metrics
	overloaded        float64       // the increase of mfa_overloaded_total
	cpu               time.Duration // of the service
}

// flood sends requests for the time d: rate a second, as far as connections are free, or,
// if rate is 0, the next as soon as the connection has its response.
func flood(t testing.TB, p *process, connections int, requests [][]byte, rate float64, d time.Duration) traffic {
	t.Helper()
	result := traffic{before: p.metrics(t)}
	var period time.Duration
	if rate > 0 {
		period = time.Duration(float64(connections) / rate * float64(time.Second))
	}
	var mu sync.Mutex
	var running errgroup.Group
	dialed := dial(t, []*process{p}, connections)
	cpu, begin := cpuTime(t, p.pid), time.Now()
	for number, c := range dialed {
		running.Go(func() error {
			defer c.Close()
			var accepted, refused []time.Duration
			due := begin.Add(period * time.Duration(number) / time.Duration(connections)) // evenly from the beginning
			for i := number; time.Since(begin) < d; i += connections {
				time.Sleep(time.Until(due))
				sent := time.Now()
				due = sent.Add(period)
				got, err := c.roundTrip(requests[i%len(requests)])
				switch {
				case err != nil:
					return err
				case got.is(issued):
					accepted = append(accepted, time.Since(sent))
				case got.status == http.StatusServiceUnavailable && got.retryAfter:
					refused = append(refused, time.Since(sent))
				default:
					return fmt.Errorf("%w: %d, Retry-After: %v, %q", errWrongResponse, got.status, got.retryAfter, got.body)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			result.accepted = append(result.accepted, accepted...)
			result.refused = append(result.refused, refused...)
			return nil
		})
	}
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
	result.took, result.cpu, result.after = time.Since(begin), cpuTime(t, p.pid)-cpu, p.metrics(t)
	result.overloaded = number(t, result.after, "\nmfa_overloaded_total ") - number(t, result.before, "\nmfa_overloaded_total ")
	slices.Sort(result.accepted)
	slices.Sort(result.refused)
	return result
}

// rate returns the number of requests a second.
func (r traffic) rate(latencies []time.Duration) float64 {
	return float64(len(latencies)) / r.took.Seconds()
}

// prompt returns how many of a thousand requests that were turned away took at most
// refusalTime, by the service's clock: clients also wait for the generator's processor. A
// 503 because of Redis takes longer and does not count.
func (r traffic) prompt(t testing.TB) float64 {
	t.Helper()
	const name = "\n" + `mfa_request_duration_seconds_bucket{operation="generateTotpKey",status="503",le="` + refusalTime + `"} `
	return 1000 * (number(t, r.after, name) - number(t, r.before, name)) / r.overloaded
}

var floodFigures = []string{
	"200, a second", "503, a second", "503 at MFA_MAX_IN_FLIGHT, a second", "server CPU, µs a response",
	"200, p50, µs", "200, p99, µs", "503, p50, µs", "503, p99, µs",
}

// values returns floodFigures.
func (r traffic) values(t testing.TB) []float64 {
	t.Helper()
	of := func(latencies []time.Duration, perMille int) float64 {
		if len(latencies) == 0 {
			return math.NaN()
		}
		return percentile(latencies, perMille)
	}
	return []float64{
		r.rate(r.accepted), r.rate(r.refused), r.overloaded / r.took.Seconds(),
		microseconds(r.cpu) / float64(len(r.accepted)+len(r.refused)),
		of(r.accepted, 500), of(r.accepted, 990), of(r.refused, 500), of(r.refused, 990),
	}
}
