package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifyTime bounds the wait for systemd: neither the service nor its end may hang on it.
const notifyTime = time.Second

// notify tells systemd the state of a service of Type=notify: one datagram to the
// socket that NOTIFY_SOCKET names (sd_notify(3)). Nobody else sets that variable.
func (p *process) notify(ctx context.Context, log *slog.Logger, state string) {
	for _, variable := range p.environ {
		name, address, _ := strings.Cut(variable, "=")
		if name != "NOTIFY_SOCKET" || address == "" {
			continue
		}
		if err := sendDatagram(ctx, address, state); err != nil {
			log.WarnContext(ctx, "systemd could not be notified", "error", err.Error())
		}
	}
}

// sendDatagram takes an address that begins with @ for one of the abstract namespace
// (unix(7)), as systemd does.
func sendDatagram(ctx context.Context, address, text string) error {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "unixgram", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	// A datagram waits for room in the queue of a reader who may have stopped reading.
	if err := connection.SetWriteDeadline(time.Now().Add(notifyTime)); err != nil { //nolint:forbidigo // Deadlines are of the real clock.
		return err
	}
	_, err = connection.Write([]byte(text))
	return err
}

// reloading is the state while settings are reloaded; READY=1 ends it. Type=notify-reload
// demands the time, by the clock that CLOCK_MONOTONIC names and package time hides.
func reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}

// stopping is the state until the end. systemd, which kills what takes longer than its
// TimeoutStopSec, is told how long this may take by the settings, and a little more.
func stopping(longest time.Duration) string {
	return fmt.Sprintf("STOPPING=1\nEXTEND_TIMEOUT_USEC=%d", (longest + 5*time.Second).Microseconds())
}
