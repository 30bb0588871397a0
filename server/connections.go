package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	// reservedFiles are those that are open beside the API's connections: to Redis, the
	// admin listener's, and the program's own.
	reservedFiles = 256

	// maxAdmin is how many connections the admin listener has. Those that look at a replica
	// are few, and whoever else reaches it must not take the API's files.
	maxAdmin = 64

	// usualHeader is how many bytes of a header are read as they come: the 4 KiB that net/http
	// asks for, in 32 lines. Headers beyond wait for each other.
	usualHeader = 4<<10 + 32*perLine

	// perLine is how many bytes a line counts as beside its own. What a field costs net/http
	// has little to do with its size, and a thousand fit into 4 KiB.
	perLine = 64

	// fewBytes are read all the same: to wait would cost more than to read them.
	fewBytes = 256

	// largeHeaders is how many bytes of larger headers are read a second, for each processor,
	// and largeBurst how many at once after a while without any. To read a header of many fields
	// costs net/http many times what a usual request costs, before anybody knows who sends
	// it: fifty connections with nothing but 550 fields in 16 KiB would have everybody else
	// wait twelve times as long (make overload).
	largeHeaders = 10 << 20
	largeBurst   = 100 << 10
)

// boundedListener has no more than so many connections open at once, because each of
// them costs memory, whether or not it ever sends anything. One too many is closed at
// once: a gateway then tries another replica, where one that were left in the kernel's
// queue would count as accepted and never be answered.
type boundedListener struct {
	net.Listener
	most    int64
	secure  *tls.Config // nil: no TLS
	log     *slog.Logger
	large   *headerLimiter
	open    atomic.Int64
	refused atomic.Int64
}

func newBoundedListener(listener net.Listener, most int64, secure *tls.Config, log *slog.Logger) *boundedListener {
	perSecond := rate.Limit(largeHeaders * runtime.GOMAXPROCS(0))
	return &boundedListener{Listener: listener, most: most, secure: secure, log: log, large: &headerLimiter{Limiter: rate.NewLimiter(perSecond, largeBurst)}}
}

// bound allows fewer connections than the setting says if the process may not open as
// many files. Running out of them would also keep it from Redis.
func (s settings) bound(listener net.Listener, secure *tls.Config, log *slog.Logger) *boundedListener {
	most := int64(s.MaxConns)
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < uint64(most)+reservedFiles {
		most = max(int64(files.Cur)-reservedFiles, 1)
		log.Warn("the limit of open files allows fewer connections than MFA_MAX_CONNECTIONS", "open_files", files.Cur, "connections", most)
	}
	return newBoundedListener(listener, most, secure, log)
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
			return l.newConnection(tcp), nil
		}
		l.open.Add(-1)
		l.refused.Add(1)
		_ = connection.Close() // nothing was promised to anybody
	}
}

func (l *boundedListener) newConnection(tcp *net.TCPConn) *boundedConnection {
	c := &boundedConnection{stream: tcp, listener: l, closed: sync.OnceFunc(func() { l.open.Add(-1) })}
	if l.secure != nil {
		c.unsecured = tls.Server(tcp, l.secure)
		c.stream = c.unsecured
	}
	return c
}

// boundedConnection is what net/http reads requests from. TLS is below it, and not above,
// where net/http would see to it, so that what it counts is what net/http has to parse.
type boundedConnection struct {
	stream
	listener *boundedListener
	closed   func()

	// These belong to whichever of net/http's goroutines reads.
	unsecured   *tls.Conn // with its handshake to come
	afterHeader bool
	read        int // bytes of the header and what came with it, or, after it, of the last piece
	waited      int // so many of the header's have been waited for
}

// stream is a TCP connection's or TLS's. Without CloseWrite, what net/http refuses to read
// to the end would have its answer lost on the way.
type stream interface {
	net.Conn
	CloseWrite() error
}

// Read implements net.Conn. What comes of a large header is handed on when its turn has come.
func (c *boundedConnection) Read(p []byte) (int, error) {
	if c.unsecured != nil && !c.handshake() {
		return 0, io.EOF
	}
	n, err := c.stream.Read(p)
	more := n + perLine*bytes.Count(p[:n], []byte{'\n'})
	if c.afterHeader {
		c.read = more
		return n, err
	}
	c.read += more
	if !c.awaitTurn() {
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

// handshake makes the connection one of TLS. That it fails is for DEBUG alone: anybody can
// have it fail, and the probes of load balancers do all the time.
func (c *boundedConnection) handshake() (done bool) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	err := c.unsecured.HandshakeContext(ctx)
	c.unsecured = nil
	if err == nil {
		return true
	}
	if mistaken, ok := errors.AsType[tls.RecordHeaderError](err); ok && mistaken.Conn != nil {
		_, _ = io.WriteString(mistaken.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nHere is HTTPS spoken, and not HTTP.\n")
	}
	c.listener.log.DebugContext(ctx, "TLS handshake failed", "client", c.RemoteAddr().String(), "error", err.Error())
	_ = c.Close()
	return false
}

// awaitTurn waits, if what was read is much of a large header. If its turn would come too late,
// the client gets no answer, as if he had been too slow: net/http may read on after an error,
// and must not take what comes then for the header's next bytes.
func (c *boundedConnection) awaitTurn() (inTime bool) {
	more := c.read - c.waited
	if c.read <= usualHeader || more <= fewBytes {
		return true
	}
	c.waited = c.read
	if c.listener.large.wait(min(more, largeBurst)) != nil {
		_ = c.Close()
		return false
	}
	return true
}

// Close implements net.Conn.
func (c *boundedConnection) Close() error {
	defer c.closed()
	return c.stream.Close()
}

// followHeader is an http.Server's ConnState: a header is what is read on a new or idle
// connection until it becomes active, or ends.
func followHeader(connection net.Conn, state http.ConnState) {
	c, bounded := connection.(*boundedConnection)
	if !bounded {
		return
	}
	switch state {
	case http.StateActive:
		c.afterHeader, c.read = true, 0
	case http.StateIdle:
		// What was read at last, with the end of a body, may be the next header's beginning.
		c.afterHeader, c.waited = false, 0
		_ = c.awaitTurn() // too late: the connection is closed
	case http.StateNew, http.StateHijacked, http.StateClosed:
	}
}

// headerLimiter has large headers wait for each other, in the order in which they come.
type headerLimiter struct {
	*rate.Limiter // of bytes
	waiting       atomic.Int64
}

// wait returns when so many bytes may be read. If that would take more than readTimeout it
// returns an error, and not before: whoever were sent away sooner would only be back sooner.
func (l *headerLimiter) wait(bytes int) error {
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	err := l.WaitN(ctx, bytes)
	if err != nil {
		<-ctx.Done()
	}
	return err
}
