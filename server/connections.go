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
	"time"

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

	// usualRequest is how many bytes of a request, in the sense of perLine, are read as they
	// come: the 4 KiB that net/http asks for at once, in 32 lines.
	usualRequest = 4<<10 + 32*perLine

	// perLine is how many bytes a line counts as beside its own. What a field, or a chunk of
	// a body, costs net/http has little to do with its size, and a thousand fit into 4 KiB.
	perLine = 64

	// fewBytes are read all the same: to wait would cost more than to read them.
	fewBytes = 256

	// largeRequests is how many bytes beyond usualRequest are read a second, for each
	// processor, and largeBurst how many at once after a while without any. To read what has
	// many lines costs net/http many times what a usual request costs, before anybody knows
	// who sends it, and a body even after a 401: fifty connections with nothing but 550
	// fields in 16 KiB would have everybody else wait twelve times as long (make overload).
	largeRequests = 10 << 20
	largeBurst    = 128 << 10
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
	large   *requestLimiter
	open    atomic.Int64
	refused atomic.Int64
}

func newBoundedListener(listener net.Listener, most int64, secure *tls.Config, log *slog.Logger) *boundedListener {
	perSecond := rate.Limit(largeRequests * runtime.GOMAXPROCS(0))
	return &boundedListener{Listener: listener, most: most, secure: secure, log: log, large: &requestLimiter{Limiter: rate.NewLimiter(perSecond, largeBurst)}}
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
		c.unsecured = tls.Server(timelyConn{tcp}, l.secure)
		c.stream = c.unsecured
	}
	return c
}

// boundedConnection is what net/http reads requests from. TLS is below it, and not above,
// where net/http would see to it, so that what it counts is what net/http has to parse.
// An http.Request's TLS is nil therefore.
type boundedConnection struct {
	stream
	listener *boundedListener
	closed   func()

	// These belong to whichever of net/http's goroutines reads.
	unsecured *tls.Conn // with its handshake to come
	read      int       // bytes of the request, and what came with it
	waited    int       // so many of them have been waited for
}

// stream is a TCP connection's or TLS's. Without CloseWrite, what net/http refuses to read
// to the end would have its answer lost on the way.
type stream interface {
	net.Conn
	CloseWrite() error
}

// Read implements net.Conn. What comes of a large request is handed on when its turn has
// come. If that would be too late, the client gets no answer, as if he had been too slow:
// net/http may read on after an error, and must not take what comes then for the next bytes.
func (c *boundedConnection) Read(p []byte) (int, error) {
	if c.unsecured != nil && !c.handshake() {
		return 0, io.EOF
	}
	n, err := c.stream.Read(p)
	c.read += n + perLine*bytes.Count(p[:n], []byte{'\n'})
	more := c.read - c.waited
	if c.read <= usualRequest || more <= fewBytes {
		return n, err
	}
	c.waited = c.read
	if c.listener.large.wait(min(more, largeBurst)) != nil {
		_ = c.Close()
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

// handshake makes the connection one of TLS. That it fails is for DEBUG alone: anybody can
// have it fail, and the probes of load balancers do all the time.
func (c *boundedConnection) handshake() (done bool) {
	err := c.unsecured.HandshakeContext(context.Background()) // net/http has set the header's deadline
	c.unsecured = nil
	if err == nil {
		return true
	}
	if mistaken, ok := errors.AsType[tls.RecordHeaderError](err); ok && mistaken.Conn != nil {
		_, _ = io.WriteString(mistaken.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nHere is HTTPS spoken, and not HTTP.\n")
	}
	c.listener.log.Debug("TLS handshake failed", "client", c.RemoteAddr().String(), "error", err.Error())
	return false
}

// Close implements net.Conn.
func (c *boundedConnection) Close() error {
	defer c.closed()
	return c.stream.Close()
}

// timelyConn ends if what is written is not through in time. net/http sees to that for its
// answers, but TLS also writes when it reads: in the handshake, and whenever a client wants
// new keys. One who then does not listen would stay for ever, and hold up the service's end.
type timelyConn struct{ *net.TCPConn }

// Write implements net.Conn.
func (c timelyConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil { //nolint:forbidigo // Deadlines are of the real clock.
		return 0, err
	}
	n, err := c.TCPConn.Write(p)
	if err != nil {
		_ = c.Close()
	}
	return n, err
}

// followRequests is an http.Server's ConnState: what is read on an idle connection is the
// next request's.
func followRequests(connection net.Conn, state http.ConnState) {
	if c, ok := connection.(*boundedConnection); ok && state == http.StateIdle {
		c.read, c.waited = 0, 0
	}
}

// requestLimiter has large requests wait for each other, in the order in which they come.
type requestLimiter struct {
	*rate.Limiter // of bytes
	waiting       atomic.Int64
}

// wait returns when so many bytes may be read. If that would take more than readTimeout it
// returns an error, and not before: whoever were sent away sooner would only be back sooner.
func (l *requestLimiter) wait(bytes int) error {
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
