package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Limits of the Redis client, for every topology. A URL cannot change them, except for
// the size of the pool.
const (
	// redisTimeout bounds each step of a command that its caller's context does not
	// bound sooner: to wait for a free connection, to dial, to write, to read the
	// reply. A request's own limit on all of them together is shorter; nothing would
	// be gained by giving up one step earlier, because none is tried again. go-redis's
	// own defaults wait for seconds.
	redisTimeout = 500 * time.Millisecond

	// redisRetries: none. After a lost reply nobody knows whether a command was
	// executed; the caller is told so, and decides.
	redisRetries = -1

	// redisDialAttempts: one, for the same reason that a step gets the whole time.
	redisDialAttempts = 1

	// redisPool is the number of connections to each server, unless the URL says
	// pool_size. At half a millisecond a command they carry 60 000 a second.
	redisPool = 32

	// clusterReload is the interval at which a cluster's slots are read again. With
	// go-redis's minute, a dead primary is an outage of a minute.
	clusterReload = time.Second
)

// RedisURL says which Redis to use. It never prints itself: it may hold a password.
//
//	redis://user:password@host:6379/0                       one server
//	unix:///run/redis/redis.sock?db=0                       one server, on this machine
//	redis://host1:26379?master_name=mfa&addr=host2:26379    Sentinel
//	redis+cluster://host1:6379?addr=host2:6379              Cluster
//
// rediss:// and rediss+cluster:// are the same over TLS. These are go-redis's own
// forms, except for redis+cluster, which go-redis tells by the function that is called,
// and for three parameters: tls_ca_file (PEM, instead of the system's authorities),
// tls_cert_file and tls_key_file (PEM, the client's certificate).
type RedisURL struct{ options *redis.UniversalOptions }

// parameters are those of go-redis's that may be given. The others would break a
// promise of this package (timeouts, retries, reading from replicas, TLS that verifies
// nothing) or make go-redis panic.
var parameters = []string{
	"addr", "client_name", "conn_max_idle_time", "conn_max_lifetime", "db", "master_name",
	"min_idle_conns", "password", "pool_size", "protocol", "username",
}

var errRedisURL = errors.New("must be a URL with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://")

// UnmarshalText reads a URL. The error carries no value of it.
func (u *RedisURL) UnmarshalText(text []byte) error {
	address, err := url.Parse(string(text))
	if err != nil {
		return errRedisURL
	}
	query := address.Query()
	files := takeTLSFiles(query)
	for name := range query {
		if !slices.Contains(parameters, name) {
			return fmt.Errorf("may have only the parameters %s, tls_ca_file, tls_cert_file and tls_key_file", strings.Join(parameters, ", "))
		}
	}
	address.RawQuery = query.Encode()
	scheme, cluster := strings.CutSuffix(address.Scheme, "+cluster")
	address.Scheme = scheme
	options, err := parseRedisURL(address.String(), cluster, query.Has("master_name"))
	if err != nil {
		return errRedisURL
	}
	if err := files.addTo(options.TLSConfig); err != nil {
		return err
	}
	setLimits(options)
	u.options = options
	return nil
}

// parseRedisURL has go-redis read the URL, and takes over what parameters allow.
func parseRedisURL(text string, cluster, sentinel bool) (*redis.UniversalOptions, error) {
	switch {
	case cluster:
		o, err := redis.ParseClusterURL(text)
		if err != nil {
			return nil, err
		}
		return &redis.UniversalOptions{
			IsClusterMode: true, Addrs: o.Addrs, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
			ClientName: o.ClientName, Protocol: o.Protocol, PoolSize: o.PoolSize, MinIdleConns: o.MinIdleConns,
			ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
		}, nil
	case sentinel:
		o, err := redis.ParseFailoverURL(text)
		if err != nil {
			return nil, err
		}
		return &redis.UniversalOptions{
			MasterName: o.MasterName, Addrs: o.SentinelAddrs, SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
			DB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
			ClientName: o.ClientName, Protocol: o.Protocol, PoolSize: o.PoolSize, MinIdleConns: o.MinIdleConns,
			ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
		}, nil
	}
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, err
	}
	return &redis.UniversalOptions{
		Addrs: []string{o.Addr}, DB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
		ClientName: o.ClientName, Protocol: o.Protocol, PoolSize: o.PoolSize, MinIdleConns: o.MinIdleConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
	}, nil
}

// setLimits sets what is the same everywhere.
func setLimits(o *redis.UniversalOptions) {
	o.PoolTimeout = redisTimeout
	o.DialTimeout = redisTimeout
	o.WriteTimeout = redisTimeout
	o.ReadTimeout = redisTimeout
	o.ContextTimeoutEnabled = true // else a context's deadline does not reach the socket
	o.MaxRetries = redisRetries
	o.DialerRetries = redisDialAttempts
	if o.PoolSize <= 0 {
		o.PoolSize = redisPool
	}
	// Handshake extras that Redis 7.0 answers with errors, and that we do not use.
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if o.TLSConfig != nil {
		o.TLSConfig.MinVersion = tls.VersionTLS12
		if o.IsClusterMode || o.MasterName != "" {
			o.TLSConfig.ServerName = "" // every server is verified by its own name
		}
	}
}

// connect returns a client; it connects with the first command.
func (u RedisURL) connect() redis.UniversalClient {
	if u.options.IsClusterMode {
		o := u.options.Cluster()
		o.ClusterStateReloadInterval = clusterReload
		return redis.NewClusterClient(o)
	}
	return redis.NewUniversalClient(u.options)
}

// plaintext tells whether anything between here and Redis could read along.
func (u RedisURL) plaintext() bool {
	return u.options.TLSConfig == nil && slices.ContainsFunc(u.options.Addrs, func(address string) bool {
		host, _, err := net.SplitHostPort(address)
		return err == nil && host != "localhost" && !net.ParseIP(host).IsLoopback() // else the path of a socket
	})
}

// Format hides the URL from every fmt verb.
func (RedisURL) Format(f fmt.State, _ rune) { fmt.Fprint(f, "redis URL (hidden)") }

// MarshalText hides the URL from encoders, log/slog's among them.
func (RedisURL) MarshalText() ([]byte, error) { return []byte("redis URL (hidden)"), nil }

// tlsFiles are the paths of PEM files; any may be empty.
type tlsFiles struct{ ca, cert, key string }

// takeTLSFiles removes the parameters that are ours and not go-redis's.
func takeTLSFiles(query url.Values) tlsFiles {
	files := tlsFiles{query.Get("tls_ca_file"), query.Get("tls_cert_file"), query.Get("tls_key_file")}
	for _, name := range []string{"tls_ca_file", "tls_cert_file", "tls_key_file"} {
		query.Del(name)
	}
	return files
}

// addTo reads the files into config, which is nil without TLS.
func (f tlsFiles) addTo(config *tls.Config) error {
	if f == (tlsFiles{}) {
		return nil
	}
	if config == nil {
		return errors.New("has TLS parameters, but a scheme without TLS")
	}
	if f.ca != "" {
		text, err := os.ReadFile(f.ca)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(text) {
			return errors.New("tls_ca_file cannot be read as PEM certificates")
		}
	}
	if f.cert+f.key != "" {
		certificate, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return errors.New("tls_cert_file and tls_key_file cannot be read as a PEM certificate and its key")
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return nil
}
