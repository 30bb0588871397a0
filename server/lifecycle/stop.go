package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// StopTime returns the longest time that a stop takes, without the time to send the last
// traces.
func StopTime(drain, stopTimeout time.Duration) time.Duration {
	return drain + lateRequests + stopTimeout
}

// Drain waits for stop, calls stopping, and waits for the drain time, in which gateways notice
// that /readyz fails. It returns at once when ctx is done: then the service has failed.
func Drain(ctx, stop context.Context, drain time.Duration, stopping func(), log *slog.Logger) {
	select {
	case <-stop.Done():
	case <-ctx.Done():
		return
	}
	stopping()
	log.InfoContext(ctx, "stopping", "drain", drain.String())
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// CheckNotStopping returns a readiness check that fails once stop is done.
func CheckNotStopping(stop context.Context) func(context.Context) error {
	return func(context.Context) error {
		if stop.Err() != nil {
			return errors.New("stopping")
		}
		return nil
	}
}

// CloseConnsWhenStopping adds Connection: close to every response once stop is done.
// Otherwise a client may send its next request just as we close the connection, and lose it.
func CloseConnsWhenStopping(stop context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stop.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
