package store

import (
	"context"
	"time"
)

// Backend is a map from key to opaque value. An entry has a deadline or is kept for ever. Every
// implementation passes storetest.Run, which has a sub-test for each clause below.
//
// An implementation MUST be safe for concurrent use by goroutines and, if the backend is
// shared, by instances of the service. A method MUST return by its context's deadline. When
// its context is cancelled, a method MUST return at once if it has not begun, and otherwise
// within 500 ms. Every error except ErrNotFound and ErrConflict MUST wrap ErrUnavailable, unless
// it is the error of a callback. An entry MUST NOT be visible after its ttl, which is 1 ms or
// more. A Backend MUST NOT share bytes with its callers: a caller may change a value that it
// passed in or got back.
//
// An entry of another type is one that another program wrote and that has no value, for
// example a Redis list. PutIfAbsent and Walk return it as an empty, non-nil value, and Swap and
// Promote compare it as one. Get and GetAll return ErrUnavailable.
type Backend interface {
	// PutIfAbsent stores value under key for ttl, unless key has a live entry, in one
	// atomic step. Of concurrent callers exactly one stores its value, and the deadline is
	// set once. It returns nil if it stored value, and otherwise the value of the entry.
	PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (existing []byte, err error)

	// Swap stores value under key for ttl if the entry's value is old, in one atomic step. A nil
	// old stands for no live entry. With a ttl of 0 the entry has no deadline. Swap returns
	// ErrConflict, and changes nothing, if the value is another one. Of concurrent callers that
	// swap the same old, one succeeds.
	Swap(ctx context.Context, key string, old, value []byte, ttl time.Duration) error

	// Promote stores value under to without a deadline, and deletes from, if the two entries
	// have the values oldFrom and oldTo, in one atomic step. A nil oldTo stands for no live
	// entry; oldFrom is never nil. Promote returns ErrConflict, and changes nothing, if either
	// value is another one. Both keys have the same text in braces.
	Promote(ctx context.Context, from, to string, oldFrom, oldTo, value []byte) error

	// Get returns the value of the live entry under key, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)

	// GetAll returns the values of the entries under keys at one moment, nil for each key without
	// a live entry. All keys have the same text in braces, or are from IdentityKey.
	GetAll(ctx context.Context, keys ...string) ([][]byte, error)

	// Update overwrites the value of the live entry under key and keeps its deadline, or
	// returns ErrNotFound, in one atomic step. It never brings back an entry that was
	// deleted or has expired.
	Update(ctx context.Context, key string, value []byte) error

	// Delete removes the live entry under key, or returns ErrNotFound. After it has
	// returned nil, no Get sees the entry.
	Delete(ctx context.Context, key string) error

	// Walk calls visit for each live entry whose key begins with prefix and ends with suffix, one
	// call at a time. It stops at the first error of visit and returns it. Entries that are
	// written or deleted meanwhile may be missing, and an entry may be visited twice. Walk reads
	// the names of all entries in the backend: it is for administration, not for requests.
	Walk(ctx context.Context, prefix, suffix string, visit func(key string, value []byte) error) error

	// IdentityKey returns the key of the store identity that lies beside key: where key's entry
	// is lost, the identity is lost with it, and GetAll reads both. IdentityKeys returns all
	// such keys.
	IdentityKey(key string) string
	IdentityKeys() []string

	// Ready returns nil if the backend replies and accepts writes.
	Ready(ctx context.Context) error

	// Close releases the backend's connections.
	Close() error
}

// Entries returns the live entries whose key begins with prefix. Like Walk, it is for
// administration.
func Entries(ctx context.Context, b Backend, prefix string) (map[string][]byte, error) {
	entries := map[string][]byte{}
	err := b.Walk(ctx, prefix, "", func(key string, value []byte) error {
		entries[key] = value
		return nil
	})
	return entries, err
}
