package main

import (
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

var (
	apiKeyLine = regexp.MustCompile(`^mfa_[a-z2-7]{40}\n$`)
	ada        = []string{"apikey", "create", "--account", "ada", "--email", "ada@example.com"}
)

// apiKeyRedis starts a Redis and returns the settings of the apikey commands.
func apiKeyRedis(t *testing.T) (redis *storetest.RedisServer, environ []string) {
	t.Helper()
	redis = storetest.StartRedis(t)
	return redis, []string{"MFA_REDIS_URL=" + redis.URL}
}

// mustRun demands that a command succeeds and writes nothing to stderr.
func mustRun(t testing.TB, environ []string, args ...string) (stdout string) {
	t.Helper()
	stdout, stderr, status := runCommand(t, environ, args...)
	if status != 0 || stderr != "" {
		t.Fatalf("mfa %q: status %d, %s", args, status, stderr)
	}
	return stdout
}

// listAPIKeys lists the API keys as a script does.
func listAPIKeys(t *testing.T, environ []string) (records []store.APIKey) {
	t.Helper()
	if err := json.Unmarshal([]byte(mustRun(t, environ, "apikey", "list", "--json")), &records); err != nil {
		t.Fatal(err)
	}
	return records
}

func TestAPIKey_IsCreatedListedAndRevoked(t *testing.T) {
	_, environ := apiKeyRedis(t)
	line := mustRun(t, environ, ada...)
	if !apiKeyLine.MatchString(line) {
		t.Fatalf("create prints %q; want the API key alone", line)
	}
	key := strings.TrimSpace(line)
	settings, err := config.Load(environ, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	backend := store.NewRedis(*settings.RedisURL)
	defer backend.Close()
	find := func() (store.APIKey, error) { return store.NewAPIKeys(backend, time.Now).Find(t.Context(), key) }
	if record, err := find(); err != nil || record.Account != "ada" || record.Email != "ada@example.com" {
		t.Errorf("the service finds %+v, %v; want ada's API key", record, err)
	}
	records := listAPIKeys(t, environ)
	if len(records) != 1 || records[0].Account != "ada" || records[0].Expires.Sub(records[0].Created) != 90*24*time.Hour || records[0].LastUsed.IsZero() {
		t.Fatalf("list = %+v; want ada's API key, used, for 90 days", records)
	}
	if revoked := mustRun(t, environ, "apikey", "revoke", records[0].ID); revoked != "" {
		t.Errorf("revoke prints %q", revoked)
	}
	if _, err := find(); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the revocation the service finds the API key: %v", err)
	}
	if empty := mustRun(t, environ, "apikey", "list", "--json"); empty != "[]\n" {
		t.Errorf("list after the revocation = %q; want []", empty)
	}
	stdout, stderr, status := runCommand(t, environ, "apikey", "revoke", records[0].ID)
	if status != exitFault || stdout != "" || stderr != "mfa: no API key with this id is valid; see mfa apikey list\n" {
		t.Errorf("second revoke: status %d, %q, %q", status, stdout, stderr)
	}
}

func TestAPIKey_PrintsJSONOnRequest(t *testing.T) {
	_, environ := apiKeyRedis(t)
	var created map[string]string
	if err := json.Unmarshal([]byte(mustRun(t, environ, append(ada[:6:6], "--json", "--expires", "1m")...)), &created); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(created))
	if diff := cmp.Diff([]string{"account", "created", "email", "expires", "id", "key"}, names); diff != "" {
		t.Errorf("create --json has other members (-want +got):\n%s", diff)
	}
	record := listAPIKeys(t, environ)[0]
	if record.ID != created["id"] || !apiKeyLine.MatchString(created["key"]+"\n") || record.Expires.Sub(record.Created) != time.Minute {
		t.Errorf("create --json prints %v; list has %+v", created, record)
	}
	if revoked := mustRun(t, environ, "apikey", "revoke", "--json", record.ID); revoked != `{"revoked":"`+record.ID+"\"}\n" {
		t.Errorf("revoke --json prints %s", revoked)
	}
}

func TestAPIKeyList_PrintsATableForATerminal(t *testing.T) {
	_, environ := apiKeyRedis(t)
	key := auth.NewAPIKey()
	settings, err := config.Load(environ, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	backend := store.NewRedis(*settings.RedisURL)
	defer backend.Close()
	// create refuses this account. Earlier versions did not.
	if _, err := store.NewAPIKeys(backend, time.Now).Create(t.Context(), key, "a\n\x1b[2Jb", "ada@example.com", time.Hour); err != nil {
		t.Fatal(err)
	}
	record := listAPIKeys(t, environ)[0]
	table := mustRun(t, environ, "apikey", "list")
	var got [][]string
	for line := range strings.Lines(table) {
		got = append(got, regexp.MustCompile(` {2,}`).Split(strings.TrimSpace(line), -1))
	}
	want := [][]string{
		{"ID", "ACCOUNT", "EMAIL", "CREATED", "EXPIRES", "LAST USED"},
		{record.ID, `"a\n\x1b[2Jb"`, `"ada@example.com"`, record.Created.Format(time.RFC3339), record.Expires.Format(time.RFC3339), "never"},
	}
	if diff := cmp.Diff(want, got); diff != "" || strings.Contains(table, key) {
		t.Errorf("list prints (-want +got):\n%s\n%s", diff, table)
	}
}

func TestKeyLists_PrintValidKeysBesideADamagedOne(t *testing.T) {
	redis, environ := apiKeyRedis(t)
	for _, kind := range []struct {
		create           []string
		entry, id, owner string
		noun             string
	}{
		{ada, "mfa:apikey:damaged", "key_damaged", "ada@example.com", "API key"},
		{gatewayKey, "mfa:servicekey:damaged", "svc_damaged", "gateway", "service key"},
	} {
		mustRun(t, environ, kind.create...)
		if err := redis.Client.Set(t.Context(), kind.entry, "hunter2", 0).Err(); err != nil {
			t.Fatal(err)
		}
		for _, format := range [][]string{nil, {"--json"}} {
			stdout, stderr, status := runCommand(t, environ, append([]string{kind.create[0], "list"}, format...)...)
			if status != exitFault || !strings.Contains(stdout, kind.owner) || !strings.HasPrefix(stderr, "mfa: list "+kind.noun+"s: "+kind.id+": ") || strings.Contains(stderr, "hunter2") {
				t.Errorf("%s list %q: status %d, %s, %s; want the sound key, and the id of the damaged one", kind.create[0], format, status, stdout, stderr)
			}
		}
	}
}

func TestKeyCommands_NeedRedis(t *testing.T) {
	for _, args := range [][]string{
		ada, {"apikey", "list"}, {"apikey", "revoke", "key_x"},
		gatewayKey, {"servicekey", "list"}, {"servicekey", "revoke", "svc_x"},
	} {
		if _, stderr, status := runCommand(t, nil, args...); status != exitUsage || stderr != "mfa: settings:\n  MFA_REDIS_URL: is required\n" {
			t.Errorf("%q without MFA_REDIS_URL: status %d, %s", args, status, stderr)
		}
		noun := map[string]string{"apikey": " API key", "servicekey": " service key"}[args[0]]
		stdout, stderr, status := runCommand(t, []string{"MFA_REDIS_URL=redis://127.0.0.1:1"}, args...)
		if status != exitFault || stdout != "" || !strings.Contains(stderr, noun) || !strings.Contains(stderr, "store unavailable: ") {
			t.Errorf("%q without a Redis: status %d, %q, %s; want %d, and no key", args, status, stdout, stderr, exitFault)
		}
	}
}
