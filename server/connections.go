package main

import (
	"context"
	"crypto/tls"
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
	// asks for, and what TLS adds to them. Headers beyond wait for each other.
	usualHeader = 5 << 10

	// fewBytes of them are read all the same: to wait would cost more than to read them.
	fewBytes = 256

	// largeHeaders is how many bytes of larger headers are read a second, for each processor,
	// and largeBurst how many at once after a while without any: that is five headers of any
	// size. To read a header of many fields costs net/http many times what a usual request
	// costs, before anybody knows who sends it: fifty connections with nothing but 550 fields
	// in 16 KiB would have everybody else wait twelve times as long (make overload).
	largeHeaders = 5 << 20
	largeBurst   = 100 << 10

	// maxRecord is the most that TLS decrypts at once.
	maxRecord = 16 << 10

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
	large   *headerLimiter
	open    atomic.Int64
	refused atomic.Int64
}

func newBoundedListener(listener net.Listener, most int64) *boundedListener {
	perSecond := rate.Limit(largeHeaders * runtime.GOMAXPROCS(0))
	return &boundedListener{Listener: listener, most: most, large: &headerLimiter{Limiter: rate.NewLimiter(perSecond, largeBurst)}}
}

// bound allows fewer connections than the setting says if the process may not open as
// many files. Running out of them would also keep it from Redis.
func (s settings) bound(listener net.Listener, log *slog.Logger) *boundedListener {
	most := int64(s.MaxConns)
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil && files.Cur < uint64(most)+reservedFiles {
		most = max(int64(files.Cur)-reservedFiles, 1)
		log.Warn("the limit of open files allows fewer connections than MFA_MAX_CONNECTIONS", "open_files", files.Cur, "connections", most)
	}
	return newBoundedListener(listener, most)
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
	large  *headerLimiter

	// These belong to whichever of net/http's goroutines reads.
	afterHeader bool
	read        int // bytes of the header and what came with it, or, after it, of anything else
	waited      int // so many of the header's have been waited for
}

// Read implements net.Conn. What comes of a large header is handed on when its turn has come.
func (c *boundedConnection) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.read += n
	if !c.afterHeader && !c.awaitTurn() {
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
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
	if c.large.wait(more) != nil {
		_ = c.Close()
		return false
	}
	return true
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
	switch state {
	case http.StateNew:
		if ok {
			c.read = -handshake
		}
	case http.StateActive:
		c.afterHeader, c.read = true, 0
	case http.StateIdle:
		// What was read while net/http answered may be the next header's beginning, as much of
		// it as net/http's buffer holds; with TLS all of it may have come, in the record of
		// the byte for which net/http waits meanwhile.
		ahead := 4 << 10
		if ok {
			ahead = maxRecord
		}
		c.afterHeader, c.read, c.waited = false, min(c.read, ahead), 0
		_ = c.awaitTurn() // too late: the connection is closed
	case http.StateHijacked, http.StateClosed:
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
