//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"text/tabwriter"
	"time"

	"quiva.ai/mfa/store/storetest"
)

// warmUp is the number of requests before a measurement.
const warmUp = 5000

// workload is what every candidate of a table is given to do.
type workload struct {
	connections int // to each server
	measured    int // requests, after the warm-up
}

// candidate is a column of the table.
type candidate struct {
	name     string
	start    func(t testing.TB) []*process // anew for each measurement
	redis    []*storetest.RedisServer
	requests [][]byte // begun again where they end
	status   int      // of all answers
}

// figures are the rows of the table.
var figures = [...]string{
	"server CPU, µs a request", "Redis CPU, µs a request", "allocated, B a request", "allocations a request",
	"requests a second", "p50, µs", "p99, µs", "p99.9, µs", "peak memory, MiB",
}

// sample has one measurement's value of each figure.
type sample [len(figures)]float64

// compare measures the candidates in turn and prints the table, with ratios to the
// candidate number base for those after it.
func compare(t *testing.T, w workload, base int, candidates ...candidate) {
	t.Helper()
	samples := make([][]sample, len(candidates))
	for range *rounds {
		for i, c := range candidates {
			samples[i] = append(samples[i], w.measure(t, c))
		}
	}
	printTable(t, w, base, candidates, samples)
}

// measure measures a candidate once.
func (w workload) measure(t testing.TB, c candidate) sample {
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
	connections := dial(t, servers, w.connections*len(servers))
	load(t, connections, c.requests, 0, warmUp, c.status)

	size, objects := allocated(t, servers)
	cpu, redisCPU := cpuTime(t, pids...), cpuTime(t, redis...)
	latencies, took := load(t, connections, c.requests, warmUp, w.measured, c.status)
	cpu, redisCPU = cpuTime(t, pids...)-cpu, cpuTime(t, redis...)-redisCPU
	sizeAfter, objectsAfter := allocated(t, servers)

	n := float64(w.measured)
	slices.Sort(latencies)
	return sample{
		microseconds(cpu) / n, microseconds(redisCPU) / n, (sizeAfter - size) / n, (objectsAfter - objects) / n,
		n / took.Seconds(), percentile(latencies, 500), percentile(latencies, 990), percentile(latencies, 999), peakMemory(t, servers),
	}
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// percentile returns the least of the sorted latencies that so many in a thousand do not
// exceed.
func percentile(sorted []time.Duration, perMille int) float64 {
	return microseconds(sorted[(perMille*len(sorted)+999)/1000-1])
}

// emptied empties Redis.
func emptied(t testing.TB, servers ...*storetest.RedisServer) {
	t.Helper()
	for _, server := range servers {
		if err := server.Client.FlushAll(context.Background()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func printTable(t testing.TB, w workload, base int, candidates []candidate, samples [][]sample) {
	t.Helper()
	fmt.Fprintf(os.Stdout, "\n%s: %d requests on %d connections to each server, %d rounds\n", t.Name(), w.measured, w.connections, *rounds)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	for _, c := range candidates {
		fmt.Fprint(table, "\t", c.name)
	}
	for _, c := range candidates[base+1:] {
		fmt.Fprint(table, "\t", c.name, " / ", candidates[base].name)
	}
	fmt.Fprintln(table)
	for row, name := range figures {
		fmt.Fprint(table, name)
		for i := range candidates {
			fmt.Fprint(table, "\t", spread(eachRound(func(round int) float64 { return samples[i][round][row] })))
		}
		for i := base + 1; i < len(candidates); i++ {
			fmt.Fprint(table, "\t", spread(eachRound(func(round int) float64 { return samples[i][round][row] / samples[base][round][row] })))
		}
		fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
}

// eachRound returns a value of every round, sorted.
func eachRound(value func(round int) float64) []float64 {
	values := make([]float64, *rounds)
	for round := range values {
		values[round] = value(round)
	}
	slices.Sort(values)
	return values
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// spread is the median, and the least and the greatest.
func spread(sorted []float64) string {
	n := len(sorted)
	if n == 1 {
		return short(sorted[0])
	}
	return fmt.Sprintf("%s (%s to %s)", short(median(sorted)), short(sorted[0]), short(sorted[n-1]))
}

// short writes a number with three digits, or as many as stand before the point.
func short(x float64) string {
	decimals := 0
	for limit := 100.0; decimals < 2 && x < limit; limit /= 10 {
		decimals++
	}
	return strconv.FormatFloat(x, 'f', decimals, 64)
}
