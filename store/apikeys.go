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

const (
	apiKeyPrefix = "mfa:apikey:"
	// A digest may begin with a dash, which a command line takes for a flag.
	apiKeyIDPrefix = "key_"
)

// APIKey is what is known of an API key. The key itself is known to nobody but
// its holder.
type APIKey struct {
	ID      string    `json:"id"`      // key_ and the digest of the key: public, and the name to revoke it by
	Account string    `json:"account"` // the one account that it acts for
	Email   string    `json:"email"`   // label in the authenticator app
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// LastUsed is the hour in which the key was last presented and valid; zero: never.
	LastUsed time.Time `json:"last_used,omitzero"`
}

// APIKeys keeps API keys by their digest. It is safe for concurrent use.
type APIKeys struct {
	backend Backend
	now     func() time.Time
}

// NewAPIKeys keeps API keys in backend.
func NewAPIKeys(backend Backend, now func() time.Time) *APIKeys {
	return &APIKeys{backend: backend, now: now}
}

// Create registers key for account until lifetime has passed, and returns the
// record. The key is the caller's to hand over; only its digest is kept.
func (a *APIKeys) Create(ctx context.Context, key, account, email string, lifetime time.Duration) (APIKey, error) {
	created := a.now().UTC().Truncate(time.Second)
	name := Digest(key)
	record := APIKey{
		ID:      apiKeyIDPrefix + name,
		Account: account,
		Email:   email,
		Created: created,
		Expires: created.Add(lifetime),
	}
	value, err := json.Marshal(record)
	if err != nil {
		return APIKey{}, fmt.Errorf("encode API key: %w", err)
	}
	existing, err := a.backend.PutIfAbsent(ctx, apiKeyPrefix+name, value, lifetime)
	if err != nil {
		return APIKey{}, fmt.Errorf("create API key: %w", err)
	}
	if existing != nil {
		return APIKey{}, fmt.Errorf("create API key: the same key exists")
	}
	return record, nil
}

// Find returns the record of key, or ErrNotFound if it was never created, has
// expired or was revoked. It also notes the hour of this use.
func (a *APIKeys) Find(ctx context.Context, key string) (APIKey, error) {
	name := apiKeyPrefix + Digest(key)
	value, err := a.backend.Get(ctx, name)
	if err != nil {
		return APIKey{}, fmt.Errorf("find API key: %w", err)
	}
	record, err := decodeAPIKey(name, value)
	if err != nil {
		return APIKey{}, fmt.Errorf("find API key: %w", err)
	}
	// The backend drops it at the same time; its own deadline may be lost in a
	// restore, the one in the record is not.
	if !a.now().Before(record.Expires) {
		return APIKey{}, fmt.Errorf("find API key: %w", ErrNotFound)
	}
	return a.noteUse(ctx, key, record)
}

// noteUse writes the hour of this use, once an hour. A key that was revoked since it
// was read is not found, and does not come back. Another failure is of no matter: the
// key is valid, and the next call will note its use.
func (a *APIKeys) noteUse(ctx context.Context, key string, record APIKey) (APIKey, error) {
	hour := a.now().UTC().Truncate(time.Hour)
	if !hour.After(record.LastUsed) {
		return record, nil
	}
	record.LastUsed = hour
	value, err := json.Marshal(record)
	if err != nil {
		return APIKey{}, fmt.Errorf("encode API key: %w", err)
	}
	if err := a.backend.Update(ctx, apiKeyPrefix+Digest(key), value); errors.Is(err, ErrNotFound) {
		return APIKey{}, fmt.Errorf("find API key: %w", err)
	}
	return record, nil
}

// List returns the live API keys, oldest first. A damaged record is an error beside
// them.
func (a *APIKeys) List(ctx context.Context) ([]APIKey, error) {
	values, err := a.backend.List(ctx, apiKeyPrefix)
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", err)
	}
	records := make([]APIKey, 0, len(values))
	var damaged error
	for name, value := range values {
		record, err := decodeAPIKey(name, value)
		if err != nil {
			damaged = errors.Join(damaged, fmt.Errorf("list API keys: %s: %w", apiKeyID(name), err))
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

// Revoke ends the API key with this id at once: no call that begins after Revoke
// has returned is accepted. It returns ErrNotFound if no live key has the id.
func (a *APIKeys) Revoke(ctx context.Context, id string) error {
	name, ok := strings.CutPrefix(id, apiKeyIDPrefix)
	if !ok {
		return fmt.Errorf("revoke API key: %w", ErrNotFound)
	}
	if err := a.backend.Delete(ctx, apiKeyPrefix+name); err != nil {
		return fmt.Errorf("revoke API key: %w", err)
	}
	return nil
}

// apiKeyID returns the id of the API key that the backend has under this name.
func apiKeyID(name string) string { return apiKeyIDPrefix + strings.TrimPrefix(name, apiKeyPrefix) }

// decodeAPIKey reports a damaged record as ErrUnavailable, without its content:
// whether the key is valid is unknown. So it is if the record is another key's, however that
// came about: a reply that was taken for the one after it must let nobody in as somebody else.
func decodeAPIKey(name string, value []byte) (APIKey, error) {
	var record APIKey
	if err := json.Unmarshal(value, &record); err != nil || record.ID != apiKeyID(name) || record.Account == "" || record.Expires.IsZero() {
		return APIKey{}, fmt.Errorf("damaged record: %w", ErrUnavailable)
	}
	return record, nil
}
