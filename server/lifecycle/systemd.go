package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// notifyTimeout bounds a notification. If systemd hangs and its queue is full, the service must
// not hang too.
const notifyTimeout = time.Second

// Notifier tells systemd the state of a service of Type=notify, by datagrams to a socket
// (sd_notify(3)). The zero Notifier does nothing.
type Notifier struct{ socket string }

// NewNotifier returns a notifier for the socket that NOTIFY_SOCKET names in environ.
func NewNotifier(environ []string) Notifier {
	for _, variable := range environ {
		if socket, ok := strings.CutPrefix(variable, "NOTIFY_SOCKET="); ok {
			return Notifier{socket}
		}
	}
	return Notifier{}
}

// Ready says that the service serves.
func (n Notifier) Ready(ctx context.Context, log *slog.Logger) { n.send(ctx, log, "READY=1") }

// Reloading says that settings are being reloaded; Ready ends that state. Type=notify-reload
// requires the time of CLOCK_MONOTONIC, which package time does not show.
func (n Notifier) Reloading(ctx context.Context, log *slog.Logger) {
	state := "RELOADING=1"
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
		state += fmt.Sprintf("\nMONOTONIC_USEC=%d", now.Nano()/1000)
	}
	n.send(ctx, log, state)
}

// Stopping says that the service stops within longest. Otherwise systemd would kill it after
// TimeoutStopSec.
func (n Notifier) Stopping(ctx context.Context, log *slog.Logger, longest time.Duration) {
	n.send(ctx, log, fmt.Sprintf("STOPPING=1\nEXTEND_TIMEOUT_USEC=%d", longest.Microseconds()))
}

func (n Notifier) send(ctx context.Context, log *slog.Logger, state string) {
	if n.socket == "" {
		return
	}
	if err := sendDatagram(ctx, n.socket, state); err != nil {
		log.WarnContext(ctx, "systemd could not be notified", "error", err.Error())
	}
}

// sendDatagram sends text to a Unix socket. An address that begins with @ is in the abstract
// namespace (unix(7)).
func sendDatagram(ctx context.Context, address, text string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unixgram", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil { //nolint:forbidigo // A socket's deadline is in real time.
		return err
	}
	_, err = conn.Write([]byte(text))
	return err
}
