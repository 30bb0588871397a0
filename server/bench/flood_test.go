//go:build bench

package bench

import (
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"
)

// overload is twice as many requests as can be answered.
type overload struct {
	name        string
	inFlight    int           // MFA_MAX_IN_FLIGHT
	distance    time.Duration // that Redis is away, there and back
	connections int
	slower      float64 // accepted requests may take so many times what they take at capacity
}

// overloads are the two: more than may be in flight, with processors to spare, and more
// than the processors can do. In the latter case, all connections wait for an answer at any
// time. What is accepted waits its turn among what is turned away, which costs most of
// what an answer costs: net/http's reading and writing.
func overloads() []overload {
	return []overload{
		{"twice what may be in flight", 64, 20 * time.Millisecond, 500, 2},
		{"twice what the processors can do", 256, 0, 1000, 10},
	}
}

const (
	// refusalTime, in seconds, is the bucket below the 5 ms within which the service turns a
	// request away, and minPrompt how many of a thousand have to be in it. From the others
	// the generator takes the processor away.
	refusalTime = "0.004"
	minPrompt   = 900
)

// measure finds the capacity, offers twice as much, and looks at what is left.
func (o overload) measure(t *testing.T, p *process, requests [][]byte) {
	good := dial(t, []*process{p}, goodCallers)
	before := quiet(t, p, good, requests)
	full := flood(t, p, o.inFlight, requests, 0, *abuseTime)
	offered := 2 * full.rate(full.accepted)
	over := flood(t, p, o.connections, requests, offered, *overloadTime)
	over.peak = p.memory(t, "VmHWM")
	atOnce := look(t, p, good, requests)
	again := flood(t, p, o.inFlight, requests, 0, *abuseTime)
	after := quietAgain(t, p, good, requests, before)

	fmt.Fprintf(os.Stdout, "\n%s: %.0f requests a second offered on %d connections for %v; peak memory %.1f MiB\n",
		t.Name(), offered, o.connections, *overloadTime, over.peak)
	printTraffic(t, []string{fmt.Sprintf("%d at a time", o.inFlight), "overload", "again"}, full, over, again)
	fmt.Fprintln(os.Stdout)
	printConditions(t, []string{"quiet", "at once after", "quiet again"}, before, atOnce, after)

	if over.overloaded == 0 {
		t.Error("none was turned away: that was no overload")
	}
	if full.overloaded+again.overloaded > 0 {
		t.Errorf("as many as may be in flight, and turned away: %v, %v", full.overloaded, again.overloaded)
	}
	if prompt := over.prompt(t); prompt < minPrompt {
		t.Errorf("of 1000 that were turned away %.0f were within %s s; want %d", prompt, refusalTime, minPrompt)
	}
	usual := max(percentile(before.latencies, 500), percentile(after.latencies, 500))
	if slow := percentile(atOnce.latencies, 500); slow > maxSlower*usual {
		t.Errorf("at once afterwards, half of the good calls took more than %.0f µs, and %.0f µs in quiet", slow, usual)
	}
	for _, perMille := range []int{500, 990} {
		usual := max(percentile(full.accepted, perMille), percentile(again.accepted, perMille))
		if slow := percentile(over.accepted, perMille); slow > o.slower*usual {
			t.Errorf("of 1000 accepted requests %d took %.0f µs or less, and %.0f µs at capacity; want at most %v times that", perMille, slow, usual, o.slower)
		}
	}
	if most := maxMemory + float64(o.connections)*perIdle/1024 + maxHeap; over.peak > most {
		t.Errorf("peak memory is %.1f MiB; want at most %.1f", over.peak, most)
	}
}

// distant forwards to addr, so that a reply takes so much longer, and returns its own
// address.
func distant(t testing.TB, addr string, distance time.Duration) string {
	t.Helper()
	if distance == 0 {
		return addr
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	forward := func(to, from net.Conn) {
		defer to.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			time.Sleep(distance / 2)
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				client.Close()
				continue
			}
			go forward(server, client)
			go forward(client, server)
		}
	}()
	return listener.Addr().String()
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
	dialed := dial(t, []*process{p}, connections)
	cpu, begin := cpuTime(t, p.pid), time.Now() // after it: who are late come all at once, then and ever after
	for number, c := range dialed {
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
