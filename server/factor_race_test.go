package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

const confirmPath = "/accounts/confirm-totp-registration"

// call is a request of a caller.
type call struct{ method, path, body string }

var (
	callGenerate = call{http.MethodPost, generatePath, ""}
	callInfo     = call{http.MethodGet, "/accounts/user-mfa-info", ""}
	callOff      = call{http.MethodPatch, "/accounts/mfa-settings", `{"totp_enabled":false}`}
	callRemove   = call{http.MethodDelete, "/accounts/totp", ""}
)

// confirm is the call with the code that the secret has in steps time steps.
func confirm(t testing.TB, secret string, steps int) call {
	t.Helper()
	code, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return call{http.MethodPost, confirmPath, fmt.Sprintf(`{"code":%q,"secret":%q}`, code, secret)}
}

func (s *instance) call(c call, fields http.Header) reply {
	s.t.Helper()
	if c.body != "" {
		fields = join(fields, http.Header{"Content-Type": {"application/json"}})
	}
	return s.send(c.method, c.path, fields, strings.NewReader(c.body))
}

// enrol gives the caller a new factor and returns its secret.
func (s *instance) enrol(fields http.Header) string {
	s.t.Helper()
	key, _ := s.generate(fields)
	if got := s.call(confirm(s.t, key.Secret, 0), fields); got.status != http.StatusOK {
		s.t.Fatalf("confirm = %d %s; want 200", got.status, got.body)
	}
	return key.Secret
}

// entries are what Redis holds of an account: the pending secret and the factor's, or "", and the
// number of unused recovery codes.
type entries struct {
	pending, factor string
	state           store.State
	left            int
}

// factorsOf returns the factors in the Redis at url.
func factorsOf(t testing.TB, url string) *store.Factors {
	t.Helper()
	backend, keyring := openRedis(url)
	t.Cleanup(func() { backend.Close() })
	return store.NewFactors(store.FactorsConfig{
		Backend: backend, Keyring: keyring, Identity: store.NewIdentity(backend, initStore(url)), Now: time.Now,
		SwapLost: func() {}, Unreadable: func() {}, Written: func() {},
	})
}

// entriesReader returns a function that reads an account's entries in the Redis at url, at one
// moment.
func entriesReader(t testing.TB, url string) func(account string) entries {
	t.Helper()
	factors := factorsOf(t, url)
	errRead := errors.New("read without a change")
	return func(account string) (e entries) {
		t.Helper()
		_, err := factors.Confirm(t.Context(), account, func(pending *store.PendingKey, factor store.Factor) (store.Factor, error) {
			if e = (entries{state: factor.State, left: len(factor.UnusedCodes())}); pending != nil {
				e.pending = pending.Secret.Base32()
			}
			if factor.Exists() {
				e.factor = factor.Secret.Base32()
			}
			return factor, errRead
		})
		if !errors.Is(err, errRead) {
			t.Fatalf("entries of %s: %v", account, err)
		}
		return e
	}
}

// race is what callers do at once for an account with a pending secret.
type race struct {
	name    string
	callers int
	calls   func(t testing.TB, secret string) []call // The callers take them in turn.
	refusal string                                   // a reason why a confirm may be refused
}

var races = []race{
	{"one confirm", 1, func(t testing.TB, secret string) []call { return []call{confirm(t, secret, 0)} }, ""},
	{"the same confirm", 100, func(t testing.TB, secret string) []call { return []call{confirm(t, secret, 0)} }, ""},
	{"two codes", 100, func(t testing.TB, secret string) []call {
		return []call{confirm(t, secret, 0), confirm(t, secret, 1)}
	}, "wrong_code"}, // the earlier code after the later one
	{"confirm and generate", 100, func(t testing.TB, secret string) []call {
		return []call{confirm(t, secret, 0), callGenerate}
	}, ""},
	{"confirm and remove", 100, func(t testing.TB, secret string) []call {
		return []call{confirm(t, secret, 0), callRemove}
	}, "not_pending"},
}

// instancePair is two instances on one Redis.
type instancePair struct {
	t         *testing.T
	redis     *storetest.RedisServer
	instances [2]*instance
	read      func(account string) entries
	failed    int // calls with a 503, or without a response of a killed instance
}

// newInstancePair returns an instancePair whose first instance is to be replaced.
func newInstancePair(t *testing.T, redis *storetest.RedisServer) *instancePair {
	t.Helper()
	return &instancePair{t: t, redis: redis, instances: [2]*instance{1: startInstance(t, testEnviron(redis))}, read: entriesReader(t, redis.URL)}
}

// run runs a race for an account, which gets a pending secret, and with replaces another factor
// before. The callers of the second instance begin once the channel second is closed. kill closes
// it at the latest when all callers of the first instance have returned.
func (a *instancePair) run(r race, account string, replaces bool, second chan struct{}, kill, mend func()) {
	a.t.Helper()
	s, fields := a.instances[1], asUser(a.t, account)
	if replaces {
		s.enrol(fields)
	}
	key, _ := s.generate(fields)
	before, calls, got := a.read(account), r.calls(a.t, key.Secret), make([]reply, r.callers)
	first := make(chan struct{})
	var callers [2]sync.WaitGroup
	for i := range got {
		callers[i%2].Go(func() {
			<-[]chan struct{}{first, second}[i%2]
			got[i] = a.instances[i%2].call(calls[i/2%len(calls)], fields)
		})
	}
	close(first)
	callers[0].Wait()
	kill()
	callers[1].Wait()
	mend()
	after := a.read(account)
	for _, fault := range r.check(key.Secret, before, after, calls, got) {
		a.t.Errorf("%s: %s", account, fault)
	}
	for _, c := range got {
		if c.status == http.StatusServiceUnavailable || c.status == 0 {
			a.failed++
		}
	}
	a.wantInfo(account, after)
}

// check returns the broken promises. A call without a 200 may have happened, or not.
func (r race) check(secret string, before, after entries, calls []call, got []reply) (broken []string) {
	codes, failed, removes := map[string]bool{}, false, false
	for i, c := range got {
		sent := calls[i/2%len(calls)]
		removes = removes || sent == callRemove
		handed := secretPattern.FindString(c.body)
		switch {
		case c.status == http.StatusServiceUnavailable || c.status == 0:
			failed = true
		case sent.path == confirmPath && c.status == http.StatusOK:
			codes[c.body] = true
		case sent.path == confirmPath && r.refusal != "" && strings.Contains(c.body, `"reason":"`+r.refusal+`"`):
		case c.status != http.StatusOK:
			broken = append(broken, fmt.Sprintf("%s = %d %s", sent.path, c.status, c.body))
		case sent == callGenerate && handed != secret && handed != after.pending:
			broken = append(broken, "generate returned a secret that is not pending")
		}
	}
	pending, enrolled := after.pending == secret, after.factor == secret
	for fault, found := range map[string]bool{
		"the secret is both pending and the factor":         pending && enrolled,
		"the secret is neither pending nor the factor":      !pending && !enrolled && !(removes && after.state == store.Removed),
		"the secret is confirmed, and is still pending":     pending && len(codes) > 0,
		"the factor has changed without a call":             pending && !removes && after != before,
		"confirms returned several lists of codes":          len(codes) > 1,
		"no confirm succeeded, although no call has failed": len(codes) == 0 && !failed,
	} {
		if found {
			broken = append(broken, fault)
		}
	}
	return broken
}

// wantInfo checks that an instance says what Redis holds.
func (a *instancePair) wantInfo(account string, e entries) {
	a.t.Helper()
	want := fmt.Sprintf(`{"data":{"passkey_enabled":false,"totp_enabled":%t}}`+"\n", e.state == store.Enrolled)
	storetest.Eventually(a.t, func() bool {
		got := a.instances[1].call(callInfo, asUser(a.t, account))
		if got.status == http.StatusOK && got.body != want {
			a.t.Errorf("info of %s = %s; want %s", account, got.body, want)
		}
		return got.status == http.StatusOK
	})
}

func TestFactorRace_LeavesThePendingSecretOrTheFactor(t *testing.T) {
	a := newInstancePair(t, storetest.SharedRedis(t))
	a.instances[0] = startInstance(t, testEnviron(a.redis))
	atOnce := make(chan struct{})
	close(atOnce)
	for _, r := range races {
		for n := range 20 {
			a.run(r, fmt.Sprint(r.name, " ", n), n%2 == 1, atOnce, func() {}, func() {})
		}
	}
	t.Logf("%d calls had a 503", a.failed)
}

// TestFactorRace_SurvivesKill9 kills an instance before or after its first read or write, or Redis
// after that write. Redis then starts again and must hold all that it has acknowledged.
func TestFactorRace_SurvivesKill9(t *testing.T) {
	t.Parallel()
	const read, write = "local values", "'SET'" // parts of the scripts
	for _, r := range races {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			a := newInstancePair(t, storetest.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always"))
			for name, c := range map[string]struct {
				command      string
				after, redis bool
			}{
				"before the read":     {read, false, false},
				"after the read":      {read, true, false},
				"before the write":    {write, false, false},
				"after the write":     {write, true, false},
				"after Redis's write": {write, true, true},
			} {
				proxy := storetest.StartProxy(t, a.redis.Addr)
				victim := startProcess(t, testEnviron(a.redis, "MFA_REDIS_URL="+proxy.URL))
				a.instances[0] = victim
				killed := make(chan struct{})
				kill := sync.OnceFunc(func() {
					defer close(killed)
					if c.redis {
						a.redis.Kill()
					} else {
						victim.kill()
					}
				})
				proxy.Do(storetest.Fault{Key: c.command, Action: func(x *storetest.Exchange) bool {
					var reply []byte
					if c.after {
						reply = x.Execute()
					}
					kill()
					return x.Reply(reply)
				}})
				a.run(r, name, true, killed, kill, func() {
					proxy.Do()
					a.redis.Restart(t)
				})
			}
		})
	}
}
