//go:build bench

package bench

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"quiva.ai/mfa/store/storetest"
)

var (
	abuseTime    = flag.Duration("abuse", 5*time.Second, "how long each abuse is measured in a round, and the quiet before and after")
	overloadTime = flag.Duration("overload", time.Minute, "how long the overload lasts")
)

const (
	goodCallers = 8
	goodRate    = 200 // calls a second, all of them together

	// maxSlower is how many times as long as in quiet a good call may take, and p99Noise by
	// how much more the p99 may differ: that of quiet does, on a machine that others share.
	maxSlower = 2
	p99Noise  = 1.25

	// maxHeap is how many MiB of heap and stacks may be in use in quiet again beyond those
	// in quiet. The collector lets that much come together before it looks.
	maxHeap = 16
)

// TestOverload is `make overload`: what good callers notice of those who mean no good, and
// of there being too many.
func TestOverload(t *testing.T) {
	mfa, redis := build(t).mfa, storetest.StartRedis(t)
	hs256 := newHS256()
	requests := hs256.requests(t, 0, 10_000, 1)
	serve := func(t testing.TB) *process {
		return start(t, mfa, slices.Concat(hs256.environ, defaultsOn(redis.URL)))
	}
	for _, a := range abuses() {
		t.Run(a.name, func(t *testing.T) { a.measure(t, serve(t), requests) })
	}
	for _, o := range overloads() {
		t.Run(o.name, func(t *testing.T) {
			environ := defaultsOn("redis://" + distant(t, redis.Addr, o.distance))
			environ = append(environ, fmt.Sprintf("MFA_MAX_IN_FLIGHT=%d", o.inFlight))
			o.measure(t, start(t, mfa, slices.Concat(hs256.environ, environ)), requests)
		})
	}
}

// measure measures in quiet, under abuse, and in quiet again, in rounds, and compares each
// abuse with the quiet on both sides of it: the machine's own ups and downs are longer.
func (a abuse) measure(t *testing.T, p *process, requests [][]byte) {
	good := dial(t, []*process{p}, goodCallers)
	_, fields, _ := strings.Cut(string(requests[0]), "Content-Length: 0\r\n")
	got := map[string]int{}
	before := quiet(t, p, good, requests)
	var under, after, around []condition
	for last := before; len(under) < *rounds; last = after[len(after)-1] {
		end := a.begin(t, p.address, strings.TrimSuffix(fields, "\r\n"))
		under = append(under, look(t, p, good, requests))
		if a.connections > 0 {
			storetest.Eventually(t, func() bool { return p.metric(t, "mfa_connections") == a.connections })
		}
		for what, n := range end() {
			got[what] += n
		}
		storetest.Eventually(t, func() bool { return p.metric(t, "mfa_connections") == goodCallers })
		after = append(after, quietAgain(t, p, good, requests, before))
		around = append(around, together(last, after[len(after)-1]))
	}
	abused := together(under...)
	abused.memory = p.memory(t, "VmHWM")
	fmt.Fprintf(os.Stdout, "\n%s: %d clients, each again after %v; what they got in %d rounds: %v\n", t.Name(), a.clients, a.every, *rounds, got)
	printConditions(t, []string{"quiet", "abuse", "quiet again"}, before, abused, together(after...))

	for _, want := range a.got {
		if got[want] == 0 {
			t.Errorf("no abuser got %s", want)
		}
		delete(got, want)
	}
	if len(got) > 0 {
		t.Errorf("abusers got %v as well", got)
	}
	if most := maxMemory + a.memory*min(float64(a.clients), maxOpen)/1024; abused.memory > most {
		t.Errorf("peak memory is %.1f MiB; want at most %.1f", abused.memory, most)
	}
	limit := a.slower
	for _, perMille := range []int{500, 990} {
		slower := eachRound(func(round int) float64 {
			return percentile(under[round].latencies, perMille) / percentile(around[round].latencies, perMille)
		})
		fmt.Fprintf(os.Stdout, "p%d, abuse / the quiet around it: %s\n", perMille/10, spread(slower))
		if median(slower) > limit {
			t.Errorf("good callers' p%d is %s times that in the quiet around it; want at most %v times", perMille/10, spread(slower), limit)
		}
		limit *= p99Noise
	}
}

// condition is how the service and its good callers are doing.
type condition struct {
	latencies                                 []time.Duration // sorted
	connections, goroutines, memory, heapSize float64         // sizes in MiB
}

// together has the calls of all of them, and is otherwise the last.
func together(all ...condition) condition {
	var calls []time.Duration
	for _, c := range all {
		calls = append(calls, c.latencies...)
	}
	slices.Sort(calls)
	last := all[len(all)-1]
	last.latencies = calls
	return last
}

// quiet has the service work for a while, and looks.
func quiet(t testing.TB, p *process, good []*connection, requests [][]byte) condition {
	t.Helper()
	load(t, good, requests, 0, 2*warmUp, 200)
	return look(t, p, good, requests)
}

func look(t testing.TB, p *process, good []*connection, requests [][]byte) condition {
	t.Helper()
	return condition{
		callSteadily(t, good, requests, *abuseTime),
		p.metric(t, "mfa_connections"), p.metric(t, "go_goroutines"), p.memory(t, "VmRSS"), p.heapSize(t),
	}
}

// quietAgain checks that nothing is left of what came since the first quiet. Without work
// the collector would look after two minutes.
func quietAgain(t testing.TB, p *process, good []*connection, requests [][]byte, before condition) condition {
	t.Helper()
	storetest.Eventually(t, func() bool { return p.metric(t, "go_goroutines") <= before.goroutines })
	for calls := 0; p.heapSize(t) > before.heapSize+maxHeap; calls += warmUp {
		if calls > 20*warmUp {
			t.Errorf("after %d calls %.1f MiB of heap and stacks are in use, where it was %.1f MiB in quiet", calls, p.heapSize(t), before.heapSize)
			break
		}
		load(t, good, requests, 0, warmUp, 200)
	}
	return look(t, p, good, requests)
}

// heapSize returns what heap and stacks have in use, in MiB.
func (p *process) heapSize(t testing.TB) float64 {
	t.Helper()
	return (p.metric(t, "go_memstats_heap_alloc_bytes") + p.metric(t, "go_memstats_stack_inuse_bytes")) / (1 << 20)
}

// printConditions prints them with their ratios to the first.
func printConditions(t testing.TB, names []string, conditions ...condition) {
	t.Helper()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	for _, name := range names {
		fmt.Fprint(table, "\t", name)
	}
	for _, name := range names[1:] {
		fmt.Fprint(table, "\t", name, " / ", names[0])
	}
	fmt.Fprintln(table)
	for _, row := range []struct {
		name  string
		value func(condition) float64
	}{
		{"good callers' p50, µs", func(c condition) float64 { return percentile(c.latencies, 500) }},
		{"p99, µs", func(c condition) float64 { return percentile(c.latencies, 990) }},
		{"longest, µs", func(c condition) float64 { return percentile(c.latencies, 1000) }},
		{"connections", func(c condition) float64 { return c.connections }},
		{"goroutines", func(c condition) float64 { return c.goroutines }},
		{"heap and stacks in use, MiB", func(c condition) float64 { return c.heapSize }},
		{"memory (abuse: its peak), MiB", func(c condition) float64 { return c.memory }},
	} {
		fmt.Fprint(table, row.name)
		for _, c := range conditions {
			fmt.Fprint(table, "\t", short(row.value(c)))
		}
		for _, c := range conditions[1:] {
			fmt.Fprint(table, "\t", short(row.value(c)/row.value(conditions[0])))
		}
		fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
}

// callSteadily makes calls at the good callers' rate, whatever they take, and returns what
// each took since it was due.
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
					due = time.Now() // that we wake late is not the service's fault
				}
				if err := c.call(requests[i%len(requests)], 200); err != nil {
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
