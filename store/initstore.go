package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// InitStore gives the store in backend an identity and returns its id. A store that has one
// keeps it: InitStore returns its id and ErrConflict.
//
// A cluster has an identity in each hash slot. If some are absent, a part of the data was lost,
// or an earlier InitStore was interrupted. InitStore then returns ErrIdentity, or, with
// acceptLoss, adds the absent ones. It does the same for a store that has factors and no identity
// at all.
func InitStore(ctx context.Context, backend Backend, keyring *Keyring, acceptLoss bool) (id string, err error) {
	all, err := readIdentities(ctx, backend, keyring)
	if err != nil {
		return "", err
	}
	switch {
	case len(all.absent) == 0:
		return all.id, ErrConflict
	case all.id == "":
		if id = rand.Text(); !acceptLoss {
			err = refuseFactors(ctx, backend)
		}
	case acceptLoss:
		id = all.id
	default:
		return all.id, all.absence()
	}
	if err != nil {
		return "", err
	}
	// Of two inits at once, the one that writes the first identity writes all of them. Otherwise
	// the store could get two ids.
	sealed := sealIdentity(keyring, id)
	err = writeIdentities(ctx, backend, all.absent[:1], nil, sealed)
	if err == nil {
		err = writeIdentities(ctx, backend, all.absent[1:], nil, sealed)
	}
	if err != nil {
		return "", err
	}
	return id, nil
}

// refuseFactors returns ErrIdentity if the store has a factor: then it is not new, and has lost
// its identity.
func refuseFactors(ctx context.Context, backend Backend) error {
	return backend.Walk(ctx, accountPrefix, factorSuffix, func(string, []byte) error {
		return fmt.Errorf("%w is absent, but the store has factors: it is not a new one", ErrIdentity)
	})
}

// identities are the store identities of a backend.
type identities struct {
	sealed map[string][]byte // by key
	absent []string          // keys without one, in the order of Backend.IdentityKeys
	id     string            // the same in all of sealed; "" if all are absent
}

// absence returns ErrIdentity if an identity is absent.
func (all identities) absence() error {
	switch n := len(all.absent); {
	case n == 0:
		return nil
	case all.id == "":
		_, err := openIdentity(nil, nil)
		return err
	default:
		return fmt.Errorf("%w is absent in %d of %d hash slots: their data was lost, or an earlier init was interrupted", ErrIdentity, n, n+len(all.sealed))
	}
}

// readIdentities returns ErrIdentity if an identity is unreadable or two differ. It walks: to read
// the identities of a cluster one by one takes several seconds.
func readIdentities(ctx context.Context, backend Backend, keyring *Keyring) (identities, error) {
	all := identities{sealed: map[string][]byte{}}
	err := backend.Walk(ctx, identityKey, "", func(key string, sealed []byte) error {
		id, err := openIdentity(keyring, sealed)
		if err == nil && all.id != "" && id != all.id {
			err = fmt.Errorf("%w differs between hash slots: they hold the data of two stores", ErrIdentity)
		}
		all.sealed[key], all.id = sealed, id
		return err
	})
	if err != nil {
		return all, fmt.Errorf("read store identity: %w", err)
	}
	for _, key := range backend.IdentityKeys() {
		if all.sealed[key] == nil {
			all.absent = append(all.absent, key)
		}
	}
	return all, nil
}

// readAll returns all identities, and ErrIdentity unless each is the pinned one.
func (i *Identity) readAll(ctx context.Context, keyring *Keyring) (identities, error) {
	all, err := readIdentities(ctx, i.backend, keyring)
	if err == nil {
		err = all.absence()
	}
	if err == nil && all.id != i.id {
		err = errOtherIdentity
	}
	return all, err
}

// reseal seals all identities with the first sealing key of the keyring.
func (i *Identity) reseal(ctx context.Context, keyring *Keyring) error {
	all, err := i.readAll(ctx, keyring)
	if err != nil {
		return err
	}
	var keys []string
	for key, sealed := range all.sealed {
		if sealKeyID(sealed) != keyring.sealID {
			keys = append(keys, key)
		}
	}
	return writeIdentities(ctx, i.backend, keys, all.sealed, sealIdentity(keyring, i.id))
}

func sealIdentity(keyring *Keyring, id string) []byte {
	return keyring.seal(identityPurpose, identityOwner, []byte(id))
}

// writeIdentities writes sealed under keys in place of the values in old. All keys get one
// value: Identity.verify opens it once. A value that has changed is ErrUnavailable.
func writeIdentities(ctx context.Context, backend Backend, keys []string, old map[string][]byte, sealed []byte) error {
	return forEach(ctx, keys, func(ctx context.Context, key string) error {
		err := backend.Swap(ctx, key, old[key], sealed, 0)
		if errors.Is(err, ErrConflict) {
			err = fmt.Errorf("%w: another command has written it meanwhile", ErrUnavailable)
		}
		if err != nil {
			return fmt.Errorf("write store identity: %w", err)
		}
		return nil
	})
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
