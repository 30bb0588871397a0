package lifecycle

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// listen returns a listener of limit and the connections that it accepts.
func listen(t *testing.T, limit int) (*Listener, <-chan net.Conn) {
	t.Helper()
	listener, err := Listen(t.Context(), "127.0.0.1:0", limit)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- conn
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		for conn := range accepted {
			conn.Close()
		}
	})
	return listener, accepted
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func wantCounts(t *testing.T, when string, l *Listener, open, refused int64) {
	t.Helper()
	if l.Open() != open || l.Refused() != refused {
		t.Errorf("%s: %d open, %d refused; want %d and %d", when, l.Open(), l.Refused(), open, refused)
	}
}

func TestListener_ClosesConnectionsBeyondLimit(t *testing.T) {
	listener, accepted := listen(t, 2)
	address := listener.Addr().String()
	dial(t, address)
	first := <-accepted
	dial(t, address)
	second := <-accepted
	defer second.Close()
	wantCounts(t, "at the limit", listener, 2, 0)

	if _, err := dial(t, address).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read beyond the limit: %v; want io.EOF", err)
	}
	wantCounts(t, "beyond the limit", listener, 2, 1)

	for range 2 { // a connection that is closed twice counts once
		_ = first.Close()
	}
	wantCounts(t, "after a close", listener, 1, 1)
	dial(t, address)
	third := <-accepted
	defer third.Close()
	wantCounts(t, "at the limit again", listener, 2, 1)
}

// net/http needs CloseWrite for a response before the end of the request.
func TestListener_AcceptsConnectionsWithCloseWrite(t *testing.T) {
	listener, accepted := listen(t, 1)
	client := dial(t, listener.Addr().String())
	server := <-accepted
	defer server.Close()
	half, ok := server.(interface{ CloseWrite() error })
	if !ok {
		t.Fatalf("%T has no CloseWrite", server)
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read after CloseWrite: %v; want io.EOF", err)
	}
}

func TestListen_FailsOnUsedAddress(t *testing.T) {
	listener, _ := listen(t, 1)
	if _, err := Listen(t.Context(), listener.Addr().String(), 1); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen = %v; want %v", err, syscall.EADDRINUSE)
	}
}

// The limit of open files belongs to the process: this test must not run in parallel.
func TestConnectionLimit_FollowsOpenFiles(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	})
	const warning = `level=WARN msg="the limit of open files allows fewer connections than MFA_MAX_CONNECTIONS" `
	for _, row := range []struct {
		files        uint64
		wanted, want int
		log          string
	}{
		{1000, 744, 744, ""},
		{1000, 745, 744, warning + "open_files=1000 connections=744\n"},
		{300, 16384, 44, warning + "open_files=300 connections=44\n"},
		{200, 16384, 1, warning + "open_files=200 connections=1\n"},
	} {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: row.files, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		log, lines := newLog(slog.LevelInfo)
		if got := ConnectionLimit(row.wanted, log); got != row.want {
			t.Errorf("%d files: ConnectionLimit(%d) = %d; want %d", row.files, row.wanted, got, row.want)
		}
		lines.wantLog(t, "ConnectionLimit", row.log)
	}
}
