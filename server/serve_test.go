package main

import (
	"context"
	"net"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// SIGTERM may come before the listeners are open. The service then starts, and stops in order.
func TestServe_StopsInOrderWhenStoppedDuringStartUp(t *testing.T) {
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	stop, cancel := context.WithCancel(t.Context())
	cancel()
	log := &output{}
	status := run(stop, []string{"serve"}, append(testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1", "MFA_LISTEN=localhost:0"),
		"NOTIFY_SOCKET="+socket.LocalAddr().String(), "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"), log, log)
	if status != 0 || !strings.HasSuffix(log.String(), `"msg":"stopped"}`+"\n") {
		t.Errorf("exit status %d; want 0 and the record stopped\n%s", status, log)
	}
	for _, want := range []string{"READY=1", "STOPPING=1\n"} {
		datagram := make([]byte, 100)
		_ = socket.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := socket.Read(datagram); err != nil || !strings.HasPrefix(string(datagram[:n]), want) {
			t.Errorf("%q, %v; want %q", datagram[:n], err, want)
		}
	}
}

// The operator's GOGC wins over ours.
func TestServe_SetsTheCollectorUnlessGOGCIsSet(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	for _, c := range []struct {
		environ []string
		want    int
	}{{[]string{"GOGC=off"}, 100}, {nil, 400}} {
		(&app{environ: c.environ}).configureRuntime()
		if got := debug.SetGCPercent(100); got != c.want {
			t.Errorf("with %q the collector runs at %d %%; want %d", c.environ, got, c.want)
		}
	}
}
