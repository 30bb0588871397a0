package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store/storetest"
)

var (
	smokeSteps = []string{"account has no factor", "generate a key", "generate returns the same key", "a wrong code is refused",
		"confirm", "info shows the factor", "remove", "info shows no factor"}
	signInSteps = []string{"sign-in must ask for a code", "verify a recovery code, once", "verify a code, once"}
)

// smokeTestOf runs the command against the service at url with these variables.
func smokeTestOf(t *testing.T, url string, environ []string, args ...string) (report smokeReport, stderr string, status int) {
	t.Helper()
	stdout, stderr, status := runCommand(t, environ, append([]string{"smoketest", "--json", url}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("status %d, %s: %v\n%s", status, stdout, err, stderr)
	}
	return report, stderr, status
}

func stateOf(t *testing.T, s *instance, account string) string {
	t.Helper()
	stdout, stderr, status := s.command("account", "show", "--account", account)
	if status != 0 {
		t.Fatal(stderr)
	}
	return strings.TrimPrefix(strings.Split(stdout, "\n")[1], "state: ")
}

func TestSmokeTest_PassesAndLeavesNoFactor(t *testing.T) {
	redis := storetest.SharedRedis(t)
	s, stepUp := startInstance(t, testEnviron(redis)), startInstance(t, testEnviron(redis, "MFA_STEP_UP_MAX_AGE=5m"))
	token := "TOKEN=" + newToken(t, goodClaims("smoke", jwt.MapClaims{"auth_time": time.Now().Unix()}))
	key, serviceKey := "API_KEY="+s.newAPIKey("smoke"), "SERVICE_KEY="+s.newServiceKey()
	all := slices.Insert(slices.Clone(smokeSteps), len(smokeSteps)-2, signInSteps...)
	for name, c := range map[string]struct {
		service *instance
		environ []string
		want    []string
	}{
		"with an API key":                   {s, []string{key}, smokeSteps},
		"with a token":                      {s, []string{token}, smokeSteps},
		"with an API key and a service key": {s, []string{key, serviceKey}, all},
		"with both, and step-up":            {stepUp, []string{key, token, serviceKey}, all},
	} {
		t.Run(name, func(t *testing.T) {
			report, stderr, status := smokeTestOf(t, c.service.url+"/", c.environ, "--account", "smoke")
			if diff := cmp.Diff(smokeReport{OK: true, Passed: c.want}, report); diff != "" || status != 0 || stderr != "" {
				t.Errorf("status %d, %s (-want +got)\n%s", status, stderr, diff)
			}
			if state := stateOf(t, s, "smoke"); state != "removed" {
				t.Errorf("the factor is %s after the test", state)
			}
		})
	}
	stdout, _, status := runCommand(t, []string{key}, "smoketest", s.url)
	if want := "ok  " + strings.Join(smokeSteps, "\nok  ") + "\n"; status != 0 || stdout != want {
		t.Errorf("without --json: status %d, %s; want %s", status, stdout, want)
	}
}

func TestSmokeTest_KeepsTheFactorOfARealAccount(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.SharedRedis(t)))
	const account = "real"
	s.enrol(asUser(t, account))
	environ := []string{"API_KEY=" + s.newAPIKey(account)}
	for _, state := range []string{"enrolled", "off"} {
		if state == "off" {
			s.call(callOff, asUser(t, account))
		}
		report, _, status := smokeTestOf(t, s.url, environ)
		if status != exitFault || report.Error != "account has no factor: "+errHasFactor.Error() || stateOf(t, s, account) != state {
			t.Errorf("%s: status %d, %+v; the factor is %s", state, status, report, stateOf(t, s, account))
		}
	}
}

// Without a token, step-up would refuse the removal. So the command stops before it enrols.
func TestSmokeTest_DemandsATokenBeforeItEnrolsUnderStepUp(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.SharedRedis(t), "MFA_STEP_UP_MAX_AGE=5m"))
	report, stderr, status := smokeTestOf(t, s.url, []string{"API_KEY=" + s.newAPIKey("stepped")})
	if status != exitFault || len(report.Passed) != 0 || !strings.HasPrefix(report.Error, "account has no factor: the service demands a sign-in for the removal: set TOKEN: status 403: ") ||
		stderr != "mfa: "+report.Error+"\n" {
		t.Errorf("status %d, %+v, %s", status, report, stderr)
	}
}

// A proxy in front of the service breaks one call. The command names the step, and the account has
// no factor afterwards.
func TestSmokeTest_NamesTheStepThatFailsAndCleansUp(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.SharedRedis(t)))
	key, serviceKey := s.newAPIKey("broken"), s.newServiceKey()
	for path, want := range map[string]string{
		"/accounts/user-mfa-info":             `account has no factor: status 502 (request id "R1")`,
		"/accounts/recovery-codes":            `account has no factor: status 502 (request id "R1")`,
		"/accounts/generate-totp-key":         `generate a key: status 502 (request id "R1")`,
		"/accounts/confirm-totp-registration": `a wrong code is refused: status 502 (request id "R1")`,
		"/internal/mfa-status":                `sign-in must ask for a code: status 502 (request id "R1")`,
		"/internal/verify-mfa-code":           `verify a recovery code, once: status 502 (request id "R1")`,
	} {
		t.Run(path, func(t *testing.T) {
			proxy := httptest.NewServer(breaking(t, s.url, func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != path {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("X-Request-Id", "R1")
				w.WriteHeader(http.StatusBadGateway)
				return true
			}))
			defer proxy.Close()
			report, stderr, status := smokeTestOf(t, proxy.URL, []string{"API_KEY=" + key, "SERVICE_KEY=" + serviceKey}, "--account", "broken")
			if status != exitFault || report.OK || report.Error != want || stderr != "mfa: "+want+"\n" {
				t.Errorf("status %d, %+v, %s; want %s", status, report, stderr, want)
			}
			if state := stateOf(t, s, "broken"); state != "none" && state != "removed" {
				t.Errorf("the factor is %s afterwards", state)
			}
		})
	}
}

func TestSmokeTest_SaysThatCleaningUpFailed(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.SharedRedis(t)))
	proxy := httptest.NewServer(breaking(t, s.url, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return r.Method == http.MethodDelete
	}))
	defer proxy.Close()
	report, _, status := smokeTestOf(t, proxy.URL, []string{"API_KEY=" + s.newAPIKey("stuck")})
	const want = "remove: status 503\nclean up: the account may still have the factor of this test; mfa account reset removes it: status 503"
	if status != exitFault || report.Error != want {
		t.Errorf("status %d, %+v; want %s", status, report, want)
	}
}

// The credentials must not go to another host.
func TestSmokeTest_FollowsNoRedirectAndAcceptsNoOtherServer(t *testing.T) {
	target := ""
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target+"/there", http.StatusTemporaryRedirect)
		}, "account has no factor: status 307"},
		"a page":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "account has no factor: " + errNotOurs.Error()},
		"another API": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }, "account has no factor: " + errNotOurs.Error()},
		"hostile error": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"error":"\u001b[2J"}`))
		}, `account has no factor: status 400: "\x1b[2J"`},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls++; c.answer(w, r) }))
			defer server.Close()
			target = server.URL
			if report, _, status := smokeTestOf(t, server.URL, []string{"API_KEY=mfa_secret"}); status != exitFault || report.Error != c.want || calls != 1 {
				t.Errorf("status %d, %+v after %d calls; want %s after one", status, report, calls, c.want)
			}
		})
	}
}

func TestSmokeTest_RefusesWrongCommandLines(t *testing.T) {
	const noURL, noCredential = "the URL must be http:// or https://, a host, and at most a path", "API_KEY or TOKEN is required in the environment"
	for _, c := range []struct {
		args    []string
		environ []string
		want    string
	}{
		{nil, nil, "mfa smoketest takes one argument, the URL of a running service"},
		{[]string{"a", "b"}, nil, "mfa smoketest takes one argument, the URL of a running service"},
		{[]string{"http://127.0.0.1"}, nil, noCredential},
		{[]string{"127.0.0.1:8080"}, []string{"API_KEY="}, noURL + "; " + noCredential},
		{[]string{"https://user:hunter2@example.com"}, []string{"TOKEN=x"}, noURL},
		{[]string{"https://example.com?key=hunter2"}, []string{"TOKEN=x"}, noURL},
		{[]string{"https://example.com"}, []string{"TOKEN=x", "SERVICE_KEY=hunter2"}, "--account must be 1 to 255 bytes of UTF-8"},
		{[]string{"--api-key=hunter2", "https://example.com"}, nil, "unknown flag: --api-key"},
	} {
		stdout, stderr, status := runCommand(t, c.environ, append([]string{"smoketest"}, c.args...)...)
		if status != exitUsage || stdout != "" || stderr != "mfa: usage: "+c.want+"\n" {
			t.Errorf("mfa smoketest %q: status %d, %s; want %s", c.args, status, stderr, c.want)
		}
	}
}

// breaking passes requests on to the service at target, except those that answer has answered.
func breaking(t *testing.T, target string, answer func(http.ResponseWriter, *http.Request) bool) http.Handler {
	t.Helper()
	location, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer(w, r) {
			return
		}
		proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(location) }, Transport: transport}
		proxy.ServeHTTP(w, r)
	})
}
