//go:build bench

package bench

import (
	"context"
	"flag"
	"slices"
	"testing"
	"time"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

var rounds = flag.Int("rounds", 5, "how often each candidate is measured")

// TestBench is `make bench`.
func TestBench(t *testing.T) {
	programs, redis := build(t), storetest.StartRedis(t)
	hs256, es256, forger := newHS256(), newES256(t), newHS256()
	forger.environ = hs256.environ
	keys := newAPIKeys(2000)
	for _, s := range []scenario{
		{"new accounts, 1 connection", 1, 25_000, hs256, hs256.newAccounts, nil, 200},
		{"new accounts, 50 connections", 50, 100_000, hs256, hs256.newAccounts, nil, 200},
		{"new accounts, 500 connections", 500, 25_000, hs256, hs256.newAccounts, nil, 200},
		{"repeated accounts", 50, 25_000, hs256, hs256.thousandAccounts, nil, 200},
		{"API keys", 50, 25_000, hs256, keys.requests, keys, 200},
		{"ES256 tokens", 50, 25_000, es256, es256.newAccounts, nil, 200},
		{"refused, bad signature", 50, 25_000, hs256, forger.newAccounts, nil, 401},
		{"refused, no credential", 50, 25_000, hs256, noCredential, nil, 401},
	} {
		t.Run(s.name, func(t *testing.T) { s.run(t, programs, redis) })
	}
}

// scenario is a table of `make bench`.
type scenario struct {
	name        string
	connections int
	measured    int // requests
	issuer      issuer
	requests    func(t testing.TB, n int) [][]byte // up to n, made when they are needed
	keys        apiKeys
	status      int
}

func (s scenario) run(t *testing.T, programs programs, redis *storetest.RedisServer) {
	requests := s.requests(t, warmUp+s.measured)
	environ := slices.Concat(s.issuer.environ, environOn(redis.URL), []string{"REDIS_ADDR=" + redis.Addr})
	served := func(name, program string, status int, environ ...string) candidate {
		return candidate{name, func(t testing.TB) []*process {
			emptied(t, redis)
			s.keys.keep(t, redis)
			return []*process{start(t, program, environ)}
		}, []*storetest.RedisServer{redis}, requests, status}
	}
	compare(t, workload{s.connections, s.measured}, 1,
		served("bare Echo", programs.rival, 200, append(environ, "BARE=1")...),
		served("thirty lines", programs.rival, s.status, environ...),
		served("mfa", programs.mfa, s.status, environ...))
}

// environOn are the settings of both programs, but for their keys.
func environOn(redisURL string) []string {
	return append(defaultsOn(redisURL), "MFA_MAX_IN_FLIGHT=1024")
}

// defaultsOn are those that leave the limits as they are without any setting.
func defaultsOn(redisURL string) []string {
	return []string{
		"MFA_REDIS_URL=" + redisURL, "MFA_SEAL_KEYS=" + sealKey,
		"MFA_JWT_ISSUER=" + tokenIssuer, "MFA_JWT_AUDIENCE=" + tokenAudience,
		"JWT_ISSUER=" + tokenIssuer, "JWT_AUDIENCE=" + tokenAudience,
	}
}

var sealKey = storetest.NewSealKey("k1")

// newAccounts are calls of an account each.
func (i issuer) newAccounts(t testing.TB, n int) [][]byte { return i.requests(t, 0, n, 1) }

func (i issuer) thousandAccounts(t testing.TB, _ int) [][]byte { return i.requests(t, 0, 1000, 1) }

func noCredential(testing.TB, int) [][]byte { return [][]byte{request("")} }

// apiKeys are API keys of an account each. In the warm-up all of them are used, so that
// mfa has noted the hour of their last use.
type apiKeys []string

func newAPIKeys(n int) (keys apiKeys) {
	for range n {
		keys = append(keys, auth.NewAPIKey())
	}
	return keys
}

// keep puts the keys into Redis, for mfa and for the thirty lines.
func (k apiKeys) keep(t testing.TB, redis *storetest.RedisServer) {
	t.Helper()
	backend := open(t, redis.URL)
	defer backend.Close()
	ctx, records := context.Background(), store.NewAPIKeys(backend, time.Now)
	for i, key := range k {
		email := accountName(i) + "@example.com"
		if _, err := records.Create(ctx, key, accountName(i), email, time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := redis.Client.Set(ctx, "apikey:"+key, email, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func (k apiKeys) requests(testing.TB, int) [][]byte {
	requests := make([][]byte, len(k))
	for i, key := range k {
		requests[i] = request("X-Api-Key: " + key + "\r\n")
	}
	return requests
}

// open returns the store's own client of a Redis.
func open(t testing.TB, redisURL string) *store.Redis {
	t.Helper()
	var location store.RedisURL
	if err := location.UnmarshalText([]byte(redisURL)); err != nil {
		t.Fatal(err)
	}
	return store.NewRedis(location)
}
