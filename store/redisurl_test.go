package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"quiva.ai/mfa/store"
)

func TestRedisURL_RefusesWithoutShowingTheURL(t *testing.T) {
	const scheme = "must be a URL with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://"
	const parameter = "may have only the parameters addr, client_name, conn_max_idle_time, conn_max_lifetime, db, " +
		"master_name, min_idle_conns, password, pool_size, protocol, tls_ca_file, tls_cert_file, tls_key_file, username"
	const misplaced = "has a parameter in the wrong place: addr is for Sentinel and clusters, username and password with master_name, and a cluster has no db"
	const connections = "may have a pool_size of up to 10000, and no more min_idle_conns than that"
	for text, want := range map[string]string{
		"": scheme, "http://user:hunter2@host": scheme, "redis://:hunter2@host:port/x": scheme, "\x7f:hunter2": scheme, "cluster://hunter2": scheme,
		// These would break a promise of the package, or make go-redis panic.
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

// The limits are the same for each form of URL. They are read from the client.
func TestRedisURL_LeavesTheLimitsAsTheyAre(t *testing.T) {
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
	// A cluster's client keeps -1 and passes it to the client of each node.
	want.MaxRetries = -1
	if diff := cmp.Diff(want, got) + cmp.Diff([]string{"a:1", "b:2"}, o.Addrs); diff != "" {
		t.Errorf("cluster client (-want +got):\n%s", diff)
	}
	if o.ClusterStateReloadInterval != time.Second || o.ReadOnly || o.RouteByLatency || o.RouteRandomly || o.TLSConfig.ServerName != "" {
		t.Errorf("cluster client: %+v", o)
	}
}

// Each form sets every parameter that it may have.
func TestRedisURL_ReadsEveryParameter(t *testing.T) {
	type parameters struct {
		Addrs                                                  []string
		Username, Password, SentinelUsername, SentinelPassword string
		MasterName, ClientName                                 string
		Cluster                                                bool
		DB, Protocol, PoolSize, MinIdle                        int
		MaxIdleTime, MaxLifetime                               time.Duration
	}
	const common = "client_name=c&protocol=2&pool_size=9&min_idle_conns=2&conn_max_idle_time=3s&conn_max_lifetime=4s"
	base := parameters{
		Addrs: []string{"h:1"}, Username: "ada", Password: "pw", ClientName: "c",
		Protocol: 2, PoolSize: 9, MinIdle: 2, MaxIdleTime: 3 * time.Second, MaxLifetime: 4 * time.Second,
	}
	single, cluster, sentinel := base, base, base
	single.DB = 5
	cluster.Cluster, cluster.Addrs = true, []string{"h:1", "i:2"}
	sentinel.Addrs, sentinel.DB, sentinel.MasterName = []string{"h:1", "i:2"}, 5, "m"
	sentinel.SentinelUsername, sentinel.SentinelPassword = "watch", "man"
	for url, want := range map[string]parameters{
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
		got := parameters{
			o.Addrs, o.Username, o.Password, o.SentinelUsername, o.SentinelPassword, o.MasterName, o.ClientName,
			o.IsClusterMode, o.DB, o.Protocol, o.PoolSize, o.MinIdleConns, o.ConnMaxIdleTime, o.ConnMaxLifetime,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
	}
}
