package store

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Limits of the Redis client in every topology. A URL can change only the pool's size.
const (
	// redisTimeout bounds each step of a command: waiting for a connection, dialling,
	// writing, reading the reply. The caller's context bounds all steps together, mostly
	// sooner. go-redis's defaults are seconds.
	redisTimeout = 500 * time.Millisecond

	// redisRetries turns retries off. After a lost reply it is unknown whether Redis
	// executed the command. The caller learns that and decides.
	redisRetries = -1

	// redisDialAttempts is one, so that the attempt has the whole time.
	redisDialAttempts = 1

	// redisPool is the default number of connections to each server. In a cluster, at half
	// a millisecond a command, they carry 60 000 commands a second. Elsewhere the
	// pipeliner's senders and readiness need about a dozen.
	redisPool = 32

	// maxRedisPool is the largest pool_size: far more than a cluster needs, and far less
	// than the number at which go-redis panics.
	maxRedisPool = 10_000

	// clusterReload is the interval at which the client reads a cluster's slots. With
	// go-redis's default, a dead primary is an outage of a minute.
	clusterReload = time.Second
)

// setLimits sets the options that are the same in every topology.
func setLimits(o *redis.UniversalOptions) {
	o.PoolTimeout = redisTimeout
	o.DialTimeout = redisTimeout
	o.WriteTimeout = redisTimeout
	o.ReadTimeout = redisTimeout
	o.ContextTimeoutEnabled = true // Otherwise reads and writes ignore the context's deadline.
	o.MaxRetries = redisRetries
	o.DialerRetries = redisDialAttempts
	o.PipelinePoolSize = -1 // Pipelines use the same connections.
	// Redis 7.0 refuses these commands of the handshake, and the service does not need them.
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// connect returns a client, which connects with its first command. It calls dialing before
// it dials a server. Sentinels and clusters name servers that are not in the URL.
func (u RedisURL) connect(dialing func(address string, encrypted bool)) redis.UniversalClient {
	options := *u.options
	dial := redis.NewDialer(&redis.Options{DialTimeout: redisTimeout, TLSConfig: options.TLSConfig})
	options.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialing(address, options.TLSConfig != nil)
		return dial(ctx, network, address)
	}
	if options.IsClusterMode {
		o := options.Cluster()
		o.ClusterStateReloadInterval = clusterReload
		cluster := redis.NewClusterClient(o)
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(panicHook{}) })
		return cluster
	}
	client := redis.NewUniversalClient(&options)
	client.AddHook(panicHook{})
	return client
}
