package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"quiva.ai/mfa/store/storetest"
)

var (
	callView  = call{http.MethodGet, "/accounts/recovery-codes", ""}
	callIssue = call{http.MethodPost, "/accounts/recovery-codes", ""}
)

// verify is the call of the gateway's sign-in.
func verify(account, code string) call {
	return call{http.MethodPost, "/internal/verify-mfa-code", fmt.Sprintf(`{"account":%q,"code":%q}`, account, code)}
}

// newSignInPair returns two instances on one Redis, and the header of the gateway's sign-in.
func newSignInPair(t *testing.T) (*instancePair, http.Header) {
	t.Helper()
	environ := testEnviron(storetest.SharedRedis(t))
	a := &instancePair{t: t, instances: [2]*instance{startInstance(t, environ), startInstance(t, environ)}}
	return a, http.Header{"X-Service-Key": {a.instances[0].newServiceKey()}}
}

// codesAt returns the codes that a secret has in the steps from first to last, from now.
func codesAt(t testing.TB, secret string, first, last int) (codes []string) {
	t.Helper()
	for now, steps := time.Now(), first; steps <= last; steps++ {
		code, err := totp.GenerateCode(secret, now.Add(time.Duration(steps)*30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, code)
	}
	return codes
}

// wrongCodes returns n codes that a secret has not in the next minutes.
func wrongCodes(t testing.TB, secret string, n int) (codes []string) {
	t.Helper()
	right := codesAt(t, secret, -3, 20)
	for i := 0; len(codes) < n; i++ {
		if code := fmt.Sprintf("%06d", i); !slices.Contains(right, code) {
			codes = append(codes, code)
		}
	}
	return codes
}

// result names what a response says: its reason, or its status without one.
func (r reply) result() string {
	var body struct{ Reason string }
	if json.Unmarshal([]byte(r.body), &body) == nil && body.Reason != "" {
		return body.Reason
	}
	return strconv.Itoa(r.status)
}

// patient repeats a call while its response is a 503, and returns how often it was.
func (s *instance) patient(c call, fields http.Header) (got reply, unknown int) {
	s.t.Helper()
	storetest.Eventually(s.t, func() bool {
		if got = s.call(c, fields); got.status == http.StatusServiceUnavailable {
			unknown++
			return false
		}
		return true
	})
	return got, unknown
}

// recoveryCodes makes a call that returns recovery codes.
func (s *instance) recoveryCodes(c call, fields http.Header) []string {
	s.t.Helper()
	got, _ := s.patient(c, fields)
	var body struct{ Data []string }
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || got.status != http.StatusOK {
		s.t.Errorf("recovery codes = %d %s; want 200", got.status, got.body)
	}
	return body.Data
}

// atOnce makes the calls at once, in turn on both instances, and counts the results. Each call is
// repeated while its response is a 503: after that, it may have been evaluated.
func (a *instancePair) atOnce(calls []call, fields http.Header) map[string]int {
	a.t.Helper()
	counts := map[string]int{}
	var mu sync.Mutex
	begin := make(chan struct{})
	var callers sync.WaitGroup
	for i, c := range calls {
		callers.Go(func() {
			<-begin
			got, unknown := a.instances[i%2].patient(c, fields)
			mu.Lock()
			defer mu.Unlock()
			counts[got.result()]++
			counts["503"] += unknown
		})
	}
	close(begin)
	callers.Wait()
	return counts
}

// failures returns the failed attempts of an account, as the operator sees them.
func (a *instancePair) failures(account string) (app, recovery int) {
	a.t.Helper()
	stdout, stderr, status := a.instances[0].command("account", "show", "--json", "--account", account)
	var shown struct {
		TOTP     struct{ Failed int } `json:"totp_attempts"`
		Recovery struct{ Failed int } `json:"recovery_attempts"`
	}
	if err := json.Unmarshal([]byte(stdout), &shown); err != nil || status != 0 {
		a.t.Fatalf("account show: status %d: %s", status, stderr)
	}
	return shown.TOTP.Failed, shown.Recovery.Failed
}

// verifyRaces are calls at once, and how many of them are evaluated: all others have the result rest.
var verifyRaces = []struct {
	name          string
	codes         func(t testing.TB, secret string, recovery []string) []string
	evaluated     map[string]int
	rest          string
	app, recovery int // failures that the store counts
}{
	{"200 wrong codes", func(t testing.TB, secret string, _ []string) []string { return wrongCodes(t, secret, 200) }, map[string]int{"wrong_code": 5}, "locked", 5, 0},
	{"one right code", func(t testing.TB, secret string, _ []string) []string {
		return slices.Repeat(codesAt(t, secret, 1, 1), 100)
	}, map[string]int{"200": 1}, "replayed", 0, 0},
	{"one recovery code", func(_ testing.TB, _ string, recovery []string) []string { return slices.Repeat(recovery[:1], 100) }, map[string]int{"200": 1}, "replayed", 0, 0},
}

func TestVerifyRace_EvaluatesNoMoreThanAllowed(t *testing.T) {
	a, service := newSignInPair(t)
	for _, r := range verifyRaces {
		total := map[string]int{}
		for n := range 20 {
			account := fmt.Sprint(r.name, " ", n)
			fields := asUser(t, account)
			secret := a.instances[1].enrol(fields)
			var calls []call
			for _, code := range r.codes(t, secret, a.instances[0].recoveryCodes(callView, fields)) {
				calls = append(calls, verify(account, code))
			}
			got := a.atOnce(calls, service)
			for result, count := range got {
				total[result] += count
			}
			known := got[r.rest]
			for result, want := range r.evaluated {
				known += got[result]
				if got[result] > want || got[result] < want-got["503"] {
					t.Errorf("%s: %d with the result %s; want %d", account, got[result], result, want)
				}
			}
			if known != len(calls) {
				t.Errorf("%s: results %v; want no others than %v, %s and 503", account, got, r.evaluated, r.rest)
			}
			if app, recovery := a.failures(account); app != r.app || recovery != r.recovery {
				t.Errorf("%s: the store counts %d and %d failures; want %d and %d", account, app, recovery, r.app, r.recovery)
			}
		}
		t.Logf("%s, 20 times: %v", r.name, total)
	}
}

// No code of the old set works after the new set was returned, and none brings the old set back.
func TestVerifyRace_IssueInvalidatesTheOldSet(t *testing.T) {
	a, service := newSignInPair(t)
	total := map[string]int{}
	for n := range 20 {
		account := fmt.Sprint("account ", n)
		fields := asUser(t, account)
		a.instances[1].enrol(fields)
		old := a.instances[0].recoveryCodes(callView, fields)
		var calls []call
		for _, code := range old {
			calls = append(calls, verify(account, code))
		}
		var issued []string
		var issue sync.WaitGroup
		issue.Go(func() { issued = a.instances[n%2].recoveryCodes(callIssue, fields) })
		for result, count := range a.atOnce(calls, service) {
			total[result] += count
		}
		issue.Wait()
		if got := a.instances[1].recoveryCodes(callView, fields); !slices.Equal(got, issued) {
			t.Errorf("%s: the factor has other codes than the %d issued", account, len(issued))
		}
		if after := a.atOnce(calls, service); after["200"] > 0 {
			t.Errorf("%s: after the new set was returned, the old one gets %v", account, after)
		}
		if _, stderr, status := a.instances[0].command("account", "unlock", "--account", account); status != 0 {
			t.Fatalf("account unlock: %s", stderr)
		}
		if got := a.atOnce([]call{verify(account, issued[0])}, service); got["200"] == 0 && got["503"] == 0 {
			t.Errorf("%s: a new code gets %v; want 200", account, got)
		}
	}
	t.Logf("codes of the old sets while new ones were issued, 20 times: %v", total)
}
