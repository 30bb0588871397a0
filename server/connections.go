package main

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// reservedFiles are those that are open beside the API's connections: to Redis, the
	// admin listener's, and the program's own.
	reservedFiles = 256

	// maxAdmin is how many connections the admin listener has. Those that look at a replica
	// are few, and whoever else reaches it must not take the API's files.
	maxAdmin = 64
)

// boundedListener has no more than so many connections open at once, because each of
// them costs memory, whether or not it ever sends anything. One too many is closed at
// once: a gateway then tries another replica, where one that were left in the kernel's
// queue would count as accepted and never be answered.
type boundedListener struct {
	net.Listener
	most    int64
	open    atomic.Int64
	refused atomic.Int64
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
	return &boundedListener{Listener: listener, most: most}
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
			return &countedConnection{tcp, sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		l.refused.Add(1)
		_ = connection.Close() // nothing was promised to anybody
	}
}

// countedConnection has all of a TCP connection's methods: without CloseWrite, what
// net/http refuses to read to the end would have its answer lost on the way.
type countedConnection struct {
	*net.TCPConn
	closed func()
}

// Close implements net.Conn.
func (c *countedConnection) Close() error {
	defer c.closed()
	return c.TCPConn.Close()
}
