package main

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

const (
	// responseTime is the 500 ms for which a request may wait for Redis, and 300 ms for a
	// busy machine.
	responseTime = 500*time.Millisecond + 300*time.Millisecond
	// recoveryTime is the time from the end of a fault until all calls succeed again.
	recoveryTime = 2 * time.Second
)

// faultTest is an instance on a Redis behind a proxy. Ada and bob have a pending secret, eve has
// none. Bob uses an API key. The accounts of changes are for one change each, and ivy keeps her
// factor. The service key is the sign-in's.
type faultTest struct {
	*instance
	t       *testing.T
	redis   *storetest.RedisServer
	proxy   *storetest.Proxy
	bob     http.Header
	service http.Header
	changes map[string]change // by account
}

// change is a call that changes the entries of one account, and those entries before and after.
type change struct {
	call
	before, after entries
}

// userURL is the proxy's URL for a user of Redis's ACL.
const userURL = "redis://mfa:pw@%s"

func newFaultTest(t *testing.T, url string, settings ...string) *faultTest {
	t.Helper()
	redis := storetest.StartRedis(t, "--enable-debug-command", "yes")
	r := &faultTest{t: t, redis: redis, proxy: storetest.StartProxy(t, redis.Addr)}
	r.exec("ACL", "SETUSER", "mfa", "on", ">pw", "~*", "+@all")
	r.instance = startInstance(t, testEnviron(redis, append(settings, "MFA_REDIS_URL="+fmt.Sprintf(url, r.proxy.Addr))...))
	r.bob = withKey(r.newAPIKey("bob"))
	r.generate(r.bob)
	r.generate(asUser(t, "ada"))
	r.service = http.Header{"X-Service-Key": {r.newServiceKey()}}
	secret, _ := r.generate(asUser(t, "carl"))
	secrets := map[string]string{}
	for _, account := range []string{"dora", "fay", "gus", "hal", "ivy"} {
		secrets[account] = r.enrol(asUser(t, account))
	}
	spend := func(account string) call { return verify(account, r.recoveryCodes(callView, asUser(t, account))[0]) }
	if got := r.call(spend("hal"), r.service); got.status != http.StatusOK {
		t.Fatalf("verify = %d %s; want 200", got.status, got.body)
	}
	enrolled := func(account string, left int) entries { return entries{"", secrets[account], store.Enrolled, left} }
	r.changes = map[string]change{
		"carl": {confirm(t, secret.Secret, 0), entries{secret.Secret, "", store.None, 0}, entries{"", secret.Secret, store.Enrolled, 10}},
		"dora": {callOff, enrolled("dora", 10), entries{"", secrets["dora"], store.Off, 10}},
		"fay":  {callRemove, enrolled("fay", 10), entries{state: store.Removed}},
		"gus":  {spend("gus"), enrolled("gus", 10), enrolled("gus", 9)},
		"hal":  {callIssue, enrolled("hal", 9), enrolled("hal", 10)},
	}
	return r
}

// exec has Redis execute a command.
func (r *faultTest) exec(args ...any) {
	r.t.Helper()
	if err := r.redis.Client.Do(r.t.Context(), args...).Err(); err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
}

// cut has Redis close the instance's connections.
func (r *faultTest) cut() { r.exec("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") }

// pendingEntry is the Redis entry of an account's pending secret.
func pendingEntry(account string) string {
	sum := sha256.Sum256([]byte(account))
	return "mfa:{" + base64.RawURLEncoding.EncodeToString(sum[:]) + "}:pending"
}

// During each fault a request has its response in time, and a secret or a factor that a caller
// got stays, unless Redis lost it. After the fault the instance recovers by itself.
func TestFaults_KeepTimeAndSecrets(t *testing.T) {
	t.Parallel()
	for _, f := range allFaults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			r := newFaultTest(t, f.url)
			before := r.dump()
			f.begin(r)
			got, slowest := r.callAll()
			statuses := r.callFactors()
			ready, _ := r.ready()
			f.end(r)
			r.checkChanges(statuses, f.after)
			recovered := r.awaitRecovery(f.after == nothing, statuses["gus"] == http.StatusOK)
			got = append(got, ready)
			if want := []int{f.ada, f.eve, f.bob, f.ready}; !slices.Equal(got, want) {
				t.Errorf("ada, eve, bob and /readyz got %d; want %d", got, want)
			}
			want := factorStatuses(f.info, f.change, f.ada, f.bob)
			for name, status := range statuses {
				if want[name] == either && (status == http.StatusOK || status == http.StatusServiceUnavailable) {
					want[name] = status
				}
			}
			if !maps.Equal(statuses, want) {
				t.Errorf("the calls about factors got %v; want %v", statuses, want)
			}
			r.checkEntries(before, f.after)
			t.Logf("slowest response %d ms, recovered after %d ms", slowest.Milliseconds(), recovered.Milliseconds())
		})
	}
}

// callAll calls as ada, eve and bob. It returns their statuses and the longest time.
func (r *faultTest) callAll() (statuses []int, slowest time.Duration) {
	r.t.Helper()
	for _, header := range []http.Header{asUser(r.t, "ada"), asUser(r.t, "eve"), r.bob} {
		start := time.Now()
		statuses = append(statuses, r.post(header).status)
		slowest = max(slowest, time.Since(start))
	}
	if slowest > responseTime {
		r.t.Errorf("a response took %v; want at most %v", slowest, responseTime)
	}
	return statuses, slowest
}

// factorStatuses are the statuses of callFactors: read, change or, for the sign-in, bob's where his
// key makes a difference to ada.
func factorStatuses(read, change, ada, bob int) map[string]int {
	signIn := func(status int) int {
		if bob != ada {
			return bob
		}
		return status
	}
	return map[string]int{
		"ivy's info": read, "ivy's codes": read, "ivy's status": signIn(read),
		"carl": change, "dora": change, "fay": change, "gus": signIn(change), "hal": change,
	}
}

// callFactors reads ivy's factor, then makes all changes at once but the sign-in's, whose key look-up
// may break the connection, and then that one. It returns the statuses.
func (r *faultTest) callFactors() map[string]int {
	r.t.Helper()
	statuses := map[string]int{}
	for name, read := range map[string]struct {
		call
		want string
	}{
		"ivy's info": {callInfo, `"totp_enabled":true`}, "ivy's codes": {callView, `-`},
		"ivy's status": {call{callStatus.method, callStatus.path, `{"account":"ivy"}`}, `"recovery_codes_left":10,"totp_enabled":true`},
	} {
		got := r.timed(read.call, "ivy")
		if statuses[name] = got.status; got.status == http.StatusOK && !strings.Contains(got.body, read.want) {
			r.t.Errorf("%s: %s; she has a factor", name, got.body)
		}
	}
	var mu sync.Mutex
	var callers sync.WaitGroup
	for account, c := range r.changes {
		if account == "gus" {
			continue
		}
		callers.Go(func() {
			got := r.timed(c.call, account)
			mu.Lock()
			defer mu.Unlock()
			statuses[account] = got.status
		})
	}
	callers.Wait()
	statuses["gus"] = r.timed(r.changes["gus"].call, "gus").status
	return statuses
}

// timed makes a call, whose response must come in time.
func (r *faultTest) timed(c call, account string) reply {
	r.t.Helper()
	fields, start := asUser(r.t, account), time.Now()
	if strings.HasPrefix(c.path, "/internal/") {
		fields = r.service
	}
	got := r.call(c, fields)
	if took := time.Since(start); took > responseTime {
		r.t.Errorf("%s took %v; want at most %v", c.path, took, responseTime)
	}
	return got
}

// checkChanges checks that Redis holds each change with a 200, and before or after each other
// change what it must. A store without its identity shows nothing.
func (r *faultTest) checkChanges(statuses map[string]int, after string) {
	r.t.Helper()
	if after == nothing {
		return
	}
	read := entriesReader(r.t, r.redis.URL)
	for account, c := range r.changes {
		switch got := read(account); {
		case got == c.after && (statuses[account] == http.StatusOK || after != unchanged):
		case got == c.before && statuses[account] != http.StatusOK:
		default:
			r.t.Errorf("%s got %d, and Redis holds the state %q", c.path, statuses[account], got.state)
		}
	}
}

// awaitRecovery waits until all are served, and returns how long that took. If Redis has lost
// its data, bob gets a 401 instead, and the others' factors a 503, like /readyz. The code that gus
// has used is wrong then; without a response with a 200, he may have used it.
func (r *faultTest) awaitRecovery(lost, used bool) time.Duration {
	r.t.Helper()
	start := time.Now()
	bob, factors := http.StatusOK, http.StatusOK
	if lost {
		bob, factors = http.StatusUnauthorized, http.StatusServiceUnavailable
	}
	storetest.Eventually(r.t, func() bool {
		return r.post(asUser(r.t, "ada")).status == http.StatusOK && r.post(r.bob).status == bob
	})
	took := time.Since(start)
	if took > recoveryTime {
		r.t.Errorf("recovered after %v; want at most %v", took, recoveryTime)
	}
	want, got := factorStatuses(factors, factors, http.StatusOK, bob), r.callFactors()
	if used || got["gus"] == http.StatusBadRequest {
		want["gus"] = http.StatusBadRequest
	}
	if !maps.Equal(got, want) {
		r.t.Errorf("after the fault, the calls about factors got %v; want %v", got, want)
	}
	storetest.Eventually(r.t, func() bool { ready, _ := r.ready(); return ready == factors })
	return took
}

// dump returns the entries of Redis, but not the filler and those of factors and their changes.
func (r *faultTest) dump() map[string]string {
	r.t.Helper()
	dump := r.redis.Dump(r.t)
	maps.DeleteFunc(dump, func(key, _ string) bool {
		return strings.HasPrefix(key, "filler:") || strings.HasSuffix(key, ":factor") || key == pendingEntry("carl")
	})
	return dump
}

// checkEntries compares the entries of Redis with those before the fault.
func (r *faultTest) checkEntries(before map[string]string, want string) {
	r.t.Helper()
	after := r.dump()
	_, eve := after[pendingEntry("eve")]
	if want == evesKey && !eve || want == unchanged && eve {
		r.t.Errorf("eve's secret is in Redis: %t", eve)
	}
	for key := range after {
		if key == "mfa:store" {
			continue // It has no deadline.
		}
		left, err := r.redis.Client.PTTL(r.t.Context(), key).Result()
		if err != nil || left <= 0 || strings.HasSuffix(key, ":pending") && left > 10*time.Minute {
			r.t.Errorf("PTTL of %s = %v, %v", key, left, err)
		}
	}
	same := true
	for key := range before {
		// The record of an API key has the hour of its last use.
		same = same && after[key] != "" && (before[key] == after[key] || strings.HasPrefix(key, "mfa:apikey:"))
	}
	if same == (want == nothing) {
		r.t.Errorf("Redis holds %v; before the fault it held %v", after, before)
	}
	if eve {
		r.generate(asUser(r.t, "eve"))
		if now := r.redis.Dump(r.t); now[pendingEntry("eve")] != after[pendingEntry("eve")] {
			r.t.Error("eve got another secret than the one in Redis")
		}
	}
}

// A reply that comes after its request's end must not go to another request.
func TestFaults_LateReplyGoesToNoOtherCaller(t *testing.T) {
	redis := storetest.StartRedis(t)
	proxy := storetest.StartProxy(t, redis.Addr)
	s := startInstance(t, testEnviron(redis, "MFA_REDIS_URL="+proxy.URL))
	var calls atomic.Int64
	proxy.Do(on("set", storetest.Delay(func() time.Duration {
		if calls.Add(1)%150 != 0 {
			return 0
		}
		return 300 * time.Millisecond // too late, and so are the replies behind it in the pipeline
	}))...)
	secrets := make([][]string, 200)
	statuses := map[int]int{}
	var mu sync.Mutex
	callAsAll := func() {
		var callers sync.WaitGroup
		for i := range secrets {
			callers.Go(func() {
				got := s.post(asUser(t, fmt.Sprint("account-", i)))
				mu.Lock()
				defer mu.Unlock()
				statuses[got.status]++
				secrets[i] = append(secrets[i], secretPattern.FindAllString(got.body, 1)...)
			})
		}
		callers.Wait()
	}
	for range 3 {
		callAsAll()
	}
	if statuses[200] == 0 || statuses[503] == 0 || statuses[200]+statuses[503] != 600 {
		t.Errorf("statuses %v; want some 200, some 503, and no other", statuses)
	}
	proxy.Do()
	owners := map[string]int{}
	for i := range secrets {
		key, _ := s.generate(asUser(t, fmt.Sprint("account-", i)))
		for _, secret := range append(secrets[i], key.Secret) {
			if owner, known := owners[secret]; secret != key.Secret || known && owner != i {
				t.Fatalf("account %d got the secret of another account, or a second one", i)
			}
			owners[secret] = i
		}
	}
	t.Logf("600 calls: %v; %d secrets", statuses, len(owners))
}

// Redis's address does not respond to a SYN: the queue of a listening socket is full.
func TestFaults_UnansweredDialEndsInTime(t *testing.T) {
	t.Parallel()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := errors.Join(syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(socket, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for {
		connection, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			break
		}
		defer connection.Close()
	}
	r := faultTest{t: t, instance: startInstance(t, testEnviron(nil, "MFA_REDIS_URL=redis://"+address)), bob: withKey(auth.NewAPIKey())}
	if got, _ := r.callAll(); !slices.Equal(got, []int{503, 503, 503}) {
		t.Errorf("ada, eve and bob got %d; want 503", got)
	}
}
