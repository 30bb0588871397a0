package store_test

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func newRedis(t *testing.T, server *storetest.RedisServer) *store.Redis {
	t.Helper()
	var url store.RedisURL
	if err := url.UnmarshalText([]byte(server.URL)); err != nil {
		t.Fatal(err)
	}
	backend := store.NewRedis(url)
	t.Cleanup(func() { backend.Close() })
	return backend
}

func TestRedisContract(t *testing.T) {
	server := storetest.StartRedis(t)
	storetest.Run(t, func(t *testing.T) store.Backend {
		if err := server.Client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		return newRedis(t, server)
	})
}

func TestRedisHoldsOneKeyPerAccountWithADeadline(t *testing.T) {
	server := storetest.StartRedis(t)
	keyring := storetest.NewKeyring(t, storetest.NewSealKey("k1"))
	pending := store.NewPending(newRedis(t, server), keyring, 10*time.Minute, time.Now)
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
	for _, text := range []string{"", "http://user:hunter2@host", "redis://:hunter2@host:port/x", "\x7f:hunter2"} {
		err := new(store.RedisURL).UnmarshalText([]byte(text))
		if err == nil || err.Error() != "want redis://, rediss:// or unix://, as go-redis reads them" {
			t.Errorf("URL %q: %v", text, err)
		}
	}
	var url store.RedisURL
	if err := url.UnmarshalText([]byte("redis://user:hunter2@host:1")); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%v %+v %#v %s %v %+v", url, url, url, url, &url, struct{ URL *store.RedisURL }{&url})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "url", url, "pointer", &url)
	if strings.Contains(out.String(), "hunter2") {
		t.Error("the password was printed")
	}
}
