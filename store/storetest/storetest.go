// Package storetest is the contract of package store in executable form: what a
// store.Backend must do, and what store.Pending and store.APIKeys must do on top
// of it. Each backend's own test calls Run; a new backend is done when it passes.
//
// It also starts the real redis-server that these tests and the API's run on.
package storetest

import (
	"crypto/rand"
	"encoding/base64"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

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
		{"an API key's record that is damaged is an error", damagedAPIKey},
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
