// Package store keeps what must outlive a request: the pending TOTP secret of
// an account, and the API keys.
//
// The model has two layers. A Backend (Redis, or Memory for development) is a
// small map from key to opaque value in which every entry has a deadline and
// every check-then-act is one atomic step. Above it, Pending and APIKeys give
// the values their meaning and are the same code whatever the backend: names of
// keys, sealing, deadlines. What a reader of the backend sees is digests for
// keys, sealed bytes for secrets, and never an API key.
//
// Sealing protects the secrets against whoever reads the backend. Whoever may write
// to it can still make an API key of their own: its record is not sealed.
//
// Nothing here logs. Errors wrap ErrNotFound or ErrUnavailable, unless they are about
// an argument.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"
)

// ErrNotFound says that no live entry is there: never written, expired or
// deleted. The three are not told apart.
var ErrNotFound = errors.New("not found")

// ErrUnavailable says that the backend did not answer, or not in a way that
// tells what it did: the operation may or may not have happened. Callers report
// "unknown", never "none".
var ErrUnavailable = errors.New("store unavailable")

// Backend is a map of opaque values with deadlines. Every implementation passes
// storetest.Run.
//
// Implementations MUST be safe for concurrent use by any number of goroutines
// and, where the backend is shared, of processes. A method MUST return by its
// context's deadline; once its context is cancelled, at once if it has not begun and
// else within 500 ms. Every error that is not ErrNotFound MUST wrap
// ErrUnavailable. An entry MUST NOT be visible past its ttl. Values are never
// modified after they were passed in or returned.
type Backend interface {
	// PutIfAbsent keeps value under key for ttl unless a live value is there
	// already, in one atomic step, so of any number of concurrent callers
	// exactly one wins and the deadline is set once. It returns the value that
	// was there, or nil if value is there now. What is there but is no value,
	// because somebody else wrote it, is returned as an empty one.
	PutIfAbsent(ctx context.Context, key string, value []byte, ttl time.Duration) (existing []byte, err error)

	// Replace keeps value under key for ttl if old, byte for byte, or nothing
	// is there, in one atomic step: of two that both want to replace old, the
	// second one finds the first one's value and gets it back. It returns the
	// value that was there instead of old, or nil if value is there now.
	Replace(ctx context.Context, key string, old, value []byte, ttl time.Duration) (existing []byte, err error)

	// Get returns the live value under key, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)

	// Update overwrites the live value under key and leaves its deadline as it is,
	// or returns ErrNotFound, in one atomic step: what was deleted or has expired
	// does not come back.
	Update(ctx context.Context, key string, value []byte) error

	// Delete removes the live value under key, or returns ErrNotFound. Once it
	// has returned nil, no later Get sees the value.
	Delete(ctx context.Context, key string) error

	// List returns the live entries whose key begins with prefix. Entries
	// written or deleted meanwhile may or may not be among them. It walks the
	// whole backend: for administration, not for requests. What is there but is no
	// value is listed as an empty one.
	List(ctx context.Context, prefix string) (map[string][]byte, error)

	// Ready tells whether the backend answers and takes writes.
	Ready(ctx context.Context) error

	// Close releases the backend's connections.
	Close() error
}

// Digest names an account or an API key in the backend, and in the log: unpadded base64url of
// its SHA-256, 43 characters. It keeps personal data out of key names, and
// nothing that a client sends reaches one.
func Digest(name string) string {
	text := digest(name)
	return string(text[:])
}

const digestSize = 43

func digest(name string) (text [digestSize]byte) {
	sum := sha256.Sum256([]byte(name))
	base64.RawURLEncoding.Encode(text[:], sum[:])
	return text
}
