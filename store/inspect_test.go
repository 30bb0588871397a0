package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// setUser gives the Redis user mfa, with the password pw, these ACL rules.
func setUser(t *testing.T, server *storetest.RedisServer, rules string) {
	t.Helper()
	command := []any{"ACL", "SETUSER", "mfa", "reset", "on", ">pw"}
	for rule := range strings.FieldsSeq(rules) {
		command = append(command, rule)
	}
	do(t, server, command...)
}

func do(t *testing.T, server *storetest.RedisServer, command ...any) {
	t.Helper()
	if err := server.Client.Do(t.Context(), command...).Err(); err != nil {
		t.Fatalf("%v: %v", command, err)
	}
}

func TestInspectionFindsWhatIsWrongWithTheSetUp(t *testing.T) {
	t.Parallel()
	const pending, apiKey = "mfa:{probe}:pending", "mfa:apikey:probe"
	forbidden := func(command, key string) store.Finding {
		return store.Finding{Text: "the Redis user may not use " + command + " on keys like " + key, Fatal: true}
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, server *storetest.RedisServer)
		want   []store.Finding
	}{
		"nothing": {func(*testing.T, *storetest.RedisServer) {}, nil},
		"eviction": {func(t *testing.T, s *storetest.RedisServer) {
			do(t, s, "CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
		},
			[]store.Finding{{Text: "maxmemory-policy is volatile-ttl, by which Redis may drop keys before their time: set noeviction"}}},
		"replica": {func(t *testing.T, s *storetest.RedisServer) { do(t, s, "REPLICAOF", "127.0.0.1", "1") },
			[]store.Finding{{Text: "Redis is a replica, which loses what is written to it: name its primary, or use Sentinel", Fatal: true}}},
		"writable replica": {func(t *testing.T, s *storetest.RedisServer) {
			do(t, s, "REPLICAOF", "127.0.0.1", "1")
			do(t, s, "CONFIG", "SET", "replica-read-only", "no")
		}, []store.Finding{{Text: "Redis is a replica, which loses what is written to it: name its primary, or use Sentinel", Fatal: true}}},
		"password": {func(t *testing.T, s *storetest.RedisServer) { setUser(t, s, "resetpass >other ~* +@all") },
			[]store.Finding{{Text: "Redis does not accept the user and password of MFA_REDIS_URL", Fatal: true}}},
		"no INFO": {func(t *testing.T, s *storetest.RedisServer) { setUser(t, s, leastPrivilege+" -info") },
			[]store.Finding{{Text: "the Redis user may not use INFO: version and maxmemory-policy are not checked"}}},
		"no SET":  {func(t *testing.T, s *storetest.RedisServer) { setUser(t, s, leastPrivilege+" -set") }, []store.Finding{forbidden("SET", apiKey), forbidden("SET", pending)}},
		"no GET":  {func(t *testing.T, s *storetest.RedisServer) { setUser(t, s, leastPrivilege+" -get") }, []store.Finding{forbidden("GET", apiKey), forbidden("GET", pending)}},
		"no TYPE": {func(t *testing.T, s *storetest.RedisServer) { setUser(t, s, leastPrivilege+" -type") }, []store.Finding{forbidden("TYPE", pending)}},
		"no EVAL": {func(t *testing.T, s *storetest.RedisServer) { setUser(t, s, leastPrivilege+" -eval") }, []store.Finding{forbidden("EVAL", pending)}},
		"API keys alone": {func(t *testing.T, s *storetest.RedisServer) { setUser(t, s, leastPrivilege+" resetkeys ~mfa:apikey:*") },
			[]store.Finding{forbidden("EVAL", pending), forbidden("GET", pending), forbidden("SET", pending), forbidden("TYPE", pending)}},
		"pending keys alone": {func(t *testing.T, s *storetest.RedisServer) { setUser(t, s, leastPrivilege+" resetkeys ~mfa:{*") },
			[]store.Finding{forbidden("GET", apiKey), forbidden("SET", apiKey)}},
		"API keys read only": {func(t *testing.T, s *storetest.RedisServer) {
			setUser(t, s, leastPrivilege+" resetkeys ~mfa:{* %R~mfa:apikey:*")
		},
			[]store.Finding{forbidden("SET", apiKey)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := storetest.StartRedis(t)
			setUser(t, server, leastPrivilege)
			c.change(t, server)
			wantFindings(t, "redis://mfa:pw@"+server.Addr, c.want)
			if keys := server.Dump(t); len(keys) != 0 {
				t.Errorf("the inspection left %v", keys)
			}
		})
	}
}

func wantFindings(t *testing.T, url string, want []store.Finding) {
	t.Helper()
	got, err := newRedis(t, url).Inspect(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("inspection of %s: %v (-want +got):\n%s", url, err, diff)
	}
}

func TestInspectionFindsAnOldRedis(t *testing.T) {
	proxy := storetest.StartProxy(t, storetest.StartRedis(t).Addr)
	info := "# Server\r\nredis_version:6.2.14\r\n"
	proxy.Do(storetest.Fault{Command: "info", Action: storetest.Instead(fmt.Sprintf("$%d\r\n%s\r\n", len(info), info))})
	wantFindings(t, proxy.URL, []store.Finding{{Text: "Redis 6.2.14 is too old: 7.0 or newer is needed", Fatal: true}})
}

func TestInspectionFindsTheWrongKindOfServer(t *testing.T) {
	sentinel, _, _ := strings.Cut(storetest.StartSentinel(t).URL, "?")
	wantFindings(t, sentinel, []store.Finding{{Text: "Redis is a sentinel: add ?master_name= to the URL", Fatal: true}})
	cluster := storetest.StartCluster(t)
	primaries := cluster.Primaries
	// What the client of a cluster does to find its nodes.
	setUser(t, primaries[0], leastPrivilege)
	wantFindings(t, "redis+cluster://mfa:pw@"+primaries[0].Addr, []store.Finding{{Text: "the Redis user may not use CLUSTER SLOTS", Fatal: true}})
	wantFindings(t, "redis+cluster://mfa:wrong@"+primaries[0].Addr, []store.Finding{{Text: "Redis does not accept the user and password of MFA_REDIS_URL", Fatal: true}})
	wantFindings(t, "redis+cluster://"+storetest.StartRedis(t).Addr, []store.Finding{{Text: "Redis is no cluster: use redis:// or rediss://", Fatal: true}})
	wantFindings(t, primaries[1].URL, []store.Finding{{Text: "Redis is a node of a cluster: use redis+cluster://", Fatal: true}})
	do(t, primaries[1], "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	wantFindings(t, cluster.URL, []store.Finding{
		{Text: primaries[1].Addr + ": maxmemory-policy is allkeys-lru, by which Redis may drop keys before their time: set noeviction"},
	})
}

// What connecting takes is what is missing, and not what was called afterwards.
func TestInspectionNamesTheCommandThatIsRefused(t *testing.T) {
	server := storetest.StartRedis(t)
	setUser(t, server, leastPrivilege)
	for suffix, command := range map[string]string{"/1": "SELECT", "?client_name=mfa": "CLIENT SETNAME"} {
		wantFindings(t, "redis://mfa:pw@"+server.Addr+suffix, []store.Finding{{Text: "the Redis user may not use " + command, Fatal: true}})
	}
	for _, rules := range []string{leastPrivilege + " +select", leastPrivilege + " +client|setname"} {
		setUser(t, server, rules)
		suffix := map[bool]string{true: "/1", false: "?client_name=mfa"}[strings.HasSuffix(rules, "select")]
		wantFindings(t, "redis://mfa:pw@"+server.Addr+suffix, nil)
	}
}

// A server that cannot tell now is not one in which nothing was found.
func TestInspectionOfAServerWithoutMemoryIsNone(t *testing.T) {
	server := storetest.StartRedis(t, "--maxmemory", "1")
	if findings, err := newRedis(t, server.URL).Inspect(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("inspection: %v, %v; want ErrUnavailable", findings, err)
	}
}

// It is the servers' addresses that count, which may be others than those of the URL.
func TestInspectionFindsPlaintextOnTheNetwork(t *testing.T) {
	elsewhere := storetest.StartSentinelOf(t, "192.0.2.1", "6379") // nobody's (RFC 5737)
	for address, leaves := range map[string]bool{
		"redis://127.0.0.1:1": false, "redis://localhost:1": false, "redis://[::1]:1": false, "unix:///nowhere": false,
		"rediss://redis.invalid:1": false, "redis://redis.invalid:1": true, "redis://192.0.2.1:1": true,
		"redis://" + elsewhere + "?master_name=mfa": true, "redis+cluster://redis.invalid:1": true,
	} {
		findings, err := newRedis(t, address).Inspect(t.Context())
		found := len(findings) == 1 && strings.Contains(findings[0].Text, "is not encrypted") && !findings[0].Fatal
		if !errors.Is(err, store.ErrUnavailable) || found != leaves || !leaves && len(findings) > 0 {
			t.Errorf("%s: %v, %v; not encrypted: want %t", address, findings, err, leaves)
		}
	}
}

func TestReadyMeansThatWritesAreTaken(t *testing.T) {
	server := storetest.StartRedis(t)
	backend := newRedis(t, server.URL)
	for _, c := range []struct {
		command []any
		ready   bool
	}{
		{[]any{"PING"}, true},
		{[]any{"REPLICAOF", "127.0.0.1", "1"}, false},
		{[]any{"REPLICAOF", "NO", "ONE"}, true},
		{[]any{"CONFIG", "SET", "maxmemory", "1"}, false},
	} {
		do(t, server, c.command...)
		if err := backend.Ready(t.Context()); (err == nil) != c.ready || err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("after %v: %v; want ready %t", c.command, err, c.ready)
		}
	}
}

// Of the accounts that a cluster still serves nobody is turned away: it is ready while
// one primary takes writes, within the time that /readyz has, though another hangs.
func TestAClusterIsReadyWithOnePrimaryThatTakesWrites(t *testing.T) {
	cluster := storetest.StartCluster(t)
	backend := newRedis(t, cluster.URL)
	ready := func(want bool, state string) {
		t.Helper()
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if err := backend.Ready(ctx); (err == nil) != want || err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %v; want ready %t", state, err, want)
			}
		}
	}
	full := func(limit string, nodes ...*storetest.RedisServer) {
		for _, p := range nodes {
			do(t, p, "CONFIG", "SET", "maxmemory", limit)
		}
	}
	for _, p := range cluster.Primaries {
		do(t, p, "CONFIG", "SET", "cluster-require-full-coverage", "no")
	}
	ready(true, "sound")
	full("1", cluster.Primaries...)
	ready(false, "all without memory")
	full("0", cluster.Primaries[2])
	ready(true, "two of three without memory")
	full("0", cluster.Primaries...)
	cluster.Primaries[1].Stop(t)
	ready(true, "one of three hangs")
	cluster.Primaries[1].Continue(t)
	cluster.Primaries[1].Kill()
	cluster.Primaries[2].Kill()
	ready(true, "two of three killed")
	cluster.Primaries[0].Kill()
	ready(false, "all killed")
}
