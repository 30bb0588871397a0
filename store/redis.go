package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisTimeout bounds each step of a command that its caller's context does not
// bound sooner: to wait for a free connection, to dial, to write, to read the
// reply. A request's own limit on all of them together is shorter; nothing would
// be gained by giving up one step earlier, because none is tried again.
// go-redis's own defaults wait for seconds.
const redisTimeout = 500 * time.Millisecond

// Redis is the Backend of production: Redis 7.0 or newer (SET with NX and GET
// together came with it).
type Redis struct {
	client *redis.Client
}

var _ Backend = (*Redis)(nil)

// RedisURL says which Redis to use. It never prints itself: it may hold a
// password.
type RedisURL struct{ options *redis.Options }

// UnmarshalText reads a URL as go-redis does: redis://, rediss:// (TLS) or
// unix://. The error carries no part of it.
func (u *RedisURL) UnmarshalText(text []byte) error {
	options, err := redis.ParseURL(string(text))
	if err != nil {
		return errors.New("want redis://, rediss:// or unix://, as go-redis reads them")
	}
	setLimits(options)
	u.options = options
	return nil
}

// Format hides the URL from every fmt verb.
func (RedisURL) Format(f fmt.State, _ rune) { fmt.Fprint(f, "redis URL (hidden)") }

// LogValue hides the URL from log/slog.
func (RedisURL) LogValue() slog.Value { return slog.StringValue("redis URL (hidden)") }

// NewRedis returns a client for the Redis at url, which must have been
// unmarshalled. It connects with the first command.
func NewRedis(url RedisURL) *Redis {
	// go-redis prints to standard error what it also returns. Whoever gets the
	// error logs it, once and as JSON.
	logging.Disable()
	return &Redis{client: redis.NewClient(url.options)}
}

// setLimits overrides what the URL and go-redis's defaults say where another
// value would break a promise of this package.
func setLimits(o *redis.Options) {
	o.PoolTimeout = redisTimeout
	o.DialTimeout = redisTimeout
	o.WriteTimeout = redisTimeout
	o.ReadTimeout = redisTimeout
	// Without it a context's deadline does not reach the socket.
	o.ContextTimeoutEnabled = true
	// A lost reply must not be followed by a second SET NX: the first one may
	// have been executed, and the second would find it and call it another's.
	o.MaxRetries = -1
	// One attempt to dial; the caller decides whether to try again.
	o.DialerRetries = 1
	// Handshake extras that Redis 7.0 answers with errors, and that we do not use.
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// PutIfAbsent implements Backend. SET with NX and GET is the one atomic step:
// with a GET first, two replicas could both see nothing and both write.
func (r *Redis) PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, error) {
	return orNil(r.client.Do(ctx, "SET", key, value, "NX", "GET", "PX", ttl.Milliseconds()).Text())
}

// replaceScript compares and swaps in one step. Without it, of two replicas that
// find an unreadable value the second would overwrite what the first has already
// returned to its caller.
var replaceScript = redis.NewScript(`
local current = redis.call('GET', KEYS[1])
if current and current ~= ARGV[1] then return current end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false`)

// Replace implements Backend.
func (r *Redis) Replace(ctx context.Context, key string, old, value []byte, ttl time.Duration) ([]byte, error) {
	return orNil(replaceScript.Run(ctx, r.client, []string{key}, old, value, ttl.Milliseconds()).Text())
}

// Get implements Backend.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := r.client.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return value, nil
}

// Update implements Backend. XX keeps a key that was revoked between the caller's
// reading and writing from coming back.
func (r *Redis) Update(ctx context.Context, key string, value []byte) error {
	err := r.client.Do(ctx, "SET", key, value, "XX", "KEEPTTL").Err()
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
	deleted, err := r.client.Del(ctx, key).Result()
	if err != nil {
		return unavailable(err)
	}
	if deleted == 0 {
		return ErrNotFound
	}
	return nil
}

// List implements Backend. SCAN does not block Redis, unlike KEYS.
func (r *Redis) List(ctx context.Context, prefix string) (map[string][]byte, error) {
	found := map[string][]byte{}
	scan := r.client.Scan(ctx, 0, prefix+"*", 1000).Iterator()
	for scan.Next(ctx) {
		value, err := r.Get(ctx, scan.Val())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[scan.Val()] = value
	}
	if err := scan.Err(); err != nil {
		return nil, unavailable(err)
	}
	return found, nil
}

// Ping implements Backend.
func (r *Redis) Ping(ctx context.Context) error {
	if err := r.client.Ping(ctx).Err(); err != nil {
		return unavailable(err)
	}
	return nil
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
func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
