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

// A Finding is one thing about Redis that its operator should know, in a sentence. With a
// Fatal one, requests fail.
type Finding struct {
	Text  string
	Fatal bool
}

// Keys that nothing is ever kept under, one for each kind of key that there is.
const (
	probePending = "mfa:{probe}:pending"
	probeAPIKey  = apiKeyPrefix + "probe"
)

// probes are the commands that serving takes, in a form that changes nothing: SET with
// XX makes no key. Redis judges permissions before anything else.
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

// denied returns the command that Redis refuses: not always the one that was called,
// because connecting takes others, such as SELECT. Where it is the key that is refused,
// Redis names none.
func denied(err error) string {
	named := deniedCommand.FindStringSubmatch(err.Error())
	if named == nil {
		return ""
	}
	return strings.ToUpper(strings.ReplaceAll(named[1], "|", " "))
}

// Inspect tells what is wrong with the way in which Redis is set up for this service; in a
// cluster, every primary is asked. A server that cannot tell now, because it is down or
// loading its data, is ErrUnavailable.
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
		findings, err = append(findings, Finding{"the Redis user may not use " + denied(err), true}), nil
	case redis.HasErrorPrefix(err, "This instance has cluster support disabled"):
		findings, err = append(findings, Finding{"Redis is no cluster: use redis:// or rediss://", true}), nil
	}
	if r.plaintext.Load() {
		findings = append(findings, Finding{Text: "the connection to Redis leaves this machine and is not encrypted: use rediss://"})
	}
	slices.SortFunc(findings, func(a, b Finding) int { return strings.Compare(a.Text, b.Text) })
	return slices.Compact(findings), err
}

// leavesMachine tells whether anybody between here and the address could read along.
func leavesMachine(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && host != "localhost" && !net.ParseIP(host).IsLoopback() // else the path of a socket
}

// inspect asks one server.
func inspect(ctx context.Context, server redis.UniversalClient, inCluster bool) ([]Finding, error) {
	info, err := server.InfoMap(ctx).Result()
	if err != nil && !redis.IsPermissionError(err) {
		return nil, unavailable(err)
	}
	findings := inspectInfo(info, inCluster)
	if err != nil {
		findings = []Finding{{"the Redis user may not use INFO: version and maxmemory-policy are not checked", false}}
		if command := denied(err); command != "INFO" {
			findings = []Finding{{"the Redis user may not use " + command, true}}
		}
	}
	if slices.ContainsFunc(findings, func(f Finding) bool { return f.Fatal }) {
		return findings, nil // what else it answers says nothing of permissions
	}
	for _, probe := range probes {
		err := server.Do(ctx, probe.args...).Err()
		_, moved := redis.IsMovedError(err) // it is allowed, on the node that has the key
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

// inspectInfo reads what INFO says.
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
		findings = append(findings, Finding{"Redis is a replica, which loses what is written to it: name its primary, or use Sentinel", true})
	}
	if policy := info["Memory"]["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		findings = append(findings, Finding{"maxmemory-policy is " + policy + ", by which Redis may drop keys before their time: set noeviction", false})
	}
	return findings
}
