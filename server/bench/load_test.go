//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// loadTime bounds the use of a connection.
const loadTime = 30 * time.Minute

// connection is a client that waits for each response before it sends the next request.
// It reads only as much of HTTP as it takes to check a response: net/http's client would
// cost more than the server.
type connection struct {
	net.Conn
	reader *bufio.Reader
	body   []byte // of the last response
}

// dial opens n connections, spread evenly over the servers.
func dial(t testing.TB, servers []*process, n int) []*connection {
	t.Helper()
	connections := make([]*connection, n)
	for i := range connections {
		conn, err := net.Dial("tcp", servers[i%len(servers)].address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(loadTime)); err != nil {
			t.Fatal(err)
		}
		connections[i] = &connection{Conn: conn, reader: bufio.NewReader(conn)}
	}
	return connections
}

// errWrongResponse is the error for a complete response that is not the expected one.
var errWrongResponse = errors.New("wrong response")

// load sends n requests, beginning with number first, and returns the latency of each and
// the time that all took. After the last request comes the first again. Wrong responses
// fail the test without ending it.
func load(t testing.TB, connections []*connection, requests [][]byte, first, n int, want expected) (latencies []time.Duration, took time.Duration) {
	t.Helper()
	latencies = make([]time.Duration, n)
	var taken, wrong atomic.Int64
	var running errgroup.Group
	begin := time.Now()
	for _, c := range connections {
		running.Go(func() (fault error) {
			for i := int(taken.Add(1)) - 1; i < n; i = int(taken.Add(1)) - 1 {
				sent := time.Now()
				err := c.call(requests[(first+i)%len(requests)], want)
				latencies[i] = time.Since(sent)
				switch {
				case errors.Is(err, errWrongResponse):
					wrong.Add(1)
					fault = err
				case err != nil:
					return err // the connection cannot be used any more
				}
			}
			return fault
		})
	}
	err := running.Wait()
	took = time.Since(begin)
	if err != nil && !errors.Is(err, errWrongResponse) {
		t.Fatal(err)
	}
	if err != nil {
		t.Errorf("%d of %d responses were wrong, for example: %v", wrong.Load(), n, err)
	}
	return latencies, took
}

// expected is what a response has to have.
type expected struct {
	status int
	text   string // in the body
}

var (
	issued       = expected{http.StatusOK, `"secret":"`}
	unauthorized = expected{http.StatusUnauthorized, ""}
)

// call sends a request and checks the response.
func (c *connection) call(request []byte, want expected) error {
	got, err := c.roundTrip(request)
	if err == nil && !got.is(want) {
		err = fmt.Errorf("%w: %d %q", errWrongResponse, got.status, got.body)
	}
	return err
}

// response is what the checks need of one.
type response struct {
	status     int
	retryAfter bool
	body       []byte // valid until the connection's next call
}

func (r response) is(want expected) bool {
	return r.status == want.status && bytes.Contains(r.body, []byte(want.text))
}

// roundTrip sends a request and reads the response.
func (c *connection) roundTrip(request []byte) (got response, err error) {
	if _, err := c.Write(request); err != nil {
		return response{}, err
	}
	line, err := c.reader.ReadSlice('\n')
	if len(line) > len("HTTP/1.1 200") {
		got.status, _ = strconv.Atoi(string(line[len("HTTP/1.1 "):len("HTTP/1.1 200")])) // 0 is no status
	}
	length := -1
	for err == nil && len(line) > len("\r\n") {
		line, err = c.reader.ReadSlice('\n')
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
		got.retryAfter = got.retryAfter || bytes.HasPrefix(line, []byte("Retry-After: "))
	}
	if err == nil && length < 0 {
		err = fmt.Errorf("a response with status %d and without Content-Length", got.status)
	}
	if err != nil {
		return response{}, err
	}
	c.body = slices.Grow(c.body[:0], length)[:length]
	got.body = c.body
	_, err = io.ReadFull(c.reader, got.body)
	return got, err
}
