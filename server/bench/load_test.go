//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// loadTime bounds everything that is sent over one set of connections.
const loadTime = 30 * time.Minute

// connection is a client that waits for each answer before it sends the next request. It
// knows as much of HTTP as it takes to check an answer: net/http would cost more than
// what is measured.
type connection struct {
	net.Conn
	answers *bufio.Reader
	body    []byte // of the last answer
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
		connections[i] = &connection{Conn: conn, answers: bufio.NewReader(conn)}
	}
	return connections
}

// errWrongAnswer is an answer, but not the one that is due.
var errWrongAnswer = errors.New("wrong answer")

// load sends n requests, from number first on and beginning again where they end, and
// returns what each took and what all took. Wrong answers fail the test, which goes on.
func load(t testing.TB, connections []*connection, requests [][]byte, first, n, status int) (latencies []time.Duration, took time.Duration) {
	t.Helper()
	latencies = make([]time.Duration, n)
	var taken, wrong atomic.Int64
	var running errgroup.Group
	begin := time.Now()
	for _, c := range connections {
		running.Go(func() (fault error) {
			for i := int(taken.Add(1)) - 1; i < n; i = int(taken.Add(1)) - 1 {
				sent := time.Now()
				err := c.call(requests[(first+i)%len(requests)], status)
				latencies[i] = time.Since(sent)
				switch {
				case errors.Is(err, errWrongAnswer):
					wrong.Add(1)
					fault = err
				case err != nil:
					return err // nothing more can be read from this connection
				}
			}
			return fault
		})
	}
	err := running.Wait()
	took = time.Since(begin)
	if err != nil && !errors.Is(err, errWrongAnswer) {
		t.Fatal(err)
	}
	if err != nil {
		t.Errorf("%d of %d answers were wrong, one of them: %v", wrong.Load(), n, err)
	}
	return latencies, took
}

// call sends a request and demands an answer with this status, and with a secret if it is
// a 200.
func (c *connection) call(request []byte, status int) error {
	got, err := c.roundTrip(request)
	if err == nil && (got.status != status || status == 200 && !got.secret()) {
		err = fmt.Errorf("%w: %d %q", errWrongAnswer, got.status, got.body)
	}
	return err
}

// answer is what matters of one.
type answer struct {
	status     int
	retryAfter bool
	body       []byte // until the connection's next call
}

func (a answer) secret() bool { return bytes.Contains(a.body, []byte(`"secret":"`)) }

// roundTrip sends a request and reads the answer.
func (c *connection) roundTrip(request []byte) (got answer, err error) {
	if _, err := c.Write(request); err != nil {
		return answer{}, err
	}
	line, err := c.answers.ReadSlice('\n')
	if len(line) > len("HTTP/1.1 200") {
		got.status, _ = strconv.Atoi(string(line[len("HTTP/1.1 "):len("HTTP/1.1 200")])) // 0 is no status
	}
	length := -1
	for err == nil && len(line) > len("\r\n") {
		line, err = c.answers.ReadSlice('\n')
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
		got.retryAfter = got.retryAfter || bytes.HasPrefix(line, []byte("Retry-After: "))
	}
	if err == nil && length < 0 {
		err = fmt.Errorf("an answer with status %d and without Content-Length", got.status)
	}
	if err != nil {
		return answer{}, err
	}
	c.body = slices.Grow(c.body[:0], length)[:length]
	got.body = c.body
	_, err = io.ReadFull(c.answers, got.body)
	return got, err
}
