package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Census counts the factors of a store.
type Census struct {
	States   map[State]int  `json:"states"`
	SealKeys map[string]int `json:"seal_keys"` // by the id of the sealing key that a factor was found with

	// Unreadable has the digests of the accounts whose factor cannot be opened.
	Unreadable []string `json:"unreadable"`

	// Resealed is the number of factors that Reseal has written.
	Resealed int `json:"resealed"`
}

// Count reads all factors and the identities, and returns ErrIdentity unless the identity of
// each hash slot is the pinned one. It is for administration.
func (f *Factors) Count(ctx context.Context) (Census, error) {
	if _, err := f.c.Identity.readAll(ctx, f.keyring.Load()); err != nil {
		return Census{}, err
	}
	return f.census(ctx, func(context.Context, string, Factor, []byte) error { return nil })
}

// Reseal seals all factors and the identities with the first sealing key of the keyring. After
// it no factor needs the other sealing keys, provided that every instance already seals with
// the first. It leaves unreadable factors as they are, and then the identities too: a keyring that
// lacks keys must not lock the service out of its store. Like Count, it returns ErrIdentity for
// another store, and changes nothing there.
func (f *Factors) Reseal(ctx context.Context) (Census, error) {
	keyring := f.keyring.Load()
	if _, err := f.c.Identity.readAll(ctx, keyring); err != nil {
		return Census{}, err
	}
	resealed := 0
	census, err := f.census(ctx, func(ctx context.Context, digest string, factor Factor, sealed []byte) error {
		if sealKeyID(sealed) == keyring.sealID {
			return nil
		}
		again := keyring.seal(factorPurpose, digest, factor.encode())
		err := f.c.Backend.Swap(ctx, accountPrefix+digest+factorSuffix, sealed, again, 0)
		if errors.Is(err, ErrConflict) {
			return nil // A request has changed the factor, and sealed it anew.
		}
		if err == nil {
			resealed++
		}
		return err
	})
	census.Resealed = resealed
	if err == nil && len(census.Unreadable) == 0 {
		err = f.c.Identity.reseal(ctx, keyring)
	}
	return census, err
}

// census counts the factors and calls visit for each that can be opened.
func (f *Factors) census(ctx context.Context, visit func(ctx context.Context, digest string, factor Factor, sealed []byte) error) (Census, error) {
	census := Census{States: map[State]int{}, SealKeys: map[string]int{}, Unreadable: []string{}}
	keyring := f.keyring.Load()
	seen := map[string]bool{} // Walk may visit an entry twice.
	err := f.c.Backend.Walk(ctx, accountPrefix, factorSuffix, func(key string, sealed []byte) error {
		digest := strings.TrimSuffix(strings.TrimPrefix(key, accountPrefix), factorSuffix)
		if seen[digest] {
			return nil
		}
		seen[digest] = true
		factor, unreadable := openFactor(keyring, digest, sealed)
		if unreadable == nil {
			census.States[factor.State]++
			census.SealKeys[sealKeyID(sealed)]++
			return visit(ctx, digest, factor, sealed)
		}
		census.Unreadable = append(census.Unreadable, digest)
		return nil
	})
	if err != nil {
		return census, fmt.Errorf("walk factors: %w", err)
	}
	return census, nil
}
