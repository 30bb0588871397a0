//go:build bench

package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quiva.ai/mfa/store/storetest"
)

// abuse is one kind of harmful client. Each client has a connection of its own.
type abuse struct {
	name    string
	clients int
	every   time.Duration // from an attempt of a client to its next
	attempt func(*connection) error
	want    string // every response: its status, or closed for none; empty if the connections stay open
}

const (
	closed = "closed"

	// arrivals is the number of clients that begin in a second: their connects alone are
	// to be no load.
	arrivals = 1000

	// perConnection bounds the memory of a connection, in KiB: two buffers of net/http, the
	// header's, a stack, and garbage.
	perConnection = 64
)

// abuses returns what reaches a service behind a gateway, at rates that a gateway lets
// through.
func abuses(credential string) []abuse {
	strange := strings.Repeat("X-Many: 0123456789abcdefghij\r\n", 1100) // 32 KiB
	return []abuse{
		{"slow headers", 5000, 5 * time.Second, slowHeader, closed},
		{"slow bodies", 2000, 2 * time.Second, send(requestLine + "Content-Length: 1000\r\n" + credential + "\r\n"), "200"},
		{"idle connections", 10_000, 0, idle, ""},
		{"bodies of 10 MiB", 10, time.Second, largeBody(requestLine + "Content-Length: 10485760\r\n" + credential + "\r\n"), "413"},
		{"headers of 32 KiB", 50, time.Second / 20, send(string(request(strange))), "431"},
		{"bad tokens", 50, time.Second / 20, send(string(request("Authorization: Bearer e30.e30.e30\r\n"))), "401"},
	}
}

func send(text string) func(*connection) error {
	return func(c *connection) error {
		_, err := io.WriteString(c, text)
		return err
	}
}

// slowHeader sends a byte of a header a second until the service closes the connection.
func slowHeader(c *connection) error {
	_, err := io.WriteString(c, requestLine+"X-Slow: ")
	for err == nil {
		time.Sleep(time.Second)
		_, err = io.WriteString(c, "x")
	}
	return err
}

// idle makes one call and then keeps the connection open.
func idle(c *connection) error {
	if err := c.call(request(""), unauthorized); err != nil {
		return err
	}
	_, err := c.reader.Peek(1)
	return err
}

// largeBody sends a header and then a body until the service closes the connection.
func largeBody(header string) func(*connection) error {
	return func(c *connection) error {
		_, err := io.WriteString(c, header)
		go func() {
			piece := strings.Repeat("x", 64<<10)
			var err error
			for err == nil {
				_, err = io.WriteString(c, piece)
			}
		}()
		return err
	}
}

// measure measures good callers in turn without and with the abuse, and checks the
// difference.
func (a abuse) measure(t *testing.T, p *process, requests [][]byte) {
	good := dial(t, []*process{p}, goodCallers)
	load(t, good, requests, 0, 2*warmUp, issued)
	goroutines := p.metric(t, "go_goroutines")
	results := table{
		title:   fmt.Sprintf("%d clients, %d calls a second by %d good callers", a.clients, goodRate, goodCallers),
		figures: goodFigures,
		columns: []column{{name: "quiet"}, {name: "abuse"}},
		ratios:  []ratio{{1, 0}},
	}
	got := map[string]int{}
	for range *rounds {
		results.add(0, measureGood(t, p, good, requests)...)
		end := a.begin(p.address)
		results.add(1, measureGood(t, p, good, requests)...)
		for result, n := range end() {
			got[result] += n
		}
		storetest.Eventually(t, func() bool {
			return p.metric(t, "mfa_connections") == goodCallers && p.metric(t, "go_goroutines") <= goroutines
		})
	}
	results.print(t)
	a.check(t, results, got)
	if peak, most := p.memory(t, "VmHWM"), maxMemory+float64(a.clients*perConnection)/1024; peak > most {
		t.Errorf("peak memory is %.1f MiB; want at most %.1f", peak, most)
	}
}

// check compares what the clients got, and what good callers noticed, with what is wanted.
func (a abuse) check(t *testing.T, results table, got map[string]int) {
	t.Helper()
	if a.want == "" {
		if open := results.values(goodConnections, 1)[0]; len(got) > 0 || open != float64(a.clients+goodCallers) {
			t.Errorf("%.0f connections are open, results %v; want %d and none", open, got, a.clients+goodCallers)
		}
	} else if n := got[a.want]; n == 0 || len(got) > 1 {
		t.Errorf("the clients got %v; want %s alone", got, a.want)
	}
	if slower := median(results.compare(goodP50, ratio{1, 0})); slower > maxSlower {
		t.Errorf("good callers' p50 is %.2f times that of quiet; want at most %d times", slower, maxSlower)
	}
	if p99 := median(results.values(goodP99, 1)); p99 > maxP99 {
		t.Errorf("good callers' p99 is %.0f µs; want at most %d", p99, maxP99)
	}
}

// begin starts the clients and returns when each has connected. end stops them and
// returns how often which result came.
func (a abuse) begin(address string) (end func() map[string]int) {
	ctx, cancel := context.WithCancel(context.Background())
	results := make(chan string)
	var begun, running sync.WaitGroup
	begun.Add(a.clients)
	for number := range a.clients {
		running.Go(func() {
			a.client(ctx, address, time.Duration(number)*time.Second/arrivals, sync.OnceFunc(begun.Done), results)
		})
	}
	counted := make(chan map[string]int)
	go func() {
		got := map[string]int{}
		for result := range results {
			got[result]++
		}
		counted <- got
	}()
	begun.Wait()
	return func() map[string]int {
		cancel()
		running.Wait()
		close(results)
		return <-counted
	}
}

// client attempts the abuse until ctx is done, over one connection for as long as the
// service leaves it open.
func (a abuse) client(ctx context.Context, address string, delay time.Duration, begun func(), results chan<- string) {
	var c *connection
	for due := time.Now().Add(delay); ; due = due.Add(a.every) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		result, open := "not connected", false
		if c == nil {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err == nil {
				context.AfterFunc(ctx, func() { conn.Close() })
				c = &connection{Conn: conn, reader: bufio.NewReader(conn)}
			}
			begun()
		}
		if c != nil {
			result, open = c.result(a.attempt)
		}
		if ctx.Err() != nil {
			return
		}
		results <- result
		if !open && c != nil {
			c.Close()
			c = nil
		}
	}
}

// result makes an attempt, reads the response, and tells whether the connection stays open.
func (c *connection) result(attempt func(*connection) error) (result string, open bool) {
	if attempt(c) != nil {
		return closed, false
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return closed, false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return strconv.Itoa(response.StatusCode), err == nil && !response.Close
}
