package store

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

const (
	identityKey     = "mfa:store"
	identityPurpose = "store identity"
	identityOwner   = "store"
)

// ErrIdentity says that the store is not the one that the service was set up with: its identity
// is absent or is another one. Data was lost, or the address names another database. It wraps
// ErrUnavailable: no absent factor of such a store means that the account has none.
var ErrIdentity = fmt.Errorf("%w: store identity", ErrUnavailable)

// Identity is the id of a store, sealed in the store itself. A service that pins the id notices
// an empty or a wrong database. It is safe for concurrent use.
type Identity struct {
	backend Backend
	id      string

	// verified is the last sealed value that held id. It saves to open the same value again.
	verified atomic.Pointer[[]byte]
}

// NewIdentity returns the identity id of the store in backend.
func NewIdentity(backend Backend, id string) *Identity { return &Identity{backend: backend, id: id} }

// verify returns ErrIdentity unless sealed holds the pinned id. A nil sealed is absent.
func (i *Identity) verify(keyring *Keyring, sealed []byte) error {
	if verified := i.verified.Load(); verified != nil && bytes.Equal(*verified, sealed) {
		return nil
	}
	id, err := openIdentity(keyring, sealed)
	if err != nil {
		return err
	}
	if id != i.id {
		return fmt.Errorf("%w is another than MFA_STORE_ID", ErrIdentity)
	}
	sealed = bytes.Clone(sealed)
	i.verified.Store(&sealed)
	return nil
}

func openIdentity(keyring *Keyring, sealed []byte) (string, error) {
	if sealed == nil {
		return "", fmt.Errorf("%w is absent: its data was lost, or MFA_REDIS_URL names another database", ErrIdentity)
	}
	id, err := keyring.open(identityPurpose, identityOwner, sealed)
	if err != nil {
		return "", fmt.Errorf("%w is unreadable: MFA_SEAL_KEYS lacks its sealing key", ErrIdentity)
	}
	return string(id), nil
}

// InitStore gives the store in backend the identity fresh, and returns its id. A store that has
// an identity keeps it: InitStore returns its id and ErrConflict.
//
// A cluster has an identity in each hash slot. If some are absent, a part of the data was lost,
// or an earlier InitStore was interrupted. InitStore then returns ErrIdentity, or, with
// acceptLoss, adds the absent ones.
func InitStore(ctx context.Context, backend Backend, keyring *Keyring, fresh string, acceptLoss bool) (id string, err error) {
	values, err := readIdentities(ctx, backend)
	if err != nil {
		return "", err
	}
	var absent []string
	for key, sealed := range values {
		if sealed == nil {
			absent = append(absent, key)
			continue
		}
		if id, err = openIdentity(keyring, sealed); err != nil {
			return "", err
		}
	}
	switch {
	case len(absent) == 0:
		return id, ErrConflict
	case id == "":
		id = fresh
	case !acceptLoss:
		return id, fmt.Errorf("%w is absent in %d of %d hash slots: their data was lost, or an earlier init was interrupted", ErrIdentity, len(absent), len(values))
	}
	// One value for all keys: Identity.verify opens it once.
	sealed := keyring.seal(identityPurpose, identityOwner, []byte(id))
	err = forEach(ctx, absent, func(ctx context.Context, key string) error {
		return backend.Swap(ctx, key, nil, sealed, 0)
	})
	if err != nil {
		return "", fmt.Errorf("write store identity: %w", err)
	}
	return id, nil
}

// readIdentities returns the sealed identities by key, nil for each absent one.
func readIdentities(ctx context.Context, backend Backend) (map[string][]byte, error) {
	identities := map[string][]byte{}
	var mu sync.Mutex
	err := forEach(ctx, backend.IdentityKeys(), func(ctx context.Context, key string) error {
		values, err := backend.GetAll(ctx, key)
		if err != nil {
			return fmt.Errorf("read store identity: %w", err)
		}
		mu.Lock()
		defer mu.Unlock()
		identities[key] = values[0]
		return nil
	})
	return identities, err
}

// check returns ErrIdentity if the store is not the pinned one. In a cluster, check reads the
// identity of several hash slots and succeeds if one of them is right: the service refuses the
// accounts of the other slots one by one.
func (i *Identity) check(ctx context.Context, keyring *Keyring) (err error) {
	previous := ""
	for _, name := range readyKeys {
		key := i.backend.IdentityKey(name)
		if key == previous {
			break // The backend has one identity.
		}
		previous = key
		values, getErr := i.backend.GetAll(ctx, key)
		if err = getErr; err == nil {
			err = i.verify(keyring, values[0])
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// maxConcurrent is the most commands that administration has in flight.
const maxConcurrent = 32

// forEach calls do for each key, up to maxConcurrent at a time, and returns the first error.
func forEach(ctx context.Context, keys []string, do func(context.Context, string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxConcurrent)
	for _, key := range keys {
		group.Go(func() error { return do(ctx, key) })
	}
	return group.Wait()
}
