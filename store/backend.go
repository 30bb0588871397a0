package store

import (
	"context"
	"time"
)

// Backend is a map from key to opaque value. Each entry has a deadline. Every
// implementation passes storetest.Run, which has a sub-test for each clause below.
//
// An implementation MUST be safe for concurrent use by goroutines and, if the backend is
// shared, by instances of the service. A method MUST return by its context's deadline. When
// its context is cancelled, a method MUST return at once if it has not begun, and otherwise
// within 500 ms. Every error except ErrNotFound MUST wrap ErrUnavailable. An entry MUST NOT
// be visible after its ttl. A Backend MUST NOT share bytes with its callers: a caller may
// change a value that it passed in or got back.
//
// An entry of another type is one that another program wrote and that has no value, for
// example a Redis list. PutIfAbsent, Replace and List return it as an empty, non-nil value; Get
// returns ErrUnavailable.
type Backend interface {
	// PutIfAbsent stores value under key for ttl, unless key has a live entry, in one
	// atomic step. Of concurrent callers exactly one stores its value, and the deadline is
	// set once. It returns nil if it stored value, and otherwise the value of the entry.
	PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (existing []byte, err error)

	// Replace stores value under key for ttl if the entry's value is old, or if there is
	// no live entry, in one atomic step. Of concurrent callers that replace old, the
	// second gets the first's value back. It returns nil if it stored value, and otherwise
	// the value of the entry.
	Replace(ctx context.Context, key string, old, value []byte, ttl time.Duration) (existing []byte, err error)

	// Get returns the value of the live entry under key, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)

	// Update overwrites the value of the live entry under key and keeps its deadline, or
	// returns ErrNotFound, in one atomic step. It never brings back an entry that was
	// deleted or has expired.
	Update(ctx context.Context, key string, value []byte) error

	// Delete removes the live entry under key, or returns ErrNotFound. After it has
	// returned nil, no Get sees the entry.
	Delete(ctx context.Context, key string) error

	// List returns the live entries whose key begins with prefix. Entries that are written
	// or deleted meanwhile may be missing. List reads the names of all entries in the
	// backend: it is for administration, not for requests.
	List(ctx context.Context, prefix string) (map[string][]byte, error)

	// Ready returns nil if the backend replies and accepts writes.
	Ready(ctx context.Context) error

	// Close releases the backend's connections.
	Close() error
}
