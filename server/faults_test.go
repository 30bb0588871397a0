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
	"quiva.ai/mfa/store/storetest"
)

const (
	// responseTime is the 500 ms for which a request may wait for Redis, and 300 ms for a
	// busy machine.
	responseTime = 500*time.Millisecond + 300*time.Millisecond
	// recoveryTime is the time from the end of a fault until all calls succeed again.
	recoveryTime = 2 * time.Second
)

// rig is an instance on a Redis behind a proxy. Ada and bob have a pending secret, eve has
// none. Bob uses an API key.
type rig struct {
	*instance
	t     *testing.T
	redis *storetest.RedisServer
	proxy *storetest.Proxy
	bob   http.Header
}

// userURL is the proxy's URL for a user of Redis's ACL.
const userURL = "redis://mfa:pw@%s"

func newRig(t *testing.T, url string, settings ...string) *rig {
	t.Helper()
	redis := storetest.StartRedis(t, "--enable-debug-command", "yes")
	r := &rig{t: t, redis: redis, proxy: storetest.StartProxy(t, redis.Addr)}
	r.exec("ACL", "SETUSER", "mfa", "on", ">pw", "~*", "+@all")
	r.instance = startInstance(t, testEnviron(redis, append(settings, "MFA_REDIS_URL="+fmt.Sprintf(url, r.proxy.Addr))...))
	r.bob = withKey(r.newAPIKey("bob"))
	r.generate(r.bob)
	r.generate(asUser(t, "ada"))
	return r
}

// exec has Redis execute a command.
func (r *rig) exec(args ...any) {
	r.t.Helper()
	if err := r.redis.Client.Do(r.t.Context(), args...).Err(); err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
}

// cut has Redis close the instance's connections.
func (r *rig) cut() { r.exec("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") }

// pendingEntry is the Redis entry of an account's pending secret.
func pendingEntry(account string) string {
	sum := sha256.Sum256([]byte(account))
	return "mfa:{" + base64.RawURLEncoding.EncodeToString(sum[:]) + "}:pending"
}

// fault is a fault of Redis and its effects.
type fault struct {
	name       string
	url        string
	begin, end func(r *rig)
	// The statuses of ada, eve, bob and /readyz during the fault.
	ada, eve, bob, ready int
	after                string // the entries of Redis after the fault
}

// The entries of Redis after a fault.
const (
	unchanged = "as before"
	evesKey   = "as before, and eve's" // eve got her key, or a 503 although it was stored
	eveMaybe  = "as before, perhaps eve's"
	nothing   = "none of those before"
)

// on is a fault of one command; of all with "".
func on(command string, action storetest.Action) []storetest.Fault {
	return []storetest.Fault{{Command: command, Action: action}}
}

// proxied is a fault that the proxy makes.
func proxied(name string, faults []storetest.Fault, ada, eve, bob, ready int, after string) fault {
	begin, end := func(r *rig) { r.proxy.Do(faults...) }, func(r *rig) { r.proxy.Do() }
	return fault{name, userURL, begin, end, ada, eve, bob, ready, after}
}

func allFaults() []fault {
	late := func() time.Duration { return 400 * time.Millisecond } // longer than any request waits
	var loaded, hogs sync.WaitGroup
	var hogging atomic.Bool
	return []fault{
		proxied("none", nil, 200, 200, 200, 200, evesKey),
		{"refused: killed, restarted empty", userURL, func(r *rig) { r.redis.Kill() }, func(r *rig) {
			r.redis.Restart(r.t)
			r.exec("ACL", "SETUSER", "mfa", "on", ">pw", "~*", "+@all")
		}, 503, 503, 503, 503, nothing},
		proxied("reset", on("", storetest.Reset), 503, 503, 503, 503, unchanged),
		proxied("black hole", on("", storetest.Hold), 503, 503, 503, 503, unchanged),
		// A stopped process executes later what it was sent.
		{"stopped (SIGSTOP)", userURL, func(r *rig) { r.redis.Stop(r.t) }, func(r *rig) { r.redis.Continue(r.t) }, 503, 503, 503, 503, eveMaybe},
		{"CLIENT PAUSE", userURL, func(r *rig) { r.exec("CLIENT", "PAUSE", "3000", "ALL") }, func(r *rig) { r.exec("PING") }, 503, 503, 503, 503, eveMaybe},
		proxied("connection lost before execution", on("set", storetest.DropBefore), 503, 503, 503, 503, unchanged),
		proxied("reply lost after execution", on("set", storetest.LoseReply), 503, 503, 503, 503, evesKey),
		proxied("reply late", on("set", storetest.Delay(late)), 503, 503, 503, 200, evesKey),
		proxied("reply in single bytes", on("", storetest.Slice), 200, 200, 200, 200, evesKey),
		proxied("garbage", on("set", storetest.Corrupt("garbage\r\n")), 503, 503, 503, 503, evesKey),
		proxied("reply cut short", on("set", storetest.Corrupt("$1000\r\nx")), 503, 503, 503, 503, evesKey),
		proxied("API key look-up: reply lost", on("get", storetest.LoseReply), 200, 200, 503, 200, evesKey),
		proxied("API key look-up: held", on("get", storetest.Hold), 200, 200, 503, 200, evesKey),
		proxied("API key look-up: garbage", on("get", storetest.Corrupt("$3\r\n{}}\r\n")), 200, 200, 503, 200, evesKey),
		{"READONLY: demoted", userURL, func(r *rig) { r.exec("REPLICAOF", "127.0.0.1", "1") }, func(r *rig) { r.exec("REPLICAOF", "NO", "ONE") }, 503, 503, 503, 503, unchanged},
		{"OOM with noeviction", userURL, func(r *rig) { r.exec("CONFIG", "SET", "maxmemory", "1") }, func(r *rig) { r.exec("CONFIG", "SET", "maxmemory", "0") }, 503, 503, 503, 503, unchanged},
		{"LOADING", userURL, func(r *rig) {
			r.exec("DEBUG", "POPULATE", "1000", "filler", "2048")
			r.exec("CONFIG", "SET", "loading-process-events-interval-bytes", "1024", "key-load-delay", "10000")
			loaded.Go(func() { r.redis.Client.Do(r.t.Context(), "DEBUG", "RELOAD") })
			storetest.Eventually(r.t, func() bool {
				err := r.redis.Client.Get(r.t.Context(), "k").Err()
				return err != nil && strings.HasPrefix(err.Error(), "LOADING")
			})
		}, func(r *rig) { r.exec("CONFIG", "SET", "key-load-delay", "0"); loaded.Wait() }, 503, 503, 503, 503, unchanged},
		{"NOAUTH: password required", "redis://%s", func(r *rig) { r.exec("CONFIG", "SET", "requirepass", "other"); r.cut() }, func(r *rig) { r.exec("CONFIG", "SET", "requirepass", "") }, 503, 503, 503, 503, unchanged},
		{"WRONGPASS: another password", userURL, func(r *rig) { r.exec("ACL", "SETUSER", "mfa", "resetpass", ">other"); r.cut() }, func(r *rig) { r.exec("ACL", "SETUSER", "mfa", ">pw") }, 503, 503, 503, 503, unchanged},
		{"NOPERM: SET forbidden", userURL, func(r *rig) { r.exec("ACL", "SETUSER", "mfa", "-set") }, func(r *rig) { r.exec("ACL", "SETUSER", "mfa", "+set") }, 503, 503, 503, 503, unchanged},
		proxied("MOVED: a cluster, not configured as one", on("set", storetest.Instead("-MOVED 1 127.0.0.1:1\r\n")), 503, 503, 503, 503, unchanged),
		{"WRONGTYPE at our key", userURL, func(r *rig) { r.exec("DEL", pendingEntry("eve")); r.exec("RPUSH", pendingEntry("eve"), "x") }, func(*rig) {}, 200, 200, 200, 200, evesKey},
		{"foreign value without TTL", userURL, func(r *rig) { r.exec("SET", pendingEntry("eve"), "x") }, func(*rig) {}, 200, 200, 200, 200, evesKey},
		{"maxclients", userURL, func(r *rig) { r.exec("CONFIG", "SET", "maxclients", "1"); r.cut() }, func(r *rig) { r.exec("CONFIG", "SET", "maxclients", "10000") }, 503, 503, 503, 503, unchanged},
		{"pool exhausted", userURL + "?pool_size=1", func(r *rig) {
			r.proxy.Do(on("set", storetest.Hold)...)
			hogging.Store(true)
			for range 8 { // one holds the connection, the others wait before ada
				hogs.Go(func() {
					for hogging.Load() {
						r.post(asUser(r.t, "hog"))
					}
				})
			}
			storetest.Eventually(r.t, func() bool { return len(r.logLines("request")) > 8 })
		}, func(r *rig) { hogging.Store(false); hogs.Wait(); r.proxy.Do() }, 503, 503, 503, 503, unchanged},
		{"FLUSHALL", userURL, func(r *rig) { r.exec("FLUSHALL") }, func(*rig) {}, 200, 200, 401, 503, nothing},
	}
}

// During each fault a request has its response in time, and a secret that a caller got stays,
// unless Redis lost it. After the fault the instance recovers by itself.
func TestFaults_KeepTimeAndSecrets(t *testing.T) {
	for _, f := range allFaults() {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, f.url)
			before := r.redis.Dump(t)
			f.begin(r)
			ada, eve, bob, slowest := r.callAll()
			ready, _ := r.ready()
			f.end(r)
			recovered := r.awaitRecovery(f.after == nothing)
			got, want := []int{ada, eve, bob, ready}, []int{f.ada, f.eve, f.bob, f.ready}
			if !slices.Equal(got, want) {
				t.Errorf("ada, eve, bob and /readyz got %d; want %d", got, want)
			}
			r.checkEntries(before, f.after)
			t.Logf("slowest response %d ms, recovered after %d ms", slowest.Milliseconds(), recovered.Milliseconds())
		})
	}
}

// callAll calls as ada, eve and bob. It returns their statuses and the longest time.
func (r *rig) callAll() (ada, eve, bob int, slowest time.Duration) {
	r.t.Helper()
	var statuses [3]int
	for i, header := range []http.Header{asUser(r.t, "ada"), asUser(r.t, "eve"), r.bob} {
		start := time.Now()
		got := r.post(header)
		statuses[i], slowest = got.status, max(slowest, time.Since(start))
	}
	if slowest > responseTime {
		r.t.Errorf("a response took %v; want at most %v", slowest, responseTime)
	}
	return statuses[0], statuses[1], statuses[2], slowest
}

// awaitRecovery waits until ada and bob are served, and returns how long that took. Bob gets a 401
// instead if Redis has lost his API key.
func (r *rig) awaitRecovery(lost bool) time.Duration {
	r.t.Helper()
	start := time.Now()
	bob := http.StatusOK
	if lost {
		bob = http.StatusUnauthorized
	}
	storetest.Eventually(r.t, func() bool {
		return r.post(asUser(r.t, "ada")).status == http.StatusOK && r.post(r.bob).status == bob
	})
	took := time.Since(start)
	if took > recoveryTime {
		r.t.Errorf("recovered after %v; want at most %v", took, recoveryTime)
	}
	return took
}

// checkEntries compares the entries of Redis with those before the fault.
func (r *rig) checkEntries(before map[string]string, want string) {
	r.t.Helper()
	after := r.redis.Dump(r.t)
	maps.DeleteFunc(after, func(key, _ string) bool { return strings.HasPrefix(key, "filler:") })
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
	r := rig{t: t, instance: startInstance(t, testEnviron(nil, "MFA_REDIS_URL=redis://"+address)), bob: withKey(auth.NewAPIKey())}
	if ada, eve, bob, _ := r.callAll(); ada != 503 || eve != 503 || bob != 503 {
		t.Errorf("ada, eve and bob got %d, %d, %d; want 503", ada, eve, bob)
	}
}
