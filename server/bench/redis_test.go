//go:build bench

package bench

import (
	"context"
	"testing"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// initStore empties the Redis servers at redisURL, gives them a store identity, and returns
// it as a setting.
func initStore(t testing.TB, redisURL string, servers ...*storetest.RedisServer) (setting string) {
	t.Helper()
	for _, server := range servers {
		if err := server.Client.FlushAll(context.Background()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	backend := open(t, redisURL)
	defer backend.Close()
	id, err := store.InitStore(context.Background(), backend, storetest.NewKeyring(t, sealKey), false)
	if err != nil {
		t.Fatal(err)
	}
	return "MFA_STORE_ID=" + id
}

// open connects the store's own client to a Redis.
func open(t testing.TB, redisURL string) *store.Redis {
	t.Helper()
	var location store.RedisURL
	if err := location.UnmarshalText([]byte(redisURL)); err != nil {
		t.Fatal(err)
	}
	return store.NewRedis(location)
}
