package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// reservedFiles is the number of files for everything but the API's connections: Redis, the
// admin listener, and the program's own files.
const reservedFiles = 256

// Listener is a TCP listener with a limit on its open connections, because also an idle
// connection costs memory. It closes a connection beyond the limit at once, so that the
// gateway tries another instance. In the kernel's queue the connection would count as accepted
// and wait. Listener is safe for concurrent use.
type Listener struct {
	net.Listener
	limit   int64
	open    atomic.Int64
	refused atomic.Int64
}

// Listen listens on address for at most limit connections at a time.
func Listen(ctx context.Context, address string, limit int) (*Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Listener{Listener: listener, limit: int64(limit)}, nil
}

// ConnectionLimit returns the number of connections that the API may have: wanted, or fewer
// if the process may not open as many files. A process without free files cannot reach Redis.
func ConnectionLimit(wanted int, log *slog.Logger) int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur >= uint64(wanted)+reservedFiles {
		return wanted
	}
	limit := max(int(files.Cur)-reservedFiles, 1)
	log.Warn("the limit of open files allows fewer connections than MFA_MAX_CONNECTIONS", "open_files", files.Cur, "connections", limit)
	return limit
}

// Open returns the number of open connections.
func (l *Listener) Open() int64 { return l.open.Load() }

// Refused returns the number of connections that were closed because of the limit.
func (l *Listener) Refused() int64 { return l.refused.Load() }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			return nil, fmt.Errorf("accepted a %T; want TCP", conn)
		}
		if l.open.Add(1) <= l.limit {
			return &countedConn{TCPConn: tcp, release: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		l.refused.Add(1)
		_ = conn.Close()
	}
}

// countedConn calls release when it is closed. It embeds *net.TCPConn for CloseWrite: net/http
// uses it so that a response before the request's end reaches the client.
type countedConn struct {
	*net.TCPConn
	release func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}
