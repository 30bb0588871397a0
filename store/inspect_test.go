package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func wantFindings(t *testing.T, url string, want ...store.Finding) {
	t.Helper()
	got, err := newRedis(t, url).Inspect(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("inspection of %s: %v (-want +got):\n%s", url, err, diff)
	}
}

func fatal(text string) store.Finding { return store.Finding{Text: text, Fatal: true} }
func lossy(text string) store.Finding { return store.Finding{Text: text, Lossy: true} }

// persistent has redis-server keep its data, as the inspection demands.
var persistent = []string{"--appendonly", "yes"}

// Each case configures the server, and the next one resets it.
func TestInspect_FindsFaultsInTheSetup(t *testing.T) { //nolint:tparallel // The cases share one server.
	t.Parallel()
	server := storetest.StartRedis(t, persistent...)
	rules := deployedRules(t)
	const pending, factor, identity, apiKey = "mfa:{probe}:pending", "mfa:{probe}:factor", "mfa:store", "mfa:apikey:probe"
	forbidden := func(command string, keys ...string) (findings []store.Finding) {
		for _, key := range keys {
			findings = append(findings, fatal("the Redis user may not use "+command+" on keys like "+key))
		}
		return findings
	}
	denied := func(command string) []store.Finding {
		return []store.Finding{fatal("the Redis user may not use " + command)}
	}
	for _, c := range []struct {
		name, rules string
		configure   []string // commands
		want        []store.Finding
	}{
		{"no fault", rules, nil, nil},
		{"eviction", rules, []string{"CONFIG SET maxmemory-policy volatile-ttl"}, []store.Finding{
			lossy("maxmemory-policy is volatile-ttl, by which Redis may drop factors: set noeviction"),
		}},
		{"no persistence", rules, []string{"CONFIG SET appendonly no"}, []store.Finding{noAOF}},
		{"replica", rules, []string{"REPLICAOF 127.0.0.1 1"}, []store.Finding{fatal(replica)}},
		{"writable replica", rules, []string{"CONFIG SET replica-read-only no", "REPLICAOF 127.0.0.1 1"}, []store.Finding{fatal(replica)}},
		{"another password", "resetpass >other ~* +@all", nil, []store.Finding{fatal("Redis does not accept the user and password of MFA_REDIS_URL")}},
		{"no INFO", rules + " -info", nil, []store.Finding{
			{Text: "the Redis user may not use INFO: version, maxmemory-policy and appendonly are not checked"},
		}},
		{"no SET", rules + " -set", nil, denied("SET")},
		{"no GET", rules + " -get", nil, denied("GET")},
		{"no TYPE", rules + " -type", nil, denied("TYPE")},
		{"no DEL", rules + " -del", nil, denied("DEL")},
		{"no EVAL", rules + " -eval", nil, denied("EVAL")},
		{"no WAIT, and no replicas required", rules + " -wait", nil, nil},
		{"API keys only", rules + " resetkeys ~mfa:apikey:*", nil, slices.Concat(
			forbidden("DEL", pending), forbidden("EVAL", identity, factor, pending), forbidden("GET", identity, factor, pending),
			forbidden("SET", factor, pending), forbidden("TYPE", factor, pending))},
		{"accounts only", rules + " resetkeys ~mfa:{*", nil, slices.Concat(
			forbidden("EVAL", identity), forbidden("GET", apiKey, identity), forbidden("SET", apiKey))},
		{"no factors", rules + " resetkeys ~mfa:{*}:pending ~mfa:apikey:* ~mfa:store*", nil, slices.Concat(
			forbidden("EVAL", factor), forbidden("GET", factor), forbidden("SET", factor), forbidden("TYPE", factor))},
		{"API keys read-only", rules + " resetkeys ~mfa:{* ~mfa:store* %R~mfa:apikey:*", nil, forbidden("SET", apiKey)},
	} {
		t.Run(c.name, func(t *testing.T) {
			reset := []string{"REPLICAOF NO ONE", "CONFIG SET maxmemory-policy noeviction", "CONFIG SET appendonly yes", "CONFIG SET replica-read-only yes"}
			for _, command := range slices.Concat(reset, c.configure) {
				do(t, server, words(command)...)
			}
			setUser(t, server, c.rules)
			wantFindings(t, "redis://mfa:pw@"+server.Addr, c.want...)
			if entries := server.Dump(t); len(entries) != 0 {
				t.Errorf("the inspection left %v", entries)
			}
		})
	}
}

// Only a service that waits for replicas needs WAIT and replicas. This server has no replica.
func TestInspect_LooksForRequiredReplicas(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t, persistent...)
	backend := newRedis(t, "redis://mfa:pw@"+server.Addr)
	backend.RequireReplicas(1)
	fewer := store.Finding{Text: "Redis has fewer replicas than MFA_REDIS_WAIT_REPLICAS: changes of factors get a 503"}
	for rules, want := range map[string][]store.Finding{
		deployedRules(t):            {fewer},
		deployedRules(t) + " -wait": {fewer, fatal("the Redis user may not use WAIT")},
	} {
		setUser(t, server, rules)
		if got, err := backend.Inspect(t.Context()); !cmp.Equal(want, got) || err != nil {
			t.Errorf("inspection with %s: %v, %v; want %v", rules, got, err, want)
		}
	}
}

// A missing permission may concern the handshake, before the first command.
func TestInspect_NamesTheRefusedCommandOfTheHandshake(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t, persistent...)
	for _, c := range []struct{ suffix, command, rule string }{
		{"/1", "SELECT", selectRule},
		{"?client_name=mfa", "CLIENT SETNAME", clientNameRule},
	} {
		url := "redis://mfa:pw@" + server.Addr + c.suffix
		setUser(t, server, deployedRules(t))
		wantFindings(t, url, fatal("the Redis user may not use "+c.command))
		setUser(t, server, deployedRules(t)+" "+c.rule)
		wantFindings(t, url)
	}
}

var noAOF = lossy("appendonly is no, by which a restart of Redis may lose factors: set yes")

const (
	renamed = ", because Redis does not know it: was it renamed?"
	replica = "Redis is a replica, and a replica loses what is written to it: name its primary, or use Sentinel"
)

// A renamed command has the finding of a forbidden one, and hides no other.
func TestInspect_FindsRenamedCommands(t *testing.T) {
	t.Parallel()
	noInfo := store.Finding{Text: "the Redis user may not use INFO" + renamed + ": version, maxmemory-policy and appendonly are not checked"}
	unknown := func(command string) store.Finding { return fatal("the Redis user may not use " + command + renamed) }
	for _, c := range []struct {
		commands, path string
		args           []string
		want           []store.Finding
	}{
		{"INFO", "", nil, []store.Finding{noInfo}},
		{"SET", "", nil, []store.Finding{unknown("SET")}},
		{"GET", "", nil, []store.Finding{unknown("GET")}},
		{"TYPE", "", nil, []store.Finding{unknown("TYPE")}},
		{"DEL", "", nil, []store.Finding{unknown("DEL")}},
		{"EVAL", "", nil, []store.Finding{unknown("EVAL")}},
		{"SELECT", "/1", nil, []store.Finding{unknown("SELECT")}},
		{"INFO EVAL TYPE", "", nil, []store.Finding{unknown("EVAL"), noInfo, unknown("TYPE")}},
		{"INFO EVAL", "", []string{"--replicaof", "127.0.0.1", "1"}, []store.Finding{fatal(replica), unknown("EVAL"), noInfo}},
	} {
		for command := range strings.FieldsSeq(c.commands) {
			c.args = append(c.args, "--rename-command", command, "")
		}
		wantFindings(t, storetest.StartRedis(t, slices.Concat(persistent, c.args)...).URL+c.path, c.want...)
	}
}

func TestInspect_FindsAnAbsentDatabase(t *testing.T) {
	wantFindings(t, "redis://"+storetest.SharedRedis(t).Addr+"/99", fatal("Redis has no database with the number in MFA_REDIS_URL"))
}

// Redis before 7.0 replies with a syntax error to SET with NX and GET.
func TestInspect_FindsAnOldRedisWithoutINFO(t *testing.T) {
	proxy := storetest.StartProxy(t, storetest.SharedRedis(t).Addr)
	proxy.Do(
		storetest.Fault{Command: "info", Action: storetest.Instead("-ERR unknown command `info`, with args beginning with: \r\n")},
		storetest.Fault{Command: "set", Key: "NX", Action: storetest.Instead("-ERR syntax error\r\n")},
	)
	wantFindings(t, proxy.URL, fatal("Redis does not know SET with both NX and GET: 7.0 or newer is needed"),
		store.Finding{Text: "the Redis user may not use INFO" + renamed + ": version, maxmemory-policy and appendonly are not checked"})
}

func TestInspect_FindsAnOldVersion(t *testing.T) {
	proxy := storetest.StartProxy(t, storetest.SharedRedis(t).Addr)
	info := "# Server\r\nredis_version:6.2.14\r\n"
	proxy.Do(storetest.Fault{Command: "info", Action: storetest.Instead(fmt.Sprintf("$%d\r\n%s\r\n", len(info), info))})
	wantFindings(t, proxy.URL, fatal("Redis 6.2.14 is too old: 7.0 or newer is needed"))
}

func TestInspect_FindsAServerWithoutClusterSupport(t *testing.T) {
	wantFindings(t, "redis+cluster://"+storetest.SharedRedis(t).Addr, fatal("Redis is no cluster: use redis:// or rediss://"))
}

// A cluster without hash slots has nobody to ask: that is no sound setup.
func TestInspect_NeedsAPrimaryOfTheCluster(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(storetest.FreePort(t)))
	if found, err := newRedis(t, "redis+cluster://"+server.Addr).Inspect(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("inspection: %v, %v; want ErrUnavailable", found, err)
	}
}

// The addresses of the servers count. They may differ from those in the URL.
func TestInspect_FindsPlaintextToAnotherMachine(t *testing.T) {
	t.Parallel()
	sentinel := storetest.StartSentinelOf(t, "192.0.2.1", "6379") // an address for documentation (RFC 5737)
	wantFindings(t, "redis://"+sentinel, fatal("Redis is a sentinel: add ?master_name= to the URL"))
	for address, plaintext := range map[string]bool{
		"redis://127.0.0.1:1": false, "redis://localhost:1": false, "redis://[::1]:1": false, "unix:///nowhere": false,
		"rediss://redis.invalid:1": false, "redis://redis.invalid:1": true, "redis://192.0.2.1:1": true,
		"redis://" + sentinel + "?master_name=mfa": true, "redis+cluster://redis.invalid:1": true,
	} {
		var want []store.Finding
		if plaintext {
			want = []store.Finding{{Text: "the connection to Redis leaves this machine and is not encrypted: use rediss://"}}
		}
		got, err := newRedis(t, address).Inspect(t.Context())
		if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("inspection of %s: %v; want ErrUnavailable (-want +got):\n%s", address, err, diff)
		}
	}
}

// Ready and Inspect try writes. A server without memory refuses them for now, which is no
// fault in the setup.
func TestReady_NeedsAServerThatAcceptsWrites(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t, persistent...)
	backend := newRedis(t, server.URL)
	for _, c := range []struct {
		command string
		ready   bool
	}{
		{"PING", true},
		{"REPLICAOF 127.0.0.1 1", false},
		{"REPLICAOF NO ONE", true},
		{"CONFIG SET maxmemory 1", false},
	} {
		do(t, server, words(c.command)...)
		if err := backend.Ready(t.Context()); (err == nil) != c.ready || err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("after %s: %v; want ready %t", c.command, err, c.ready)
		}
	}
	if findings, err := backend.Inspect(t.Context()); len(findings) != 0 || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("inspection without memory: %v, %v; want ErrUnavailable", findings, err)
	}
}
