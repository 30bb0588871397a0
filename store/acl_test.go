package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// Further ACL rules of README.md: for a cluster, another database, and a client_name.
const (
	clusterRules   = "+cluster|slots +command"
	selectRule     = "+select"
	clientNameRule = "+client|setname"
)

// deployedRules returns the ACL rules of server/deploy/users.acl.
func deployedRules(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../server/deploy/users.acl")
	rules, ok := strings.CutPrefix(string(text), "user mfa on >PASSWORD ")
	if err != nil || !ok || strings.Count(rules, "\n") != 1 {
		t.Fatalf("users.acl is %q, %v; want one line that begins with user mfa on >PASSWORD", text, err)
	}
	return strings.TrimSuffix(rules, "\n")
}

// deployedACL returns the path of a copy of users.acl with the password pw.
func deployedACL(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users.acl")
	if err := os.WriteFile(path, []byte("user mfa on >pw "+deployedRules(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// setUser gives the Redis user mfa, with the password pw, these ACL rules.
func setUser(t *testing.T, server *storetest.RedisServer, rules string) {
	t.Helper()
	do(t, server, words("ACL SETUSER mfa reset on >pw "+rules)...)
}

// words returns the words of a command.
func words(text string) (words []any) {
	for word := range strings.FieldsSeq(text) {
		words = append(words, word)
	}
	return words
}

// serveAndAdminister does what serve and the commands do, the replacement of an unreadable
// pending secret included. It returns the first error, or the first finding.
func serveAndAdminister(t *testing.T, backend *store.Redis) error {
	t.Helper()
	ctx := t.Context()
	findings, err := backend.Inspect(ctx)
	if len(findings) > 0 {
		return errors.New(findings[0].Text)
	}
	errs := []error{err, backend.Ready(ctx)}
	sealKey := storetest.NewSealKey("k1")
	for _, key := range []string{storetest.NewSealKey("k1"), sealKey} { // The second cannot open what the first has sealed.
		pending := store.NewPending(backend, storetest.NewKeyring(t, key), time.Minute, time.Now)
		_, err := pending.GetOrCreate(ctx, "ada", storetest.NewSecret())
		errs = append(errs, err)
	}
	errs = append(errs, confirmAndRemove(t, backend, sealKey))
	keys := store.NewAPIKeys(backend, time.Now)
	record, err := keys.Create(ctx, "key", "ada", "ada@example.com", time.Hour)
	errs = append(errs, err)
	found, err := keys.Find(ctx, "key")
	errs = append(errs, err)
	listed, err := keys.List(ctx)
	errs = append(errs, err, keys.Revoke(ctx, record.ID))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if found.LastUsed.IsZero() || len(listed) != 1 || !listed[0].LastUsed.Equal(found.LastUsed) {
		t.Errorf("found %+v, listed %+v; want the same last use", found, listed)
	}
	return nil
}

// confirmAndRemove makes ada's pending secret a factor and removes it. The removal waits for a
// replica in vain.
func confirmAndRemove(t *testing.T, backend *store.Redis, sealKey string) error {
	t.Helper()
	id, sealed := storetest.NewIdentity(t, sealKey)
	initErr := backend.Swap(t.Context(), backend.IdentityKey(factorKey("ada")), nil, sealed, 0)
	factors := store.NewFactors(store.FactorsConfig{
		Backend: backend, Keyring: storetest.NewKeyring(t, sealKey), Identity: store.NewIdentity(backend, id), Now: time.Now, SwapLost: func() {}, Unreadable: func() {}, Written: func() {},
	})
	_, confirmErr := factors.Confirm(t.Context(), "ada", func(pending *store.PendingKey, factor store.Factor) (store.Factor, error) {
		if pending == nil {
			return factor, store.ErrNotFound
		}
		return factor.Enrol(pending.Secret, 1, nil, time.Now()), nil
	})
	backend.RequireReplicas(1)
	_, err := factors.Change(t.Context(), "ada", func(factor store.Factor) (store.Factor, error) { return factor.Remove(time.Now()), nil })
	if err != nil && strings.HasSuffix(err.Error(), "0 of 1 replicas have acknowledged the write") {
		err = nil
	} else {
		err = fmt.Errorf("removal without a replica: %w", err)
	}
	return errors.Join(initErr, confirmErr, err)
}

func TestUsersACL_SufficesAndHasNoRuleTooMany(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t, append(persistent, "--aclfile", deployedACL(t))...)
	url := "redis://mfa:pw@" + server.Addr
	if err := serveAndAdminister(t, newRedis(t, url)); err != nil {
		t.Errorf("with users.acl: %v", err)
	}
	rules := deployedRules(t)
	for rule := range strings.FieldsSeq(rules) {
		if command, ok := strings.CutPrefix(rule, "+"); ok {
			do(t, server, "FLUSHALL")
			setUser(t, server, rules+" -"+command)
			if err := serveAndAdminister(t, newRedis(t, url)); err == nil {
				t.Errorf("users.acl allows %s, which nothing needs", command)
			}
		}
	}
}

func TestUsersACL_RefusesOtherCommandsAndKeys(t *testing.T) {
	t.Parallel()
	server := storetest.StartRedis(t, "--aclfile", deployedACL(t))
	client := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "mfa", Password: "pw"})
	defer client.Close()
	for _, command := range []string{
		"FLUSHALL", "KEYS *", "DUMP mfa:k", "CONFIG GET *", "ACL LIST", "MONITOR", "EXPIRE mfa:k 1", "PUBLISH mfa:c x",
		"GET other", "SET other x", "DEL other", "EVAL return(redis.call('get','other')) 0", "EVAL return(redis.call('dump','mfa:k')) 0",
	} {
		// The error of a command inside a script has no NOPERM before it.
		err := client.Do(context.Background(), words(command)...).Err()
		if !redis.IsPermissionError(err) && (err == nil || !strings.Contains(err.Error(), "The user executing the script can't")) {
			t.Errorf("%s: %v; want that it is refused", command, err)
		}
	}
}
