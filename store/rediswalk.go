package store

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Walk implements Backend. SCAN does not block Redis, unlike KEYS. In a cluster, Walk scans
// every primary.
func (r *Redis) Walk(ctx context.Context, prefix, suffix string, visit func(key string, value []byte) error) error {
	var mu sync.Mutex
	var stopped error
	err := r.eachPrimary(ctx, func(ctx context.Context, server redis.UniversalClient) error {
		return scan(ctx, server, prefix+"*"+suffix, func(key string, value []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if stopped == nil {
				stopped = visit(key, value)
			}
			return stopped
		})
	})
	return cmp.Or(stopped, err)
}

// eachPrimary calls do for the one server, or concurrently for all primaries of a cluster.
func (r *Redis) eachPrimary(ctx context.Context, do func(context.Context, redis.UniversalClient) error) error {
	cluster, ok := r.client.(*redis.ClusterClient)
	if !ok {
		return do(ctx, r.client)
	}
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, primary *redis.Client) error { return do(ctx, primary) })
	if err != nil && !errors.Is(err, ErrUnavailable) {
		err = unavailable(err) // The client could not read the cluster's slots.
	}
	return err
}

// scanPage is about as many entries as one SCAN looks at: a page of values is in memory at a
// time, and Redis is not blocked for long.
const scanPage = 1000

// scan visits the entries of one server whose key matches the glob pattern.
func scan(ctx context.Context, server redis.Cmdable, pattern string, visit func(key string, value []byte) error) error {
	for cursor := uint64(0); ; {
		keys, next, err := server.Scan(ctx, cursor, pattern, scanPage).Result()
		if err != nil {
			return unavailable(err)
		}
		if err := visitPage(ctx, server, keys, visit); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// visitPage reads the values of keys in one round trip and visits them.
func visitPage(ctx context.Context, server redis.Cmdable, keys []string, visit func(key string, value []byte) error) error {
	gets := make([]*redis.StringCmd, len(keys))
	// Each command has its own error.
	_, _ = server.Pipelined(ctx, func(pipeline redis.Pipeliner) error {
		for i, key := range keys {
			gets[i] = pipeline.Get(ctx, key)
		}
		return nil
	})
	for i, get := range gets {
		value, err := get.Bytes()
		if errors.Is(err, redis.Nil) {
			continue // It was deleted or has expired since.
		}
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			value, err = []byte{}, nil
		}
		if err != nil {
			return unavailable(err)
		}
		if err := visit(keys[i], value); err != nil {
			return err
		}
	}
	return nil
}
