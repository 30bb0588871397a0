package store_test

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"pgregory.net/rapid"

	"quiva.ai/mfa/store"
)

const (
	badScheme     = "must be a URL with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://"
	badCharacter  = "has a character that must be percent-encoded, most likely in the password: percent-encode the password (% as %25, # as %23, / as %2F, ? as %3F, @ as %40, [ as %5B, & as %26, ; as %3B, a space as %20)"
	badHost       = "must have a host or host:port after the user and password, several of them separated by commas; a port is 1 to 65535"
	badSocket     = "must have the path of a socket after unix://, such as unix:///run/redis/redis.sock"
	badPassword   = "has an @, but no password before it: write user:password@ or :password@"
	badPath       = "may have only a database number after the host, such as /0"
	badParameter  = "may have only the parameters addr, client_name, conn_max_idle_time, conn_max_lifetime, db, master_name, min_idle_conns, password, pool_size, protocol, tls_ca_file, tls_cert_file, tls_key_file, tls_server_name, username"
	badPair       = " cannot be read: separate parameters by &, and write ; as %3B and % as %25"
	severalHosts  = "names several servers: for a cluster use redis+cluster:// or rediss+cluster://, for Sentinel add master_name"
	noSentinel    = "username and password are for Redis behind Sentinel: put them before the host, or add master_name"
	clusterMaster = "master_name is for Sentinel, and a cluster has none"
	socketServers = "master_name and addr are not for unix://, which names one server"
	noTLS         = "has TLS parameters, but a scheme without TLS"
	badCA         = "tls_ca_file cannot be read as PEM certificates"
	badKeyPair    = "tls_cert_file and tls_key_file cannot be read as a PEM certificate and its key"
	badAddr       = "addr must be a host or host:port, or several of them separated by commas"
	badText       = " may have only printable ASCII characters and no spaces"
	badDuration   = " must be a duration such as 90s, or a number of seconds"
	badServerName = "tls_server_name must be a host name or an IP address"
)

func TestRedisURL_RefusesWithoutShowingTheURL(t *testing.T) {
	for _, row := range []struct {
		want string
		urls []string
	}{
		{badScheme, []string{"", "http://user:hunter2@host", "\x7f:hunter2", "cluster://hunter2", "redis:hunter2:6379", "redis", "'redis://hunter2'"}},
		{badCharacter, []string{
			"redis://:57#Wc@h:6379/0", "redis://:57/Wc@h:6379/0", "redis://:57?Wc@h:6379/0", "redis://:57@Wc@h:6379/0", "redis://:57%zzWc@h:6379/0",
			"redis://:57%Wc@h:6379/0", "redis://:57 Wc@h:6379/0", "redis://:57[Wc@h:6379/0", "redis://:57]Wc@h", "redis://:57\"Wc@h", "redis://:57\\Wc@h",
			"redis://:57<Wc@h", "redis://:57^Wc@h", "redis://:57{Wc@h", "redis://:57|Wc@h", "redis://:57`Wc@h", "redis://:p\u00e4ss@h", "redis://#@h", "redis://?@h", "redis:///@h",
			"redis://:57/1?Wc@h", "redis://:57?db=1@h:6379/0", "redis://:57?client_name=a@h", "redis+cluster://:57#Wc@h", "rediss://:57/Wc@h", "unix://:a/b@/run/s",
			"unix://:a#b@/run/s", "unix://:a?b@/run/s", "unix://:a@/b@/run/s", "unix:///run/s%zz", "redis://h:6379/0\n", "redis://h:6379/0 ", "redis://h#", "redis://h\x00",
			"redis+cluster://a:1?addr=u:pw@b:2", "redis://s?master_name=m&password=a&b%zz", "redis://s?master_name=m&password=a&b;c", "redis://s?master_name=m&password=a#b",
		}},
		{badHost, []string{
			"redis://:hunter2@host:port/x", "redis://", "redis://:hunter2", "redis://:6379", "redis://h:", "redis://h:0", "redis://h:65536", "redis://h:-1", "redis://h^",
			"redis://a,", "redis+cluster://a:1,,b:2", "redis+cluster://,a:1", "redis+cluster://a:1;b:2", "redis+cluster://a:1,b:x", "redis://::1", "redis://[h]", "redis://[::1", "redis://[:::]",
		}},
		{badPassword, []string{"redis://hunter2@h", "redis://user:@h", "redis://:@h", "redis://@h", "unix://hunter2@/run/s"}},
		{badSocket, []string{"unix://", "unix:///", "unix://run/redis.sock", "unix://:pw@run/redis.sock", "unix://h:1/run/redis.sock"}},
		{badPath, []string{"redis://h/hunter2", "redis://h/0/1", "redis://h/-1", "redis://h/4294967296", "redis://h/%30", "redis+cluster://h/x"}},
		// These would break a promise of the package, or make go-redis panic.
		{badParameter, []string{
			"redis://h?read_timeout=hunter2", "redis://h?max_retries=3", "rediss://h?skip_verify=true", "redis+cluster://h?read_only=true",
			"redis://h?master_name=m&route_by_latency=true", "redis://h?hunter2=1", "redis://h?hunter2", "redis://h?db=1&", "redis://h?&db=1", "redis://h?=1", "redis://h?DB=1",
			"redis://s?master_name=m&password=a&hunter2",
		}},
		{severalHosts, []string{"redis://h?addr=hunter2", "redis://a:1,b:2", "rediss://a:1,b:2/0"}},
		{noSentinel, []string{"redis://h?username=hunter2", "redis://h?password=hunter2", "redis+cluster://h?password=hunter2", "unix:///s?password=hunter2"}},
		{clusterMaster, []string{"redis+cluster://h?master_name=hunter2"}},
		{"db is not for a cluster, which has database 0 only", []string{"redis+cluster://h/1", "redis+cluster://h?db=1"}},
		{socketServers, []string{"unix:///s?master_name=hunter2", "unix:///s?addr=hunter2"}},
		{"username needs password", []string{"redis://s?master_name=m&username=hunter2"}},
		{badAddr, []string{"redis+cluster://h?addr=hunter2:x", "redis+cluster://h?addr=u:pw%40h", "redis+cluster://h?addr=a,", "redis+cluster://h?addr=redis://a"}},
		{"pool_size must be a number from 1 to 10000", []string{"redis://h?pool_size=10001", "redis://h?pool_size=4000000000", "redis://h?pool_size=0", "redis://h?pool_size=-1", "redis://h?pool_size=hunter2"}},
		{"min_idle_conns must be a number from 0 to 32", []string{"redis://h?min_idle_conns=33", "redis://h?min_idle_conns=-1", "redis://h?min_idle_conns=x"}},
		{"protocol must be a number from 2 to 3", []string{"redis://h?protocol=1", "redis://h?protocol=4", "redis://h?protocol=x"}},
		{"db must be a number from 0 to 2147483647", []string{"redis://h?db=x", "redis://h?db=-1", "unix:///s?db=2147483648"}},
		{"conn_max_idle_time" + badDuration, []string{"redis://h?conn_max_idle_time=x", "redis://h?conn_max_idle_time=1d", "redis://h?conn_max_idle_time=99999999999"}},
		{"conn_max_lifetime" + badDuration, []string{"redis://h?conn_max_lifetime=x"}},
		{"client_name" + badText, []string{"redis://h?client_name=a+b", "redis://h?client_name=a%0A", "redis://h?client_name=\u00e4"}},
		{"master_name" + badText, []string{"redis://h?master_name=a%20b"}},
		{noTLS, []string{"redis://h?tls_ca_file=hunter2", "redis://h?tls_server_name=hunter2", "unix:///s?tls_server_name=hunter2", "redis+cluster://h?tls_server_name=hunter2"}},
		{badServerName, []string{"rediss://h?tls_server_name=https://hunter2", "rediss://h?tls_server_name=*.h", "rediss://h?tls_server_name=h:1", "rediss://h?tls_server_name=fe80::1%25eth0", "rediss://h?tls_server_name=h%0A"}},
		{badCA, []string{"rediss://h?tls_ca_file=/dev/null"}},
		{badKeyPair, []string{"rediss://h?tls_cert_file=hunter2&tls_key_file=hunter2", "rediss://h?tls_cert_file=hunter2"}},
	} {
		for _, text := range row.urls {
			if err := new(store.RedisURL).UnmarshalText([]byte(text)); err == nil || err.Error() != row.want {
				t.Errorf("URL %q: %v; want %s", text, err, row.want)
			}
		}
	}
}

// url.URL.Query drops a pair with a ; or a bad %: a pinned authority would be gone.
func TestRedisURL_RefusesEachParameterThatCannotBeRead(t *testing.T) {
	values := map[string]string{
		"addr": "i:2", "db": "5", "pool_size": "9", "min_idle_conns": "2", "protocol": "2", "conn_max_idle_time": "3s", "conn_max_lifetime": "4s",
		"tls_ca_file": "ca.pem", "tls_cert_file": "cert.pem", "tls_key_file": "key.pem", "tls_server_name": "mfa.internal",
		"client_name": "c", "master_name": "m", "username": "ada", "password": "pw",
	}
	for name, value := range values {
		pair := name + "=" + value
		for query, want := range map[string]string{
			pair + ";client_name=mfa": name + badPair,
			pair + ";":                name + badPair,
			pair + "%zz":              name + badPair,
			pair + "%":                name + badPair,
			name + "=":                name + " is empty",
			name:                      name + " is empty",
			pair + "&" + pair:         name + " is given twice",
			pair + "&%" + fmt.Sprintf("%x", name[0]) + name[1:] + "=other": name + " is given twice",
		} {
			if name == "addr" && strings.HasSuffix(want, "twice") {
				continue
			}
			err := new(store.RedisURL).UnmarshalText([]byte("rediss://h:6380?" + query))
			if err == nil || !slices.Contains(strings.Split(err.Error(), "; "), want) && !strings.Contains(err.Error(), want) {
				t.Errorf("query %q: %v; want %s", query, err, want)
			}
		}
	}
	for _, text := range []string{"redis://h/1?db=1", "redis://h/0?db=2"} {
		const want = "db is given twice, in the path and as a parameter"
		if err := new(store.RedisURL).UnmarshalText([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("URL %q: %v; want %s", text, err, want)
		}
	}
}

func TestRedisURL_ReportsAllFaultsOfItsParameters(t *testing.T) {
	const text = "rediss://h/1?db=x&pool_size=0&tls_ca_file=/dev/null&tls_cert_file=/dev/null&hunter2=1&hunter3=2&client_name="
	want := strings.Join([]string{
		badParameter, "client_name is empty", "db is given twice, in the path and as a parameter", "db must be a number from 0 to 2147483647",
		"pool_size must be a number from 1 to 10000", badCA, badKeyPair,
	}, "; ")
	if err := new(store.RedisURL).UnmarshalText([]byte(text)); err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// A password with any characters stands at each place of a URL that may have one. It is read
// as it is if it is percent-encoded. If it is not, it is read as it is or refused, and the
// error shows no part of it.
func TestRedisURL_ShowsNoPartOfAPassword(t *testing.T) {
	forms := []string{
		"redis://:%s@h:6379/0", "rediss://user:%s@h?pool_size=4", "unix://:%s@/run/redis.sock", "redis+cluster://u:%s@a:1,b:2?addr=c:3",
		"redis://s:1?master_name=m&username=u&password=%s", "redis://%s@h", "redis://:%s", "redis://h/%s", "redis://h?%s", "redis+cluster://a?addr=u:%s@b",
		"rediss://h?tls_ca_file=%s", "rediss://h?tls_server_name=%s", "redis://h?db=%s", "redis://h?client_name=%s", "%s",
	}
	// No message has a digit between capital letters, or a capital letter between digits.
	telling := regexp.MustCompile(`^([A-Z][0-9][A-Z]|[0-9][A-Z][0-9])$`)
	password := rapid.StringMatching(`[A-Z][0-9][A-Z]([A-Z][0-9]|[#?/@%&;=+:,. \[\]!$'()*"<>\\^{|}~-]){1,12}[A-Z][0-9][A-Z]`)
	rapid.Check(t, func(t *rapid.T) {
		form, secret := rapid.SampledFrom(forms).Draw(t, "form"), password.Draw(t, "password")
		var read, escaped store.RedisURL
		err := read.UnmarshalText([]byte(fmt.Sprintf(form, secret)))
		for i := range len(secret) - 2 {
			if part := secret[i : i+3]; err != nil && telling.MatchString(part) && strings.Contains(err.Error(), part) {
				t.Fatalf("the error shows %q of the password: %v", part, err)
			}
		}
		if !slices.Contains(forms[:5], form) {
			return
		}
		if err == nil && !strings.ContainsAny(secret, "%+") && read.Options().Password != secret {
			t.Fatalf("%s with %q: read as %q", form, secret, read.Options().Password)
		}
		if err := escaped.UnmarshalText([]byte(fmt.Sprintf(form, strings.ReplaceAll(url.QueryEscape(secret), "+", "%20")))); err != nil || escaped.Options().Password != secret {
			t.Fatalf("%s with %q, percent-encoded: %v", form, secret, err)
		}
	})
}

// Before the ?, a + is a plus; after it, a space.
func TestRedisURL_ReadsPlusAsTheStandardsSay(t *testing.T) {
	for text, want := range map[string]string{
		"redis://:a+b@h": "a+b", "redis://:a%2Bb@h": "a+b", "redis://:a%20b@h": "a b",
		"redis://s?master_name=m&password=a+b": "a b", "redis://s?master_name=m&password=a%2Bb": "a+b", "redis://s?master_name=m&password=a@b": "a@b",
	} {
		if got := newURL(t, text).Options().Password; got != want {
			t.Errorf("%s: password %q; want %q", text, got, want)
		}
	}
}

func TestRedisURL_ReadsListsOfHosts(t *testing.T) {
	for text, want := range map[string][]string{
		"redis+cluster://a:1,b:2": {"a:1", "b:2"},
		"rediss+cluster://u:pw@a,b:2,[::1]:3,[fe80::1%25eth0]?addr=c:4,d&addr=e": {"a:6379", "b:2", "[::1]:3", "[fe80::1%eth0]:6379", "c:4", "d:6379", "e:6379"},
		"redis://a:26379,b:26379?master_name=m":                                  {"a:26379", "b:26379"},
		"redis://a:26379?master_name=m&addr=b:26379,c:1":                         {"a:26379", "b:26379", "c:1"},
		"REDIS://h:1/": {"h:1"},
	} {
		if diff := cmp.Diff(want, newURL(t, text).Options().Addrs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func newURL(t *testing.T, text string) (u store.RedisURL) {
	t.Helper()
	if err := u.UnmarshalText([]byte(text)); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return u
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
		"redis://host":                {Network: "tcp", Addr: "host:6379"},
		"rediss://ada:pw@host:1/2":    {Network: "tcp", Addr: "host:1", Username: "ada", Password: "pw", TLSName: "host", DB: 2},
		"unix:///run/redis.sock?db=3": {Network: "unix", Addr: "/run/redis.sock", DB: 3},
		"rediss://s:1/4?master_name=m&username=ada&password=pw": {Network: "tcp", Addr: "FailoverClient", Username: "ada", Password: "pw", DB: 4},
		"rediss://s?master_name=m&tls_server_name=mfa.internal": {Network: "tcp", Addr: "FailoverClient", TLSName: "mfa.internal"},
		"rediss://[fe80::1%25eth0]":                             {Network: "tcp", Addr: "[fe80::1%eth0]:6379", TLSName: "fe80::1"},
		"rediss://127.0.0.1?tls_server_name=mfa.internal":       {Network: "tcp", Addr: "127.0.0.1:6379", TLSName: "mfa.internal"},
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
