package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// runCommand runs one command line. It ends a serve that should have refused its settings
// after 10 s.
func runCommand(t testing.TB, environ []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	status = run(ctx, args, environ, &out, &errs)
	return out.String(), errs.String(), status
}

func TestRun_RefusesWrongCommandLines(t *testing.T) {
	environ := []string{"MFA_REDIS_URL=redis://127.0.0.1:1"}
	create := []string{"apikey", "create", "--account", "ada", "--email", "ada@example.com"}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "usage: a command is missing; see mfa --help"},
		{[]string{"frob"}, `usage: unknown command "frob"; see mfa --help`},
		{[]string{"apikey"}, "usage: a command is missing; see mfa apikey --help"},
		{[]string{"apikey", "frob"}, `usage: unknown command "frob"; see mfa apikey --help`},
		{[]string{"account"}, "usage: a command is missing; see mfa account --help"},
		{[]string{"account", "frob"}, `usage: unknown command "frob"; see mfa account --help`},
		{[]string{"account", "reset", "ada"}, "usage: mfa account reset takes no arguments"},
		{[]string{"store"}, "usage: a command is missing; see mfa store --help"},
		{[]string{"store", "frob"}, `usage: unknown command "frob"; see mfa store --help`},
		{[]string{"store", "init", "now"}, "usage: mfa store init takes no arguments"},
		{[]string{"store", "check", "now"}, "usage: mfa store check takes no arguments"},
		{[]string{"store", "reseal", "--accept-loss"}, "usage: unknown flag: --accept-loss"},
		{[]string{"serve", "now"}, "usage: mfa serve takes no arguments"},
		{[]string{"healthcheck", "now"}, "usage: mfa healthcheck takes no arguments"},
		{[]string{"openapi", "now"}, "usage: mfa openapi takes no arguments"},
		{[]string{"version", "now"}, "usage: mfa version takes no arguments"},
		{[]string{"apikey", "list", "now"}, "usage: mfa apikey list takes no arguments"},
		{[]string{"apikey", "create", "ada"}, "usage: mfa apikey create takes no arguments"},
		{[]string{"apikey", "revoke"}, "usage: mfa apikey revoke takes one argument, the id of a key that list shows"},
		{[]string{"apikey", "revoke", "x", "y"}, "usage: mfa apikey revoke takes one argument, the id of a key that list shows"},
		{[]string{"serve", "--seal-keys=hunter2"}, "usage: unknown flag: --seal-keys"},
		{[]string{"serve", "-redis-url=redis://:hunter2@h"}, "usage: unknown flag with one dash; write --name"},
		{[]string{"MFA_REDIS_URL=redis://:hunter2@h", "serve"}, "usage: unknown command; see mfa --help"},
		{[]string{"serve", "--issuer", ""}, "settings:\n  MFA_ISSUER: the flag --issuer is empty\n  MFA_SEAL_KEYS: is required\n  MFA_STORE_ID: is required: mfa store init prints it"},
		{[]string{"openapi", "--format", "xml"}, "usage: --format must be yaml or json"},
		{[]string{"apikey", "create"}, "usage: --account must be 1 to 255 bytes of UTF-8; --email must be an e-mail address"},
		{append(create[:6:6], "--account", strings.Repeat("x", 256)), "usage: --account must be 1 to 255 bytes of UTF-8"},
		{append(create[:6:6], "--account", "\xff"), "usage: --account must be 1 to 255 bytes of UTF-8"},
		{append(create[:5:5], "Ada <ada@example.com>"), "usage: --email must be an e-mail address"},
		{append(create[:5:5], "a\u202eda@example.com"), "usage: --email must be an e-mail address"},
		{append(create[:6:6], "--expires", "59s"), "usage: --expires must be 1m to 43800h"},
		{[]string{"servicekey", "create", "--expires", "1s"}, "usage: --name must be 1 to 255 bytes that can be shown; --expires must be 1m to 43800h"},
		{append(create[:6:6], "--expires", "43800h1s"), "usage: --expires must be 1m to 43800h"},
	} {
		stdout, stderr, status := runCommand(t, environ, c.args...)
		if status != exitUsage || stdout != "" || stderr != "mfa: "+c.want+"\n" {
			t.Errorf("mfa %q: status %d, %q, %q; want %d, %q", c.args, status, stdout, stderr, exitUsage, c.want)
		}
	}
}

func TestRun_ReportsFaultySettingsAsUsage(t *testing.T) {
	for command, environ := range map[string][]string{"serve": nil, "apikey list": {"MFA_LOG_LEVEL=hunter2"}} {
		_, stderr, status := runCommand(t, environ, strings.Fields(command)...)
		if status != exitUsage || !strings.HasPrefix(stderr, "mfa: settings:\n  MFA_") || strings.Contains(stderr, "hunter2") {
			t.Errorf("mfa %s: status %d, %s; want %d and the faults", command, status, stderr, exitUsage)
		}
	}
}

// brokenOutput is a stdout on a full disk.
type brokenOutput struct{}

func (brokenOutput) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestRun_FailsIfStdoutFails(t *testing.T) {
	for _, command := range []string{"version", "openapi"} {
		var stderr bytes.Buffer
		if status := run(t.Context(), []string{command}, nil, brokenOutput{}, &stderr); status != exitFault || stderr.String() != "mfa: disk full\n" {
			t.Errorf("mfa %s: status %d, %s; want %d", command, status, &stderr, exitFault)
		}
	}
}

func TestVersion_PrintsTheGoVersion(t *testing.T) {
	stdout, stderr, status := runCommand(t, nil, "version")
	if status != 0 || stderr != "" || !regexp.MustCompile(`^mfa .*\bgo1\.\d+\S*\n$`).MatchString(stdout) {
		t.Errorf("version: status %d, %q, %q", status, stdout, stderr)
	}
}

func TestServe_HelpShowsVariablesAndFlags(t *testing.T) {
	stdout, stderr, status := runCommand(t, nil, "serve", "--help")
	for _, want := range []string{"  MFA_REDIS_URL ", "  MFA_PENDING_TTL ", "--pending-ttl ", "--dev"} {
		if status != 0 || stderr != "" || !strings.Contains(stdout, want) {
			t.Errorf("serve --help: status %d, %q; want %s in\n%s", status, stderr, want, stdout)
		}
	}
}

func TestServe_NamesTheSettingOfABusyAddress(t *testing.T) {
	busy := listenLocal(t, "127.0.0.1:0").Addr().String()
	free := listenLocal(t, "127.0.0.1:0")
	address := free.Addr().String()
	free.Close()
	for variable, environ := range map[string][]string{
		"MFA_LISTEN":       {"MFA_LISTEN=" + busy},
		"MFA_ADMIN_LISTEN": {"MFA_LISTEN=" + address, "MFA_ADMIN_LISTEN=" + busy},
	} {
		_, stderr, status := runCommand(t, environ, "serve", "--dev")
		if status != exitFault || !strings.HasSuffix(stderr, "mfa: "+variable+": listen tcp "+busy+": bind: address already in use\n") {
			t.Errorf("serve with a busy %s: status %d, %s", variable, status, stderr)
		}
	}
	listenLocal(t, address) // fails if the API's listener is still open
}

// listenLocal opens a listener for the time of the test.
func listenLocal(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}
