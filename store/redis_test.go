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

// do sends a command to a server.
func do(t *testing.T, server *storetest.RedisServer, command ...any) {
	t.Helper()
	if err := server.Client.Do(t.Context(), command...).Err(); err != nil {
		t.Fatalf("%v: %v", command, err)
	}
}

func TestRedis_HoldsOneEntryPerAccountWithTTL(t *testing.T) {
	server := storetest.SharedRedis(t)
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
		t.Fatalf("names %q; want one that matches %s", keys, want)
	}
	wantTTL(t, server, keys[0])
}

// wantTTL checks that an entry has a TTL of at most 10 minutes.
func wantTTL(t *testing.T, server *storetest.RedisServer, key string) {
	t.Helper()
	left, err := server.Client.PTTL(t.Context(), key).Result()
	if err != nil || left <= 0 || left > 10*time.Minute {
		t.Errorf("PTTL = %v, %v; want within (0, 10m]", left, err)
	}
}

// The deadline inside the sealed value counts, even if the entry's TTL was lost or changed.
func TestRedis_ReplacesSecretPastItsDeadlineWhateverTheTTL(t *testing.T) {
	server := storetest.SharedRedis(t)
	clock := storetest.NewClock()
	pending := store.NewPending(newRedis(t, server.URL), storetest.NewKeyring(t, storetest.NewSealKey("k1")), 10*time.Minute, clock.Now)
	for command, arguments := range map[string][]any{"PERSIST": nil, "PEXPIRE": {(7 * 24 * time.Hour).Milliseconds()}} {
		before, err := pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret())
		if err != nil {
			t.Fatal(err)
		}
		key := server.Client.RandomKey(t.Context()).Val()
		do(t, server, append([]any{command, key}, arguments...)...)
		if same, err := pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret()); err != nil || same.Secret != before.Secret || !same.Deadline.Equal(before.Deadline) {
			t.Errorf("%s, before the deadline: %v, same secret %t, deadline %v; want %v", command, err, same.Secret == before.Secret, same.Deadline, before.Deadline)
		}
		clock.Advance(10 * time.Minute)
		after, err := pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret())
		if err != nil || after.Secret == before.Secret || after.Outcome != store.ReplacedExpired {
			t.Errorf("%s, at the deadline: %v, %s, same secret %t", command, err, after.Outcome, after.Secret == before.Secret)
		}
		wantTTL(t, server, key)
	}
}

func TestRedis_ReplacesEntryOfAnotherProgramOnce(t *testing.T) {
	server := storetest.SharedRedis(t)
	backend := newRedis(t, server.URL)
	keyring := storetest.NewKeyring(t, storetest.NewSealKey("k1"))
	instances := []*store.Pending{
		store.NewPending(backend, keyring, 10*time.Minute, time.Now),
		store.NewPending(backend, keyring, 10*time.Minute, time.Now),
	}
	if _, err := instances[0].GetOrCreate(t.Context(), "ada", storetest.NewSecret()); err != nil {
		t.Fatal(err)
	}
	key := server.Client.RandomKey(t.Context()).Val()
	for name, write := range map[string][]any{
		"string": {"SET", key, "x"}, "empty string": {"SET", key, ""}, "list": {"RPUSH", key, "x"}, "hash": {"HSET", key, "f", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			do(t, server, "DEL", key)
			do(t, server, write...)
			storetest.WantOneSecret(t, instances, store.ReplacedUnreadable)
			wantTTL(t, server, key)
		})
	}
}

func TestRedis_ReturnsEntryOfAnotherTypeAsEmptyValue(t *testing.T) {
	server := storetest.SharedRedis(t)
	backend := newRedis(t, server.URL)
	do(t, server, "RPUSH", "mfa:list", "x")
	listed, err := store.Entries(t.Context(), backend, "mfa:")
	if diff := cmp.Diff(map[string][]byte{"mfa:list": {}}, listed); diff != "" || err != nil {
		t.Errorf("Walk: %v (-want +got):\n%s", err, diff)
	}
	if existing, err := backend.PutIfAbsent(t.Context(), "mfa:list", []byte("v"), time.Minute); existing == nil || len(existing) != 0 || err != nil {
		t.Errorf("PutIfAbsent = %#v, %v; want an empty value", existing, err)
	}
	if values, err := backend.GetAll(t.Context(), "mfa:list"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("GetAll = %q, %v; want ErrUnavailable", values, err)
	}
	if err := backend.Swap(t.Context(), "mfa:list", nil, []byte("v"), 0); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Swap over no entry = %v; want ErrConflict", err)
	}
	if err := backend.Swap(t.Context(), "mfa:list", []byte{}, []byte("v"), time.Minute); err != nil {
		t.Errorf("Swap over an empty value = %v; want nil", err)
	}
}

func TestRedis_WalkPassesOverEntryThatDisappears(t *testing.T) {
	server := storetest.SharedRedis(t)
	proxy := storetest.StartProxy(t, server.Addr)
	proxy.Do(storetest.Fault{Command: "get", Key: "gone", Action: func(x *storetest.Exchange) bool {
		server.Client.Del(context.Background(), "gone")
		return storetest.Pass(x)
	}})
	do(t, server, "MSET", "gone", "v", "here", "v")
	got, err := store.Entries(t.Context(), newRedis(t, proxy.URL), "")
	if diff := cmp.Diff(map[string][]byte{"here": []byte("v")}, got); diff != "" || err != nil {
		t.Errorf("Walk: %v (-want +got):\n%s", err, diff)
	}
	if calls := server.Calls(t); calls["del"] != 1 {
		t.Errorf("DEL during Walk: %d; want 1", calls["del"])
	}
}

func TestRedis_SendsWriteOnce(t *testing.T) {
	server := storetest.SharedRedis(t)
	proxy := storetest.StartProxy(t, server.Addr)
	wantWritesOnce(t, server, proxy, proxy.URL)
}

// wantWritesOnce loses the reply to each write. A second SET would find the value of the
// first and report it as another caller's. A second DEL would report a revoked API key as
// not found.
func wantWritesOnce(t *testing.T, server *storetest.RedisServer, proxy *storetest.Proxy, url string) {
	t.Helper()
	proxy.Do(
		storetest.Fault{Command: "set", Action: storetest.LoseReply},
		storetest.Fault{Command: "eval", Action: storetest.LoseReply},
		storetest.Fault{Command: "del", Action: storetest.LoseReply},
	)
	backend := newRedis(t, url)
	calls := storetest.Methods(backend)
	for _, name := range []string{"PutIfAbsent", "Swap", "Promote", "Update", "Delete"} {
		if err := calls[name](t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s whose reply is lost = %v; want ErrUnavailable", name, err)
		}
	}
	// The scripts of Swap and Promote find no entry and write nothing.
	want := map[string]int{"set": 2, "eval": 2, "del": 1}
	got := server.Calls(t)
	for command, n := range want {
		if got[command] != n {
			t.Errorf("%s was executed %d times; want %d", command, got[command], n)
		}
	}
}

// logger receives what go-redis prints.
type logger struct{ t *testing.T }

func (l logger) Printf(_ context.Context, format string, args ...any) {
	l.t.Errorf("go-redis printed: "+format, args...)
}

func TestRedis_IsUnavailableAndPrintsNothingWhenUnreachable(t *testing.T) {
	redis.SetLogger(logger{t})
	backend := newRedis(t, "unix://"+filepath.Join(t.TempDir(), "none"))
	for name, call := range storetest.Methods(backend) {
		if err := call(t.Context()); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s = %v; want ErrUnavailable", name, err)
		}
	}
	// go-redis warns about a TTL below 1 ms, without a connection.
	backend.Client().Set(t.Context(), "k", "v", time.Nanosecond)
}

func TestRedis_IsUnavailableAfterClose(t *testing.T) {
	backend := newRedis(t, storetest.SharedRedis(t).URL)
	if err := backend.Close(); err != nil {
		t.Fatal(err)
	}
	for name, call := range storetest.Methods(backend) {
		if err := call(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s = %v; want ErrUnavailable", name, err)
		}
	}
}

func TestRedis_ReturnsByTheDeadlineWhileTheServerHangs(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t)
	backend := newRedis(t, server.URL)
	// With a long read timeout, only the context can end a call.
	const readTimeout = 10 * time.Second
	backend.Client().(*redis.Client).Options().ReadTimeout = readTimeout
	if err := backend.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	// The first call has a connection. The others have to dial.
	for name, call := range storetest.Methods(backend) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := call(ctx); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s = %v; want ErrUnavailable", name, err)
		}
		if time.Since(start) >= readTimeout {
			t.Fatalf("%s ignored the deadline", name)
		}
	}
}

// Redis repeats the arguments of an unknown command, and AUTH has the password.
func TestRedis_HidesArgumentsOfUnknownCommand(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t, "--rename-command", "AUTH", "", "--rename-command", "HELLO", "")
	url := "redis://user:hunter2@" + server.Addr
	wantFindings(t, url, fatal("the Redis user may not use AUTH, because Redis does not know it: was it renamed?"))
	backend := newRedis(t, url)
	_, getErr := backend.Get(t.Context(), "key")
	for name, err := range map[string]error{"Get": getErr, "Ready": backend.Ready(t.Context())} {
		if !errors.Is(err, store.ErrUnavailable) || !strings.HasSuffix(err.Error(), "unknown command 'auth'") {
			t.Errorf("%s: %v; want ErrUnavailable that ends with unknown command 'auth'", name, err)
		}
	}
}
