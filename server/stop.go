package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// The end begins with SIGTERM or SIGINT:
//
//  1. At once /readyz answers 503 (staying), and every answer of the API asks its
//     client to close the connection (farewell). Requests are still taken, so that
//     gateways have the time to notice: MFA_DRAIN.
//  2. Connections are no longer accepted, idle ones are closed, and requests in flight
//     finish, within MFA_STOP_TIMEOUT (serveHTTP).
//  3. All else ends, the admin listener with it.
//
// If any of it hangs, the process ends all the same (endAnyway). A second signal ends it at
// once (main.go).

// lastRequests is how long those that were on their way when connections were no longer
// accepted have to arrive: net/http would drop them without an answer.
const lastRequests = 100 * time.Millisecond

// longestEnd is how long all of the end may take.
func (s settings) longestEnd() time.Duration {
	return time.Duration(s.Drain) + lastRequests + time.Duration(s.StopTimeout) + flushTime
}

// endAnyway ends the process a second after the longest end there may be, unless ended is
// done by then. A log whose reader hangs, for example, holds up whoever writes to it.
func endAnyway(ended, stop context.Context, longest time.Duration) {
	select {
	case <-stop.Done():
	case <-ended.Done():
		return
	}
	select {
	case <-time.After(longest + time.Second):
		os.Exit(exitFault) //nolint:forbidigo // main.go cannot: it waits for what hangs.
	case <-ended.Done():
	}
}

// drain waits for the signal, and then until gateways had the time to notice. It
// returns at once when ctx is done: the service has failed.
func (p *process) drain(ctx context.Context, stop <-chan struct{}, s settings, log *slog.Logger) {
	select {
	case <-stop:
	case <-ctx.Done():
		return
	}
	p.notify(ctx, log, stopping(s.longestEnd()))
	log.InfoContext(ctx, "stopping", "drain", time.Duration(s.Drain).String())
	timer := time.NewTimer(time.Duration(s.Drain))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// staying is the readiness check that fails once stop is done.
func staying(stop context.Context) func(context.Context) error {
	return func(context.Context) error {
		if stop.Err() != nil {
			return errors.New("stopping")
		}
		return nil
	}
}

// farewell has clients close their connections once stop is done. One that a client
// believes in when the service closes it costs the request that is on its way.
func farewell(stop context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stop.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// serveHTTP serves until ctx is done, then lets requests in flight finish within
// timeout; if that is 0 it cuts them off.
func serveHTTP(ctx context.Context, listener net.Listener, server *http.Server, timeout time.Duration) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	if timeout == 0 {
		return server.Close()
	}
	_ = errors.Join(listener.Close(), <-failed) // each says no more than that it is closed
	time.Sleep(lastRequests)
	// ctx is done; what is in flight gets a time of its own.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return fmt.Errorf("stop: requests were cut off: %w", errors.Join(err, server.Close()))
	}
	return nil
}
