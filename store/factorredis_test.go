package store_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// An entry of another type in place of a factor, of its identity or of a pending secret.
func TestRedis_NeverReplacesEntryOfAnotherTypeByAFactor(t *testing.T) {
	for name, key := range map[string]string{
		"factor": factorKey("ada"), "identity": "mfa:store", "pending secret": "mfa:{" + store.Digest("ada") + "}:pending",
	} {
		t.Run(name, func(t *testing.T) {
			server := storetest.SharedRedis(t)
			f := storetest.NewFactors(t, newRedis(t, server.URL), storetest.NewSealKey("k1"))
			if _, err := f.Pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret()); err != nil {
				t.Fatal(err)
			}
			do(t, server, "DEL", key)
			do(t, server, "RPUSH", key, "x")
			_, err := f.Confirm(t.Context(), "ada", f.Enrol(1))
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("Confirm = %v; want ErrUnavailable", err)
			}
			if got := server.Client.LRange(t.Context(), key, 0, -1).Val(); len(got) != 1 {
				t.Errorf("the entry is %q afterwards", got)
			}
			if exists := server.Client.Exists(t.Context(), factorKey("ada")).Val() == 1; exists != (name == "factor") {
				t.Errorf("a factor exists: %t", exists)
			}
		})
	}
}

// maxFactorBytes is what an enrolled account may take of Redis's memory.
const maxFactorBytes = 500

func TestRedis_NeedsFewBytesForAFactor(t *testing.T) {
	server := storetest.SharedRedis(t)
	backend := newRedis(t, server.URL)
	f := storetest.NewFactors(t, backend, storetest.NewSealKey("2026-11"))
	if got := f.MustEnrol(t, "ada", 1); len(got.RecoveryCodes) != store.MaxRecoveryCodes {
		t.Fatalf("%d recovery codes", len(got.RecoveryCodes))
	}
	entry, err := server.Client.MemoryUsage(t.Context(), factorKey("ada")).Result()
	if err != nil {
		t.Fatal(err)
	}
	// With many accounts, a share of the hash table adds to it.
	const accounts = 1 << 14
	value := mustGet(t, backend, factorKey("ada"))
	before := usedMemory(t, server)
	pipeline := server.Client.Pipeline()
	for i := range accounts {
		pipeline.Set(t.Context(), factorKey(strconv.Itoa(i)), value, 0)
	}
	if _, err := pipeline.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	each := (usedMemory(t, server) - before) / accounts
	t.Logf("a factor with ten recovery codes: %d bytes sealed; MEMORY USAGE %d; %d of used_memory", len(value), entry, each)
	if entry > maxFactorBytes || each > maxFactorBytes || entry < int64(len(value)) || each < len(value) {
		t.Errorf("a factor needs %d bytes, and %d with its share; want at most %d", entry, each, maxFactorBytes)
	}
}

func usedMemory(t *testing.T, server *storetest.RedisServer) (n int) {
	t.Helper()
	text := server.Client.InfoMap(t.Context(), "memory").Val()["Memory"]["used_memory"]
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
