package storetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sentinel is a primary, a replica of it, and three sentinels that watch them under the
// name mfa.
type Sentinel struct {
	Primary, Replica *RedisServer
	URL              string

	KillFirstSentinel func() // that of the URL's host: clients ask it first
}

// StartSentinel starts them and waits until the replica has caught up and all sentinels
// know of it and of each other: before that, they cannot agree on a failover.
func StartSentinel(t testing.TB) Sentinel {
	t.Helper()
	primary := StartRedis(t)
	host, port, err := net.SplitHostPort(primary.Addr)
	must(t, err)
	replica := StartRedis(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0")
	Eventually(t, replica.caughtUp)
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

// caughtUp tells whether a replica has what its primary has.
func (s *RedisServer) caughtUp() bool {
	return strings.Contains(s.Client.Info(context.Background(), "replication").Val(), "master_link_status:up")
}

// StartSentinelOf starts a sentinel that watches host:port under the name mfa, and
// returns its address.
func StartSentinelOf(t testing.TB, host, port string) string {
	t.Helper()
	address, _ := startSentinel(t, host, port)
	return address
}

func startSentinel(t testing.TB, host, port string) (address string, kill func()) {
	t.Helper()
	process := start(t, "+monitor master mfa", func() []string {
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
		_, own, _ := net.SplitHostPort(address)
		// A sentinel insists on a file of its own, and writes to it.
		file := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %q\nsentinel monitor mfa %s %s 2\n"+
			"sentinel down-after-milliseconds mfa 1000\nsentinel failover-timeout mfa 3000\n", own, filepath.Dir(file), host, port)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{file, "--sentinel"}
	})
	kill = sync.OnceFunc(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	t.Cleanup(kill)
	return address, kill
}

// Cluster is three primaries, which share the slots.
type Cluster struct {
	Primaries []*RedisServer
	URL       string // names only the first
}

// StartCluster starts a cluster and waits until it serves.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	ctx := context.Background()
	c := &Cluster{}
	for i := range 3 {
		node := startNode(t)
		must(t, node.Client.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", i*16384/3, (i+1)*16384/3-1).Err())
		must(t, node.Client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
		c.Primaries = append(c.Primaries, node)
	}
	c.meet(t, c.Primaries[1:]...)
	for _, node := range c.Primaries {
		Eventually(t, func() bool {
			info := node.Client.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	c.URL = "redis+cluster://" + c.Primaries[0].Addr
	return c
}

// AddReplicas adds a replica of each primary and waits until they have caught up.
func (c *Cluster) AddReplicas(t testing.TB) {
	t.Helper()
	var replicas []*RedisServer
	for range c.Primaries {
		replicas = append(replicas, startNode(t, "--repl-diskless-sync-delay", "0"))
	}
	c.meet(t, replicas...)
	for i, replica := range replicas {
		must(t, replica.Client.ClusterReplicate(context.Background(), c.Primaries[i].nodeID(t)).Err())
	}
	for _, replica := range replicas {
		Eventually(t, replica.caughtUp)
	}
}

// MoveSlot moves a slot with its keys, as redis-cli --cluster reshard does.
func (c *Cluster) MoveSlot(t testing.TB, slot int, from, to *RedisServer) {
	t.Helper()
	ctx := context.Background()
	host, port, err := net.SplitHostPort(to.Addr)
	must(t, err)
	must(t, to.Client.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", from.nodeID(t)).Err())
	must(t, from.Client.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", to.nodeID(t)).Err())
	for {
		keys, err := from.Client.ClusterGetKeysInSlot(ctx, slot, 10).Result()
		must(t, err)
		if len(keys) == 0 {
			break
		}
		for _, key := range keys {
			must(t, from.Client.Migrate(ctx, host, port, key, 0, time.Second).Err())
		}
	}
	for _, node := range []*RedisServer{to, from} {
		must(t, node.Client.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", to.nodeID(t)).Err())
	}
}

// startNode starts a server that is to become part of a cluster.
func startNode(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	bus := strconv.Itoa(FreePort(t))
	node := StartRedis(t, append([]string{"--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-announce-ip", "127.0.0.1",
		"--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000"}, args...)...)
	node.bus = bus
	return node
}

func (s *RedisServer) nodeID(t testing.TB) string {
	t.Helper()
	id, err := s.Client.ClusterMyID(context.Background()).Result()
	must(t, err)
	return id
}

// meet makes nodes known to the first primary, and waits until they know all of them.
func (c *Cluster) meet(t testing.TB, nodes ...*RedisServer) {
	t.Helper()
	ctx := context.Background()
	for _, node := range nodes {
		host, port, err := net.SplitHostPort(node.Addr)
		must(t, err)
		must(t, c.Primaries[0].Client.Do(ctx, "CLUSTER", "MEET", host, port, node.bus).Err())
	}
	for _, node := range nodes {
		Eventually(t, func() bool {
			known := node.Client.ClusterNodes(ctx).Val()
			return !slices.ContainsFunc(c.Primaries, func(p *RedisServer) bool { return !strings.Contains(known, p.nodeID(t)) })
		})
	}
}

// TLSFiles are paths of PEM files: an authority, and a certificate of its for
// 127.0.0.1 and mfa.internal, for servers and clients alike.
type TLSFiles struct{ CA, Cert, Key string }

// NewTLSFiles makes an authority and a certificate that are good for an hour.
func NewTLSFiles(t testing.TB) TLSFiles {
	t.Helper()
	dir := t.TempDir()
	files := TLSFiles{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		}
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	authority := template(1, "authority")
	authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	leaf := template(2, "leaf")
	leaf.IPAddresses, leaf.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"mfa.internal"}
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	for path, block := range map[string]*pem.Block{
		files.CA: {Type: "CERTIFICATE", Bytes: authorityDER}, files.Cert: {Type: "CERTIFICATE", Bytes: leafDER}, files.Key: {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		must(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
	}
	return files
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
