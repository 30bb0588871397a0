package storetest

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Cluster is a cluster of three primaries.
type Cluster struct {
	Primaries []*RedisServer
	Replicas  []*RedisServer // in the order of their primaries
	URL       string         // names the first primary only
}

// StartCluster starts a cluster and waits until each primary serves.
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

// AddReplicas adds a replica of each primary and waits until the replicas have the
// primaries' data.
func (c *Cluster) AddReplicas(t testing.TB) {
	t.Helper()
	for range c.Primaries {
		c.Replicas = append(c.Replicas, startNode(t))
	}
	c.meet(t, c.Replicas...)
	for i, replica := range c.Replicas {
		must(t, replica.Client.ClusterReplicate(context.Background(), c.Primaries[i].nodeID(t)).Err())
	}
	for _, replica := range c.Replicas {
		Eventually(t, replica.caughtUp)
	}
}

// MoveSlot moves a slot and its entries with the commands of redis-cli --cluster reshard.
func (c *Cluster) MoveSlot(t testing.TB, slot int, from, to *RedisServer) {
	t.Helper()
	ctx := context.Background()
	host, port, err := net.SplitHostPort(to.Addr)
	must(t, err)
	must(t, to.Client.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", from.nodeID(t)).Err())
	// After a move, a message of another node may make from forget for a moment that it owns the slot.
	Eventually(t, func() bool {
		return from.Client.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", to.nodeID(t)).Err() == nil
	})
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

// startNode starts a server with cluster support, which belongs to no cluster yet.
func startNode(t testing.TB) *RedisServer {
	t.Helper()
	bus := strconv.Itoa(FreePort(t))
	node := StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-announce-ip", "127.0.0.1",
		"--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0")
	node.bus = bus
	return node
}

func (s *RedisServer) nodeID(t testing.TB) string {
	t.Helper()
	id, err := s.Client.ClusterMyID(context.Background()).Result()
	must(t, err)
	return id
}

// meet introduces nodes to the first primary and waits until they know every primary.
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
