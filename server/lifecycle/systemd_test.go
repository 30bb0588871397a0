package lifecycle

import (
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// systemd is the other end of a Notifier.
type systemd struct {
	t    *testing.T
	conn *net.UnixConn
}

func newSystemd(t *testing.T, address string) systemd {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return systemd{t, conn}
}

// want compares the next datagram with a pattern and returns the pattern's groups.
func (s systemd) want(pattern string) []string {
	s.t.Helper()
	buffer := make([]byte, 1000)
	_ = s.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := s.conn.Read(buffer)
	match := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(string(buffer[:n]))
	if err != nil || match == nil {
		s.t.Errorf("%q, %v; want %s", buffer[:n], err, pattern)
		return make([]string, 10)
	}
	return match[1:]
}

// monotonic returns the time of CLOCK_MONOTONIC in microseconds.
func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

func TestNotifier_SendsStates(t *testing.T) {
	folder := t.TempDir()
	for name, address := range map[string]string{"path": filepath.Join(folder, "s"), "abstract": "@" + folder} {
		t.Run(name, func(t *testing.T) {
			socket := newSystemd(t, address)
			log, lines := newLog(slog.LevelInfo)
			notifier := NewNotifier([]string{"HOME=/", "NOTIFY_SOCKET=" + address})
			notifier.Ready(t.Context(), log)
			socket.want("READY=1")
			before := monotonic(t)
			notifier.Reloading(t.Context(), log)
			at, _ := strconv.ParseInt(socket.want(`RELOADING=1\nMONOTONIC_USEC=(\d+)`)[0], 10, 64)
			if after := monotonic(t); at < before || at > after {
				t.Errorf("MONOTONIC_USEC=%d; want from %d to %d", at, before, after)
			}
			notifier.Stopping(t.Context(), log, 21100*time.Millisecond)
			socket.want("STOPPING=1\nEXTEND_TIMEOUT_USEC=21100000")
			lines.wantLog(t, "after three notifications", "")
		})
	}
}

func TestNotifier_LogsFailures(t *testing.T) {
	full, absent := filepath.Join(t.TempDir(), "full"), filepath.Join(t.TempDir(), "absent")
	newSystemd(t, full) // reads nothing
	for address, want := range map[string]string{full: "i/o timeout", absent: "no such file or directory"} {
		log, lines := newLog(slog.LevelInfo)
		notifier, got := NewNotifier([]string{"NOTIFY_SOCKET=" + address}), ""
		for i := 0; got == "" && i < 10_000; i++ { // until the queue is full
			notifier.Ready(t.Context(), log)
			got = lines.take()
		}
		if !strings.HasPrefix(got, `level=WARN msg="systemd could not be notified" error="`) || !strings.HasSuffix(got, want+"\"\n") {
			t.Errorf("%s: log %q; want a WARN with %s", address, got, want)
		}
	}
}

func TestNotifier_DoesNothingWithoutSocket(t *testing.T) {
	for _, environ := range [][]string{nil, {"HOME=/"}, {"NOTIFY_SOCKET="}, {"MY_NOTIFY_SOCKET=/no/such"}} {
		log, lines := newLog(slog.LevelInfo)
		NewNotifier(environ).Ready(t.Context(), log)
		lines.wantLog(t, strings.Join(environ, " "), "")
	}
}
