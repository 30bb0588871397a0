package store

import (
	"context"
	"errors"
	"fmt"
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
	replicas  int         // that must have a write without a deadline
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

// RequireReplicas has each write of an entry without a deadline wait for n replicas, 0 or more.
// With fewer acknowledgements in waitTime, the write returns ErrUnavailable, although the
// primary has it. RequireReplicas comes before the first write.
//
// It narrows the loss of a failover and does not exclude it: a primary and the replica that has
// the write may be lost together.
func (r *Redis) RequireReplicas(n int) { r.replicas = n }

func (r *Redis) isCluster() bool {
	_, ok := r.client.(*redis.ClusterClient)
	return ok
}

// PutIfAbsent implements Backend. SET with NX and GET is one atomic step. After a GET of
// its own, two instances could both find nothing and both write.
func (r *Redis) PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, error) {
	existing, err := r.write(ctx, "SET", key, value, "NX", "GET", "PX", ttl.Milliseconds())
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return []byte{}, nil
	case err != nil:
		return nil, unavailable(err)
	}
	return []byte(existing), nil
}

// currentFunction is the part that the scripts have in common: the value of an entry, false if
// there is none, or an empty string for an entry of another type.
const currentFunction = `
local function current(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'string' then return redis.call('GET', key) end
  return kind ~= 'none' and ''
end`

// swapScript compares and writes in one step. Between separate commands, another instance could
// write: a code could be accepted twice, or a pending secret overwritten that its owner already
// has. Scripts are sent whole: EVALSHA would need a second round trip after a restart of Redis.
const swapScript = currentFunction + `
if current(KEYS[1]) ~= (ARGV[3] or false) then return '0' end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return '1'`

// Swap implements Backend.
func (r *Redis) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	args := []any{"EVAL", swapScript, 1, key, value, ttl.Milliseconds()}
	if old != nil {
		args = append(args, old)
	}
	if ttl == 0 {
		return r.writeDurably(ctx, key, args)
	}
	return swapped(r.write(ctx, args...))
}

// promoteScript makes a pending secret a factor in one step: an instance that ends between two
// commands would leave both or neither.
const promoteScript = currentFunction + `
if current(KEYS[1]) ~= ARGV[2] or current(KEYS[2]) ~= (ARGV[3] or false) then return '0' end
redis.call('SET', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[1])
return '1'`

// Promote implements Backend.
func (r *Redis) Promote(ctx context.Context, from, to string, oldFrom, oldTo, value []byte) error {
	args := []any{"EVAL", promoteScript, 2, from, to, value, oldFrom}
	if oldTo != nil {
		args = append(args, oldTo)
	}
	return r.writeDurably(ctx, to, args)
}

// swapped translates the reply of swapScript and promoteScript.
func swapped(text string, err error) error {
	if err != nil {
		return unavailable(err)
	}
	if text != "1" {
		return ErrConflict
	}
	return nil
}

// getAllScript reads at one moment. MGET would take an entry of another type for none.
const getAllScript = `
local values = {}
for i, key in ipairs(KEYS) do values[i] = redis.call('GET', key) end
return values`

// GetAll implements Backend.
func (r *Redis) GetAll(ctx context.Context, keys ...string) ([][]byte, error) {
	args := []any{"EVAL", getAllScript, len(keys)}
	for _, key := range keys {
		args = append(args, key)
	}
	cmd := redis.NewSliceCmd(ctx, args...)
	if err := r.run(ctx, cmd); err != nil {
		return nil, unavailable(err)
	}
	values := make([][]byte, len(keys))
	if len(cmd.Val()) != len(keys) {
		return nil, unavailable(errors.New("unexpected number of values"))
	}
	for i, value := range cmd.Val() {
		if text, ok := value.(string); ok {
			values[i] = []byte(text)
		}
	}
	return values, nil
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

// waitTime bounds WAIT. A replica nearby acknowledges in a millisecond.
const waitTime = 100 * time.Millisecond

// writeDurably executes swapScript or promoteScript for an entry without a deadline, and waits
// for the required replicas. WAIT counts for the writes of its own connection: so it does not go
// through the pipeliner, and in a cluster it goes to key's primary with the write.
func (r *Redis) writeDurably(ctx context.Context, key string, args []any) error {
	if r.replicas == 0 {
		return swapped(r.write(ctx, args...))
	}
	client := r.client
	if cluster, ok := client.(*redis.ClusterClient); ok {
		primary, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			return unavailable(err)
		}
		client = primary
	}
	write := redis.NewCmd(ctx, args...)
	pipeline := client.Pipeline()
	_ = pipeline.Process(ctx, noRetry{write}) // It only queues the command.
	wait := redis.NewIntCmd(ctx, "WAIT", r.replicas, waitTime.Milliseconds())
	_ = pipeline.Process(ctx, wait)
	_, _ = pipeline.Exec(ctx) // Each command has its own error.
	if err := swapped(write.Text()); err != nil {
		return err
	}
	if acknowledged, err := wait.Result(); err != nil {
		return unavailable(err)
	} else if acknowledged < int64(r.replicas) {
		return unavailable(fmt.Errorf("%d of %d replicas have acknowledged the write", acknowledged, r.replicas))
	}
	return nil
}

// noRetry is a write that go-redis must not send again after a lost reply. Clients of one
// server follow MaxRetries. A cluster's client ignores it, because it follows redirections
// in the loop that retries.
type noRetry struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (noRetry) NoRetry() bool { return true }
