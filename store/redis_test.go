package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func newRedis(t testing.TB, url string) *store.Redis {
	t.Helper()
	var parsed store.RedisURL
	if err := parsed.UnmarshalText([]byte(url)); err != nil {
		t.Fatal(err)
	}
	backend := store.NewRedis(parsed)
	t.Cleanup(func() { backend.Close() })
	return backend
}

func TestRedisHoldsOneKeyPerAccountWithADeadline(t *testing.T) {
	server := storetest.StartRedis(t)
	keyring := storetest.NewKeyring(t, storetest.NewSealKey("k1"))
	pending := store.NewPending(newRedis(t, server.URL), keyring, 10*time.Minute, time.Now)
	for range 2 {
		if _, err := pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret()); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := server.Client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^mfa:\{[A-Za-z0-9_-]{43}\}:pending$`)
	if len(keys) != 1 || !want.MatchString(keys[0]) {
		t.Fatalf("keys = %q; want one that matches %s", keys, want)
	}
	left, err := server.Client.PTTL(t.Context(), keys[0]).Result()
	if err != nil || left <= 0 || left > 10*time.Minute {
		t.Fatalf("PTTL = %v, %v; want within (0, 10m]", left, err)
	}
}

func TestRedisURLDoesNotShowItself(t *testing.T) {
	const scheme = "must be a URL with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://"
	const parameter = "may have only the parameters addr, client_name, conn_max_idle_time, conn_max_lifetime, db, " +
		"master_name, min_idle_conns, password, pool_size, protocol, tls_ca_file, tls_cert_file, tls_key_file, username"
	const misplaced = "has a parameter in the wrong place: addr is for Sentinel and clusters, username and password with master_name, and a cluster has no db"
	const connections = "may have a pool_size of up to 10000, and no more min_idle_conns than that"
	for text, want := range map[string]string{
		"": scheme, "http://user:hunter2@host": scheme, "redis://:hunter2@host:port/x": scheme, "\x7f:hunter2": scheme, "cluster://hunter2": scheme,
		// What would break a promise, or make go-redis panic.
		"redis://h?read_timeout=hunter2": parameter, "redis://h?max_retries=3": parameter, "rediss://h?skip_verify=true": parameter,
		"redis+cluster://h?read_only=true": parameter, "redis://h?master_name=m&route_by_latency=true": parameter, "redis://h?hunter2=1": parameter,
		"redis://h?addr=hunter2": misplaced, "redis://h?username=hunter2": misplaced, "redis://h?password=hunter2": misplaced,
		"redis+cluster://h?master_name=hunter2": misplaced, "redis+cluster://h/1": misplaced, "unix:///s?master_name=hunter2": misplaced,
		"redis://h?pool_size=10001": connections, "redis://h?pool_size=4000000000": connections, "redis://h?min_idle_conns=33": connections,
		"redis://h?tls_ca_file=hunter2":                         "has TLS parameters, but a scheme without TLS",
		"rediss://h?tls_ca_file=/dev/null":                      "tls_ca_file cannot be read as PEM certificates",
		"rediss://h?tls_cert_file=hunter2&tls_key_file=hunter2": "tls_cert_file and tls_key_file cannot be read as a PEM certificate and its key",
	} {
		if err := new(store.RedisURL).UnmarshalText([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("URL %q: %v; want %s", text, err, want)
		}
	}
}

// Redis repeats a command that it does not know, and AUTH has the password.
func TestARenamedCommandIsNotRepeated(t *testing.T) {
	server := storetest.StartRedis(t, "--rename-command", "AUTH", "", "--rename-command", "HELLO", "")
	backend := newRedis(t, "redis://user:hunter2@"+server.Addr)
	_, getErr := backend.Get(t.Context(), "key")
	_, inspectErr := backend.Inspect(t.Context())
	for what, err := range map[string]error{"get": getErr, "ready": backend.Ready(t.Context()), "inspect": inspectErr} {
		if !errors.Is(err, store.ErrUnavailable) || !strings.HasSuffix(err.Error(), "unknown command 'auth'") {
			t.Errorf("%s: %v; want that the command is unknown, and nothing more", what, err)
		}
	}
}

// TestRedisURLSaysWhichRedisButNotHowLongToWait reads the options that the client ends
// up with, on each topology.
func TestRedisURLSaysWhichRedisButNotHowLongToWait(t *testing.T) {
	type limits struct {
		Pool, Dial, Write, Read                        time.Duration
		PoolSize, MaxRetries, DialerRetries            int
		ContextTimeout, DisableIdentity, NoMaintenance bool
	}
	want := limits{
		Pool: 500 * time.Millisecond, Dial: 500 * time.Millisecond, Write: 500 * time.Millisecond, Read: 500 * time.Millisecond,
		PoolSize: 32, MaxRetries: 0, DialerRetries: 1, ContextTimeout: true, DisableIdentity: true, NoMaintenance: true,
	}
	type address struct {
		Network, Addr, Username, Password, TLSName string
		DB                                         int
	}
	for url, wantAddress := range map[string]address{
		"redis://host":                              {Network: "tcp", Addr: "host:6379"},
		"rediss://ada:pw@host:1/2":                  {Network: "tcp", Addr: "host:1", Username: "ada", Password: "pw", TLSName: "host", DB: 2},
		"unix:///run/redis.sock?db=3":               {Network: "unix", Addr: "/run/redis.sock", DB: 3},
		"rediss://s:1/4?master_name=m&username=ada": {Network: "tcp", Addr: "FailoverClient", Username: "ada", DB: 4},
	} {
		o := newRedis(t, url).Client().(*redis.Client).Options()
		got := limits{
			o.PoolTimeout, o.DialTimeout, o.WriteTimeout, o.ReadTimeout, o.PoolSize, o.MaxRetries, o.DialerRetries,
			o.ContextTimeoutEnabled, o.DisableIdentity, o.MaintNotificationsConfig.Mode == maintnotifications.ModeDisabled,
		}
		gotAddress := address{Network: o.Network, Addr: o.Addr, Username: o.Username, Password: o.Password, DB: o.DB}
		if o.TLSConfig != nil {
			gotAddress.TLSName = o.TLSConfig.ServerName
		}
		if diff := cmp.Diff(want, got) + cmp.Diff(wantAddress, gotAddress); diff != "" {
			t.Errorf("client for %s (-want +got):\n%s", url, diff)
		}
	}
	o := newRedis(t, "rediss+cluster://ada:pw@a:1?addr=b:2&pool_size=7").Client().(*redis.ClusterClient).Options()
	got := limits{
		o.PoolTimeout, o.DialTimeout, o.WriteTimeout, o.ReadTimeout, o.PoolSize, o.MaxRetries, o.DialerRetries,
		o.ContextTimeoutEnabled, o.DisableIdentity, o.MaintNotificationsConfig.Mode == maintnotifications.ModeDisabled,
	}
	want.PoolSize = 7
	// A cluster's client keeps -1 and hands it to the client of each node.
	want.MaxRetries = -1
	if diff := cmp.Diff(want, got) + cmp.Diff([]string{"a:1", "b:2"}, o.Addrs); diff != "" {
		t.Errorf("cluster client (-want +got):\n%s", diff)
	}
	if o.ClusterStateReloadInterval != time.Second || o.ReadOnly || o.RouteByLatency || o.RouteRandomly || o.TLSConfig.ServerName != "" {
		t.Errorf("cluster client: %+v", o)
	}
}

// TestEveryParameterOfARedisURLCounts sets them all, for each form.
func TestEveryParameterOfARedisURLCounts(t *testing.T) {
	type said struct {
		Addrs                                                  []string
		Username, Password, SentinelUsername, SentinelPassword string
		MasterName, ClientName                                 string
		Cluster                                                bool
		DB, Protocol, PoolSize, MinIdle                        int
		MaxIdleTime, MaxLifetime                               time.Duration
	}
	const common = "client_name=c&protocol=2&pool_size=9&min_idle_conns=2&conn_max_idle_time=3s&conn_max_lifetime=4s"
	base := said{
		Addrs: []string{"h:1"}, Username: "ada", Password: "pw", ClientName: "c",
		Protocol: 2, PoolSize: 9, MinIdle: 2, MaxIdleTime: 3 * time.Second, MaxLifetime: 4 * time.Second,
	}
	single, cluster, sentinel := base, base, base
	single.DB = 5
	cluster.Cluster, cluster.Addrs = true, []string{"h:1", "i:2"}
	sentinel.Addrs, sentinel.DB, sentinel.MasterName = []string{"h:1", "i:2"}, 5, "m"
	sentinel.SentinelUsername, sentinel.SentinelPassword = "watch", "man"
	for url, want := range map[string]said{
		"redis://ada:pw@h:1/5?" + common:                                                    single,
		"redis://ada:pw@h:1?db=5&" + common:                                                 single,
		"redis+cluster://ada:pw@h:1?addr=i:2&" + common:                                     cluster,
		"redis://watch:man@h:1/5?master_name=m&addr=i:2&username=ada&password=pw&" + common: sentinel,
	} {
		var parsed store.RedisURL
		if err := parsed.UnmarshalText([]byte(url)); err != nil {
			t.Fatal(err)
		}
		o := parsed.Options()
		got := said{
			o.Addrs, o.Username, o.Password, o.SentinelUsername, o.SentinelPassword, o.MasterName, o.ClientName,
			o.IsClusterMode, o.DB, o.Protocol, o.PoolSize, o.MinIdleConns, o.ConnMaxIdleTime, o.ConnMaxLifetime,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
	}
}

// A key of ours whose TTL was lost, or made longer, is past its deadline all the same.
func TestASecretDoesNotOutliveItsDeadlineWithTheTTL(t *testing.T) {
	server := storetest.StartRedis(t)
	clock := storetest.NewClock()
	pending := store.NewPending(newRedis(t, server.URL), storetest.NewKeyring(t, storetest.NewSealKey("k1")), 10*time.Minute, clock.Now)
	for command, further := range map[string][]any{"PERSIST": nil, "PEXPIRE": {(7 * 24 * time.Hour).Milliseconds()}} {
		before, err := pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret())
		if err != nil {
			t.Fatal(err)
		}
		key := server.Client.RandomKey(t.Context()).Val()
		do(t, server, append([]any{command, key}, further...)...)
		if same, err := pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret()); err != nil || same.Secret != before.Secret || !same.Deadline.Equal(before.Deadline) {
			t.Errorf("%s, before the deadline: %v, same secret %t, deadline %v; want %v", command, err, same.Secret == before.Secret, same.Deadline, before.Deadline)
		}
		clock.Advance(10 * time.Minute)
		after, err := pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret())
		if err != nil || after.Secret == before.Secret || after.Outcome != store.ReplacedExpired {
			t.Errorf("%s, at the deadline: %v, %s, same secret %t", command, err, after.Outcome, after.Secret == before.Secret)
		}
		if left := server.Client.PTTL(t.Context(), key).Val(); left <= 0 || left > 10*time.Minute {
			t.Errorf("%s: PTTL afterwards = %v; want within (0, 10m]", command, left)
		}
	}
}

// logger takes what go-redis would print on standard error.
type logger struct{ t *testing.T }

func (l logger) Printf(_ context.Context, format string, args ...any) {
	l.t.Errorf("go-redis printed: "+format, args...)
}

func TestUnreachableRedisIsUnavailableAndPrintsNothing(t *testing.T) {
	redis.SetLogger(logger{t})
	backend := newRedis(t, "unix://"+filepath.Join(t.TempDir(), "none"))
	for name, call := range storetest.Methods(backend) {
		if err := call(t.Context()); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s = %v; want ErrUnavailable", name, err)
		}
	}
	// go-redis has something to say about this one, wherever Redis is.
	backend.Client().Set(t.Context(), "k", "v", time.Nanosecond)
}

func TestDeadlineEndsACallOfARedisThatHangs(t *testing.T) {
	server := storetest.StartRedis(t)
	backend := newRedis(t, server.URL)
	// Out of the way, so that nothing but the deadline can be what ends a call.
	const farAway = 10 * time.Second
	backend.Client().(*redis.Client).Options().ReadTimeout = farAway
	if err := backend.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	// The first call has a connection, the others have to make one.
	for name, call := range storetest.Methods(backend) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := call(ctx); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s = %v; want ErrUnavailable", name, err)
		}
		if time.Since(start) >= farAway {
			t.Fatalf("%s did not heed the deadline", name)
		}
	}
}

func TestListHasWhatSomebodyElseWroteAsAnEmptyValue(t *testing.T) {
	server := storetest.StartRedis(t)
	if err := server.Client.RPush(t.Context(), "mfa:apikey:list", "x").Err(); err != nil {
		t.Fatal(err)
	}
	got, err := newRedis(t, server.URL).List(t.Context(), "mfa:apikey:")
	if diff := cmp.Diff(map[string][]byte{"mfa:apikey:list": {}}, got); diff != "" || err != nil {
		t.Errorf("list: %v (-want +got):\n%s", err, diff)
	}
}

func TestWhatSomebodyElseWroteIsReplacedByOneSecretWithADeadline(t *testing.T) {
	server := storetest.StartRedis(t)
	backend := newRedis(t, server.URL)
	keyring := storetest.NewKeyring(t, storetest.NewSealKey("k1"))
	replicas := []*store.Pending{
		store.NewPending(backend, keyring, 10*time.Minute, time.Now),
		store.NewPending(backend, keyring, 10*time.Minute, time.Now),
	}
	if _, err := replicas[0].GetOrCreate(t.Context(), "ada", storetest.NewSecret()); err != nil {
		t.Fatal(err)
	}
	key := server.Client.RandomKey(t.Context()).Val()
	for name, plant := range map[string]func(context.Context) error{
		"a string": func(ctx context.Context) error { return server.Client.Set(ctx, key, "x", 0).Err() },
		"nothing":  func(ctx context.Context) error { return server.Client.Set(ctx, key, "", 0).Err() },
		"a list":   func(ctx context.Context) error { return server.Client.RPush(ctx, key, "x").Err() },
	} {
		t.Run(name, func(t *testing.T) {
			if err := errors.Join(server.Client.Del(t.Context(), key).Err(), plant(t.Context())); err != nil {
				t.Fatal(err)
			}
			storetest.WantOneSecret(t, replicas, store.ReplacedUnreadable)
			left, err := server.Client.PTTL(t.Context(), key).Result()
			if err != nil || left <= 0 || left > 10*time.Minute {
				t.Errorf("PTTL = %v, %v; want within (0, 10m]", left, err)
			}
		})
	}
}
