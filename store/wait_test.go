package store_test

import (
	"errors"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func TestRedis_RequiresReplicasOfAFactor(t *testing.T) {
	t.Parallel()
	primary, replica := storetest.StartReplicated(t)
	wantReplicas(t, primary.URL, replica)
}

func TestRedisCluster_RequiresReplicasOfAFactor(t *testing.T) {
	t.Parallel()
	cluster := storetest.StartCluster(t)
	cluster.AddReplicas(t)
	// The replica of the primary that has ada's slot.
	slot := cluster.Primaries[0].Client.ClusterKeySlot(t.Context(), factorKey("ada")).Val()
	wantReplicas(t, cluster.URL, cluster.Replicas[slot*3/16384])
}

// wantReplicas stops the replica between two writes.
func wantReplicas(t *testing.T, url string, replica *storetest.RedisServer) {
	t.Helper()
	const lacking = "change factor: store unavailable: 0 of 1 replicas have acknowledged the write"
	sealKey := storetest.NewSealKey("k1")
	backend := newRedis(t, url)
	f := storetest.NewFactors(t, backend, sealKey)
	backend.RequireReplicas(1)
	rewriting := f.Instance(t, backend, sealKey)
	storetest.Eventually(t, func() bool { // A replica that has just come acknowledges within a second.
		_, err := rewriting.Change(t.Context(), "ada", func(f store.Factor) (store.Factor, error) { return f.Enrol(store.Secret{}, 0, nil, time.Now()), nil })
		return err == nil
	})
	want := f.MustEnrol(t, "ada", 1)

	replica.Stop(t)
	disable := func(factor store.Factor) (store.Factor, error) { return factor.SetEnabled(false), nil }
	if _, err := f.Change(t.Context(), "ada", disable); !errors.Is(err, store.ErrUnavailable) || err.Error() != lacking {
		t.Errorf("Change while the replica hangs = %v; want %s", err, lacking)
	}
	want = want.SetEnabled(false)
	f.WantFactor(t, "ada", want) // The primary has it.

	// A second attempt finds nothing to change. It must not succeed for that reason.
	before := mustGet(t, backend, factorKey("ada"))
	for name, call := range map[string]func() error{
		"Change": func() error { _, err := rewriting.Change(t.Context(), "ada", disable); return err },
		"Confirm": func() error {
			_, err := rewriting.Confirm(t.Context(), "ada", func(_ *store.PendingKey, f store.Factor) (store.Factor, error) { return f, nil })
			return err
		},
	} {
		if err := call(); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("second %s while the replica hangs = %v; want ErrUnavailable", name, err)
		}
	}
	if _, err := f.Pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret()); err != nil {
		t.Errorf("a pending secret needs no replica: %v", err)
	}
	if _, err := rewriting.Confirm(t.Context(), "ada", f.Enrol(2)); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Confirm while the replica hangs = %v; want ErrUnavailable", err)
	}
	replica.Continue(t)
	storetest.Eventually(t, func() bool {
		_, err := rewriting.Change(t.Context(), "ada", func(factor store.Factor) (store.Factor, error) { return factor, nil })
		return err == nil
	})
	if after := mustGet(t, backend, factorKey("ada")); string(after) == string(before) {
		t.Error("the second attempt wrote nothing")
	}
}

func mustGet(t *testing.T, backend store.Backend, key string) []byte {
	t.Helper()
	value, err := backend.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func factorKey(account string) string { return "mfa:{" + store.Digest(account) + "}:factor" }

// WAIT counts only for the writes of its own connection, and neither may be sent twice.
func TestRedis_WaitsOnTheConnectionOfTheWrite(t *testing.T) {
	server := storetest.SharedRedis(t)
	proxy := storetest.StartProxy(t, server.Addr)
	backend := newRedis(t, proxy.URL)
	backend.RequireReplicas(1)
	var connections []string
	note := func(x *storetest.Exchange) bool {
		connections = append(connections, x.Connection())
		return storetest.Pass(x)
	}
	proxy.Do(storetest.Fault{Command: "eval", Action: note}, storetest.Fault{Command: "wait", Action: note})
	if err := backend.Swap(t.Context(), "mfa:k", nil, []byte("v"), 0); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Swap without replicas = %v; want ErrUnavailable", err)
	}
	if err := backend.Swap(t.Context(), "mfa:k", nil, []byte("v"), 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Swap over another value = %v; want ErrConflict", err)
	}
	if err := backend.Swap(t.Context(), "mfa:k", []byte("v"), []byte("w"), time.Minute); err != nil {
		t.Errorf("Swap of an entry with a deadline = %v; want nil", err)
	}
	if len(connections) != 5 || connections[0] != connections[1] || connections[2] != connections[3] {
		t.Errorf("connections of EVAL, WAIT, EVAL, WAIT, EVAL: %q", connections)
	}
	proxy.Do(storetest.Fault{Command: "eval", Action: storetest.LoseReply})
	server.Client.ConfigResetStat(t.Context())
	if err := backend.Promote(t.Context(), "mfa:{k}:from", "mfa:{k}:to", []byte("v"), nil, []byte("w")); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Promote whose reply is lost = %v; want ErrUnavailable", err)
	}
	if calls := server.Calls(t)["eval"]; calls != 1 {
		t.Errorf("EVAL was executed %d times; want 1", calls)
	}
}

func TestRedis_IsUnavailableWithoutAConnectionForAWriteThatWaits(t *testing.T) {
	for _, url := range []string{"redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1"} {
		backend := newRedis(t, url)
		backend.RequireReplicas(1)
		if err := backend.Swap(t.Context(), "mfa:k", nil, []byte("v"), 0); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: Swap = %v; want ErrUnavailable", url, err)
		}
	}
}
