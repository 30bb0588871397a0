package store

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// knownParameters are the parameters that a URL may have. The others of go-redis would break
// a promise of this package (timeouts, retries, reads from replicas, TLS without
// verification) or make go-redis panic.
var knownParameters = []string{
	"addr", "client_name", "conn_max_idle_time", "conn_max_lifetime", "db", "master_name", "min_idle_conns", "password",
	"pool_size", "protocol", "tls_ca_file", "tls_cert_file", "tls_key_file", "tls_server_name", "username",
}

// redisParameters are the parameters of a URL and the faults in them. A fault names at most
// known parameters: an unknown one may be part of a password.
type redisParameters struct {
	values map[string]string
	addrs  []string // each addr
	faults []string
}

// readParameters reads a query. url.ParseQuery would drop a pair with a ; or a bad %, and
// url.URL.Query ignores its error.
func readParameters(query string) *redisParameters {
	p := &redisParameters{values: map[string]string{}}
	if query == "" {
		return p
	}
	for pair := range strings.SplitSeq(query, "&") {
		p.read(pair)
	}
	return p
}

func (p *redisParameters) read(pair string) {
	name, value, _ := strings.Cut(pair, "=")
	name, nameErr := url.QueryUnescape(name)
	value, valueErr := url.QueryUnescape(value)
	known := slices.Contains(knownParameters, name)
	_, given := p.values[name]
	switch {
	case known && (valueErr != nil || strings.Contains(pair, ";")):
		p.fault(name + " cannot be read: separate parameters by &, and write ; as %3B and % as %25")
	case nameErr != nil || strings.Contains(pair, ";"):
		p.fault(errEscape.Error())
	case !known:
		p.fault("may have only the parameters " + strings.Join(knownParameters, ", "))
	case value == "":
		p.fault(name + " is empty")
	case name == "addr":
		addresses, err := readAddresses(value)
		if err != nil {
			p.fault("addr must be a host or host:port, or several of them separated by commas")
		}
		p.addrs = append(p.addrs, addresses...)
	case given:
		p.fault(name + " is given twice")
	default:
		p.values[name] = value
	}
}

// fault notes a fault, each text once.
func (p *redisParameters) fault(text string) {
	if !slices.Contains(p.faults, text) {
		p.faults = append(p.faults, text)
	}
}

// faultIf notes a fault under a condition.
func (p *redisParameters) faultIf(condition bool, text string) {
	if condition {
		p.fault(text)
	}
}

// err returns all faults in one error.
func (p *redisParameters) err() error {
	if p.faults == nil {
		return nil
	}
	return errors.New(strings.Join(p.faults, "; "))
}

// options returns the options of a URL, and notes faults in its parameters.
func (p *redisParameters) options(parts redisURLParts) *redis.UniversalOptions {
	p.faultIf(parts.db != "" && p.values["db"] != "", "db is given twice, in the path and as a parameter")
	db, _ := strconv.Atoi(parts.db) // "" or a number
	o := &redis.UniversalOptions{
		Addrs: append(parts.addresses, p.addrs...), IsClusterMode: parts.cluster,
		Username: parts.username, Password: parts.password,
		MasterName: p.text("master_name"), ClientName: p.text("client_name"),
		DB:              p.number("db", db, 0, math.MaxInt32),
		Protocol:        p.number("protocol", 3, 2, 3),
		PoolSize:        p.number("pool_size", redisPool, 1, maxRedisPool),
		ConnMaxIdleTime: p.duration("conn_max_idle_time"), ConnMaxLifetime: p.duration("conn_max_lifetime"),
	}
	o.MinIdleConns = p.number("min_idle_conns", 0, 0, o.PoolSize)
	p.checkPlaces(parts, o)
	if parts.socket != "" {
		o.Addrs = []string{parts.socket}
	}
	if o.MasterName != "" {
		o.SentinelUsername, o.SentinelPassword = parts.username, parts.password
		o.Username, o.Password = p.values["username"], p.values["password"]
	}
	if parts.tls {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	p.addTLS(o)
	return o
}

// checkPlaces notes parameters that do not belong to this form of URL.
func (p *redisParameters) checkPlaces(parts redisURLParts, o *redis.UniversalOptions) {
	username, password := p.values["username"], p.values["password"]
	sentinel := o.MasterName != ""
	p.faultIf(parts.cluster && sentinel, "master_name is for Sentinel, and a cluster has none")
	p.faultIf(parts.cluster && o.DB != 0, "db is not for a cluster, which has database 0 only")
	p.faultIf(parts.socket != "" && (sentinel || p.addrs != nil), "master_name and addr are not for unix://, which names one server")
	p.faultIf(parts.socket == "" && len(o.Addrs) > 1 && !parts.cluster && !sentinel,
		"names several servers: for a cluster use redis+cluster:// or rediss+cluster://, for Sentinel add master_name")
	p.faultIf(!sentinel && username+password != "", "username and password are for Redis behind Sentinel: put them before the host, or add master_name")
	p.faultIf(sentinel && username != "" && password == "", "username needs password")
}

// plainText is text without spaces or control characters.
var plainText = regexp.MustCompile(`^[!-~]*$`)

// text returns a parameter that Redis takes only without spaces.
func (p *redisParameters) text(name string) string {
	p.faultIf(!plainText.MatchString(p.values[name]), name+" may have only printable ASCII characters and no spaces")
	return p.values[name]
}

// number returns a parameter from least to most.
func (p *redisParameters) number(name string, fallback, least, most int) int {
	text := p.values[name]
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		p.fault(fmt.Sprintf("%s must be a number from %d to %d", name, least, most))
		return fallback
	}
	return n
}

// duration returns a parameter in go-redis's form: 90s, or a number of seconds. Zero and less
// mean no limit, which is -1 in go-redis.
func (p *redisParameters) duration(name string) time.Duration {
	text := p.values[name]
	if text == "" {
		return 0
	}
	if _, err := strconv.Atoi(text); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	p.faultIf(err != nil, name+" must be a duration such as 90s, or a number of seconds")
	if d <= 0 {
		return -1
	}
	return d
}

// addTLS adds the server's name and the files to the TLS configuration, which is nil without
// TLS. The certificate of one server is for its host. Sentinels and clusters name further
// servers: without tls_server_name, each has a certificate for its own name.
func (p *redisParameters) addTLS(o *redis.UniversalOptions) {
	name := p.values["tls_server_name"]
	files := tlsFiles{p.values["tls_ca_file"], p.values["tls_cert_file"], p.values["tls_key_file"]}
	if o.TLSConfig == nil {
		p.faultIf(name != "" || files != tlsFiles{}, "has TLS parameters, but a scheme without TLS")
		return
	}
	ip, err := netip.ParseAddr(name)
	p.faultIf(name != "" && (err != nil || ip.Zone() != "") && !hostName.MatchString(name), "tls_server_name must be a host name or an IP address")
	o.TLSConfig.ServerName = name
	if name == "" && !o.IsClusterMode && o.MasterName == "" {
		host, _, _ := net.SplitHostPort(o.Addrs[0])           // readAddresses made it.
		o.TLSConfig.ServerName, _, _ = strings.Cut(host, "%") // A certificate has no zone.
	}
	p.faults = append(p.faults, files.addTo(o.TLSConfig)...)
}

var hostName = regexp.MustCompile(`^[\w.-]+$`)
