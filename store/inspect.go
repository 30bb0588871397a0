package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// A Finding is one fault in the setup of Redis, as a sentence for its operator. A Fatal
// Finding makes requests fail.
type Finding struct {
	Text  string
	Fatal bool
}

// Names that no entry ever has, one for each kind of entry.
const (
	probePending = "mfa:{probe}:pending"
	probeAPIKey  = apiKeyPrefix + "probe"
)

// probes are the commands that serve executes, in a form that changes nothing: SET with XX
// writes no new entry. Redis checks permissions first.
var probes = []struct {
	command, key string
	args         []any
}{
	{"SET", probePending, []any{"SET", probePending, "", "XX"}},
	{"GET", probePending, []any{"GET", probePending}},
	{"TYPE", probePending, []any{"TYPE", probePending}},
	{"EVAL", probePending, []any{"EVAL", "return 1", 1, probePending}},
	{"SET", probeAPIKey, []any{"SET", probeAPIKey, "", "XX"}},
	{"GET", probeAPIKey, []any{"GET", probeAPIKey}},
}

var deniedCommand = regexp.MustCompile(`'([^']+)' command`)

// deniedBy returns the command that a NOPERM error names. This may be a command of the
// handshake, such as SELECT, and not the command that was called. If the user lacks the
// key's permission, Redis names no command, and deniedBy returns "".
func deniedBy(err error) string {
	named := deniedCommand.FindStringSubmatch(err.Error())
	if named == nil {
		return ""
	}
	return strings.ToUpper(strings.ReplaceAll(named[1], "|", " "))
}

// Inspect returns the faults in the setup of Redis for this service. In a cluster it asks
// every primary. It returns ErrUnavailable if a server does not tell, because it is down or
// loads its data.
func (r *Redis) Inspect(ctx context.Context) ([]Finding, error) {
	var findings []Finding
	var mu sync.Mutex
	err := r.eachPrimary(ctx, func(ctx context.Context, server redis.UniversalClient) error {
		found, err := inspect(ctx, server, r.isCluster())
		mu.Lock()
		defer mu.Unlock()
		for _, f := range found {
			if primary, ok := server.(*redis.Client); ok && r.isCluster() {
				f.Text = primary.Options().Addr + ": " + f.Text
			}
			findings = append(findings, f)
		}
		return err
	})
	switch {
	case redis.IsAuthError(err):
		findings, err = append(findings, Finding{"Redis does not accept the user and password of MFA_REDIS_URL", true}), nil
	case redis.IsPermissionError(err):
		findings, err = append(findings, Finding{"the Redis user may not use " + deniedBy(err), true}), nil
	case redis.HasErrorPrefix(err, "This instance has cluster support disabled"):
		findings, err = append(findings, Finding{"Redis is no cluster: use redis:// or rediss://", true}), nil
	}
	if r.plaintext.Load() {
		findings = append(findings, Finding{Text: "the connection to Redis leaves this machine and is not encrypted: use rediss://"})
	}
	slices.SortFunc(findings, func(a, b Finding) int { return strings.Compare(a.Text, b.Text) })
	return slices.Compact(findings), err
}

// isRemote reports whether a connection to address leaves this machine.
func isRemote(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false // the path of a socket
	}
	return host != "localhost" && !net.ParseIP(host).IsLoopback()
}

// inspect inspects one server.
func inspect(ctx context.Context, server redis.UniversalClient, inCluster bool) ([]Finding, error) {
	info, err := server.InfoMap(ctx).Result()
	if err != nil && !redis.IsPermissionError(err) {
		return nil, unavailable(err)
	}
	findings := inspectInfo(info, inCluster)
	if err != nil {
		findings = []Finding{{"the Redis user may not use INFO: version and maxmemory-policy are not checked", false}}
		if command := deniedBy(err); command != "INFO" {
			findings = []Finding{{"the Redis user may not use " + command, true}}
		}
	}
	if slices.ContainsFunc(findings, func(f Finding) bool { return f.Fatal }) {
		return findings, nil // On such a server the probes say nothing about permissions.
	}
	for _, probe := range probes {
		err := server.Do(ctx, probe.args...).Err()
		_, moved := redis.IsMovedError(err) // The user may; another node has the slot.
		switch {
		case err == nil || errors.Is(err, redis.Nil) || moved:
		case redis.IsPermissionError(err):
			findings = append(findings, Finding{"the Redis user may not use " + probe.command + " on keys like " + probe.key, true})
		default:
			return findings, unavailable(err)
		}
	}
	return findings, nil
}

// inspectInfo returns the faults that the reply to INFO shows.
func inspectInfo(info map[string]map[string]string, inCluster bool) []Finding {
	var findings []Finding
	var major int
	version := info["Server"]["redis_version"]
	if _, err := fmt.Sscanf(version, "%d.", &major); err == nil && major < 7 {
		findings = append(findings, Finding{"Redis " + version + " is too old: 7.0 or newer is needed", true})
	}
	switch mode := info["Server"]["redis_mode"]; {
	case mode == "cluster" && !inCluster:
		findings = append(findings, Finding{"Redis is a node of a cluster: use redis+cluster://", true})
	case mode == "sentinel":
		findings = append(findings, Finding{"Redis is a sentinel: add ?master_name= to the URL", true})
	}
	if info["Replication"]["role"] == "slave" {
		findings = append(findings, Finding{"Redis is a replica, and a replica loses what is written to it: name its primary, or use Sentinel", true})
	}
	if policy := info["Memory"]["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		findings = append(findings, Finding{"maxmemory-policy is " + policy + ", by which Redis may drop entries before their deadline: set noeviction", false})
	}
	return findings
}
