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

var (
	rounds = flag.Int("rounds", 5, "how often each server is measured")
	oldMFA = flag.String("old", "", "path of another mfa, to measure beside this one")
)

// TestBench is `make bench`: the service beside the baseline and, with -old, beside
// another version of itself.
func TestBench(t *testing.T) {
	programs, redis := build(t), storetest.StartRedis(t)
	hs256, es256, forger := newHS256(), newES256(t), newHS256()
	forger.environ = hs256.environ
	keys := newAPIKeys(2000)
	for _, s := range []scenario{
		{"new accounts, 1 connection", 1, 25_000, hs256, hs256.newAccounts, nil, nil, issued, 1},
		{"new accounts, 50 connections", 50, 100_000, hs256, hs256.newAccounts, nil, nil, issued, 1},
		{"new accounts, 500 connections", 500, 25_000, hs256, hs256.newAccounts, nil, nil, issued, 1},
		{"repeated accounts", 50, 25_000, hs256, hs256.thousandAccounts, nil, nil, issued, 1},
		{"API keys", 50, 25_000, hs256, keys.requests, keys, nil, issued, 2},
		{"ES256 tokens", 50, 25_000, es256, es256.newAccounts, nil, nil, issued, 1},
		{"refused, bad signature", 50, 25_000, hs256, forger.newAccounts, nil, nil, unauthorized, 0},
		{"refused, no credential", 50, 25_000, hs256, noCredential, nil, nil, unauthorized, 0},
		{"confirm", 50, 25_000, hs256, hs256.newAccounts, nil, confirmations, confirmed, 3},
		{"info", 50, 25_000, hs256, hs256.thousandAccounts, nil, infos, enrolled, 1},
		{"verify", 50, 10_000, hs256, hs256.newAccounts, nil, verifications, verified, 3},
		{"status", 50, 25_000, hs256, hs256.thousandAccounts, nil, statuses, enrolled, 2},
	} {
		t.Run(s.name, func(t *testing.T) { s.run(t, programs, redis) })
	}
}

// scenario is one table of `make bench`.
type scenario struct {
	name        string
	connections int
	measured    int // requests
	issuer      issuer
	requests    func(t testing.TB, n int) [][]byte // at most n
	keys        apiKeys                            // stored before each measurement
	prepare     preparation                        // nil: requests are sent as they are
	want        expected                           // of each response
	commands    float64                            // the most that mfa sends to Redis for a request
}

func (s scenario) run(t *testing.T, programs programs, redis *storetest.RedisServer) {
	requests := s.requests(t, warmUp+s.measured)
	environ := slices.Concat(s.issuer.environ, benchEnviron(redis.URL), []string{"REDIS_ADDR=" + redis.Addr})
	server := func(name, program string, want expected, environ []string) candidate {
		return candidate{name, func(t testing.TB) []*process {
			storeID := initStore(t, redis.URL, redis)
			s.keys.store(t, redis)
			return []*process{start(t, program, environ, storeID)}
		}, []*storetest.RedisServer{redis}, requests, s.prepare, want}
	}
	candidates := []candidate{server("mfa", programs.mfa, s.want, environ), server("baseline", programs.baseline, s.want, environ)}
	ratios := []ratio{{0, 1}}
	if programs.old != "" {
		candidates = append(candidates, server("old mfa", programs.old, s.want, environ))
		ratios = append(ratios, ratio{2, 1}, ratio{0, 2})
	}
	if s.prepare == nil { // bare Echo has nothing to prepare
		candidates = append(candidates, server("bare Echo", programs.baseline, issued, slices.Concat(environ, []string{"BARE=1"})))
	}
	results := compare(t, workload{s.connections, s.measured}, ratios, candidates...)
	if most := results.values(commandsSent, 0)[*rounds-1]; most > s.commands+0.1 { // some are the service's own
		t.Errorf("mfa sends %.2f commands to Redis for a request; want at most %.0f", most, s.commands)
	}
}

// benchEnviron returns the settings of all servers except for their verification keys. No
// request is turned away: more may be in flight than there are connections.
func benchEnviron(redisURL string) []string {
	return append(defaultEnviron(redisURL), "MFA_MAX_IN_FLIGHT=1024")
}

// defaultEnviron leaves the limits at their defaults.
func defaultEnviron(redisURL string) []string {
	return []string{
		"MFA_REDIS_URL=" + redisURL, "MFA_SEAL_KEYS=" + sealKey,
		"MFA_JWT_ISSUER=" + tokenIssuer, "MFA_JWT_AUDIENCE=" + tokenAudience,
		"JWT_ISSUER=" + tokenIssuer, "JWT_AUDIENCE=" + tokenAudience, "SERVICE_KEY=" + serviceKey,
	}
}

var sealKey = storetest.NewSealKey("k1")

// newAccounts returns n requests of different accounts.
func (i issuer) newAccounts(t testing.TB, n int) [][]byte { return i.requests(t, 0, n, 1) }

func (i issuer) thousandAccounts(t testing.TB, _ int) [][]byte { return i.requests(t, 0, 1000, 1) }

func noCredential(testing.TB, int) [][]byte { return [][]byte{request("")} }

// apiKeys are API keys of different accounts. The warm-up uses all of them, so that mfa
// notes the hour of their last use before the measurement.
type apiKeys []string

func newAPIKeys(n int) (keys apiKeys) {
	for range n {
		keys = append(keys, auth.NewAPIKey())
	}
	return keys
}

// store puts the API keys into Redis, in the form of mfa and in the form of the baseline.
func (k apiKeys) store(t testing.TB, redis *storetest.RedisServer) {
	t.Helper()
	backend := open(t, redis.URL)
	defer backend.Close()
	ctx, records := context.Background(), store.NewAPIKeys(backend, time.Now)
	if _, err := store.NewServiceKeys(backend, time.Now).CreateForService(ctx, serviceKey, "gateway", time.Hour); err != nil {
		t.Fatal(err)
	}
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
