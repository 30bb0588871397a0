package store

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// readyKeys are names that no entry ever has. In a cluster, eight names spread over the
// primaries.
var readyKeys = []string{
	"mfa:ready:0", "mfa:ready:1", "mfa:ready:2", "mfa:ready:3", "mfa:ready:4", "mfa:ready:5", "mfa:ready:6", "mfa:ready:7",
}

// Ready implements Backend. It sends SET with XX, a write that changes nothing: replicas
// refuse it, and so do servers without free memory.
//
// In a cluster, Ready returns nil as soon as one primary accepts the write: while one of
// three primaries is down, the service still serves two thirds of the accounts.
func (r *Redis) Ready(ctx context.Context) error {
	keys := readyKeys
	if !r.isCluster() {
		keys = keys[:1]
	}
	return anyOf(keys, func(key string) error {
		_, err := r.writeAlone(ctx, "SET", key, "", "XX").Text()
		if err == nil || errors.Is(err, redis.Nil) {
			return nil
		}
		return unavailable(err)
	})
}

// anyOf calls do for all keys at once. It returns nil as soon as one call does, and otherwise the
// last error.
func anyOf(keys []string, do func(key string) error) error {
	results := make(chan error, len(keys))
	for _, key := range keys {
		go func() { results <- do(key) }()
	}
	var err error
	for range keys {
		if err = <-results; err == nil {
			break
		}
	}
	return err
}

// Pool is the state of the connections to all servers together.
type Pool struct {
	Idle, InUse int
	Waits       uint32 // commands that have waited for a connection and got one
}

// Pool returns the present state of the connections.
func (r *Redis) Pool() Pool {
	s := r.client.PoolStats()
	return Pool{Idle: int(s.IdleConns), InUse: int(s.TotalConns) - int(s.IdleConns), Waits: s.WaitCount}
}
