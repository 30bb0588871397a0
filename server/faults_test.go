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
	"text/tabwriter"
	"time"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

const (
	// answerTime is the 500 ms that a request may spend on Redis, whatever Redis does,
	// and what a busy machine may add.
	answerTime = 500*time.Millisecond + 300*time.Millisecond
	// recoveryTime is how soon after Redis the service is well again.
	recoveryTime = 2 * time.Second
)

// rig is a service on a Redis behind a proxy. Ada has a key pending, eve has none, and
// bob has one and an API key.
type rig struct {
	t       *testing.T
	redis   *storetest.RedisServer
	proxy   *storetest.Proxy
	service *service
	bob     http.Header
}

// userURL is the URL of the proxy, for a user of its own.
const userURL = "redis://mfa:pw@%s"

func newRig(t *testing.T, url string, settings ...string) *rig {
	t.Helper()
	redis := storetest.StartRedis(t, "--enable-debug-command", "yes")
	r := &rig{t: t, redis: redis, proxy: storetest.StartProxy(t, redis.Addr)}
	r.admin("ACL", "SETUSER", "mfa", "on", ">pw", "~*", "+@all")
	r.service = startService(t, testEnviron(redis, append(settings, "MFA_REDIS_URL="+fmt.Sprintf(url, r.proxy.Addr))...))
	r.bob = withKey(r.service.newAPIKey("bob"))
	r.service.generate(r.bob)
	r.service.generate(asUser(t, "ada"))
	return r
}

// admin has Redis itself execute a command.
func (r *rig) admin(args ...any) {
	r.t.Helper()
	if err := r.redis.Client.Do(r.t.Context(), args...).Err(); err != nil {
		r.t.Fatalf("%v: %v", args, err)
	}
}

// cut has Redis close the service's connections.
func (r *rig) cut() { r.admin("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") }

// pendingKey is where the pending secret of an account is kept.
func pendingKey(account string) string {
	sum := sha256.Sum256([]byte(account))
	return "mfa:{" + base64.RawURLEncoding.EncodeToString(sum[:]) + "}:pending"
}

// A fault is something that goes wrong with Redis, and what comes of it.
type fault struct {
	name       string
	url        string
	begin, end func(r *rig)
	// What ada, eve and bob get meanwhile, and /readyz.
	ada, eve, bob, ready int
	after                string // what Redis holds afterwards
}

// What Redis may hold once a fault is over. What ada and bob had is as it was, unless
// all is lost.
const (
	unchanged = "as before"
	evesKey   = "as before, and eve's key" // she got it, or was told that it is unknown
	eveMaybe  = "as before, perhaps eve's key"
	nothing   = "nothing that was there"
)

// during is a fault that the proxy makes.
func during(faults ...storetest.Fault) (begin, end func(*rig)) {
	return func(r *rig) { r.proxy.Do(faults...) }, func(r *rig) { r.proxy.Do() }
}

// on is a fault of one command.
func on(command string, action storetest.Action) []storetest.Fault {
	return []storetest.Fault{{Command: command, Action: action}}
}

func proxied(name string, faults []storetest.Fault, ada, eve, bob, ready int, after string) fault {
	begin, end := during(faults...)
	return fault{name, userURL, begin, end, ada, eve, bob, ready, after}
}

func theFaults() []fault {
	const answerLate = 400 * time.Millisecond // later than any request waits
	late := func() time.Duration { return answerLate }
	var loaded, hogs sync.WaitGroup
	var hogging atomic.Bool
	return []fault{
		proxied("none", nil, 200, 200, 200, 200, evesKey),
		{"refused: killed, restarted empty", userURL, func(r *rig) { r.redis.Kill() }, func(r *rig) {
			r.redis.Restart(r.t)
			r.admin("ACL", "SETUSER", "mfa", "on", ">pw", "~*", "+@all")
		}, 503, 503, 503, 503, nothing},
		proxied("reset", on("", storetest.Reset), 503, 503, 503, 503, unchanged),
		proxied("black hole", on("", storetest.Hold), 503, 503, 503, 503, unchanged),
		// What was sent to a process that stands still, it executes when it goes on.
		{"stopped (SIGSTOP)", userURL, func(r *rig) { r.redis.Stop(r.t) }, func(r *rig) { r.redis.Continue(r.t) }, 503, 503, 503, 503, eveMaybe},
		{"CLIENT PAUSE", userURL, func(r *rig) { r.admin("CLIENT", "PAUSE", "3000", "ALL") }, func(r *rig) { r.admin("PING") }, 503, 503, 503, 503, eveMaybe},
		proxied("connection lost before execution", on("set", storetest.DropBefore), 503, 503, 503, 503, unchanged),
		proxied("reply lost after execution", on("set", storetest.LoseReply), 503, 503, 503, 503, evesKey),
		proxied("reply late", on("set", storetest.Delay(late)), 503, 503, 503, 200, evesKey),
		proxied("reply in single bytes", on("", storetest.Slice), 200, 200, 200, 200, evesKey),
		proxied("garbage", on("set", storetest.Corrupt("garbage\r\n")), 503, 503, 503, 503, evesKey),
		proxied("garbage: more than there can be", on("set", storetest.Corrupt("*4611686018427387904\r\n")), 503, 503, 503, 503, evesKey),
		proxied("reply of another type", on("set", storetest.Corrupt("*1\r\n:1\r\n")), 503, 503, 503, 503, evesKey),
		proxied("reply cut short", on("set", storetest.Corrupt("$1000\r\nx")), 503, 503, 503, 503, evesKey),
		proxied("API key look-up: reply lost", on("get", storetest.LoseReply), 200, 200, 503, 200, evesKey),
		proxied("API key look-up: held", on("get", storetest.Hold), 200, 200, 503, 200, evesKey),
		proxied("API key look-up: garbage", on("get", storetest.Corrupt("$3\r\n{}}\r\n")), 200, 200, 503, 200, evesKey),
		{"READONLY: demoted", userURL, func(r *rig) { r.admin("REPLICAOF", "127.0.0.1", "1") }, func(r *rig) { r.admin("REPLICAOF", "NO", "ONE") }, 503, 503, 503, 503, unchanged},
		{"OOM with noeviction", userURL, func(r *rig) { r.admin("CONFIG", "SET", "maxmemory", "1") }, func(r *rig) { r.admin("CONFIG", "SET", "maxmemory", "0") }, 503, 503, 503, 503, unchanged},
		{"LOADING", userURL, func(r *rig) {
			r.admin("DEBUG", "POPULATE", "1000", "filler", "2048")
			r.admin("CONFIG", "SET", "loading-process-events-interval-bytes", "1024", "key-load-delay", "10000")
			loaded.Go(func() { r.redis.Client.Do(r.t.Context(), "DEBUG", "RELOAD") })
			storetest.Eventually(r.t, func() bool {
				err := r.redis.Client.Get(r.t.Context(), "k").Err()
				return err != nil && strings.HasPrefix(err.Error(), "LOADING")
			})
		}, func(r *rig) { r.admin("CONFIG", "SET", "key-load-delay", "0"); loaded.Wait() }, 503, 503, 503, 503, unchanged},
		{"NOAUTH: a password is demanded", "redis://%s", func(r *rig) { r.admin("CONFIG", "SET", "requirepass", "other"); r.cut() }, func(r *rig) { r.admin("CONFIG", "SET", "requirepass", "") }, 503, 503, 503, 503, unchanged},
		{"WRONGPASS: another password", userURL, func(r *rig) { r.admin("ACL", "SETUSER", "mfa", "resetpass", ">other"); r.cut() }, func(r *rig) { r.admin("ACL", "SETUSER", "mfa", ">pw") }, 503, 503, 503, 503, unchanged},
		{"NOPERM: SET forbidden", userURL, func(r *rig) { r.admin("ACL", "SETUSER", "mfa", "-set") }, func(r *rig) { r.admin("ACL", "SETUSER", "mfa", "+set") }, 503, 503, 503, 503, unchanged},
		proxied("MOVED: a cluster, not configured as one", on("set", storetest.Instead("-MOVED 1 127.0.0.1:1\r\n")), 503, 503, 503, 503, unchanged),
		{"WRONGTYPE at our key", userURL, func(r *rig) { r.admin("DEL", pendingKey("eve")); r.admin("RPUSH", pendingKey("eve"), "x") }, func(*rig) {}, 200, 200, 200, 200, evesKey},
		{"somebody else's value, without TTL", userURL, func(r *rig) { r.admin("SET", pendingKey("eve"), "x") }, func(*rig) {}, 200, 200, 200, 200, evesKey},
		{"maxclients", userURL, func(r *rig) { r.admin("CONFIG", "SET", "maxclients", "1"); r.cut() }, func(r *rig) { r.admin("CONFIG", "SET", "maxclients", "10000") }, 503, 503, 503, 503, unchanged},
		{"pool exhausted", userURL + "?pool_size=1", func(r *rig) {
			r.proxy.Do(on("set", storetest.Hold)...)
			hogging.Store(true)
			for range 8 { // one has the connection, the others stand before ada in the queue
				hogs.Go(func() {
					for hogging.Load() {
						r.service.post(asUser(r.t, "hog"))
					}
				})
			}
			storetest.Eventually(r.t, func() bool { return len(r.service.logLines("request")) > 8 })
		}, func(r *rig) { hogging.Store(false); hogs.Wait(); r.proxy.Do() }, 503, 503, 503, 503, unchanged},
		{"FLUSHALL", userURL, func(r *rig) { r.admin("FLUSHALL") }, func(*rig) {}, 200, 200, 401, 200, nothing},
	}
}

// TestRedisFaults makes each fault happen to a service under way. A request is answered
// in time; a secret that was acknowledged stays, unless Redis lost it; and the service
// recovers by itself.
func TestRedisFaults(t *testing.T) {
	var table strings.Builder
	rows := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(rows, "fault\tpending key\tnew key\tAPI key\t/readyz\tslowest\trecovered after\tRedis afterwards")
	for _, f := range theFaults() {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t, f.url)
			before := r.redis.Dump(t)
			f.begin(r)
			ada, eve, bob, slowest := r.callAll()
			ready, _ := r.service.ready()
			f.end(r)
			recovered := r.waitUntilWell(f.after == nothing)
			got, want := []int{ada, eve, bob, ready}, []int{f.ada, f.eve, f.bob, f.ready}
			if !slices.Equal(got, want) {
				t.Errorf("ada, eve, bob and /readyz got %d; want %d", got, want)
			}
			r.checkState(before, f.after)
			fmt.Fprintf(rows, "%s\t%d\t%d\t%d\t%d\t%d ms\t%d ms\t%s\n", f.name, ada, eve, bob, ready, slowest.Milliseconds(), recovered.Milliseconds(), f.after)
		})
	}
	if err := errors.Join(rows.Flush(), publish("faults", table.String())); err != nil {
		t.Fatal(err)
	}
	t.Logf("Redis faults:\n%s", table.String())
}

// callAll calls as each of the three and returns their statuses and the longest time.
func (r *rig) callAll() (ada, eve, bob int, slowest time.Duration) {
	r.t.Helper()
	var statuses [3]int
	for i, header := range []http.Header{asUser(r.t, "ada"), asUser(r.t, "eve"), r.bob} {
		start := time.Now()
		got := r.service.post(header)
		statuses[i], slowest = got.status, max(slowest, time.Since(start))
	}
	if slowest > answerTime {
		r.t.Errorf("an answer took %v; want at most %v", slowest, answerTime)
	}
	return statuses[0], statuses[1], statuses[2], slowest
}

// waitUntilWell returns how long it takes until all three are served, bob only if Redis
// still knows his API key.
func (r *rig) waitUntilWell(forgotten bool) time.Duration {
	r.t.Helper()
	start := time.Now()
	bob := http.StatusOK
	if forgotten {
		bob = http.StatusUnauthorized
	}
	storetest.Eventually(r.t, func() bool {
		return r.service.post(asUser(r.t, "ada")).status == http.StatusOK && r.service.post(r.bob).status == bob
	})
	took := time.Since(start)
	if took > recoveryTime {
		r.t.Errorf("the service was well %v after Redis; want at most %v", took, recoveryTime)
	}
	return took
}

// checkState compares what Redis holds with what it held before the fault.
func (r *rig) checkState(before map[string]string, want string) {
	r.t.Helper()
	after := r.redis.Dump(r.t)
	maps.DeleteFunc(after, func(key, _ string) bool { return strings.HasPrefix(key, "filler:") })
	_, eve := after[pendingKey("eve")]
	if want == evesKey && !eve || want == unchanged && eve {
		r.t.Errorf("eve's key is in Redis: %t", eve)
	}
	for key := range after {
		left, err := r.redis.Client.PTTL(r.t.Context(), key).Result()
		if err != nil || left <= 0 || strings.HasSuffix(key, ":pending") && left > 10*time.Minute {
			r.t.Errorf("PTTL of %s = %v, %v", key, left, err)
		}
	}
	same := true
	for key := range before {
		// An API key's record changes with the hour of its use.
		same = same && after[key] != "" && (before[key] == after[key] || strings.HasPrefix(key, "mfa:apikey:"))
	}
	if same == (want == nothing) {
		r.t.Errorf("Redis holds %v; before the fault it held %v", after, before)
	}
	if eve {
		r.service.generate(asUser(r.t, "eve"))
		if now := r.redis.Dump(r.t); now[pendingKey("eve")] != after[pendingKey("eve")] {
			r.t.Error("eve's key was there, and was not the one that she got")
		}
	}
}

// A reply that comes after its caller has given up must not be taken for the next
// caller's.
func TestALateReplyIsNobodyElses(t *testing.T) {
	redis := storetest.StartRedis(t)
	proxy := storetest.StartProxy(t, redis.Addr)
	s := startService(t, testEnviron(redis, "MFA_REDIS_URL="+proxy.URL))
	var calls atomic.Int64
	proxy.Do(on("set", storetest.Delay(func() time.Duration {
		if calls.Add(1)%150 != 0 {
			return 0
		}
		return 300 * time.Millisecond // too late, as is all that comes after it in its pipeline
	}))...)
	secrets := make([][]string, 200)
	statuses := map[int]int{}
	var mu sync.Mutex
	everybody := func() {
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
		everybody()
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
				t.Fatalf("account %d got another's secret, or a second one", i)
			}
			owners[secret] = i
		}
	}
	t.Logf("600 calls: %v; %d secrets", statuses, len(owners))
}

// A connection that nobody accepts, whose SYN gets no answer, costs no more time than
// one that is silent.
func TestADialThatIsNotAnsweredIsGivenUpInTime(t *testing.T) {
	// Its queue of connections holds one or two, and is full.
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
	r := rig{t: t, service: startService(t, testEnviron(nil, "MFA_REDIS_URL=redis://"+address)), bob: withKey(auth.NewAPIKey())}
	if ada, eve, bob, _ := r.callAll(); ada != 503 || eve != 503 || bob != 503 {
		t.Errorf("ada, eve and bob got %d, %d, %d; want 503", ada, eve, bob)
	}
}
