package store

import "github.com/redis/go-redis/v9"

// Client is for tests of what no method of Redis shows: limits and hooks.
func (r *Redis) Client() redis.UniversalClient { return r.client }

// Options is for tests of what a URL says and no client shows.
func (u RedisURL) Options() redis.UniversalOptions { return *u.options }
