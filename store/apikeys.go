package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// keyKind tells API keys from service keys.
type keyKind struct {
	prefix string // of entries
	// Without the prefix, a digest could begin with a dash, which command lines take for a flag.
	idPrefix string
	noun     string                     // in errors
	owner    func(record APIKey) string // whom the key belongs to: an account or a service
}

const apiKeyPrefix = "mfa:apikey:"

var (
	apiKeyKind     = keyKind{apiKeyPrefix, "key_", "API key", func(r APIKey) string { return r.Account }}
	serviceKeyKind = keyKind{"mfa:servicekey:", "svc_", "service key", func(r APIKey) string { return r.Name }}
)

// APIKey is the record of an API key or of a service key. The store does not have the key itself.
type APIKey struct {
	ID      string    `json:"id"`                // a prefix and the digest of the key; public; Revoke takes it
	Account string    `json:"account,omitempty"` // the one account that the API key acts for
	Email   string    `json:"email,omitempty"`   // label in the authenticator app
	Name    string    `json:"name,omitempty"`    // of the service that has the service key
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// LastUsed is the hour in which Find last found the API key; zero means never.
	LastUsed time.Time `json:"last_used,omitzero"`
}

// APIKeys keeps the records of API keys, or of service keys, under the digest of the key. It is
// safe for concurrent use.
type APIKeys struct {
	backend Backend
	now     func() time.Time
	kind    keyKind
}

// NewAPIKeys returns an APIKeys that keeps its records in backend.
func NewAPIKeys(backend Backend, now func() time.Time) *APIKeys {
	return &APIKeys{backend: backend, now: now, kind: apiKeyKind}
}

// NewServiceKeys returns an APIKeys for service keys: an API key is none of them.
func NewServiceKeys(backend Backend, now func() time.Time) *APIKeys {
	return &APIKeys{backend: backend, now: now, kind: serviceKeyKind}
}

// Create stores the record of a new API key for account, and returns it. The record ends
// after lifetime. The caller hands the API key itself over; the store keeps its digest.
func (a *APIKeys) Create(ctx context.Context, key, account, email string, lifetime time.Duration) (APIKey, error) {
	return a.create(ctx, key, APIKey{Account: account, Email: email}, lifetime)
}

// CreateForService is Create for a service key of the service name.
func (a *APIKeys) CreateForService(ctx context.Context, key, name string, lifetime time.Duration) (APIKey, error) {
	return a.create(ctx, key, APIKey{Name: name}, lifetime)
}

func (a *APIKeys) create(ctx context.Context, key string, record APIKey, lifetime time.Duration) (APIKey, error) {
	name := Digest(key)
	record.ID = a.kind.idPrefix + name
	record.Created = a.now().UTC().Truncate(time.Second)
	record.Expires = record.Created.Add(lifetime)
	value, err := json.Marshal(record)
	if err != nil {
		return APIKey{}, fmt.Errorf("encode %s: %w", a.kind.noun, err)
	}
	existing, err := a.backend.PutIfAbsent(ctx, a.kind.prefix+name, value, lifetime)
	if err != nil {
		return APIKey{}, fmt.Errorf("create %s: %w", a.kind.noun, err)
	}
	if existing != nil {
		return APIKey{}, fmt.Errorf("create %s: the same key exists", a.kind.noun)
	}
	return record, nil
}

// Find returns the record of key, or ErrNotFound if key was never created, has expired or
// was revoked. Find also notes the hour of this use.
func (a *APIKeys) Find(ctx context.Context, key string) (APIKey, error) {
	name := a.kind.prefix + Digest(key)
	value, err := a.backend.Get(ctx, name)
	if err != nil {
		return APIKey{}, fmt.Errorf("find %s: %w", a.kind.noun, err)
	}
	record, err := a.kind.decode(name, value)
	if err != nil {
		return APIKey{}, fmt.Errorf("find %s: %w", a.kind.noun, err)
	}
	// The entry has the same deadline, but may lose it in a restore of Redis.
	if !a.now().Before(record.Expires) {
		return APIKey{}, fmt.Errorf("find %s: %w", a.kind.noun, ErrNotFound)
	}
	return a.noteUse(ctx, key, record)
}

// noteUse writes the hour of this use, at most once an hour. It returns ErrNotFound if the
// API key was revoked after the read, and does not bring it back. It ignores other errors:
// the API key is valid, and the next call notes its use.
func (a *APIKeys) noteUse(ctx context.Context, key string, record APIKey) (APIKey, error) {
	hour := a.now().UTC().Truncate(time.Hour)
	if !hour.After(record.LastUsed) {
		return record, nil
	}
	record.LastUsed = hour
	value, err := json.Marshal(record)
	if err != nil {
		return APIKey{}, fmt.Errorf("encode %s: %w", a.kind.noun, err)
	}
	if err := a.backend.Update(ctx, a.kind.prefix+Digest(key), value); errors.Is(err, ErrNotFound) {
		return APIKey{}, fmt.Errorf("find %s: %w", a.kind.noun, err)
	}
	return record, nil
}

// List returns the records of the live API keys, oldest first. With damaged records it
// returns the others and an error.
func (a *APIKeys) List(ctx context.Context) ([]APIKey, error) {
	values, err := Entries(ctx, a.backend, a.kind.prefix)
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", a.kind.noun, err)
	}
	records := make([]APIKey, 0, len(values))
	var damaged error
	for name, value := range values {
		record, err := a.kind.decode(name, value)
		if err != nil {
			damaged = errors.Join(damaged, fmt.Errorf("list %ss: %s: %w", a.kind.noun, a.kind.id(name), err))
			continue
		}
		if a.now().Before(record.Expires) {
			records = append(records, record)
		}
	}
	slices.SortFunc(records, func(x, y APIKey) int {
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID))
	})
	return records, damaged
}

// Revoke ends the API key with this id at once: a Find that begins after Revoke has
// returned does not find it. Revoke returns ErrNotFound if no live API key has the id.
func (a *APIKeys) Revoke(ctx context.Context, id string) error {
	name, ok := strings.CutPrefix(id, a.kind.idPrefix)
	if !ok {
		return fmt.Errorf("revoke %s: %w", a.kind.noun, ErrNotFound)
	}
	if err := a.backend.Delete(ctx, a.kind.prefix+name); err != nil {
		return fmt.Errorf("revoke %s: %w", a.kind.noun, err)
	}
	return nil
}

// id returns the id of the key whose record the backend has under name.
func (k keyKind) id(name string) string { return k.idPrefix + strings.TrimPrefix(name, k.prefix) }

// decode returns ErrUnavailable for a damaged record, because it is unknown whether
// its API key is valid. The error does not show the record. The record of another API key is
// damaged, too: if replies of Redis were ever mixed up, no caller may get another's account.
func (k keyKind) decode(name string, value []byte) (APIKey, error) {
	var record APIKey
	if err := json.Unmarshal(value, &record); err != nil || record.ID != k.id(name) || k.owner(record) == "" || record.Expires.IsZero() {
		return APIKey{}, fmt.Errorf("damaged record: %w", ErrUnavailable)
	}
	return record, nil
}
