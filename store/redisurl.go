package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"quiva.ai/mfa/store/smallfile"
)

// RedisURL names a Redis in one of these forms:
//
//	redis://user:password@host:6379/0                       one server
//	unix:///run/redis/redis.sock?db=0                       one server, on this machine
//	redis://host1:26379?master_name=mfa&addr=host2:26379    Sentinel
//	redis+cluster://host1:6379?addr=host2:6379              Cluster
//
// rediss:// and rediss+cluster:// are the same over TLS. These are go-redis's forms, with
// two additions. redis+cluster selects the cluster's client. tls_ca_file (PEM, in place of
// the system's authorities), tls_cert_file and tls_key_file (PEM, the client's certificate)
// name files.
//
// A RedisURL never prints itself: it may hold a password.
type RedisURL struct{ options *redis.UniversalOptions }

// parameters are the parameters that a URL may have. The others of go-redis would break a
// promise of this package (timeouts, retries, reads from replicas, TLS without
// verification) or make go-redis panic.
var parameters = []string{
	"addr", "client_name", "conn_max_idle_time", "conn_max_lifetime", "db", "master_name", "min_idle_conns",
	"password", "pool_size", "protocol", "tls_ca_file", "tls_cert_file", "tls_key_file", "username",
}

var (
	errRedisURL   = errors.New("must be a URL with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://")
	errMisplaced  = errors.New("has a parameter in the wrong place: addr is for Sentinel and clusters, username and password with master_name, and a cluster has no db")
	errConnection = fmt.Errorf("may have a pool_size of up to %d, and no more min_idle_conns than that", maxRedisPool)
)

// UnmarshalText reads a URL and the files that it names. Its errors show no part of the URL.
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
	files := tlsFiles{cut(query, "tls_ca_file"), cut(query, "tls_cert_file"), cut(query, "tls_key_file")}
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

// parseRedisURL passes the URL of one server to go-redis, without the parameters of
// Sentinel and Cluster, and adds those to the result.
func parseRedisURL(address *url.URL, query url.Values) (*redis.UniversalOptions, error) {
	var cluster bool
	address.Scheme, cluster = strings.CutSuffix(address.Scheme, "+cluster")
	others := query["addr"]
	query.Del("addr")
	master, username, password := cut(query, "master_name"), cut(query, "username"), cut(query, "password")
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

// cut removes a parameter from query and returns its value.
func cut(query url.Values, name string) string {
	value := query.Get(name)
	query.Del(name)
	return value
}

// Format hides the URL from every fmt verb.
func (RedisURL) Format(f fmt.State, _ rune) { fmt.Fprint(f, "redis URL (hidden)") }

// MarshalText hides the URL from encoders such as log/slog's.
func (RedisURL) MarshalText() ([]byte, error) { return []byte("redis URL (hidden)"), nil }

// tlsFiles are the paths of PEM files. Each may be empty.
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
