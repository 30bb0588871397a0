// Package storetest is the contract of package store in executable form: what a
// store.Backend must do, and what store.Pending and store.APIKeys must do on top
// of it. Each backend's own test calls Run; a new backend is done when it passes.
//
// It also starts the real redis-server that these tests and the API's run on.
package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store"
)

// Run checks the contract. newBackend returns a new, empty backend that runs on
// real time.
func Run(t *testing.T, newBackend func(t *testing.T) store.Backend) {
	for _, c := range []struct {
		name  string
		check func(*testing.T, store.Backend)
	}{
		{"put if absent keeps the first value", putIfAbsent},
		{"replace swaps only what the caller saw", replace},
		{"update keeps the deadline and brings nothing back", update},
		{"delete removes once", remove},
		{"list finds by prefix", list},
		{"an entry is gone after its ttl, which a second put does not extend", ttl},
		{"a done context returns promptly and changes nothing", doneContext},
		{"100 concurrent callers on two replicas get one secret", oneSecret},
		{"the deadline does not slide", absoluteDeadline},
		{"an account never sees another's secret", isolation},
		{"an expired secret is gone", expiredSecret},
		{"an unreadable secret is replaced by exactly one", unreadableSecret},
		{"a damaged secret is replaced", damagedSecret},
		{"a rotated keyring opens what the old one sealed", rotation},
		{"an API key is found by the key, listed and revoked", apiKeys},
		{"an API key's last use is noted to the hour", lastUse},
		{"an API key is not found after its lifetime", expiredAPIKey},
	} {
		t.Run(c.name, func(t *testing.T) { c.check(t, newBackend(t)) })
	}
}

// Clock is a clock that moves only when told to. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at the present time.
func NewClock() *Clock { return &Clock{now: time.Now()} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// NewSealKey returns a random sealing key as MFA_SEAL_KEYS takes it.
func NewSealKey(id string) string {
	key := make([]byte, 32)
	rand.Read(key)
	return id + ":" + base64.StdEncoding.EncodeToString(key)
}

// NewKeyring returns the keyring that text describes.
func NewKeyring(t testing.TB, text string) *store.Keyring {
	t.Helper()
	keyring := new(store.Keyring)
	if err := keyring.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return keyring
}

// NewSecret returns a random secret.
func NewSecret() (s store.Secret) {
	rand.Read(s[:])
	return s
}

func putIfAbsent(t *testing.T, b store.Backend) {
	ctx := t.Context()
	if got, err := b.PutIfAbsent(ctx, "k", []byte("first"), time.Minute); got != nil || err != nil {
		t.Fatalf("first put = %q, %v; want nil, nil", got, err)
	}
	if got, err := b.PutIfAbsent(ctx, "k", []byte("second"), time.Minute); string(got) != "first" || err != nil {
		t.Fatalf("second put = %q, %v; want first, nil", got, err)
	}
	wantValue(t, b, "k", "first")
}

func replace(t *testing.T, b store.Backend) {
	ctx := t.Context()
	mustPut(t, b, "k", "old")
	if got, err := b.Replace(ctx, "k", []byte("other"), []byte("x"), time.Minute); string(got) != "old" || err != nil {
		t.Fatalf("replace of what is not there = %q, %v; want old, nil", got, err)
	}
	wantValue(t, b, "k", "old")
	if got, err := b.Replace(ctx, "k", []byte("old"), []byte("new"), time.Minute); got != nil || err != nil {
		t.Fatalf("replace = %q, %v; want nil, nil", got, err)
	}
	wantValue(t, b, "k", "new")
	if got, err := b.Replace(ctx, "empty", []byte("old"), []byte("new"), time.Minute); got != nil || err != nil {
		t.Fatalf("replace of nothing = %q, %v; want nil, nil", got, err)
	}
	wantValue(t, b, "empty", "new")
}

func update(t *testing.T, b store.Backend) {
	ctx := t.Context()
	if err := b.Update(ctx, "k", []byte("v")); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("update of nothing = %v; want ErrNotFound", err)
	}
	if _, err := b.PutIfAbsent(ctx, "k", []byte("old"), 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := b.Update(ctx, "k", []byte("new")); err != nil {
		t.Fatal(err)
	}
	wantValue(t, b, "k", "new")
	Eventually(t, func() bool { return errors.Is(b.Update(ctx, "k", []byte("newer")), store.ErrNotFound) })
	if _, err := b.Get(ctx, "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get after the deadline = %v; want ErrNotFound", err)
	}
}

func remove(t *testing.T, b store.Backend) {
	mustPut(t, b, "k", "v")
	if err := b.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("second delete = %v; want ErrNotFound", err)
	}
	if _, err := b.Get(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get after delete = %v; want ErrNotFound", err)
	}
}

func list(t *testing.T, b store.Backend) {
	want := map[string][]byte{}
	for i := range 2500 { // more than one page of any cursor
		key := fmt.Sprintf("a:%d", i)
		want[key] = []byte(key)
		mustPut(t, b, key, key)
	}
	mustPut(t, b, "b:0", "other")
	got, err := b.List(t.Context(), "a:")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("list (-want +got):\n%s", diff)
	}
}

func ttl(t *testing.T, b store.Backend) {
	ctx := t.Context()
	if _, err := b.PutIfAbsent(ctx, "put", []byte("v"), 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, "swapped", "old")
	if _, err := b.Replace(ctx, "swapped", []byte("old"), []byte("v"), 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"put", "swapped"} {
		if got, err := b.PutIfAbsent(ctx, key, []byte("later"), time.Hour); string(got) != "v" || err != nil {
			t.Fatalf("put of %s before the ttl = %q, %v; want v, nil", key, got, err)
		}
	}
	for _, key := range []string{"put", "swapped"} {
		Eventually(t, func() bool {
			_, err := b.Get(ctx, key)
			return errors.Is(err, store.ErrNotFound)
		})
	}
	if got, err := b.List(ctx, ""); len(got) != 0 || err != nil {
		t.Fatalf("list after the ttl = %v, %v; want nothing", got, err)
	}
}

func doneContext(t *testing.T, b store.Backend) {
	mustPut(t, b, "k", "v")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"ping":    func() error { return b.Ping(ctx) },
		"put":     func() error { _, err := b.PutIfAbsent(ctx, "new", []byte("v"), time.Minute); return err },
		"replace": func() error { _, err := b.Replace(ctx, "k", []byte("v"), []byte("w"), time.Minute); return err },
		"update":  func() error { return b.Update(ctx, "k", []byte("w")) },
		"get":     func() error { _, err := b.Get(ctx, "k"); return err },
		"delete":  func() error { return b.Delete(ctx, "k") },
		"list":    func() error { _, err := b.List(ctx, ""); return err },
	}
	for name, call := range calls {
		returned := make(chan error, 1)
		go func() { returned <- call() }()
		select {
		case err := <-returned:
			if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
				t.Errorf("%s = %v; want ErrUnavailable because of context.Canceled", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s did not return", name)
		}
	}
	wantValue(t, b, "k", "v")
	if _, err := b.Get(t.Context(), "new"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("get of what a done context put = %v; want ErrNotFound", err)
	}
}

func oneSecret(t *testing.T, b store.Backend) {
	keyring := NewKeyring(t, NewSealKey("k1"))
	replicas := []*store.Pending{
		store.NewPending(b, keyring, time.Minute, time.Now),
		store.NewPending(b, keyring, time.Minute, time.Now),
	}
	wantOneAnswer(t, getOrCreate100(t, replicas), store.Created)
}

func absoluteDeadline(t *testing.T, b store.Backend) {
	clock := NewClock()
	keyring := NewKeyring(t, NewSealKey("k1"))
	pending := store.NewPending(b, keyring, 10*time.Minute, clock.Now)
	first := mustGetOrCreate(t, pending, "ada", NewSecret())
	if left := first.Deadline.Sub(clock.Now()); left > 10*time.Minute || left <= 10*time.Minute-time.Millisecond {
		t.Fatalf("time left after creation = %v; want 10m, less than 1 ms short", left)
	}
	clock.Advance(10*time.Minute - 2*time.Millisecond)
	want := first
	want.Outcome = store.Reused
	if again := mustGetOrCreate(t, pending, "ada", NewSecret()); again != want {
		t.Fatalf("second call just before the deadline = %+v; want %+v", again, want)
	}
	// A changed setting does not move the deadline of what is pending.
	longer := store.NewPending(b, keyring, time.Hour, clock.Now)
	if again := mustGetOrCreate(t, longer, "ada", NewSecret()); again != want {
		t.Fatalf("call with a longer ttl = %+v; want %+v", again, want)
	}
}

func isolation(t *testing.T, b store.Backend) {
	pending := store.NewPending(b, NewKeyring(t, NewSealKey("k1")), time.Minute, time.Now)
	ada := mustGetOrCreate(t, pending, "ada", NewSecret())
	adaKey := onlyKey(t, b)
	bobSecret := NewSecret()
	bob := mustGetOrCreate(t, pending, "bob", bobSecret)
	if bob.Secret != bobSecret || bob.Outcome != store.Created {
		t.Fatal("bob did not get a secret of his own")
	}
	// Even somebody who may write to the backend cannot move a secret over.
	entries := mustList(t, b)
	sealedForAda := entries[adaKey]
	delete(entries, adaKey)
	bobKey := slices.Collect(maps.Keys(entries))[0]
	if _, err := b.Replace(t.Context(), bobKey, entries[bobKey], sealedForAda, time.Minute); err != nil {
		t.Fatal(err)
	}
	got := mustGetOrCreate(t, pending, "bob", bobSecret)
	if got.Secret == ada.Secret || got.Outcome != store.ReplacedUnreadable {
		t.Fatalf("bob after ada's value was copied to his key: outcome %s, ada's secret %t",
			got.Outcome, got.Secret == ada.Secret)
	}
}

func expiredSecret(t *testing.T, b store.Backend) {
	clock := NewClock()
	pending := store.NewPending(b, NewKeyring(t, NewSealKey("k1")), time.Minute, clock.Now)
	first := mustGetOrCreate(t, pending, "ada", NewSecret())
	clock.Advance(time.Minute) // the backend, on real time, still has it
	fresh := NewSecret()
	second := mustGetOrCreate(t, pending, "ada", fresh)
	if second.Secret != fresh || second.Outcome != store.Created || !second.Deadline.After(first.Deadline) {
		t.Fatalf("call at the deadline: outcome %s, old secret %t; want a new one",
			second.Outcome, second.Secret == first.Secret)
	}
}

func unreadableSecret(t *testing.T, b store.Backend) {
	retired := store.NewPending(b, NewKeyring(t, NewSealKey("k1")), time.Minute, time.Now)
	lost := mustGetOrCreate(t, retired, "ada", NewSecret())
	// Two replicas; one key with the id of the retired key, as after a mistake.
	keyring := NewKeyring(t, NewSealKey("k2")+","+NewSealKey("k1"))
	replicas := []*store.Pending{
		store.NewPending(b, keyring, time.Minute, time.Now),
		store.NewPending(b, keyring, time.Minute, time.Now),
	}
	answers := getOrCreate100(t, replicas)
	wantOneAnswer(t, answers, store.ReplacedUnreadable)
	if answers[0].Secret == lost.Secret {
		t.Fatal("the unreadable secret was returned")
	}
}

func damagedSecret(t *testing.T, b store.Backend) {
	pending := store.NewPending(b, NewKeyring(t, NewSealKey("k1")), time.Minute, time.Now)
	mustGetOrCreate(t, pending, "ada", NewSecret())
	key := onlyKey(t, b)
	sound := mustList(t, b)[key]
	damaged := [][]byte{{}, []byte("x"), sound[:len(sound)-1], append(bytes.Clone(sound), 0), {1, 255, 0}}
	for i := range sound { // every part: version, key id, nonce, ciphertext, tag
		flipped := bytes.Clone(sound)
		flipped[i] ^= 1
		damaged = append(damaged, flipped)
	}
	for _, value := range damaged {
		current := mustList(t, b)[key]
		if _, err := b.Replace(t.Context(), key, current, value, time.Minute); err != nil {
			t.Fatal(err)
		}
		fresh := NewSecret()
		got := mustGetOrCreate(t, pending, "ada", fresh)
		if got.Secret != fresh || got.Outcome != store.ReplacedUnreadable {
			t.Fatalf("after damage to %x: outcome %s", value, got.Outcome)
		}
	}
}

func rotation(t *testing.T, b store.Backend) {
	oldKey, newKey := NewSealKey("k1"), NewSealKey("k2")
	before := store.NewPending(b, NewKeyring(t, oldKey), time.Minute, time.Now)
	after := store.NewPending(b, NewKeyring(t, newKey+","+oldKey), time.Minute, time.Now)
	first := mustGetOrCreate(t, before, "ada", NewSecret())
	if got := mustGetOrCreate(t, after, "ada", NewSecret()); got.Secret != first.Secret {
		t.Fatal("the rotated keyring did not open what the old one sealed")
	}
	sealedNew := mustGetOrCreate(t, after, "bob", NewSecret())
	if got := mustGetOrCreate(t, before, "bob", NewSecret()); got.Secret == sealedNew.Secret {
		t.Fatal("the new keyring sealed with the old key")
	}
}

func apiKeys(t *testing.T, b store.Backend) {
	clock := NewClock()
	keys := store.NewAPIKeys(b, clock.Now)
	ctx := t.Context()
	if _, err := keys.Find(ctx, "key-a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("find of an unknown key = %v; want ErrNotFound", err)
	}
	a, err := keys.Create(ctx, "key-a", "ada", "ada@example.com", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Create(ctx, "key-a", "eve", "eve@example.com", time.Hour); err == nil {
		t.Fatal("the same key was created twice")
	}
	clock.Advance(time.Second)
	bob, err := keys.Create(ctx, "key-b", "bob", "bob@example.com", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
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
	if !strings.HasPrefix(a.ID, "key_") { // and not a dash, which a command line takes for a flag
		t.Fatalf("id %s; want key_ before the digest", a.ID)
	}
	for _, id := range []string{"", "key_", strings.TrimPrefix(a.ID, "key_"), a.ID + "x"} {
		if err := keys.Revoke(ctx, id); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("revoke of %q = %v; want ErrNotFound", id, err)
		}
	}
	if err := keys.Revoke(ctx, a.ID); err != nil {
		t.Fatal(err)
	}
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

// lastUse: the hour is enough to see which keys nobody needs, and costs one write an
// hour and key.
func lastUse(t *testing.T, b store.Backend) {
	clock := NewClock()
	hour := clock.Now().UTC().Truncate(time.Hour).Add(time.Hour)
	clock.Advance(hour.Sub(clock.Now()))
	keys := store.NewAPIKeys(b, clock.Now)
	if _, err := keys.Create(t.Context(), "key", "ada", "ada@example.com", 24*time.Hour); err != nil {
		t.Fatal(err)
	}
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
	revoked := revokedMeanwhile{Backend: b}
	if _, err := store.NewAPIKeys(revoked, func() time.Time { return hour.Add(2 * time.Hour) }).Find(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("find of a key that is revoked meanwhile = %v; want ErrNotFound", err)
	}
	if left := mustList(t, b); len(left) != 0 {
		t.Fatal("noting the use brought a revoked key back")
	}
}

// revokedMeanwhile deletes what was just read.
type revokedMeanwhile struct{ store.Backend }

func (r revokedMeanwhile) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := r.Backend.Get(ctx, key)
	return value, errors.Join(err, r.Delete(ctx, key))
}

func expiredAPIKey(t *testing.T, b store.Backend) {
	clock := NewClock()
	keys := store.NewAPIKeys(b, clock.Now)
	created, err := keys.Create(t.Context(), "key", "ada", "ada@example.com", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(created.Expires.Sub(clock.Now())) // the backend, on real time, still has it
	if _, err := keys.Find(t.Context(), "key"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("find at the expiry = %v; want ErrNotFound", err)
	}
	if got, err := keys.List(t.Context()); len(got) != 0 || err != nil {
		t.Fatalf("list at the expiry = %v, %v; want nothing", got, err)
	}
	if _, err := keys.Create(t.Context(), "short", "ada", "ada@example.com", 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func() bool { return len(mustList(t, b)) == 1 })
}

// getOrCreate100 calls 100 times at once, each with a secret of its own.
func getOrCreate100(t *testing.T, replicas []*store.Pending) []store.PendingKey {
	t.Helper()
	answers := make([]store.PendingKey, 100)
	failures := make([]error, len(answers))
	start := make(chan struct{})
	var callers sync.WaitGroup
	for i := range answers {
		callers.Go(func() {
			<-start
			answers[i], failures[i] = replicas[i%len(replicas)].GetOrCreate(t.Context(), "ada", NewSecret())
		})
	}
	close(start)
	callers.Wait()
	if err := errors.Join(failures...); err != nil {
		t.Fatal(err)
	}
	return answers
}

// wantOneAnswer checks that all have the same secret and deadline and that
// exactly one caller's outcome is first, everybody else's Reused.
func wantOneAnswer(t *testing.T, answers []store.PendingKey, first store.Outcome) {
	t.Helper()
	outcomes := map[store.Outcome]int{}
	for _, answer := range answers {
		outcomes[answer.Outcome]++
		if answer.Secret != answers[0].Secret || !answer.Deadline.Equal(answers[0].Deadline) {
			t.Fatal("two callers got different keys")
		}
	}
	want := map[store.Outcome]int{first: 1, store.Reused: len(answers) - 1}
	if diff := cmp.Diff(want, outcomes); diff != "" {
		t.Fatalf("outcomes (-want +got):\n%s", diff)
	}
}

func mustGetOrCreate(t *testing.T, p *store.Pending, account string, fresh store.Secret) store.PendingKey {
	t.Helper()
	key, err := p.GetOrCreate(t.Context(), account, fresh)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustPut(t *testing.T, b store.Backend, key, value string) {
	t.Helper()
	if existing, err := b.PutIfAbsent(t.Context(), key, []byte(value), time.Minute); existing != nil || err != nil {
		t.Fatalf("put %s = %q, %v; want nil, nil", key, existing, err)
	}
}

func mustList(t *testing.T, b store.Backend) map[string][]byte {
	t.Helper()
	entries, err := b.List(t.Context(), "mfa:")
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func onlyKey(t *testing.T, b store.Backend) string {
	t.Helper()
	entries := mustList(t, b)
	if len(entries) != 1 {
		t.Fatalf("%d entries; want 1", len(entries))
	}
	return slices.Collect(maps.Keys(entries))[0]
}

func wantValue(t *testing.T, b store.Backend, key, want string) {
	t.Helper()
	if got, err := b.Get(t.Context(), key); string(got) != want || err != nil {
		t.Fatalf("get %s = %q, %v; want %q", key, got, err, want)
	}
}
