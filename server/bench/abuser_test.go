//go:build bench

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// orders tell a process of abusers what to do.
type orders struct{ Abuse, Address, Credential string }

const (
	ordersVariable = "BENCH_ABUSE"

	// arrivals is how many abusers begin in a second: that many connections are no abuse
	// by themselves.
	arrivals = 1000
)

// begin has clients begin their abuse and waits until all of them are at it; end ends it
// and tells how often they got what. They are a process of their own, which yields to
// the others: that those far away are at work is not what slows good callers down.
func (a abuse) begin(t testing.TB, address, credential string) (end func() map[string]int) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(orders{a.name, address, credential})
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "nice", program)
	command.Env = append(os.Environ(), ordersVariable+"="+string(text))
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	reports := json.NewDecoder(output)
	if err := reports.Decode(new(string)); err != nil {
		t.Fatal(errors.Join(err, command.Wait()))
	}
	return func() (got map[string]int) {
		t.Helper()
		input.Close()
		if err := errors.Join(reports.Decode(&got), command.Wait()); err != nil {
			t.Fatal(err)
		}
		return got
	}
}

// TestMain runs the tests, or, in a process that begin has started, the abusers.
func TestMain(m *testing.M) {
	text, abusive := os.LookupEnv(ordersVariable)
	if !abusive {
		os.Exit(m.Run())
	}
	if err := obey(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// crowd are the abusers of one process.
type crowd struct {
	abuse
	orders
	begun sync.WaitGroup
	mu    sync.Mutex
	got   map[string]int
}

// obey runs abusers until standard input ends.
func obey(text string) error {
	c := crowd{got: map[string]int{}}
	if err := json.Unmarshal([]byte(text), &c.orders); err != nil {
		return err
	}
	all := abuses()
	c.abuse = all[slices.IndexFunc(all, func(a abuse) bool { return a.name == c.Abuse })]
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var running sync.WaitGroup
	c.begun.Add(c.clients)
	begin := time.Now()
	for number := range c.clients {
		running.Go(func() { c.client(ctx, number, begin.Add(time.Duration(number)*time.Second/arrivals)) })
	}
	reports := json.NewEncoder(os.Stdout)
	c.begun.Wait()
	if err := reports.Encode("begun"); err != nil {
		return err
	}
	running.Wait()
	return reports.Encode(c.got)
}

// client is one of them. Sixteen addresses have ports enough for all.
func (c *crowd) client(ctx context.Context, number int, due time.Time) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+number%16))}}
	var conn *connection
	begun := sync.OnceFunc(c.begun.Done)
	for ; ; due = due.Add(c.every) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		if conn == nil {
			dialed, err := dialer.DialContext(ctx, "tcp", c.Address)
			begun()
			if err != nil {
				c.count(ctx, errors.Unwrap(err).Error())
				continue
			}
			context.AfterFunc(ctx, func() { dialed.Close() })
			conn = &connection{Conn: dialed, answers: bufio.NewReaderSize(dialed, 512)}
		}
		got, usable := closed, false
		if err := c.attempt(conn, c.Credential); err == nil {
			got, usable = conn.outcome()
		}
		c.count(ctx, got)
		if !usable {
			conn.Close()
			conn = nil
		}
	}
}

// count notes what a client got, unless that is of our own doing.
func (c *crowd) count(ctx context.Context, got string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() == nil {
		c.got[got]++
	}
}

// outcome reads what a client got, and tells whether the connection can be used again.
func (c *connection) outcome() (got string, usable bool) {
	response, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return closed, false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return strconv.Itoa(response.StatusCode), err == nil && !response.Close
}
