package store

import (
	"bytes"
	"context"
	"fmt"
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
	deadline time.Time
}

var _ Backend = (*Memory)(nil)

// NewMemory returns an empty backend for at most 100 000 live entries. It refuses the next
// one with ErrUnavailable.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, entries: map[string]memoryEntry{}}
}

// PutIfAbsent implements Backend.
func (m *Memory) PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) ([]byte, error) {
	return m.swap(ctx, key, nil, value, ttl)
}

// Replace implements Backend.
func (m *Memory) Replace(ctx context.Context, key string, old, value []byte, ttl time.Duration) ([]byte, error) {
	return m.swap(ctx, key, old, value, ttl)
}

// swap stores value under key if there is no live entry or if its value is old. A nil old
// equals no value.
func (m *Memory) swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	existing, err := m.live(ctx, key)
	if err != nil {
		return nil, err
	}
	if existing != nil && (old == nil || !bytes.Equal(existing, old)) {
		return existing, nil
	}
	if existing == nil && len(m.entries) >= memoryLimit {
		m.evictExpired()
		if len(m.entries) >= memoryLimit {
			return nil, fmt.Errorf("%w: memory store is full", ErrUnavailable)
		}
	}
	m.entries[key] = memoryEntry{value: bytes.Clone(value), deadline: m.now().Add(ttl)}
	return nil, nil
}

// Get implements Backend.
func (m *Memory) Get(ctx context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, err := m.live(ctx, key)
	if err == nil && value == nil {
		err = ErrNotFound
	}
	return value, err
}

// Update implements Backend.
func (m *Memory) Update(ctx context.Context, key string, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, err := m.live(ctx, key)
	if err == nil && old == nil {
		err = ErrNotFound
	}
	if err == nil {
		m.entries[key] = memoryEntry{value: bytes.Clone(value), deadline: m.entries[key].deadline}
	}
	return err
}

// Delete implements Backend.
func (m *Memory) Delete(ctx context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, err := m.live(ctx, key)
	if err == nil && value == nil {
		err = ErrNotFound
	}
	if err == nil {
		delete(m.entries, key)
	}
	return err
}

// List implements Backend.
func (m *Memory) List(ctx context.Context, prefix string) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	m.evictExpired()
	found := map[string][]byte{}
	for key, entry := range m.entries {
		if strings.HasPrefix(key, prefix) {
			found[key] = bytes.Clone(entry.value)
		}
	}
	return found, nil
}

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
	if !m.now().Before(entry.deadline) {
		delete(m.entries, key)
		return nil, nil
	}
	return bytes.Clone(entry.value), nil
}

// evictExpired removes the entries past their deadline. The caller holds mu.
func (m *Memory) evictExpired() {
	now := m.now()
	for key, entry := range m.entries {
		if !now.Before(entry.deadline) {
			delete(m.entries, key)
		}
	}
}
