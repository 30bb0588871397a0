package main

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"quiva.ai/mfa/store/storetest"
)

// fault is a fault of Redis and its effects.
type fault struct {
	name       string
	url        string
	begin, end func(r *faultTest)
	// The statuses of ada, eve, bob and /readyz during the fault, of what is read of ivy's factor and
	// of the changes. The sign-in has those too, unless bob's key gets another.
	ada, eve, bob, ready, info, change int
	after                              string // the entries of Redis after the fault
}

// either stands for 200 or 503.
const either = 0

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

// onWrite is a fault of SET, as a command and in scripts.
func onWrite(action storetest.Action) []storetest.Fault {
	return []storetest.Fault{{Key: "SET", Action: action}}
}

// onFactor is a fault of the script that reads a factor.
func onFactor(action storetest.Action) []storetest.Fault {
	return []storetest.Fault{{Key: "local values", Action: action}}
}

// proxied is a fault that the proxy makes.
func proxied(name string, faults []storetest.Fault, ada, eve, bob, ready, info, change int, after string) fault {
	begin, end := func(r *faultTest) { r.proxy.Do(faults...) }, func(r *faultTest) { r.proxy.Do() }
	return fault{name, userURL, begin, end, ada, eve, bob, ready, info, change, after}
}

func allFaults() []fault {
	late := func() time.Duration { return 350 * time.Millisecond } // longer than a request waits for Redis
	var loaded, hogs sync.WaitGroup
	var hogging atomic.Bool
	return []fault{
		proxied("none", nil, 200, 200, 200, 200, 200, 200, evesKey),
		{"refused: killed, restarted empty", userURL, func(r *faultTest) { r.redis.Kill() }, func(r *faultTest) {
			r.redis.Restart(r.t)
			r.exec("ACL", "SETUSER", "mfa", "on", ">pw", "~*", "+@all")
		}, 503, 503, 503, 503, 503, 503, nothing},
		proxied("reset", on("", storetest.Reset), 503, 503, 503, 503, 503, 503, unchanged),
		proxied("black hole", on("", storetest.Hold), 503, 503, 503, 503, 503, 503, unchanged),
		// A stopped process executes later what it was sent.
		{"stopped (SIGSTOP)", userURL, func(r *faultTest) { r.redis.Stop(r.t) }, func(r *faultTest) { r.redis.Continue(r.t) }, 503, 503, 503, 503, 503, 503, eveMaybe},
		{"CLIENT PAUSE", userURL, func(r *faultTest) { r.exec("CLIENT", "PAUSE", "4000", "ALL") }, func(r *faultTest) { r.exec("PING") }, 503, 503, 503, 503, 503, 503, eveMaybe},
		proxied("connection lost before execution", onWrite(storetest.DropBefore), 503, 503, 503, 503, 200, 503, unchanged),
		proxied("reply lost after execution", onWrite(storetest.LoseReply), 503, 503, 503, 503, 200, 503, evesKey),
		proxied("reply late", onWrite(storetest.Delay(late)), 503, 503, 503, 200, 200, 503, evesKey),
		proxied("reply in single bytes", on("", storetest.Slice), 200, 200, 200, 200, 200, 200, evesKey),
		proxied("garbage", onWrite(storetest.Corrupt("garbage\r\n")), 503, 503, 503, 503, 200, 503, evesKey),
		proxied("reply cut short", onWrite(storetest.Corrupt("$1000\r\nx")), 503, 503, 503, 503, 200, 503, evesKey),
		proxied("API key look-up: reply lost", on("get", storetest.LoseReply), 200, 200, 503, 200, 200, 200, evesKey),
		proxied("API key look-up: held", on("get", storetest.Hold), 200, 200, 503, 200, 200, 200, evesKey),
		proxied("API key look-up: garbage", on("get", storetest.Corrupt("$3\r\n{}}\r\n")), 200, 200, 503, 200, 200, 200, evesKey),
		proxied("factor look-up: reply lost", onFactor(storetest.LoseReply), 200, 200, 200, 503, 503, 503, evesKey),
		proxied("factor look-up: held", onFactor(storetest.Hold), 200, 200, 200, 503, 503, 503, evesKey),
		proxied("factor look-up: nothing", onFactor(storetest.Corrupt("*2\r\n$-1\r\n$-1\r\n")), 200, 200, 200, 503, 503, 503, evesKey),
		{"READONLY: demoted", userURL, func(r *faultTest) { r.exec("REPLICAOF", "127.0.0.1", "1") }, func(r *faultTest) { r.exec("REPLICAOF", "NO", "ONE") }, 503, 503, 503, 503, 200, 503, unchanged},
		{"OOM with noeviction", userURL, func(r *faultTest) { r.exec("CONFIG", "SET", "maxmemory", "1") }, func(r *faultTest) { r.exec("CONFIG", "SET", "maxmemory", "0") }, 503, 503, 503, 503, 200, 503, unchanged},
		{"LOADING", userURL, func(r *faultTest) {
			r.exec("DEBUG", "POPULATE", "1000", "filler", "2048")
			r.exec("CONFIG", "SET", "loading-process-events-interval-bytes", "1024", "key-load-delay", "10000")
			loaded.Go(func() { r.redis.Client.Do(r.t.Context(), "DEBUG", "RELOAD") })
			storetest.Eventually(r.t, func() bool {
				err := r.redis.Client.Get(r.t.Context(), "k").Err()
				return err != nil && strings.HasPrefix(err.Error(), "LOADING")
			})
		}, func(r *faultTest) { r.exec("CONFIG", "SET", "key-load-delay", "0"); loaded.Wait() }, 503, 503, 503, 503, 503, 503, unchanged},
		{"NOAUTH: password required", "redis://%s", func(r *faultTest) { r.exec("CONFIG", "SET", "requirepass", "other"); r.cut() }, func(r *faultTest) { r.exec("CONFIG", "SET", "requirepass", "") }, 503, 503, 503, 503, 503, 503, unchanged},
		{"WRONGPASS: another password", userURL, func(r *faultTest) { r.exec("ACL", "SETUSER", "mfa", "resetpass", ">other"); r.cut() }, func(r *faultTest) { r.exec("ACL", "SETUSER", "mfa", ">pw") }, 503, 503, 503, 503, 503, 503, unchanged},
		{"NOPERM: SET forbidden", userURL, func(r *faultTest) { r.exec("ACL", "SETUSER", "mfa", "-set") }, func(r *faultTest) { r.exec("ACL", "SETUSER", "mfa", "+set") }, 503, 503, 503, 503, 200, 503, unchanged},
		proxied("MOVED: a cluster, not configured as one", onWrite(storetest.Instead("-MOVED 1 127.0.0.1:1\r\n")), 503, 503, 503, 503, 200, 503, unchanged),
		{"WRONGTYPE at our key", userURL, func(r *faultTest) { r.exec("DEL", pendingEntry("eve")); r.exec("RPUSH", pendingEntry("eve"), "x") }, func(*faultTest) {}, 200, 200, 200, 200, 200, 200, evesKey},
		{"foreign value without TTL", userURL, func(r *faultTest) { r.exec("SET", pendingEntry("eve"), "x") }, func(*faultTest) {}, 200, 200, 200, 200, 200, 200, evesKey},
		{"maxclients", userURL, func(r *faultTest) { r.exec("CONFIG", "SET", "maxclients", "1"); r.cut() }, func(r *faultTest) { r.exec("CONFIG", "SET", "maxclients", "10000") }, 503, 503, 503, 503, 503, 503, unchanged},
		{"pool exhausted", userURL + "?pool_size=1", func(r *faultTest) {
			r.proxy.Do(onWrite(storetest.Hold)...)
			hogging.Store(true)
			for range 8 { // one holds the connection, the others wait before ada
				hogs.Go(func() {
					for hogging.Load() {
						r.post(asUser(r.t, "hog"))
					}
				})
			}
			storetest.Eventually(r.t, func() bool { return len(r.logLines("request")) > 8 })
		}, func(r *faultTest) { hogging.Store(false); hogs.Wait(); r.proxy.Do() }, 503, 503, 503, 503, either, 503, unchanged}, // A read may get the connection between two writes.
		{"FLUSHALL", userURL, func(r *faultTest) { r.exec("FLUSHALL") }, func(*faultTest) {}, 200, 200, 401, 503, 503, 503, nothing},
	}
}
