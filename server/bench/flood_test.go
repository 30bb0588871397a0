//go:build bench

package bench

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	maxInFlight = 256  // MFA_MAX_IN_FLIGHT
	flooders    = 1000 // connections that offer more than there is capacity for

	// refusalTime, in seconds, is the bucket below the 5 ms within which the service turns a
	// request away, and minPrompt how many of a thousand have to be in it. From the others
	// the generator takes the processor away.
	refusalTime = "0.004"
	minPrompt   = 900
)

// measureOverload finds the capacity, offers twice as much, and looks at what is left.
func measureOverload(t *testing.T, p *process, requests [][]byte) {
	good := dial(t, []*process{p}, goodCallers)
	before := quiet(t, p, good, requests)
	few := flood(t, p, 50, requests, 0, *abuseTime)
	full := flood(t, p, maxInFlight, requests, 0, *abuseTime)
	over := flood(t, p, flooders, requests, 2*few.rate(few.accepted), *overloadTime)
	over.peak = p.memory(t, "VmHWM")
	atOnce := look(t, p, good, requests)
	again := flood(t, p, maxInFlight, requests, 0, *abuseTime)
	after := quietAgain(t, p, good, requests, before)

	fmt.Fprintf(os.Stdout, "\n%s: %.0f requests a second offered on %d connections for %v; peak memory %.1f MiB\n",
		t.Name(), 2*few.rate(few.accepted), flooders, *overloadTime, over.peak)
	printTraffic(t, []string{"50 at a time", "256", "overload", "256 again"}, few, full, over, again)
	fmt.Fprintln(os.Stdout)
	printConditions(t, []string{"quiet", "at once after", "quiet again"}, before, atOnce, after)

	if over.overloaded == 0 {
		t.Error("none was turned away: that was no overload")
	}
	if few.overloaded+full.overloaded+again.overloaded > 0 {
		t.Errorf("as many as may be in flight, and turned away: %v, %v, %v", few.overloaded, full.overloaded, again.overloaded)
	}
	if prompt := over.prompt(t); prompt < minPrompt {
		t.Errorf("of 1000 that were turned away %.0f were within %s s; want %d", prompt, refusalTime, minPrompt)
	}
	if slow, usual := percentile(over.accepted, 990), percentile(full.accepted, 990); slow > maxSlower*usual {
		t.Errorf("of 1000 accepted requests 990 took %.0f µs or less, and %.0f µs at capacity", slow, usual)
	}
	if most := maxMemory + flooders*perIdle/1024. + maxHeap; over.peak > most {
		t.Errorf("peak memory is %.1f MiB; want at most %.1f", over.peak, most)
	}
}

// traffic is what came of many requests.
type traffic struct {
	accepted, refused []time.Duration // what they took, sorted
	took              time.Duration   // all of them
	before, after     string          // the metrics
	overloaded        float64         // in mfa_overloaded_total
	cpu               time.Duration   // of the service
	peak              float64         // memory, MiB
}

// flood sends requests for some time: so many a second, as far as connections are free for
// them, or, if rate is 0, each as soon as its connection has the answer before.
func flood(t testing.TB, p *process, connections int, requests [][]byte, rate float64, d time.Duration) traffic {
	t.Helper()
	result := traffic{before: p.metrics(t)}
	var period time.Duration
	if rate > 0 {
		period = time.Duration(float64(connections) / rate * float64(time.Second))
	}
	var mu sync.Mutex
	var running errgroup.Group
	cpu, begin := cpuTime(t, p.pid), time.Now()
	for number, c := range dial(t, []*process{p}, connections) {
		running.Go(func() error {
			defer c.Close()
			var accepted, refused []time.Duration
			due := begin.Add(period * time.Duration(number) / time.Duration(connections))
			for i := number; time.Since(begin) < d; i += connections {
				time.Sleep(time.Until(due))
				sent := time.Now()
				due = sent.Add(period)
				got, err := c.roundTrip(requests[i%len(requests)])
				switch {
				case err != nil:
					return err
				case got.status == 200 && got.secret():
					accepted = append(accepted, time.Since(sent))
				case got.status == 503 && got.retryAfter:
					refused = append(refused, time.Since(sent))
				default:
					return fmt.Errorf("%w: %d, Retry-After: %v, %q", errWrongAnswer, got.status, got.retryAfter, got.body)
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

// rate returns how many there were in a second.
func (r traffic) rate(latencies []time.Duration) float64 {
	return float64(len(latencies)) / r.took.Seconds()
}

// prompt returns how many of a thousand that were too many the service itself answered
// within refusalTime. Clients see their own wait for a processor as well. A 503 for want
// of Redis takes longer than that, and does not count.
func (r traffic) prompt(t testing.TB) float64 {
	t.Helper()
	const name = "\n" + `mfa_request_duration_seconds_bucket{operation="generateTotpKey",status="503",le="` + refusalTime + `"} `
	return 1000 * (number(t, r.after, name) - number(t, r.before, name)) / r.overloaded
}

func printTraffic(t testing.TB, names []string, traffics ...traffic) {
	t.Helper()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\t"+strings.Join(names, "\t"))
	row := func(name string, value func(traffic) float64) {
		fmt.Fprint(table, name)
		for _, r := range traffics {
			fmt.Fprint(table, "\t", short(value(r)))
		}
		fmt.Fprintln(table)
	}
	row("200, a second", func(r traffic) float64 { return r.rate(r.accepted) })
	row("503, a second", func(r traffic) float64 { return r.rate(r.refused) })
	row("503 for being too many, a second", func(r traffic) float64 { return r.overloaded / r.took.Seconds() })
	row("service's CPU, µs an answer", func(r traffic) float64 {
		return microseconds(r.cpu) / float64(len(r.accepted)+len(r.refused))
	})
	for _, perMille := range []int{500, 990, 1000} {
		name := fmt.Sprintf("p%g, µs", float64(perMille)/10)
		row("200, "+name, func(r traffic) float64 { return orNaN(r.accepted, perMille) })
		row("503, "+name, func(r traffic) float64 { return orNaN(r.refused, perMille) })
	}
	row("of 1000 that were too many, answered by the service within "+refusalTime+" s", func(r traffic) float64 { return r.prompt(t) })
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
}

func orNaN(latencies []time.Duration, perMille int) float64 {
	if len(latencies) == 0 {
		return math.NaN()
	}
	return percentile(latencies, perMille)
}
