package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// Limits of a connection. A request is a few hundred bytes, and its response takes
// milliseconds: a slower client only takes connections from others.
const (
	readTimeout  = 5 * time.Second  // for the TLS handshake, and for header and body
	writeTimeout = 10 * time.Second // from the header's end; shorter than MFA_STOP_TIMEOUT's default

	// maxHeader is the longest header in bytes: a bearer token of 8 KiB and 2 KiB beside it.
	// net/http adds headerExtra to the limit that it is given.
	maxHeader   = 10 << 10
	headerExtra = 4 << 10

	// lateRequests is the time for requests that were on the network when the listener
	// closed. net/http would drop their connections without a response.
	lateRequests = 100 * time.Millisecond
)

// NewServer returns a server of HTTP/1.1 with our limits, and of TLS if certificate is not
// nil. It closes connections that are idle for idleTimeout. idleTimeout should be longer than
// the gateway's: if the service closes first, the gateway's next request may be lost. HTTP/2 is off: short requests, one at a time, gain nothing by it, and the limits above
// are those of HTTP/1.1.
func NewServer(handler http.Handler, certificate *Certificate, idleTimeout time.Duration, log *slog.Logger) *http.Server {
	server := &http.Server{
		Handler:        handler,
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader - headerExtra,
		Protocols:      new(http.Protocols),
		// net/http would answer OPTIONS * itself, without our headers.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(errorHandler{log.Handler()}, slog.LevelWarn),
	}
	server.Protocols.SetHTTP1(true)
	if certificate != nil {
		server.TLSConfig = certificate.config()
	}
	return server
}

// errorHandler lowers net/http's records of failed TLS handshakes to DEBUG: strangers and the
// probes of load balancers cause them.
type errorHandler struct{ slog.Handler }

// Enabled implements slog.Handler. The level is known in Handle.
func (errorHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (h errorHandler) Handle(ctx context.Context, record slog.Record) error {
	if strings.HasPrefix(record.Message, "http: TLS handshake error") {
		record.Level = slog.LevelDebug
	}
	if !h.Handler.Enabled(ctx, record.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

// Serve serves on listener until ctx is done. Then it lets requests in flight finish within
// timeout, or closes all connections at once if timeout is 0. timeout should be longer than
// 5 s: net/http waits so long for the first request of a new connection. The error says that
// serving failed or that requests were cut off.
func Serve(ctx context.Context, listener net.Listener, server *http.Server, timeout time.Duration) error {
	failed := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(listener, "", "")
			return
		}
		failed <- server.Serve(listener)
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	if timeout == 0 {
		return server.Close()
	}
	_ = errors.Join(listener.Close(), <-failed) // both say that the listener is closed
	time.Sleep(lateRequests)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return fmt.Errorf("stop: requests were cut off: %w", errors.Join(err, server.Close()))
	}
	return nil
}
