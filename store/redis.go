package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// Redis is the Backend of production: Redis 7.0 or newer (SET with NX and GET
// together came with it).
type Redis struct {
	client    redis.UniversalClient // of a cluster, or of one server at a time
	pipeliner *pipeliner            // what requests ask of one server goes through it; nil with a cluster
	plaintext atomic.Bool           // a server was dialled that is not here, without TLS
}

var _ Backend = (*Redis)(nil)

// NewRedis returns a client for the Redis at url, which must have been
// unmarshalled. It connects with the first command.
func NewRedis(url RedisURL) *Redis {
	// go-redis prints to standard error what it also returns. Whoever gets the
	// error logs it, once and as JSON.
	logging.Disable()
	r := &Redis{}
	r.client = url.connect(func(address string, encrypted bool) {
		if !encrypted && leavesMachine(address) {
			r.plaintext.Store(true)
		}
	})
	if !r.isCluster() {
		r.pipeliner = newPipeliner(r.client)
	}
	return r
}

// once is a write that go-redis must not send again. MaxRetries says that to a
// client of one server; a cluster's client follows redirections in the same loop, and
// takes a lost reply for a reason to go round.
type once struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (once) NoRetry() bool { return true }

// do executes a write, once.
func (r *Redis) do(ctx context.Context, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, args...)
	_ = r.client.Process(ctx, once{cmd}) // the command has its error
	return cmd
}

// panicHook makes an error of a panic: go-redis has some for replies that make no sense, and
// on a goroutine of its own one would end the process. What it asks of sentinels by itself
// has no hook.
type panicHook struct{}

// DialHook implements redis.Hook.
func (panicHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (panicHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) (err error) {
		defer func() {
			if fault := recover(); fault != nil {
				err = fmt.Errorf("panic: %v", fault)
				cmd.SetErr(err)
			}
		}()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (panicHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) (err error) {
		defer func() {
			if fault := recover(); fault != nil {
				err = fmt.Errorf("panic: %v", fault)
				for _, cmd := range cmds { // whatever some of them were answered before
					cmd.SetErr(err)
				}
			}
		}()
		return next(ctx, cmds)
	}
}

// run executes what a request asks: together with what others ask, if it can be.
func (r *Redis) run(ctx context.Context, cmd redis.Cmder) error {
	if r.pipeliner != nil {
		return r.pipeliner.do(ctx, cmd)
	}
	return r.client.Process(ctx, cmd)
}

// write runs a write, once, and returns its reply.
func (r *Redis) write(ctx context.Context, args ...any) (string, error) {
	cmd := redis.NewCmd(ctx, args...)
	if err := r.run(ctx, once{cmd}); err != nil {
		return "", err // and cmd may be in use still
	}
	return cmd.Text()
}

// PutIfAbsent implements Backend. SET with NX and GET is the one atomic step:
// with a GET first, two replicas could both see nothing and both write.
func (r *Redis) PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, error) {
	existing, err := orNil(r.write(ctx, "SET", key, value, "NX", "GET", "PX", ttl.Milliseconds()))
	if err != nil && redis.HasErrorPrefix(err, "WRONGTYPE") {
		return []byte{}, nil
	}
	return existing, err
}

// replaceScript compares and swaps in one step. Without it, of two replicas that
// find an unreadable value the second would overwrite what the first has already
// returned to its caller. It runs too seldom for EVALSHA to be worth the second attempt.
const replaceScript = `
local kind = redis.call('TYPE', KEYS[1]).ok
local current = kind ~= 'none' and ''
if kind == 'string' then current = redis.call('GET', KEYS[1]) end
if current and current ~= ARGV[1] then return current end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false`

// Replace implements Backend.
func (r *Redis) Replace(ctx context.Context, key string, old, value []byte, ttl time.Duration) ([]byte, error) {
	return orNil(r.write(ctx, "EVAL", replaceScript, 1, key, old, value, ttl.Milliseconds()))
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

// Update implements Backend. XX keeps a key that was revoked between the caller's
// reading and writing from coming back.
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
	deleted, err := r.do(ctx, "DEL", key).Int64()
	if err != nil {
		return unavailable(err)
	}
	if deleted == 0 {
		return ErrNotFound
	}
	return nil
}

// List implements Backend. SCAN does not block Redis, unlike KEYS. In a cluster every
// primary is asked.
func (r *Redis) List(ctx context.Context, prefix string) (map[string][]byte, error) {
	found := map[string][]byte{}
	var mu sync.Mutex
	err := r.eachPrimary(ctx, func(ctx context.Context, server redis.UniversalClient) error {
		part := map[string][]byte{}
		err := scan(ctx, server, prefix, part)
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(found, part)
		return err
	})
	return found, err
}

// eachPrimary calls do for the one server, or for all primaries of a cluster at once.
func (r *Redis) eachPrimary(ctx context.Context, do func(context.Context, redis.UniversalClient) error) error {
	cluster, ok := r.client.(*redis.ClusterClient)
	if !ok {
		return do(ctx, r.client)
	}
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, primary *redis.Client) error { return do(ctx, primary) })
	if err != nil && !errors.Is(err, ErrUnavailable) {
		err = unavailable(err) // there was nobody to ask
	}
	return err
}

func (r *Redis) isCluster() bool {
	_, ok := r.client.(*redis.ClusterClient)
	return ok
}

// scan adds what one server has.
func scan(ctx context.Context, server redis.Cmdable, prefix string, found map[string][]byte) error {
	keys := server.Scan(ctx, 0, prefix+"*", 1000).Iterator()
	for keys.Next(ctx) {
		value, err := server.Get(ctx, keys.Val()).Bytes()
		if errors.Is(err, redis.Nil) {
			continue // it has expired since
		}
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			value, err = []byte{}, nil
		}
		if err != nil {
			return unavailable(err)
		}
		found[keys.Val()] = value
	}
	if err := keys.Err(); err != nil {
		return unavailable(err)
	}
	return nil
}

// readyKeys are keys that nothing is ever kept under. Being many, they lie on different
// primaries of a cluster.
var readyKeys = []string{
	"mfa:ready:0", "mfa:ready:1", "mfa:ready:2", "mfa:ready:3", "mfa:ready:4", "mfa:ready:5", "mfa:ready:6", "mfa:ready:7",
}

// Ready implements Backend. SET with XX is a write that changes nothing: replicas refuse
// it, and servers without memory to spare. In a cluster one primary that takes it is
// enough, because the accounts of the others are no reason to turn everybody away; the
// first one to answer is not kept waiting by one that hangs.
func (r *Redis) Ready(ctx context.Context) error {
	keys := readyKeys
	if !r.isCluster() {
		keys = keys[:1]
	}
	results := make(chan error, len(keys))
	for _, key := range keys {
		go func() {
			_, err := r.do(ctx, "SET", key, "", "XX").Text()
			results <- err
		}()
	}
	var err error
	for range keys {
		if err = <-results; err == nil || errors.Is(err, redis.Nil) {
			return nil
		}
	}
	return unavailable(err)
}

// Pool is the state of a client's connections, to all servers together.
type Pool struct {
	Idle, InUse int
	Waits       uint32 // for a free connection, that ended with one, ever
}

// Pool returns the present state.
func (r *Redis) Pool() Pool {
	s := r.client.PoolStats()
	return Pool{Idle: int(s.IdleConns), InUse: int(s.TotalConns) - int(s.IdleConns), Waits: s.WaitCount}
}

// Close implements Backend.
func (r *Redis) Close() error { return r.client.Close() }

// orNil reads the reply of a command that returns what was there, or nil.
func orNil(text string, err error) ([]byte, error) {
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return []byte(text), nil
}

// unavailable translates every other error of go-redis: refused, timed out, a
// lost reply, an answer that we did not expect. None tells what Redis did.
func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, tactful{err}) }

// tactful leaves out what Redis repeats of a command that it does not know: of an AUTH that
// was renamed, that is the password.
type tactful struct{ error }

// Error implements error.
func (e tactful) Error() string {
	text, _, _ := strings.Cut(e.error.Error(), ", with args beginning with")
	return text
}

// Unwrap lets errors.Is and errors.As see the whole.
func (e tactful) Unwrap() error { return e.error }
