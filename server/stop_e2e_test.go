package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/store/storetest"
)

// hold begins a request whose body does not come. The service waits a second for it. hold
// returns when the service waits, and tells whether the connection was refused.
func (s *instance) hold() (refused bool) {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	s.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: h\r\nAuthorization: %s\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
		generatePath, asUser(s.t, "ada").Get("Authorization"))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && line != "HTTP/1.1 100 Continue\r\n" {
		s.t.Errorf("%q; want 100 Continue", line)
	}
	return false
}

func TestServe_StopsInSteps(t *testing.T) {
	t.Parallel()
	s := startProcess(t, testEnviron(storetest.StartRedis(t), "MFA_DRAIN=1s"))
	storetest.Eventually(t, func() bool { return s.admin("/readyz").status == http.StatusOK })
	s.signal(syscall.SIGTERM)
	storetest.Eventually(t, func() bool { return s.admin("/readyz").status == http.StatusServiceUnavailable })
	for _, path := range []string{"/livez", "/metrics"} {
		if got := s.admin(path); got.status != http.StatusOK {
			t.Errorf("%s = %d while draining; want 200", path, got.status)
		}
	}
	if got := s.post(asUser(t, "ada")); got.status != http.StatusOK || !got.closes {
		t.Errorf("%d, closes %t while draining; want 200 and the connection closed", got.status, got.closes)
	}
	storetest.Eventually(t, s.hold)
	if got := s.admin("/readyz"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, `"error":"stopping"`) {
		t.Errorf("/readyz = %d %s while requests finish; want 503, stopping", got.status, got.body)
	}
	if status := s.wait(); status != 0 {
		t.Errorf("exit status %d; want 0", status)
	}
}

func TestServe_ClosesIdleConnectionsAfterTheSetting(t *testing.T) {
	t.Parallel()
	s := startInstance(t, testEnviron(storetest.StartRedis(t), "MFA_IDLE_TIMEOUT=1s"))
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if text, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 404 ") {
		t.Errorf("%q, %v; want a 404, and then the connection closed", text, err)
	}
}

func TestServe_EndsAtSecondSignal(t *testing.T) {
	t.Parallel()
	s := startProcess(t, testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1", "MFA_DRAIN=5m"))
	s.status = -1 // ended by a signal
	s.signal(syscall.SIGTERM)
	storetest.Eventually(t, func() bool { return len(s.logLines("stopping")) == 1 })
	ended := make(chan int, 1)
	go func() { ended <- s.wait() }()
	// main may not have handled the first signal yet, so that the next one is lost.
	for range 10 {
		s.signal(syscall.SIGTERM)
		select {
		case status := <-ended:
			if status != -1 {
				t.Errorf("exit status %d; want -1", status)
			}
			s.log = &output{} // its last line is not JSON
			return
		case <-time.After(2 * time.Second):
		}
	}
	t.Error("the process has not ended after a second signal")
}

// MFA_STOP_TIMEOUT cannot be shorter than a request: this test passes a shorter one to serve.
func TestServe_CutsOffRequestsAfterStopTimeout(t *testing.T) {
	t.Parallel()
	environ := testEnviron(storetest.StartRedis(t))
	s := startWith(t, environ, func(ctx context.Context, stdout, stderr io.Writer) int {
		settings, err := config.LoadServe(environ, nil, nil, false)
		if err != nil {
			t.Error(err)
			return exitUsage
		}
		settings.StopTimeout = time.Millisecond
		a := &app{environ: environ, stdout: stdout, stderr: stderr, now: time.Now}
		if err := a.serve(ctx, settings, nil, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("serve = %v; want %v", err, context.DeadlineExceeded)
		}
		return 0
	})
	s.hold()
	s.stop()
}

func TestServe_SurvivesClosedLog(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
	program := exec.CommandContext(t.Context(), os.Args[0], "serve")
	program.Env = append(testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1", "MFA_LISTEN="+address), asProgram+"=1")
	program.Stderr = writer
	if err := errors.Join(program.Start(), writer.Close()); err != nil {
		t.Fatal(err)
	}
	post := func() (status int) {
		response, err := http.Post("http://"+address+generatePath, "", http.NoBody)
		if err != nil {
			return 0
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	storetest.Eventually(t, func() bool { return post() == http.StatusUnauthorized })
	reader.Close()
	for range 10 {
		if status := post(); status != http.StatusUnauthorized {
			t.Errorf("%d with a closed log; want 401", status)
		}
	}
	if err := errors.Join(program.Process.Signal(syscall.SIGTERM), program.Wait()); err != nil {
		t.Errorf("%v; want exit status 0", err)
	}
}

// callAtRate sends requests at a rate a second while proceed says so, over connections that
// are kept alive for ten requests. It returns the number of requests, and of responses 200.
func (s *instance) callAtRate(rate int, proceed func() bool, header http.Header) (sent, ok int64) {
	transport := &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	var running sync.WaitGroup
	var succeeded atomic.Int64
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for ; proceed(); sent++ {
		<-ticker.C
		closes := sent%10 == 9
		running.Go(func() {
			r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+generatePath, http.NoBody)
			if err != nil {
				s.t.Error(err)
				return
			}
			r.Header, r.Close = header, closes
			response, err := client.Do(r)
			if err != nil {
				s.t.Errorf("request lost: %v", err)
				return
			}
			defer response.Body.Close()
			if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
				s.t.Errorf("%s, %v; want 200", response.Status, err)
				return
			}
			succeeded.Add(1)
		})
	}
	running.Wait()
	return sent, succeeded.Load()
}

// A gateway that observes /readyz loses no request to a stop.
func TestServe_LosesNoRequestWhenStopping(t *testing.T) {
	t.Parallel()
	s := startProcess(t, testEnviron(storetest.StartRedis(t), "MFA_DRAIN=2s"))
	var ready atomic.Bool
	ready.Store(true)
	time.AfterFunc(500*time.Millisecond, func() {
		s.signal(syscall.SIGTERM)
		for s.admin("/readyz").status == http.StatusOK {
			time.Sleep(50 * time.Millisecond)
		}
		ready.Store(false)
	})
	sent, ok := s.callAtRate(200, ready.Load, asUser(t, "ada"))
	if status := s.wait(); status != 0 {
		t.Errorf("exit status %d; want 0", status)
	}
	if ok != sent || sent < 50 {
		t.Errorf("%d of %d requests succeeded; want all, and 50 at least", ok, sent)
	}
}
