package storetest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Sentinel is a primary, its replica, and three sentinels. The sentinels know the primary
// as mfa.
type Sentinel struct {
	Primary, Replica *RedisServer
	URL              string

	KillFirstSentinel func() // the sentinel at the URL's host, which clients ask first
}

// StartSentinel waits until the replica has the primary's data and each sentinel knows the
// replica and the other sentinels. Before that, they cannot agree on a failover.
func StartSentinel(t testing.TB) Sentinel {
	t.Helper()
	primary, replica := StartReplicated(t)
	host, port, err := net.SplitHostPort(primary.Addr)
	must(t, err)
	var sentinels []string
	var kills []func()
	for range 3 {
		address, kill := startSentinel(t, host, port)
		sentinels, kills = append(sentinels, address), append(kills, kill)
	}
	for _, address := range sentinels {
		client := redis.NewSentinelClient(&redis.Options{Addr: address})
		Eventually(t, func() bool {
			known := client.Master(context.Background(), "mfa").Val()
			return known["num-other-sentinels"] == "2" && known["num-slaves"] == "1"
		})
		must(t, client.Close())
	}
	query := url.Values{"master_name": {"mfa"}, "addr": sentinels[1:]}
	return Sentinel{primary, replica, "redis://" + sentinels[0] + "?" + query.Encode(), kills[0]}
}

// StartReplicated starts a primary and its replica, and waits until the replica has the primary's
// data.
func StartReplicated(t testing.TB) (primary, replica *RedisServer) {
	t.Helper()
	primary = StartRedis(t, "--repl-diskless-sync-delay", "0")
	host, port, err := net.SplitHostPort(primary.Addr)
	must(t, err)
	replica = StartRedis(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0")
	Eventually(t, replica.caughtUp)
	return primary, replica
}

// caughtUp reports whether a replica has its primary's data.
func (s *RedisServer) caughtUp() bool {
	return strings.Contains(s.Client.Info(context.Background(), "replication").Val(), "master_link_status:up")
}

// StartSentinelOf starts one sentinel, which names host:port as the primary mfa, and
// returns the sentinel's address. Nothing needs to listen on host:port. lines are further
// lines of the sentinel's configuration.
func StartSentinelOf(t testing.TB, host, port string, lines ...string) string {
	t.Helper()
	address, _ := startSentinel(t, host, port, lines...)
	return address
}

func startSentinel(t testing.TB, host, port string, lines ...string) (address string, kill func()) {
	t.Helper()
	process := start(t, "+monitor master mfa", func() []string {
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
		_, own, _ := net.SplitHostPort(address)
		// A sentinel needs a configuration file that it can write to.
		file := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %q\nsentinel monitor mfa %s %s 2\n"+
			"sentinel down-after-milliseconds mfa 1000\nsentinel failover-timeout mfa 3000\n%s\n",
			own, filepath.Dir(file), host, port, strings.Join(lines, "\n"))
		must(t, os.WriteFile(file, []byte(text), 0o600))
		return []string{file, "--sentinel"}
	})
	kill = sync.OnceFunc(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	t.Cleanup(kill)
	return address, kill
}
