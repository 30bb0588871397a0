package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
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

var errOtherIdentity = fmt.Errorf("%w is another than MFA_STORE_ID", ErrIdentity)

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
		return errOtherIdentity
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

// check returns ErrIdentity if the store is not the pinned one. In a cluster, check reads the
// identity of several hash slots at once and succeeds if one of them is right: the service
// refuses the accounts of the other slots one by one, and a primary that hangs holds nothing up.
func (i *Identity) check(ctx context.Context, keyring *Keyring) error {
	var keys []string
	for _, name := range readyKeys {
		keys = append(keys, i.backend.IdentityKey(name))
	}
	keys = slices.Compact(keys) // The backend may have one identity.
	return anyOf(keys, func(key string) error {
		values, err := i.backend.GetAll(ctx, key)
		if err == nil {
			err = i.verify(keyring, values[0])
		}
		return err
	})
}
