package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quiva.ai/mfa/server/lifecycle"
)

// startAdmin serves the admin endpoints of an instance that is live and not ready, on all
// addresses. It returns the port.
func startAdmin(t *testing.T) string {
	t.Helper()
	failing := lifecycle.Check{Name: "redis", Check: func(context.Context) error { return errors.New("down") }}
	readiness := lifecycle.NewReadiness([]lifecycle.Check{failing}, time.Now)
	server := httptest.NewUnstartedServer(lifecycle.NewAdmin(readiness, nil, http.NotFoundHandler()))
	server.Listener.Close()
	server.Listener = listenLocal(t, ":0")
	server.Start()
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestHealthCheck_AsksTheAdminListener(t *testing.T) {
	port := startAdmin(t)
	for _, c := range []struct {
		address string
		args    []string
		status  int
		stderr  string
	}{
		{"127.0.0.1:" + port, nil, 0, ""},
		{"localhost:" + port, nil, 0, ""},
		{":" + port, nil, 0, ""},
		{"0.0.0.0:" + port, nil, 0, ""},
		{"[::]:" + port, nil, 0, ""},
		{":" + port, []string{"--ready"}, exitFault, "mfa: get http://127.0.0.1:" + port + "/readyz: status 503 Service Unavailable\n"},
		{"hunter2", nil, exitFault, "mfa: settings:\n  MFA_ADMIN_LISTEN: must be host:port, or :port for all addresses\n"},
		{"127.0.0.1:1", nil, exitFault, "mfa: get http://127.0.0.1:1/livez: dial tcp 127.0.0.1:1: connect: connection refused\n"},
	} {
		environ := []string{"MFA_ADMIN_LISTEN=" + c.address, "MFA_SEAL_KEYS=faulty", "MFA_TYPO=x", "MFA_ADMIN_LISTENER=x"}
		stdout, stderr, status := runCommand(t, environ, append([]string{"healthcheck"}, c.args...)...)
		if status != c.status || stdout != "" || stderr != c.stderr {
			t.Errorf("healthcheck %q of %s: status %d, %q; want %d, %q", c.args, c.address, status, stderr, c.status, c.stderr)
		}
	}
}

func TestHealthCheck_ReadsTheAddressFromAFile(t *testing.T) {
	path := t.TempDir() + "/address"
	if err := os.WriteFile(path, []byte(":"+startAdmin(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, status := runCommand(t, []string{"MFA_ADMIN_LISTEN_FILE=" + path}, "healthcheck"); status != 0 {
		t.Errorf("status %d, %s", status, stderr)
	}
}

func TestHealthCheck_GivesUpAfterTwoSeconds(t *testing.T) {
	t.Parallel()
	silent := listenLocal(t, "127.0.0.1:0").Addr().String() // the kernel accepts connections, and nothing responds
	start := time.Now()
	_, stderr, status := runCommand(t, []string{"MFA_ADMIN_LISTEN=" + silent}, "healthcheck")
	if status != exitFault || stderr != "mfa: get http://"+silent+"/livez: context deadline exceeded\n" {
		t.Errorf("status %d, %s; want the deadline exceeded", status, stderr)
	}
	if elapsed := time.Since(start); elapsed < healthCheckTimeout || elapsed > 2*healthCheckTimeout {
		t.Errorf("the check took %v; want %v", elapsed, healthCheckTimeout)
	}
}

// net/http reads HTTP_PROXY once in a process, and uses no proxy for 127.0.0.1: so the test
// runs itself in another process, with an address of another kind.
func TestHealthCheck_UsesNoProxy(t *testing.T) {
	t.Parallel()
	if os.Getenv("TEST_IS_PROXIED") != "" {
		if stdout, stderr, status := runCommand(t, []string{"MFA_ADMIN_LISTEN=255.255.255.255:1"}, "healthcheck"); status != exitFault {
			t.Errorf("status %d, %s%s; want %d", status, stdout, stderr, exitFault)
		}
		return
	}
	var calls atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer proxy.Close()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	child.Env = []string{"TEST_IS_PROXIED=1", "HTTP_PROXY=" + proxy.URL}
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) || calls.Load() != 0 {
		t.Errorf("%v, %d calls of the proxy; want none\n%s", err, calls.Load(), out)
	}
}
