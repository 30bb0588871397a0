package store

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// RedisURL names a Redis in one of these forms:
//
//	redis://user:password@host:6379/0                       one server
//	unix:///run/redis/redis.sock?db=0                       one server, on this machine
//	redis://host1:26379,host2:26379?master_name=mfa         Sentinel
//	redis+cluster://host1:6379,host2:6379                   Cluster
//
// rediss:// and rediss+cluster:// are the same over TLS. These are go-redis's forms, with
// these additions: redis+cluster selects the cluster's client, several hosts may be listed,
// and the tls_ parameters name files and the servers' name.
//
// No part of a URL is ignored: what UnmarshalText cannot read is an error. A RedisURL never
// prints itself: it may hold a password.
type RedisURL struct{ options *redis.UniversalOptions }

var redisSchemes = []string{"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"}

var (
	errRedisURL = errors.New("must be a URL with redis://, rediss://, unix://, redis+cluster:// or rediss+cluster://")
	errEscape   = errors.New("has a character that must be percent-encoded, most likely in the password: percent-encode the password " +
		"(% as %25, # as %23, / as %2F, ? as %3F, @ as %40, [ as %5B, & as %26, ; as %3B, a space as %20)")
	errHost     = errors.New("must have a host or host:port after the user and password, several of them separated by commas; a port is 1 to 65535")
	errSocket   = errors.New("must have the path of a socket after unix://, such as unix:///run/redis/redis.sock")
	errPassword = errors.New("has an @, but no password before it: write user:password@ or :password@")
	errPath     = errors.New("may have only a database number after the host, such as /0")
)

// UnmarshalText reads a URL and the files that it names. Its errors show no part of the URL.
// A text that cannot be split into parts has one error; otherwise all faults are reported.
func (u *RedisURL) UnmarshalText(text []byte) error {
	parts, err := splitRedisURL(string(text))
	if err != nil {
		return err
	}
	parameters := readParameters(parts.query)
	options := parameters.options(parts)
	if err := parameters.err(); err != nil {
		return err
	}
	setLimits(options)
	u.options = options
	return nil
}

// redisURLParts are the parts of a URL, decoded except for the query.
type redisURLParts struct {
	tls, cluster       bool
	username, password string
	addresses          []string // host:port
	socket             string   // path; empty except with unix://
	db                 string   // from the path
	query              string
}

// splitRedisURL splits a URL as RFC 3986 says, but accepts no character that RFC 3986 wants
// percent-encoded. A # / ? or @ of a password ends the password too soon: then an @ is left
// where none belongs.
func splitRedisURL(text string) (p redisURLParts, err error) {
	scheme, rest, found := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !found || !slices.Contains(redisSchemes, scheme) {
		return p, errRedisURL
	}
	scheme, p.cluster = strings.CutSuffix(scheme, "+cluster")
	p.tls = scheme == "rediss"
	if strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r == '#' || r == '\x7f' }) {
		return p, errEscape
	}
	end := strings.IndexAny(rest+"/", "/?")
	authority := rest[:end]
	var path string
	path, p.query, _ = strings.Cut(rest[end:], "?")
	user, host, hasUser := strings.Cut(authority, "@")
	if strings.Contains(host+path, "@") || strayAt(p.query) {
		return p, errEscape
	}
	if !hasUser {
		host = authority
	} else if p.username, p.password, err = readUser(user); err != nil {
		return p, err
	}
	if scheme == "unix" {
		p.socket, err = readSocket(host, path)
		return p, err
	}
	if p.addresses, err = readAddresses(host); err != nil {
		return p, err
	}
	p.db = strings.Trim(path, "/")
	if _, err := strconv.ParseUint(p.db, 10, 31); p.db != "" && err != nil {
		return p, errPath
	}
	return p, nil
}

// strayAt reports whether a parameter has an @. Only a user or password may.
func strayAt(query string) bool {
	return slices.ContainsFunc(strings.Split(query, "&"), func(pair string) bool {
		return strings.Contains(pair, "@") && !strings.HasPrefix(pair, "username=") && !strings.HasPrefix(pair, "password=")
	})
}

// readUser reads user:password, as url.Parse does. go-redis ignores a user without a password.
func readUser(text string) (username, password string, err error) {
	parsed, err := url.Parse("redis://" + text + "@host")
	if err != nil {
		return "", "", errEscape
	}
	if password, _ = parsed.User.Password(); password == "" {
		return "", "", errPassword
	}
	return parsed.User.Username(), password, nil
}

func readSocket(host, path string) (string, error) {
	socket, err := url.PathUnescape(path)
	if err != nil {
		return "", errEscape
	}
	if host != "" || len(socket) < 2 {
		return "", errSocket
	}
	return socket, nil
}

// addressForm is a host or an IPv6 address in brackets with its zone, and a port.
var addressForm = regexp.MustCompile(`^(?:\[([0-9A-Fa-f:.]+)(%25[\w.~-]+)?\]|([\w.-]+))(?::(\d+))?$`)

// readAddresses reads hosts that are separated by commas. The default port is 6379.
func readAddresses(list string) ([]string, error) {
	var addresses []string
	for text := range strings.SplitSeq(list, ",") {
		match := addressForm.FindStringSubmatch(text)
		if match == nil {
			return nil, errHost
		}
		ip, zone, host, port := match[1], match[2], match[3], match[4]
		if ip != "" {
			if _, err := netip.ParseAddr(ip); err != nil {
				return nil, errHost
			}
			host = ip + strings.Replace(zone, "%25", "%", 1)
		}
		if port == "" {
			port = "6379"
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, errHost
		}
		addresses = append(addresses, net.JoinHostPort(host, port))
	}
	return addresses, nil
}

// Format hides the URL from every fmt verb.
func (RedisURL) Format(f fmt.State, _ rune) { fmt.Fprint(f, "redis URL (hidden)") }

// MarshalText hides the URL from encoders such as log/slog's.
func (RedisURL) MarshalText() ([]byte, error) { return []byte("redis URL (hidden)"), nil }
