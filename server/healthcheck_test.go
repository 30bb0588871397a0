package main

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
)

func TestHealthCheckAsksTheAdminListener(t *testing.T) {
	s := startService(t, testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1"))
	_, port, err := net.SplitHostPort(s.logLines("listening")[0]["admin_address"].(string))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address string
		args    []string
		status  int
		stderr  string
	}{
		{"127.0.0.1:" + port, nil, 0, ""}, // whatever is wrong with the other settings
		{":" + port, nil, 0, ""},
		{"0.0.0.0:" + port, nil, 0, ""},
		{"[::]:" + port, nil, 0, ""},
		{":" + port, []string{"--ready"}, exitFault, "mfa: http://127.0.0.1:" + port + "/readyz answers 503 Service Unavailable\n"},
		{"hunter2", nil, exitFault, "mfa: settings are faulty: settings:\n  MFA_ADMIN_LISTEN: must be host:port, or :port for all addresses\n"},
		{"127.0.0.1:1", nil, exitFault, "mfa: dial tcp 127.0.0.1:1: connect: connection refused\n"},
	} {
		check := &service{t: t, environ: []string{"MFA_ADMIN_LISTEN=" + c.address, "MFA_SEAL_KEYS=hunter2", "MFA_TYPO=x"}}
		if stdout, stderr, status := check.command(append([]string{"healthcheck"}, c.args...)...); status != c.status || stdout != "" || stderr != c.stderr {
			t.Errorf("healthcheck %q of %s: status %d, %q; want %d, %q", c.args, c.address, status, stderr, c.status, c.stderr)
		}
	}
}

func TestHealthCheckDoesNotWaitForEver(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := &service{t: t, environ: []string{"MFA_ADMIN_LISTEN=" + silent.Addr().String()}}
	if _, stderr, status := s.command("healthcheck"); status != exitFault || stderr != "mfa: context deadline exceeded\n" {
		t.Errorf("status %d, %s; want the deadline exceeded", status, stderr)
	}
}

// A proxy's answer says nothing about the service. Go asks none for 127.0.0.1, and reads
// the variable once a process.
func TestHealthCheckGoesThroughNoProxy(t *testing.T) {
	proxy := newIssuer(t, status(http.StatusOK))
	check := exec.CommandContext(t.Context(), os.Args[0], "healthcheck")
	check.Env = []string{asProgram + "=1", "HTTP_PROXY=" + proxy.URL, "MFA_ADMIN_LISTEN=255.255.255.255:1"}
	if out, err := check.CombinedOutput(); check.ProcessState.ExitCode() != exitFault || proxy.calls.Load() != 0 {
		t.Errorf("%v, %s, %d calls of the proxy; want exit status 1, and none", err, out, proxy.calls.Load())
	}
}
