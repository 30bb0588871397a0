package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// A Finding is one fault in the setup of Redis, as a sentence for its operator. A Fatal
// Finding makes requests fail: all, or if Partial those for one primary of a cluster. A Lossy
// one lets Redis lose factors, which nothing can make again.
type Finding struct {
	Text    string
	Fatal   bool
	Partial bool
	Lossy   bool
}

// Findings of INFO, or of a probe where INFO is refused.
const (
	foundNode    = "Redis is a node of a cluster: use redis+cluster://"
	foundReplica = "Redis is a replica, and a replica loses what is written to it: name its primary, or use Sentinel"
)

func fatal(text string) Finding { return Finding{Text: text, Fatal: true} }
func lossy(text string) Finding { return Finding{Text: text, Lossy: true} }

// Names that no entry ever has, one for each kind of entry but the identity.
const (
	probePending = "mfa:{probe}:pending"
	probeFactor  = "mfa:{probe}:factor"
	probeAPIKey  = apiKeyPrefix + "probe"
)

// A probe is a command that serve executes, in a form that changes nothing: SET with XX writes
// no new entry, SET with a TTL of 0 is refused after its options were read, and DEL has nothing
// to delete. Redis checks permissions first.
type probe struct {
	command, key string
	args         []any
}

// The scripts use SET, GET, TYPE and DEL.
var probes = []probe{
	{"SET", probePending, []any{"SET", probePending, "", "NX", "GET", "PX", 0}},
	{"GET", probePending, []any{"GET", probePending}},
	{"TYPE", probePending, []any{"TYPE", probePending}},
	{"DEL", probePending, []any{"DEL", probePending}},
	{"EVAL", probePending, []any{"EVAL", "return 1", 1, probePending}},
	{"SET", probeFactor, []any{"SET", probeFactor, "", "XX"}},
	{"GET", probeFactor, []any{"GET", probeFactor}},
	{"TYPE", probeFactor, []any{"TYPE", probeFactor}},
	{"EVAL", probeFactor, []any{"EVAL", "return 1", 1, probeFactor}},
	{"GET", identityKey, []any{"GET", identityKey}},
	{"EVAL", identityKey, []any{"EVAL", "return 1", 1, identityKey}},
	{"SET", probeAPIKey, []any{"SET", probeAPIKey, "", "XX"}},
	{"GET", probeAPIKey, []any{"GET", probeAPIKey}},
}

var probeWait = probe{"WAIT", "", []any{"WAIT", 0, 1}}

// Inspect returns the faults in the setup of Redis for this service. In a cluster it asks
// every primary. It returns ErrUnavailable, and what it has found, if a server does not tell,
// because it is down or loads its data.
func (r *Redis) Inspect(ctx context.Context) ([]Finding, error) {
	var findings []Finding
	var asked, sound bool // a primary was asked; one has no fatal finding
	var mu sync.Mutex
	err := r.eachPrimary(ctx, func(ctx context.Context, server redis.UniversalClient) error {
		found, err := r.inspect(ctx, server)
		mu.Lock()
		defer mu.Unlock()
		asked = true
		for _, f := range found {
			if primary, ok := server.(*redis.Client); ok && r.isCluster() {
				f.Text = primary.Options().Addr + ": " + f.Text
			}
			findings = append(findings, f)
		}
		sound = sound || err == nil && !slices.ContainsFunc(found, func(f Finding) bool { return f.Fatal })
		return err
	})
	for i := range findings {
		findings[i].Partial = findings[i].Fatal && sound
	}
	if err == nil && !asked {
		err = unavailable(errors.New("no primary of the cluster has hash slots"))
	}
	if text := setupFault(err); text != "" { // The client could not read the cluster's slots.
		findings, err = append(findings, fatal(text)), nil
	}
	if r.plaintext.Load() {
		findings = append(findings, Finding{Text: "the connection to Redis leaves this machine and is not encrypted: use rediss://"})
	}
	slices.SortFunc(findings, func(a, b Finding) int { return strings.Compare(a.Text, b.Text) })
	return slices.Compact(findings), err
}

// setupFault returns the fault in the setup that an error of the handshake or of CLUSTER
// SLOTS shows, or "" if it shows none.
func setupFault(err error) string {
	if err == nil {
		return ""
	}
	command, why, refused := refusedCommand(err)
	switch {
	case redis.IsAuthError(err):
		return "Redis does not accept the user and password of MFA_REDIS_URL"
	case refused:
		return "the Redis user may not use " + command + why
	case redis.HasErrorPrefix(err, "This instance has cluster support disabled"):
		return "Redis is no cluster: use redis:// or rediss://"
	case redis.HasErrorPrefix(err, "DB index is out of range"):
		return "Redis has no database with the number in MFA_REDIS_URL"
	}
	return ""
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
func (r *Redis) inspect(ctx context.Context, server redis.UniversalClient) ([]Finding, error) {
	info, err := server.InfoMap(ctx).Result()
	findings := inspectInfo(info, r.isCluster())
	if err != nil {
		command, why, _ := refusedCommand(err)
		if text := setupFault(err); text != "" && command != "INFO" {
			return []Finding{fatal(text)}, nil
		} else if command != "INFO" {
			return nil, unavailable(err)
		}
		findings = []Finding{{Text: "the Redis user may not use INFO" + why + ": version, maxmemory-policy and appendonly are not checked"}}
	}
	if slices.ContainsFunc(findings, func(f Finding) bool { return f.Fatal }) {
		return findings, nil // On such a server the probes say nothing about permissions.
	}
	if connected, err := strconv.Atoi(info["Replication"]["connected_slaves"]); err == nil && connected < r.replicas {
		findings = append(findings, Finding{Text: "Redis has fewer replicas than MFA_REDIS_WAIT_REPLICAS: changes of factors get a 503"})
	}
	more, err := r.probe(ctx, server)
	return append(findings, more...), err
}

// probe sends the probes to one server.
func (r *Redis) probe(ctx context.Context, server redis.UniversalClient) (findings []Finding, err error) {
	all := probes
	if r.replicas > 0 {
		all = append(slices.Clone(probes), probeWait)
	}
	replies := make([]*redis.Cmd, len(all))
	_, _ = server.Pipelined(ctx, func(pipeline redis.Pipeliner) error { // Each command has its own error.
		for i, p := range all {
			replies[i] = pipeline.Do(ctx, p.args...)
		}
		return nil
	})
	for i, p := range all {
		err := replies[i].Err()
		if _, moved := redis.IsMovedError(err); err == nil || errors.Is(err, redis.Nil) || moved && r.isCluster() {
			continue // A redirection comes after the check of permissions.
		}
		switch text := probeFault(err, p); {
		case text != "":
			findings = append(findings, fatal(text))
		case !redis.HasErrorPrefix(err, "invalid expire time"):
			return findings, unavailable(err)
		}
	}
	return findings, nil
}

// probeFault returns the fault in the setup that the error of a probe shows, or "".
func probeFault(err error, p probe) string {
	_, moved := redis.IsMovedError(err)
	command, why, refused := refusedCommand(err)
	switch {
	case moved:
		return foundNode
	case redis.HasErrorPrefix(err, "READONLY"):
		return foundReplica
	case redis.HasErrorPrefix(err, "syntax error"):
		return "Redis does not know SET with both NX and GET: 7.0 or newer is needed"
	case refused && command == "": // The command is allowed, on other keys.
		return "the Redis user may not use " + p.command + " on keys like " + p.key
	case refused:
		return "the Redis user may not use " + p.command + why
	}
	return ""
}

// inspectInfo returns the faults that the reply to INFO shows.
func inspectInfo(info map[string]map[string]string, inCluster bool) []Finding {
	var findings []Finding
	var major int
	version := info["Server"]["redis_version"]
	if _, err := fmt.Sscanf(version, "%d.", &major); err == nil && major < 7 {
		findings = append(findings, fatal("Redis "+version+" is too old: 7.0 or newer is needed"))
	}
	switch mode := info["Server"]["redis_mode"]; {
	case mode == "cluster" && !inCluster:
		findings = append(findings, fatal(foundNode))
	case mode == "sentinel":
		findings = append(findings, fatal("Redis is a sentinel: add ?master_name= to the URL"))
	}
	if info["Replication"]["role"] == "slave" {
		findings = append(findings, fatal(foundReplica))
	}
	if policy := info["Memory"]["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		findings = append(findings, lossy("maxmemory-policy is "+policy+", by which Redis may drop factors: set noeviction"))
	}
	if info["Persistence"]["aof_enabled"] == "0" {
		findings = append(findings, lossy("appendonly is no, by which a restart of Redis may lose factors: set yes"))
	}
	return findings
}
