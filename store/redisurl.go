package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"quiva.ai/mfa/store/smallfile"
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
	// pool_size. In a cluster, at half a millisecond a command, they carry 60 000 a second;
	// elsewhere the pipeliner's senders, and administration, need no more than a dozen.
	redisPool = 32

	// maxRedisPool is what pool_size may say. Nobody needs more, and go-redis panics
	// over a number that is far too large.
	maxRedisPool = 10_000

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

// parameters are those that may be given. The rest of go-redis's would break a promise
// of this package (timeouts, retries, reading from replicas, TLS that verifies nothing)
// or make go-redis panic.
var parameters = []string{
	"addr", "client_name", "conn_max_idle_time", "conn_max_lifetime", "db", "master_name", "min_idle_conns",
	"password", "pool_size", "protocol", "tls_ca_file", "tls_cert_file", "tls_key_file", "username",
}

var (
	errRedisURL   = errors.New("must be a URL with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://")
	errMisplaced  = errors.New("has a parameter in the wrong place: addr is for Sentinel and clusters, username and password with master_name, and a cluster has no db")
	errConnection = fmt.Errorf("may have a pool_size of up to %d, and no more min_idle_conns than that", maxRedisPool)
)

// UnmarshalText reads a URL. The error carries no value of it.
func (u *RedisURL) UnmarshalText(text []byte) error {
	address, err := url.Parse(string(text))
	if err != nil {
		return errRedisURL
	}
	query := address.Query()
	for name := range query {
		if !slices.Contains(parameters, name) {
			return fmt.Errorf("may have only the parameters %s", strings.Join(parameters, ", "))
		}
	}
	files := tlsFiles{take(query, "tls_ca_file"), take(query, "tls_cert_file"), take(query, "tls_key_file")}
	options, err := parseRedisURL(address, query)
	if err != nil {
		return err
	}
	if err := files.addTo(options.TLSConfig); err != nil {
		return err
	}
	setLimits(options)
	if options.PoolSize > maxRedisPool || options.MinIdleConns > options.PoolSize {
		return errConnection
	}
	u.options = options
	return nil
}

// parseRedisURL has go-redis read the URL of one server, and adds what makes it one of
// Sentinel or of a cluster.
func parseRedisURL(address *url.URL, query url.Values) (*redis.UniversalOptions, error) {
	var cluster bool
	address.Scheme, cluster = strings.CutSuffix(address.Scheme, "+cluster")
	others := query["addr"]
	query.Del("addr")
	master, username, password := take(query, "master_name"), take(query, "username"), take(query, "password")
	address.RawQuery = query.Encode()
	o, err := redis.ParseURL(address.String())
	if err != nil {
		return nil, errRedisURL
	}
	several := cluster || master != ""
	if cluster && (master != "" || o.DB != 0) || several && o.Network != "tcp" ||
		!several && len(others) > 0 || master == "" && username+password != "" {
		return nil, errMisplaced
	}
	options := &redis.UniversalOptions{
		Addrs: append([]string{o.Addr}, others...), DB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig,
		ClientName: o.ClientName, Protocol: o.Protocol, PoolSize: o.PoolSize, MinIdleConns: o.MinIdleConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
		IsClusterMode: cluster, MasterName: master,
	}
	if master != "" {
		options.SentinelUsername, options.SentinelPassword = o.Username, o.Password
		options.Username, options.Password = username, password
	}
	return options, nil
}

// take removes a parameter and returns its value.
func take(query url.Values, name string) string {
	value := query.Get(name)
	query.Del(name)
	return value
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
	o.PipelinePoolSize = -1 // none of its own: pool_size is for all connections, as are the limits
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

// connect returns a client, which connects with the first command. Before it dials, it
// tells dialing the address: those of the URL may lead to others.
func (u RedisURL) connect(dialing func(address string, encrypted bool)) redis.UniversalClient {
	options := *u.options
	dial := redis.NewDialer(&redis.Options{DialTimeout: redisTimeout, TLSConfig: options.TLSConfig})
	options.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialing(address, options.TLSConfig != nil)
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newWary(conn), nil
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

// Format hides the URL from every fmt verb.
func (RedisURL) Format(f fmt.State, _ rune) { fmt.Fprint(f, "redis URL (hidden)") }

// MarshalText hides the URL from encoders, log/slog's among them.
func (RedisURL) MarshalText() ([]byte, error) { return []byte("redis URL (hidden)"), nil }

// tlsFiles are the paths of PEM files; any may be empty.
type tlsFiles struct{ ca, cert, key string }

// addTo reads the files into config, which is nil without TLS.
func (f tlsFiles) addTo(config *tls.Config) error {
	if f == (tlsFiles{}) {
		return nil
	}
	if config == nil {
		return errors.New("has TLS parameters, but a scheme without TLS")
	}
	if f.ca != "" {
		text, err := smallfile.Read(f.ca)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(text) {
			return errors.New("tls_ca_file cannot be read as PEM certificates")
		}
	}
	if f.cert+f.key != "" {
		certificate, err := smallfile.KeyPair(f.cert, f.key)
		if err != nil {
			return errors.New("tls_cert_file and tls_key_file cannot be read as a PEM certificate and its key")
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return nil
}
