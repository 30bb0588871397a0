package store

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/redis/go-redis/v9"
)

// List implements Backend. SCAN does not block Redis, unlike KEYS. In a cluster, List scans
// every primary.
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

// scan adds the entries of one server to found.
func scan(ctx context.Context, server redis.Cmdable, prefix string, found map[string][]byte) error {
	keys := server.Scan(ctx, 0, prefix+"*", 1000).Iterator()
	for keys.Next(ctx) {
		value, err := server.Get(ctx, keys.Val()).Bytes()
		if errors.Is(err, redis.Nil) {
			continue // It was deleted or has expired since.
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
