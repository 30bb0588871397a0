package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// The last sub-test ends the cluster's servers.
func TestRedisCluster(t *testing.T) { //nolint:tparallel // The sub-tests share one cluster.
	t.Parallel()
	cluster := storetest.StartCluster(t)
	for _, p := range cluster.Primaries {
		setUser(t, p, deployedRules(t)+" "+clusterRules)
	}
	emptied := func(t *testing.T) *store.Redis {
		t.Helper()
		for _, p := range cluster.Primaries {
			do(t, p, "FLUSHALL")
		}
		return newRedis(t, strings.Replace(cluster.URL, "://", "://mfa:pw@", 1))
	}
	t.Run("keeps the contract", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Backend { t.Helper(); return emptied(t) })
	})
	t.Run("accepts the user of users.acl", func(t *testing.T) {
		persist(t, cluster)
		if err := serveAndAdminister(t, emptied(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("has an identity in each hash slot", func(t *testing.T) { identifyCluster(t, cluster, emptied(t)) })
	t.Run("finds a factor while its slot moves", func(t *testing.T) { moveFactor(t, cluster, emptied(t)) })
	t.Run("turns a panic into an error", func(t *testing.T) { wantPanicError(t, newRedis(t, cluster.URL)) })
	t.Run("is the pinned store while one primary hangs", func(t *testing.T) { checkCluster(t, cluster, emptied(t)) })
	t.Run("is inspected", func(t *testing.T) { inspectCluster(t, cluster) })
	t.Run("is ready while one primary accepts writes", func(t *testing.T) { readyCluster(t, cluster) })
}

// identifyCluster asks Redis for the hash slots.
func identifyCluster(t *testing.T, cluster *storetest.Cluster, backend *store.Redis) {
	keyring := storetest.NewKeyring(t, storetest.NewSealKey("k1"))
	if _, err := store.InitStore(t.Context(), backend, keyring, false); err != nil {
		t.Fatal(err)
	}
	if _, err := store.InitStore(t.Context(), backend, keyring, false); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("second init = %v; want ErrConflict", err)
	}
	slots := func(keys []string) []int64 {
		replies := make([]*redis.IntCmd, len(keys))
		_, err := cluster.Primaries[0].Client.Pipelined(t.Context(), func(pipeline redis.Pipeliner) error {
			for i, key := range keys {
				replies[i] = pipeline.ClusterKeySlot(t.Context(), key)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slots := make([]int64, len(keys))
		for i, reply := range replies {
			slots[i] = reply.Val()
		}
		return slots
	}
	identities := backend.IdentityKeys()
	for slot, got := range slots(identities) {
		if got != int64(slot) {
			t.Fatalf("%s lies in slot %d; want %d", identities[slot], got, slot)
		}
	}
	entries := []string{factorKey("ada"), factorKey("bob"), "mfa:k", "", "{}x", "{", "a{b", "a{b}c{d}", "{{a}}", "}{a"}
	var beside []string
	for _, key := range entries {
		beside = append(beside, backend.IdentityKey(key))
	}
	if diff := cmp.Diff(slots(entries), slots(beside)); diff != "" {
		t.Errorf("slots of entries, and of the identities beside them (-want +got):\n%s", diff)
	}
}

// moveFactor moves a slot. A part of its entries is on either primary then, and the factor must
// never be taken for none.
func moveFactor(t *testing.T, cluster *storetest.Cluster, backend *store.Redis) {
	f := storetest.NewFactors(t, backend, storetest.NewSealKey("k1"))
	want := f.MustEnrol(t, "ada", 1)
	slot := int(cluster.Primaries[0].Client.ClusterKeySlot(t.Context(), factorKey("ada")).Val())
	for i := range 200 { // They make the move longer.
		key := factorKey("ada") + strconv.Itoa(i)
		if err := backend.Swap(t.Context(), key, nil, []byte("v"), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	home, away := cluster.Primaries[slot*3/16384], cluster.Primaries[(slot*3/16384+1)%3]
	moving, stop := context.WithCancel(t.Context())
	var finder sync.WaitGroup
	found, unavailable := 0, 0
	finder.Go(func() {
		for moving.Err() == nil {
			// Confirm reads the pending secret too. Without one, Redis refuses to read for as long as the
			// slot moves, and go-redis tries again.
			got, err := f.Confirm(t.Context(), "ada", func(_ *store.PendingKey, f store.Factor) (store.Factor, error) { return f, nil })
			if rand.IntN(2) == 0 {
				got, err = f.Find(t.Context(), "ada")
			}
			switch {
			case errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrUnreadable):
				unavailable++
			case err != nil || !cmp.Equal(got, want):
				t.Errorf("Find while the slot moves = state %q, %v", got.State, err)
			default:
				found++
			}
		}
	})
	cluster.MoveSlot(t, slot, home, away)
	stop()
	finder.Wait()
	t.Logf("while the slot moved: found %d times, unavailable %d times", found, unavailable)
	if found == 0 {
		t.Error("never found")
	}
	// A write that waits for replicas follows no redirection: it soon knows the other primary.
	backend.RequireReplicas(1)
	storetest.Eventually(t, func() bool {
		_, err := f.Change(t.Context(), "ada", func(f store.Factor) (store.Factor, error) { return f.Remove(time.Now()), nil })
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("Change without replicas = %v; want ErrUnavailable", err)
		}
		return strings.HasSuffix(err.Error(), "0 of 1 replicas have acknowledged the write")
	})
}

// persist has the primaries keep their data, as the inspection demands.
func persist(t *testing.T, cluster *storetest.Cluster) {
	t.Helper()
	for _, p := range cluster.Primaries {
		do(t, p, "CONFIG", "SET", "appendonly", "yes")
	}
}

func inspectCluster(t *testing.T, cluster *storetest.Cluster) {
	first, second := cluster.Primaries[0], cluster.Primaries[1]
	persist(t, cluster)
	wantFindings(t, second.URL, store.Finding{Text: "Redis is a node of a cluster: use redis+cluster://", Fatal: true})
	setUser(t, first, deployedRules(t))
	wantFindings(t, "redis+cluster://mfa:pw@"+first.Addr, store.Finding{Text: "the Redis user may not use CLUSTER SLOTS", Fatal: true})
	wantFindings(t, "redis+cluster://mfa:wrong@"+first.Addr,
		store.Finding{Text: "Redis does not accept the user and password of MFA_REDIS_URL", Fatal: true})
	inspectClusterInPart(t, cluster)
	do(t, second, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	wantFindings(t, cluster.URL, lossy(second.Addr+": maxmemory-policy is allkeys-lru, by which Redis may drop factors: set noeviction"))
}

// A finding that one primary has is partial while others can serve. One primary that does not
// tell hides no finding of the others.
func inspectClusterInPart(t *testing.T, cluster *storetest.Cluster) {
	url := strings.Replace(cluster.URL, "://", "://mfa:pw@", 1)
	var all []store.Finding
	for i, p := range cluster.Primaries {
		setUser(t, p, deployedRules(t)+" "+clusterRules)
		if i == 0 {
			setUser(t, p, deployedRules(t)+" "+clusterRules+" -eval")
		}
		all = append(all, fatal(p.Addr+": the Redis user may not use EVAL"))
	}
	first := all[0]
	first.Partial = true
	wantFindings(t, url, first)
	// Of the others, at least one has the slot of a probe and does not redirect it.
	for _, p := range cluster.Primaries[1:] {
		do(t, p, "CONFIG", "SET", "maxmemory", "1")
	}
	findings, err := newRedis(t, url).Inspect(t.Context())
	if diff := cmp.Diff([]store.Finding{first}, findings); diff != "" || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("others without memory: %v; want ErrUnavailable (-want +got):\n%s", err, diff)
	}
	for _, p := range cluster.Primaries {
		do(t, p, "CONFIG", "SET", "maxmemory", "0")
		setUser(t, p, deployedRules(t)+" "+clusterRules+" -eval")
	}
	slices.SortFunc(all, func(a, b store.Finding) int { return strings.Compare(a.Text, b.Text) })
	wantFindings(t, url, all...)
}

// Check has 500 ms, the time of /readyz. The primary that hangs is the first that it asks.
func checkCluster(t *testing.T, cluster *storetest.Cluster, backend *store.Redis) {
	f := storetest.NewFactors(t, backend, storetest.NewSealKey("k1"))
	first := backend.IdentityKey("mfa:ready:0")
	identity := mustGet(t, backend, first)
	for i := 1; i < 8; i++ {
		if err := backend.Swap(t.Context(), backend.IdentityKey("mfa:ready:"+strconv.Itoa(i)), nil, identity, 0); err != nil {
			t.Fatal(err)
		}
	}
	slot := cluster.Primaries[0].Client.ClusterKeySlot(t.Context(), first).Val()
	hanging := cluster.Primaries[slot*3/16384]
	hanging.Stop(t)
	defer hanging.Continue(t)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := f.Check(ctx); err != nil {
		t.Errorf("Check while one primary hangs = %v; want nil", err)
	}
}

// Ready has 500 ms, the time of /readyz, also while a primary hangs.
func readyCluster(t *testing.T, cluster *storetest.Cluster) {
	backend := newRedis(t, cluster.URL)
	wantReady := func(want bool, state string) {
		t.Helper()
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if err := backend.Ready(ctx); (err == nil) != want || err != nil && !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %v; want ready %t", state, err, want)
			}
		}
	}
	setMaxMemory := func(limit string, nodes ...*storetest.RedisServer) {
		for _, p := range nodes {
			do(t, p, "CONFIG", "SET", "maxmemory", limit)
		}
	}
	for _, p := range cluster.Primaries {
		do(t, p, "CONFIG", "SET", "cluster-require-full-coverage", "no", "maxmemory-policy", "noeviction")
	}
	wantReady(true, "all accept writes")
	setMaxMemory("1", cluster.Primaries...)
	wantReady(false, "all without memory")
	setMaxMemory("0", cluster.Primaries[2])
	wantReady(true, "two of three without memory")
	setMaxMemory("0", cluster.Primaries...)
	cluster.Primaries[1].Stop(t)
	wantReady(true, "one of three hangs")
	cluster.Primaries[1].Continue(t)
	cluster.Primaries[1].Kill()
	cluster.Primaries[2].Kill()
	wantReady(true, "two of three killed")
	cluster.Primaries[0].Kill()
	wantReady(false, "all killed")
}

// A cluster's client has a loop of its own that sends a command again.
func TestRedisCluster_SendsWriteOnce(t *testing.T) {
	t.Parallel()
	node := storetest.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(storetest.FreePort(t)))
	proxy := storetest.StartProxy(t, node.Addr)
	host, port, err := net.SplitHostPort(proxy.Addr)
	if err != nil {
		t.Fatal(err)
	}
	// Clients connect to the address that a node announces.
	do(t, node, "CONFIG", "SET", "cluster-announce-ip", host, "cluster-announce-port", port)
	do(t, node, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	storetest.Eventually(t, func() bool {
		return strings.Contains(node.Client.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	wantWritesOnce(t, node, proxy, "redis+cluster://"+proxy.Addr)
}
