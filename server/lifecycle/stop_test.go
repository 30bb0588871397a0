package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	testTimeout     = 6 * time.Second
	testIdleTimeout = time.Minute
)

// serving is a call of Serve on a listener in memory.
type serving struct {
	*pipeListener
	stop   func()
	result <-chan error
}

func startServing(t *testing.T, handler http.HandlerFunc, timeout time.Duration) serving {
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	s := serving{newPipeListener(), stop, result}
	go func() {
		result <- Serve(ctx, s, NewServer(handler, nil, testIdleTimeout, slog.New(slog.DiscardHandler)), timeout)
	}()
	return s
}

// wantNoError demands that Serve has ended without an error.
func (s serving) wantNoError(t *testing.T) {
	t.Helper()
	if err := <-s.result; err != nil {
		t.Errorf("Serve = %v; want nil", err)
	}
}

func TestServe_ClosesConnectionsAfterTheIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, testTimeout)
		client := s.dial()
		defer client.Close()
		for range 3 { // each request begins the idle time anew
			client.send(t)
			client.wantStatus(t, http.StatusNoContent)
			time.Sleep(testIdleTimeout - time.Millisecond)
		}
		idle := time.Now()
		client.wantEnd(t)
		if got := time.Since(idle); got != time.Millisecond {
			t.Errorf("closed after %v more; want 1ms", got)
		}
		s.stop()
		s.wantNoError(t)
	})
}

func TestServe_FinishesRequestsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(t, func(http.ResponseWriter, *http.Request) { time.Sleep(testTimeout - time.Second) }, testTimeout)
		client := s.dial()
		defer client.Close()
		client.send(t)
		synctest.Wait()
		s.stop()
		client.wantStatus(t, http.StatusOK)
		s.wantNoError(t)
		client.wantEnd(t)
	})
}

func TestServe_ServesLateRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServing(t, func(http.ResponseWriter, *http.Request) {}, testTimeout)
		late, idle := s.dial(), s.dial()
		defer late.Close()
		defer idle.Close()
		for _, client := range []pipeClient{late, idle} {
			client.send(t)
			client.wantStatus(t, http.StatusOK)
		}
		s.stop()
		time.Sleep(lateRequests - time.Millisecond)
		select {
		case <-s.closed:
		default:
			t.Error("the listener is open after the stop")
		}
		late.send(t)
		late.wantStatus(t, http.StatusOK)
		idle.wantEnd(t)
		s.wantNoError(t)
	})
}

func TestServe_CutsOffRequestsAfterTimeout(t *testing.T) {
	for name, row := range map[string]struct {
		timeout, took time.Duration
		want          string
	}{
		"with a timeout": {testTimeout, lateRequests + testTimeout, "stop: requests were cut off: context deadline exceeded"},
		"at once":        {0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := startServing(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, row.timeout)
				client := s.dial()
				defer client.Close()
				client.send(t)
				synctest.Wait()
				start := time.Now()
				s.stop()
				err := <-s.result
				if text := errorText(err); text != row.want || time.Since(start) != row.took {
					t.Errorf("Serve = %q after %v; want %q after %v", text, time.Since(start), row.want, row.took)
				}
				if row.want != "" && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Serve = %v; want it to wrap %v", err, context.DeadlineExceeded)
				}
				client.wantEnd(t)
			})
		})
	}
}

func TestServe_ReportsFailedListener(t *testing.T) {
	listener := newPipeListener()
	listener.Close()
	err := Serve(t.Context(), listener, NewServer(http.NotFoundHandler(), nil, testIdleTimeout, slog.New(slog.DiscardHandler)), testTimeout)
	if text := errorText(err); text != "serve: use of closed network connection" {
		t.Errorf("Serve = %q; want that the listener is closed", text)
	}
}

func TestStopTime_IsSumOfSteps(t *testing.T) {
	if got, want := StopTime(5*time.Second, 12*time.Second), 17100*time.Millisecond; got != want {
		t.Errorf("StopTime = %v; want %v", got, want)
	}
}

func TestDrain_WaitsForDrainTimeAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines := newLog(slog.LevelInfo)
		stop, stopNow := context.WithCancel(t.Context())
		var stopped, ended time.Time
		go func() {
			Drain(t.Context(), stop, 5*time.Second, func() { stopped = time.Now() }, log)
			ended = time.Now()
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		if !stopped.IsZero() {
			t.Error("stopping was called before the stop")
		}
		lines.wantLog(t, "before the stop", "")
		start := time.Now()
		stopNow()
		time.Sleep(time.Hour)
		synctest.Wait()
		if stopped != start || ended.Sub(start) != 5*time.Second {
			t.Errorf("stopping was called after %v, Drain returned after %v; want 0s and 5s", stopped.Sub(start), ended.Sub(start))
		}
		lines.wantLog(t, "after the stop", "level=INFO msg=stopping drain=5s\n")
	})
}

func TestDrain_ReturnsAtOnceOnFailure(t *testing.T) {
	for name, row := range map[string]struct {
		stopFirst bool
		calls     int
	}{"before the stop": {false, 0}, "while draining": {true, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, fail := context.WithCancel(t.Context())
				stop, stopNow := context.WithCancel(t.Context())
				defer stopNow()
				if row.stopFirst {
					stopNow()
				}
				calls, ended := 0, false
				go func() {
					Drain(ctx, stop, 5*time.Minute, func() { calls++ }, slog.New(slog.DiscardHandler))
					ended = true
				}()
				synctest.Wait()
				if ended {
					t.Error("Drain has returned before the failure")
				}
				fail()
				synctest.Wait()
				if !ended || calls != row.calls {
					t.Errorf("Drain has returned: %t, stopping was called %d times; want true, %d", ended, calls, row.calls)
				}
			})
		})
	}
}

func TestCheckNotStopping_FailsOnceStopIsDone(t *testing.T) {
	stop, stopNow := context.WithCancel(t.Context())
	check := CheckNotStopping(stop)
	if err := check(t.Context()); err != nil {
		t.Errorf("before the stop: %v; want nil", err)
	}
	stopNow()
	if text := errorText(check(t.Context())); text != "stopping" {
		t.Errorf("after the stop: %q; want stopping", text)
	}
}

func TestCloseConnsWhenStopping_SetsHeaderOnceStopIsDone(t *testing.T) {
	stop, stopNow := context.WithCancel(t.Context())
	handler := CloseConnsWhenStopping(stop, http.NotFoundHandler())
	connection := func() string {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
		if w.Code != http.StatusNotFound {
			t.Errorf("status %d; want the next handler's 404", w.Code)
		}
		return strings.Join(w.Header().Values("Connection"), ", ")
	}
	if got := connection(); got != "" {
		t.Errorf("before the stop, Connection: %q; want none", got)
	}
	stopNow()
	if got := connection(); got != "close" {
		t.Errorf("after the stop, Connection: %q; want close", got)
	}
}
