package store

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
)

// memoryLimit is the most entries of a Memory: about 20 MiB at 200 bytes an entry.
const memoryLimit = 100_000

// Memory is a Backend in this process, for development without Redis. Its entries end with
// the process, and other instances do not see them.
type Memory struct {
	now func() time.Time

	mu      sync.Mutex
	entries map[string]memoryEntry
}

type memoryEntry struct {
	value    []byte
	deadline time.Time // zero: none
}

func (e memoryEntry) expired(now time.Time) bool {
	return !e.deadline.IsZero() && !now.Before(e.deadline)
}

var _ Backend = (*Memory)(nil)

// NewMemory returns an empty backend for at most 100 000 live entries. It refuses the next
// one with ErrUnavailable.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, entries: map[string]memoryEntry{}}
}

// PutIfAbsent implements Backend.
func (m *Memory) PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	existing, err := m.live(ctx, key)
	if err != nil || existing != nil {
		return existing, err
	}
	return nil, m.put(key, value, ttl)
}

// Swap implements Backend.
func (m *Memory) Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.expect(ctx, key, old); err != nil {
		return err
	}
	return m.put(key, value, ttl)
}

// Promote implements Backend.
func (m *Memory) Promote(ctx context.Context, from, to string, oldFrom, oldTo, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.expect(ctx, from, oldFrom); err != nil {
		return err
	}
	if err := m.expect(ctx, to, oldTo); err != nil {
		return err
	}
	if err := m.put(to, value, 0); err != nil {
		return err
	}
	delete(m.entries, from)
	return nil
}

// expect returns ErrConflict unless the live entry under key has the value want; nil: unless
// there is none. The caller holds mu.
func (m *Memory) expect(ctx context.Context, key string, want []byte) error {
	value, err := m.live(ctx, key)
	if err == nil && ((value == nil) != (want == nil) || !bytes.Equal(value, want)) {
		err = ErrConflict
	}
	return err
}

// put stores value under key. The caller holds mu.
func (m *Memory) put(key string, value []byte, ttl time.Duration) error {
	if _, exists := m.entries[key]; !exists && len(m.entries) >= memoryLimit {
		m.evictExpired()
		if len(m.entries) >= memoryLimit {
			return fmt.Errorf("%w: memory store is full", ErrUnavailable)
		}
	}
	entry := memoryEntry{value: append([]byte{}, value...)}
	if ttl != 0 {
		entry.deadline = m.now().Add(ttl)
	}
	m.entries[key] = entry
	return nil
}

// Get implements Backend.
func (m *Memory) Get(ctx context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.existing(ctx, key)
}

// GetAll implements Backend.
func (m *Memory) GetAll(ctx context.Context, keys ...string) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	values := make([][]byte, len(keys))
	for i, key := range keys {
		var err error
		if values[i], err = m.live(ctx, key); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// Update implements Backend.
func (m *Memory) Update(ctx context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.existing(ctx, key)
	if err == nil {
		m.entries[key] = memoryEntry{value: bytes.Clone(value), deadline: m.entries[key].deadline}
	}
	return err
}

// Delete implements Backend.
func (m *Memory) Delete(ctx context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.existing(ctx, key)
	if err == nil {
		delete(m.entries, key)
	}
	return err
}

// Walk implements Backend. visit may call m.
func (m *Memory) Walk(ctx context.Context, prefix, suffix string, visit func(key string, value []byte) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	m.mu.Lock()
	m.evictExpired()
	entries := maps.Clone(m.entries)
	m.mu.Unlock()
	for key, entry := range entries {
		if strings.HasPrefix(key, prefix) && strings.HasSuffix(key, suffix) {
			if err := visit(key, bytes.Clone(entry.value)); err != nil {
				return err
			}
		}
	}
	return nil
}

// IdentityKey implements Backend.
func (m *Memory) IdentityKey(string) string { return identityKey }

// IdentityKeys implements Backend.
func (m *Memory) IdentityKeys() []string { return []string{identityKey} }

// Ready implements Backend.
func (m *Memory) Ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// Close implements Backend.
func (m *Memory) Close() error { return nil }

// live returns a copy of the value of the live entry under key, or nil. The caller holds mu.
func (m *Memory) live(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	entry, ok := m.entries[key]
	if !ok {
		return nil, nil
	}
	if entry.expired(m.now()) {
		delete(m.entries, key)
		return nil, nil
	}
	return bytes.Clone(entry.value), nil
}

// existing is live, with ErrNotFound for no entry.
func (m *Memory) existing(ctx context.Context, key string) ([]byte, error) {
	value, err := m.live(ctx, key)
	if err == nil && value == nil {
		err = ErrNotFound
	}
	return value, err
}

// evictExpired removes the entries past their deadline. The caller holds mu.
func (m *Memory) evictExpired() {
	now := m.now()
	for key, entry := range m.entries {
		if entry.expired(now) {
			delete(m.entries, key)
		}
	}
}
