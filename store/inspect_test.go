package store_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
			[]store.Finding{{Text: "Redis is a replica, which takes no writes: name its primary, or use Sentinel", Fatal: true}}},
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

func TestInspectionFindsPlaintextOnTheNetwork(t *testing.T) {
	for address, leaves := range map[string]bool{
		"redis://127.0.0.1:1": false, "redis://localhost:1": false, "redis://[::1]:1": false, "unix:///nowhere": false,
		"rediss://redis.invalid:1": false, "redis://redis.invalid:1": true, "redis://192.0.2.1:1": true,
		"redis://127.0.0.1:1?master_name=m&addr=redis.invalid:1": true, "redis+cluster://127.0.0.1:1?addr=redis.invalid:1": true,
	} {
		findings, err := newRedis(t, address).Inspect(t.Context())
		want := leaves && len(findings) == 1 && strings.Contains(findings[0].Text, "is not encrypted") && !findings[0].Fatal
		if !errors.Is(err, store.ErrUnavailable) || !want && len(findings) > 0 || leaves != want {
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
	node := storetest.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(storetest.FreePort(t)))
	do(t, node, "CLUSTER", "ADDSLOTSRANGE", "0", "1")
	if err := newRedis(t, node.URL).Ready(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a node of a cluster, taken for a single server: %v; want ErrUnavailable", err)
	}
}

// A cluster that has lost a part of its slots, and serves the others, is ready: of the
// accounts that it still serves nobody is turned away.
func TestAClusterIsReadyWithOnePrimaryThatAnswers(t *testing.T) {
	cluster := storetest.StartCluster(t)
	for _, p := range cluster.Primaries {
		do(t, p, "CONFIG", "SET", "cluster-require-full-coverage", "no")
	}
	backend := newRedis(t, cluster.URL)
	for lost := 1; lost <= 3; lost++ {
		cluster.Primaries[3-lost].Kill()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := backend.Ready(ctx); (err == nil) != (lost < 3) {
			t.Errorf("with %d of 3 primaries lost: %v", lost, err)
		}
	}
}
