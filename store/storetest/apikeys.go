package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
)

func apiKeys(t *testing.T, b store.Backend) {
	clock := NewClock()
	keys := store.NewAPIKeys(b, clock.Now)
	ctx := t.Context()
	if _, err := keys.Find(ctx, "key-a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("find of an unknown key = %v; want ErrNotFound", err)
	}
	a := mustCreate(t, keys, "key-a", "ada", time.Hour)
	const exists = "create API key: the same key exists" // The text does not name the key.
	if _, err := keys.Create(ctx, "key-a", "eve", "eve@example.com", time.Hour); err == nil || err.Error() != exists {
		t.Fatalf("second create of a key = %v; want %s", err, exists)
	}
	clock.Advance(time.Second)
	bob := mustCreate(t, keys, "key-b", "bob", time.Hour)
	for key, want := range map[string]store.APIKey{"key-a": a, "key-b": bob} {
		want.LastUsed = clock.Now().UTC().Truncate(time.Hour)
		if got, err := keys.Find(ctx, key); err != nil || !cmp.Equal(want, got) {
			t.Fatalf("find %s = %+v, %v; want %+v", key, got, err, want)
		}
	}
	a.LastUsed = clock.Now().UTC().Truncate(time.Hour)
	bob.LastUsed = a.LastUsed
	if got, err := keys.List(ctx); err != nil || !cmp.Equal([]store.APIKey{a, bob}, got) {
		t.Fatalf("list = %+v, %v; want both, oldest first", got, err)
	}
	if !strings.HasPrefix(a.ID, "key_") { // A command line would take a dash for a flag.
		t.Fatalf("id %s; want key_ before the digest", a.ID)
	}
	for _, id := range []string{"", "key_", strings.TrimPrefix(a.ID, "key_"), a.ID + "x"} {
		if err := keys.Revoke(ctx, id); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("revoke of %q = %v; want ErrNotFound", id, err)
		}
	}
	must(t, keys.Revoke(ctx, a.ID))
	if _, err := keys.Find(ctx, "key-a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("find of a revoked key = %v; want ErrNotFound", err)
	}
	if err := keys.Revoke(ctx, a.ID); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("second revoke = %v; want ErrNotFound", err)
	}
	if got, err := keys.List(ctx); err != nil || !cmp.Equal([]store.APIKey{bob}, got) {
		t.Fatalf("list after revoke = %+v, %v; want bob's", got, err)
	}
}

// lastUse: noting the hour costs one write per API key and hour.
func lastUse(t *testing.T, b store.Backend) {
	clock := NewClock()
	hour := clock.Now().UTC().Truncate(time.Hour).Add(time.Hour)
	clock.Advance(hour.Sub(clock.Now()))
	keys := store.NewAPIKeys(b, clock.Now)
	mustCreate(t, keys, "key", "ada", 24*time.Hour)
	for _, step := range []struct {
		after time.Duration
		want  time.Time
	}{{0, hour}, {59 * time.Minute, hour}, {time.Minute, hour.Add(time.Hour)}} {
		clock.Advance(step.after)
		if _, err := keys.Find(t.Context(), "key"); err != nil {
			t.Fatal(err)
		}
		records, err := keys.List(t.Context())
		if err != nil || len(records) != 1 || !records[0].LastUsed.Equal(step.want) {
			t.Fatalf("list = %+v, %v; want last use at %v", records, err, step.want)
		}
	}
	clock.Advance(time.Hour)
	if got, err := store.NewAPIKeys(readOnly{b}, clock.Now).Find(t.Context(), "key"); got.Account != "ada" || err != nil {
		t.Fatalf("find while updates fail = %+v, %v; want ada's key", got, err)
	}
	if _, err := store.NewAPIKeys(revokedAfterRead{b}, clock.Now).Find(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("find of a key that was revoked after the read = %v; want ErrNotFound", err)
	}
	if left := mustList(t, b); len(left) != 0 {
		t.Fatal("noting the use brought a revoked key back")
	}
}

// readOnly fails every Update.
type readOnly struct{ store.Backend }

func (readOnly) Update(context.Context, string, []byte) error { return store.ErrUnavailable }

// revokedAfterRead deletes each entry that Get has read.
type revokedAfterRead struct{ store.Backend }

func (r revokedAfterRead) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := r.Backend.Get(ctx, key)
	return value, errors.Join(err, r.Delete(ctx, key))
}

// damagedAPIKey: the service cannot tell whether a damaged record's key is valid, so Find
// returns ErrUnavailable, not ErrNotFound. List still returns the other records.
func damagedAPIKey(t *testing.T, b store.Backend) {
	ctx := t.Context()
	keys := store.NewAPIKeys(b, time.Now)
	bob := mustCreate(t, keys, "key-b", "bob", time.Hour)
	name := onlyKey(t, b)
	sound := mustCreate(t, keys, "key-a", "ada", time.Hour)
	const expires = `"expires":"2999-01-01T00:00:00Z"`
	whole, err := json.Marshal(sound)
	must(t, err)
	for _, record := range []string{
		"", "garbage", `{}`, `{"id":"` + bob.ID + `","account":"bob"}`, `{"id":"` + bob.ID + `",` + expires + `}`,
		`{"id":"` + bob.ID + `","name":"gateway",` + expires + `}`, // as a service key has it
		`{"account":"bob",` + expires + `}`, string(whole),         // the record of another key
	} {
		must(t, b.Update(ctx, name, []byte(record)))
		// The whole text is compared: it must not show the record.
		want := "find API key: damaged record: store unavailable"
		if _, err := keys.Find(ctx, "key-b"); !errors.Is(err, store.ErrUnavailable) || err.Error() != want {
			t.Errorf("find with the record %q = %v; want %s", record, err, want)
		}
		want = "list API keys: " + bob.ID + ": damaged record: store unavailable"
		got, err := keys.List(ctx)
		if !errors.Is(err, store.ErrUnavailable) || err.Error() != want || !cmp.Equal([]store.APIKey{sound}, got) {
			t.Errorf("list with the record %q = %+v, %v; want ada's key and %s", record, got, err, want)
		}
	}
}

// serviceKeys: neither kind finds, lists or revokes a key of the other, even if the texts are equal.
func serviceKeys(t *testing.T, b store.Backend) {
	ctx := t.Context()
	keys, services := store.NewAPIKeys(b, time.Now), store.NewServiceKeys(b, time.Now)
	service, err := services.CreateForService(ctx, "key-a", "gateway", time.Hour)
	if err != nil || service.Name != "gateway" || service.Account != "" || !strings.HasPrefix(service.ID, "svc_") {
		t.Fatalf("create = %+v, %v; want gateway's key, and an id svc_...", service, err)
	}
	if _, err := keys.Find(ctx, "key-a"); !errors.Is(err, store.ErrNotFound) || err.Error() != "find API key: not found" {
		t.Fatalf("find of a service key as API key = %v; want ErrNotFound", err)
	}
	ada := mustCreate(t, keys, "key-a", "ada", time.Hour)
	if got, err := services.Find(ctx, "key-a"); err != nil || got.ID != service.ID || got.Account != "" {
		t.Fatalf("find = %+v, %v; want gateway's key", got, err)
	}
	if got, err := keys.List(ctx); err != nil || !cmp.Equal([]store.APIKey{ada}, got) {
		t.Fatalf("list of API keys = %+v, %v; want ada's", got, err)
	}
	if err := services.Revoke(ctx, ada.ID); !errors.Is(err, store.ErrNotFound) || err.Error() != "revoke service key: not found" {
		t.Fatalf("revoke of an API key as service key = %v; want ErrNotFound", err)
	}
	must(t, services.Revoke(ctx, service.ID))
	if _, err := services.Find(ctx, "key-a"); !errors.Is(err, store.ErrNotFound) || err.Error() != "find service key: not found" {
		t.Fatalf("find of a revoked service key = %v; want ErrNotFound", err)
	}
	if got, err := services.List(ctx); got == nil || len(got) != 0 || err != nil {
		t.Fatalf("list of service keys = %v, %v; want none", got, err)
	}
	if _, err := keys.Find(ctx, "key-a"); err != nil {
		t.Fatalf("find of ada's key = %v; want it", err)
	}
}

func expiredAPIKey(t *testing.T, b store.Backend) {
	clock := NewClock()
	keys := store.NewAPIKeys(b, clock.Now)
	created := mustCreate(t, keys, "key", "ada", time.Hour)
	clock.Advance(created.Expires.Sub(clock.Now())) // The backend, on real time, still has the entry.
	if _, err := keys.Find(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("find at the expiry = %v; want ErrNotFound", err)
	}
	if got, err := keys.List(t.Context()); len(got) != 0 || err != nil {
		t.Fatalf("list at the expiry = %v, %v; want nothing", got, err)
	}
	mustCreate(t, keys, "short", "ada", 50*time.Millisecond)
	Eventually(t, func() bool { return len(mustList(t, b)) == 1 })
}

func mustCreate(t *testing.T, keys *store.APIKeys, key, account string, lifetime time.Duration) store.APIKey {
	t.Helper()
	record, err := keys.Create(t.Context(), key, account, account+"@example.com", lifetime)
	must(t, err)
	return record
}
