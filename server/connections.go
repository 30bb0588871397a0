package main

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// reservedFiles are those that are open beside the API's connections: to Redis, the
	// admin listener's, and the program's own.
	reservedFiles = 256

	// maxAdmin is how many connections the admin listener has. Those that look at a replica
	// are few, and whoever else reaches it must not take the API's files.
	maxAdmin = 64

	// usualHeader is how many bytes of a header are read as they come: the 4 KiB that net/http
	// asks for, and what TLS adds to them. What lies beyond waits at the turnstile.
	usualHeader = 5 << 10

	// fewBytes of it are read all the same: to wait would cost more than to read them.
	fewBytes = 256

	// maxRest bounds how long a place at the turnstile rests: if the machine was held up
	// meanwhile, nobody else need be.
	maxRest = 10 * time.Millisecond

	// handshake is how many bytes of a TLS handshake are no header's: a ClientHello with a
	// post-quantum key has two KiB.
	handshake = 4 << 10
)

// boundedListener has no more than so many connections open at once, because each of
// them costs memory, whether or not it ever sends anything. One too many is closed at
// once: a gateway then tries another replica, where one that were left in the kernel's
// queue would count as accepted and never be answered.
type boundedListener struct {
	net.Listener
	most    int64
	large   *turnstile
	open    atomic.Int64
	refused atomic.Int64
}

func newBoundedListener(listener net.Listener, most int64, now func() time.Time) *boundedListener {
	return &boundedListener{Listener: listener, most: most, large: newTurnstile(now)}
}

// bound allows fewer connections than the setting says if the process may not open as
// many files. Running out of them would also keep it from Redis.
func (s settings) bound(listener net.Listener, now func() time.Time, log *slog.Logger) *boundedListener {
	most := int64(s.MaxConns)
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < uint64(most)+reservedFiles {
		most = max(int64(files.Cur)-reservedFiles, 1)
		log.Warn("the limit of open files allows fewer connections than MFA_MAX_CONNECTIONS", "open_files", files.Cur, "connections", most)
	}
	return newBoundedListener(listener, most, now)
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		open := l.open.Add(1)
		if tcp, ok := connection.(*net.TCPConn); ok && open <= l.most {
			return &boundedConnection{TCPConn: tcp, closed: sync.OnceFunc(func() { l.open.Add(-1) }), large: l.large}, nil
		}
		l.open.Add(-1)
		l.refused.Add(1)
		_ = connection.Close() // nothing was promised to anybody
	}
}

// boundedConnection has all of a TCP connection's methods: without CloseWrite, what
// net/http refuses to read to the end would have its answer lost on the way.
type boundedConnection struct {
	*net.TCPConn
	closed func()
	large  *turnstile

	// These belong to whichever of net/http's goroutines reads.
	afterHeader bool
	read        int // bytes of the header, or, after it, of anything else
	unpaid      int // of them, since the last turn

	inside atomic.Pointer[time.Time]
}

// Read implements net.Conn. To wait at the turnstile takes from the time that there is for
// the header; that it is over shows on reading on.
func (c *boundedConnection) Read(p []byte) (int, error) {
	c.leave()
	n, err := c.TCPConn.Read(p)
	c.read += n
	c.unpaid += n
	if !c.afterHeader && c.read > usualHeader && c.unpaid > fewBytes {
		c.takeTurn()
	}
	return n, err
}

// takeTurn waits at the turnstile.
func (c *boundedConnection) takeTurn() {
	since := c.large.enter()
	c.inside.Store(&since)
	c.unpaid = 0
}

// Write implements net.Conn. Whoever closes a TLS connection calls it too, at any time.
func (c *boundedConnection) Write(p []byte) (int, error) {
	c.leave()
	return c.TCPConn.Write(p)
}

// leave comes before anything that may wait for the client, or he could keep all others
// outside.
func (c *boundedConnection) leave() {
	if since := c.inside.Swap(nil); since != nil {
		c.large.leave(*since)
	}
}

// Close implements net.Conn.
func (c *boundedConnection) Close() error {
	defer c.closed()
	return c.TCPConn.Close()
}

// followHeader is an http.Server's ConnState: a header is what is read on a new or idle
// connection until it becomes active, or ends.
func followHeader(connection net.Conn, state http.ConnState) {
	encrypted, ok := connection.(*tls.Conn)
	if ok {
		connection = encrypted.NetConn()
	}
	c, bounded := connection.(*boundedConnection)
	if !bounded {
		return
	}
	c.leave()
	switch state {
	case http.StateNew:
		if ok {
			c.read = -handshake
		}
	case http.StateActive:
		c.afterHeader = true
		if c.read <= usualHeader {
			c.read = 0
		}
	case http.StateIdle:
		// With TLS, all of the next header may have come already: in the same record as the
		// one before, if that was a large one, or with the byte for which net/http waits
		// while it answers. Without TLS that is no more than 4 KiB.
		if ok && c.read > usualHeader {
			c.takeTurn()
		}
		c.afterHeader, c.read, c.unpaid = false, 0, 0
	case http.StateHijacked, http.StateClosed:
	}
}

// turnstile lets large headers through, piece by piece, in the order in which they come,
// so that all of them together get about a quarter of the processors' time, of one
// processor half. To read a header costs net/http many times what a usual request costs,
// before anybody knows who sends it: fifty connections with nothing but headers of 16 KiB
// would have everybody else wait twelve times as long as without them (make overload).
type turnstile struct {
	places  chan struct{} // taken by who is inside, or was so until just now
	waiting atomic.Int64
	now     func() time.Time
}

func newTurnstile(now func() time.Time) *turnstile {
	return &turnstile{places: make(chan struct{}, (runtime.GOMAXPROCS(0)+1)/2), now: now}
}

// enter takes a place as soon as there is one, and returns since when it has it.
func (t *turnstile) enter() (since time.Time) {
	t.waiting.Add(1)
	t.places <- struct{}{}
	t.waiting.Add(-1)
	return t.now()
}

// leave gives up a place; it is free after as much time as it was taken, or maxRest.
func (t *turnstile) leave(since time.Time) {
	time.AfterFunc(min(t.now().Sub(since), maxRest), func() { <-t.places })
}
