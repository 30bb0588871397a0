package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

var (
	serviceKeyLine = regexp.MustCompile(`^mfasvc_[a-z2-7]{40}\n$`)
	gatewayKey     = []string{"servicekey", "create", "--name", "gateway"}
	callStatus     = call{http.MethodPost, "/internal/mfa-status", `{"account":"ada"}`}
)

// newServiceKey creates a service key with the operator's command.
func (s *instance) newServiceKey() string {
	s.t.Helper()
	line := mustRun(s.t, s.environ, gatewayKey...)
	if !serviceKeyLine.MatchString(line) {
		s.t.Fatalf("create prints %q; want the service key alone", line)
	}
	return strings.TrimSpace(line)
}

// wantOpens demands that the service key opens an internal operation, or that it does not.
func (s *instance) wantOpens(key string, opens bool) {
	s.t.Helper()
	want := http.StatusUnauthorized
	if opens {
		want = http.StatusOK
	}
	if got := s.call(callStatus, http.Header{"X-Service-Key": {key}}); got.status != want {
		s.t.Errorf("mfa-status with a service key: %d %s; want %d", got.status, got.body, want)
	}
}

// listServiceKeys lists the service keys as a script does.
func listServiceKeys(t *testing.T, environ []string) (records []store.APIKey) {
	t.Helper()
	if err := json.Unmarshal([]byte(mustRun(t, environ, "servicekey", "list", "--json")), &records); err != nil {
		t.Fatal(err)
	}
	return records
}

// A key is replaced without a gap: both are valid until the old one is revoked.
func TestServiceKey_IsCreatedListedAndRevoked(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.StartRedis(t)))
	old := s.newServiceKey()
	s.wantOpens(old, true)
	records := listServiceKeys(t, s.environ)
	if len(records) != 1 || records[0].Name != "gateway" || records[0].Account != "" || records[0].Expires.Sub(records[0].Created) != 90*24*time.Hour || records[0].LastUsed.IsZero() {
		t.Fatalf("list = %+v; want gateway's key, used, for 90 days", records)
	}
	next := s.newServiceKey()
	s.wantOpens(old, true)
	s.wantOpens(next, true)
	if stdout := mustRun(t, s.environ, "apikey", "list", "--json"); stdout != "[]\n" {
		t.Errorf("apikey list prints %s; want no service key", stdout)
	}
	for _, c := range []struct {
		kind   string
		stderr string
	}{
		{"apikey", "mfa: no API key with this id is valid; see mfa apikey list\n"},
		{"servicekey", ""},
		{"servicekey", "mfa: no service key with this id is valid; see mfa servicekey list\n"},
	} {
		if stdout, stderr, _ := runCommand(t, s.environ, c.kind, "revoke", records[0].ID); stdout != "" || stderr != c.stderr {
			t.Errorf("%s revoke: %q, %q; want %q", c.kind, stdout, stderr, c.stderr)
		}
	}
	s.wantOpens(old, false)
	s.wantOpens(next, true)
	if left := listServiceKeys(t, s.environ); len(left) != 1 || left[0].ID == records[0].ID {
		t.Errorf("list after the revocation = %+v; want the other key", left)
	}
}

func TestServiceKey_EndsAtItsExpiry(t *testing.T) {
	redis := storetest.StartRedis(t)
	s := startInstance(t, testEnviron(redis))
	var created map[string]string
	if err := json.Unmarshal([]byte(mustRun(t, s.environ, append(gatewayKey[:4:4], "--json", "--expires", "1m")...)), &created); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"created", "expires", "id", "key", "name"}, slices.Sorted(maps.Keys(created))); diff != "" {
		t.Errorf("create --json has other members (-want +got):\n%s", diff)
	}
	s.wantOpens(created["key"], true)
	entry := "mfa:servicekey:" + strings.TrimPrefix(created["id"], "svc_")
	if left := redis.Client.PTTL(t.Context(), entry).Val(); left <= 0 || left > time.Minute {
		t.Errorf("the entry ends in %v; want at most a minute", left)
	}
	redis.Client.PExpire(t.Context(), entry, time.Millisecond)
	storetest.Eventually(t, func() bool { return redis.Client.Exists(t.Context(), entry).Val() == 0 })
	s.wantOpens(created["key"], false)

	// A restore of Redis can leave the entry of an expired key.
	backend, _ := openRedis(redis.URL)
	defer backend.Close()
	expired := auth.NewServiceKey()
	past := func() time.Time { return time.Now().Add(-2 * time.Hour) }
	if _, err := store.NewServiceKeys(backend, past).CreateForService(t.Context(), expired, "gateway", time.Hour); err != nil {
		t.Fatal(err)
	}
	s.wantOpens(expired, false)
	if records := listServiceKeys(t, s.environ); len(records) != 0 {
		t.Errorf("list = %+v; want no expired key", records)
	}
}

// A row for each operation of the document, so that a new one cannot be forgotten.
func TestServiceKey_OpensTheInternalOperationsAlone(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.SharedRedis(t)))
	document, err := gen.GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	key, ada := http.Header{"X-Service-Key": {s.newServiceKey()}}, asUser(t, "ada")
	for path, item := range document.Paths.Map() {
		for method := range item.Operations() {
			internal := strings.HasPrefix(path, "/internal/")
			for name, row := range map[string]struct {
				fields http.Header
				opens  bool
			}{
				"a service key":              {key, internal},
				"a person":                   {ada, !internal},
				"a person and a service key": {join(key, ada), false},
			} {
				got := s.call(call{method, path, `{}`}, row.fields)
				if opened := got.status != http.StatusUnauthorized; opened != row.opens {
					t.Errorf("%s %s with %s: %d %s; want opened %t", method, path, name, got.status, got.body, row.opens)
				}
			}
		}
	}
}
