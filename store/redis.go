package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// Redis is the Backend of production: Redis 7.0 or newer, the first version that accepts
// SET with both NX and GET.
type Redis struct {
	client    redis.UniversalClient
	pipeliner *pipeliner  // for commands of requests; nil with a cluster
	plaintext atomic.Bool // the client dialled another machine without TLS
}

var _ Backend = (*Redis)(nil)

// NewRedis returns a backend on the Redis at url, on which UnmarshalText has succeeded. The
// first command connects.
func NewRedis(url RedisURL) *Redis {
	// go-redis prints errors that it also returns. The caller logs them, as JSON.
	logging.Disable()
	r := &Redis{}
	r.client = url.connect(func(address string, encrypted bool) {
		if !encrypted && isRemote(address) {
			r.plaintext.Store(true)
		}
	})
	if !r.isCluster() {
		r.pipeliner = newPipeliner(r.client)
	}
	return r
}

func (r *Redis) isCluster() bool {
	_, ok := r.client.(*redis.ClusterClient)
	return ok
}

// PutIfAbsent implements Backend. SET with NX and GET is one atomic step. After a GET of
// its own, two instances could both find nothing and both write.
func (r *Redis) PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, error) {
	existing, err := existingValue(r.write(ctx, "SET", key, value, "NX", "GET", "PX", ttl.Milliseconds()))
	if err != nil && redis.HasErrorPrefix(err, "WRONGTYPE") {
		return []byte{}, nil
	}
	return existing, err
}

// replaceScript compares and swaps in one step. With separate commands, of two instances
// that find an unreadable value, the second could overwrite the value that the first has
// already returned to its caller. The script runs too seldom to save its text by EVALSHA.
const replaceScript = `
local kind = redis.call('TYPE', KEYS[1]).ok
local current = kind ~= 'none' and ''
if kind == 'string' then current = redis.call('GET', KEYS[1]) end
if current and current ~= ARGV[1] then return current end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false`

// Replace implements Backend.
func (r *Redis) Replace(ctx context.Context, key string, old, value []byte, ttl time.Duration) ([]byte, error) {
	return existingValue(r.write(ctx, "EVAL", replaceScript, 1, key, old, value, ttl.Milliseconds()))
}

// Get implements Backend.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, error) {
	cmd := redis.NewStringCmd(ctx, "GET", key)
	err := r.run(ctx, cmd)
	if errors.Is(err, redis.Nil) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return cmd.Bytes()
}

// Update implements Backend. With XX, SET does not bring back an API key that was revoked
// between the caller's read and this write.
func (r *Redis) Update(ctx context.Context, key string, value []byte) error {
	_, err := r.write(ctx, "SET", key, value, "XX", "KEEPTTL")
	if errors.Is(err, redis.Nil) {
		return ErrNotFound
	}
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// Delete implements Backend.
func (r *Redis) Delete(ctx context.Context, key string) error {
	deleted, err := r.writeAlone(ctx, "DEL", key).Int64()
	if err != nil {
		return unavailable(err)
	}
	if deleted == 0 {
		return ErrNotFound
	}
	return nil
}

// Close implements Backend.
func (r *Redis) Close() error { return r.client.Close() }

// run executes a command of a request, in a pipeline if there is a pipeliner.
func (r *Redis) run(ctx context.Context, cmd redis.Cmder) error {
	if r.pipeliner != nil {
		return r.pipeliner.do(ctx, cmd)
	}
	return r.client.Process(ctx, cmd)
}

// write executes a write of a request once and returns its reply.
func (r *Redis) write(ctx context.Context, args ...any) (string, error) {
	cmd := redis.NewCmd(ctx, args...)
	if err := r.run(ctx, noRetry{cmd}); err != nil {
		return "", err // A pipeline may still write to cmd.
	}
	return cmd.Text()
}

// writeAlone executes a write once, outside of pipelines.
func (r *Redis) writeAlone(ctx context.Context, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, args...)
	_ = r.client.Process(ctx, noRetry{cmd}) // The command has its error.
	return cmd
}

// noRetry is a write that go-redis must not send again after a lost reply. Clients of one
// server follow MaxRetries. A cluster's client ignores it, because it follows redirections
// in the loop that retries.
type noRetry struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (noRetry) NoRetry() bool { return true }

// existingValue translates the reply of a command that returns the entry's value or nil.
func existingValue(text string, err error) ([]byte, error) {
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return []byte(text), nil
}
