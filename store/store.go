// Package store keeps the data that outlives a request: the pending TOTP secret of an
// account, its factor, and the API keys.
//
// The model has two layers. A Backend (Redis, or Memory for development) is a small map
// from key to opaque value. Each check-then-act is one atomic step. Above it, Pending, Factors
// and APIKeys give the values their meaning: the names of entries, sealing and deadlines. They
// are the same code on every backend.
//
// A pending secret may be lost: its owner gets another. A factor may not: an Identity in the
// store tells lost factors from an account that never had one, and a factor that cannot be read
// is never replaced.
//
// A reader of the backend sees digests for names, sealed bytes for secrets, and no API key.
// Sealing does not protect against a writer: records of API keys are not sealed, so a
// writer can add an API key.
//
// The package does not log. Its errors wrap ErrNotFound, ErrConflict or ErrUnavailable, except
// errors about an argument. README.md in this folder has the formats and the operation of Redis.
package store

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
)

// ErrNotFound says that there is no live entry. The entry may never have been written, or
// it has expired or was deleted: the store does not distinguish these.
var ErrNotFound = errors.New("not found")

// ErrUnavailable says that the backend did not reply, or that its reply does not tell what
// it did. The operation may have happened. Callers report "unknown", never "none".
var ErrUnavailable = errors.New("store unavailable")

// ErrConflict says that an entry had another value than the caller expected. The caller reads
// it again.
var ErrConflict = errors.New("entry has changed")

// Digest returns the name of an account or an API key in the backend and in the log: the
// SHA-256 of name in unpadded base64url, 43 characters. It keeps personal data, and text
// that a client sent, out of the names of Redis entries.
func Digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
