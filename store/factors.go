package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	factorPurpose = "totp factor"
	factorSuffix  = "}:factor"

	// maxSwaps is the most attempts to change a factor while others change it too.
	maxSwaps = 10
)

// ErrUnreadable says that a factor cannot be opened: the keyring lacks its sealing key, it is
// damaged, or it is another account's or of a later version. It wraps ErrUnavailable: the
// account has a factor, and nothing may replace it.
var ErrUnreadable = fmt.Errorf("%w: factor is unreadable", ErrUnavailable)

// Factors keeps at most one factor for each account: one sealed entry without a deadline. Every
// change compares and swaps the whole entry, so of two changes at once, the second sees the
// first. A factor that cannot be read is never replaced. It is safe for concurrent use.
type Factors struct {
	c       FactorsConfig
	keyring atomic.Pointer[Keyring]
}

// FactorsConfig is what Factors work with.
type FactorsConfig struct {
	Backend  Backend   // required
	Keyring  *Keyring  // required
	Identity *Identity // of the backend; required
	Now      func() time.Time

	// SwapLost is called for each swap that another change has forestalled, Unreadable for each
	// factor that cannot be opened, and Written for each that was written. Required.
	SwapLost, Unreadable, Written func()

	// Rewrite has a change that changes nothing write the entry all the same. It is for
	// Redis.RequireReplicas: the write before may have lacked replicas.
	Rewrite bool
}

// NewFactors returns the factors in c.Backend.
func NewFactors(c FactorsConfig) *Factors {
	f := &Factors{c: c}
	f.SetKeyring(c.Keyring)
	return f
}

// SetKeyring sets the keyring for calls that begin from now on. Calls under way keep theirs.
func (f *Factors) SetKeyring(keyring *Keyring) { f.keyring.Store(keyring) }

// Check returns nil if the store has the pinned identity. See Identity.
func (f *Factors) Check(ctx context.Context) error {
	return f.c.Identity.check(ctx, f.keyring.Load())
}

// Find returns the factor of account. The error wraps ErrUnavailable.
func (f *Factors) Find(ctx context.Context, account string) (Factor, error) {
	read, err := f.read(ctx, f.keyring.Load(), account)
	if err != nil {
		return Factor{}, fmt.Errorf("find factor: %w", err)
	}
	return read.factor, nil
}

// Change replaces the factor of account by what change returns for it, and returns that. It
// calls change again if another change came between. An error of change ends the call, and
// nothing has changed then. Other errors wrap ErrUnavailable: the factor may have changed. The
// account of a factor keeps a record: change must not return the state None for it.
func (f *Factors) Change(ctx context.Context, account string, change func(Factor) (Factor, error)) (Factor, error) {
	return f.retry(func() (Factor, error) {
		return f.attempt(ctx, account, nil, func(_ *PendingKey, factor Factor) (Factor, error) { return change(factor) })
	})
}

// Confirm is Change with the pending secret of account, nil if there is none. If change enrols
// that secret, it ceases to be pending in the same atomic step.
func (f *Factors) Confirm(ctx context.Context, account string, change func(*PendingKey, Factor) (Factor, error)) (Factor, error) {
	return f.retry(func() (Factor, error) {
		return f.attempt(ctx, account, []string{pendingKey(account)}, change)
	})
}

// Reset removes the factor of account, also one that cannot be opened: its owner could never
// sign in again. It is for support, and for no request. It returns ErrNotFound if the account
// never had a factor.
func (f *Factors) Reset(ctx context.Context, account string) (Factor, error) {
	return f.retry(func() (Factor, error) {
		keyring := f.keyring.Load()
		read, err := f.read(ctx, keyring, account)
		switch {
		case errors.Is(err, ErrUnreadable):
			read.factor = Factor{State: Enrolled}
		case err != nil:
			return Factor{}, err
		case read.factor.State == None:
			return Factor{}, ErrNotFound
		}
		return f.write(ctx, keyring, account, read, nil, read.factor.Remove(f.c.Now()))
	})
}

// attempt reads the factor, and the pending secret if pendingKeys has its key, and writes what
// change returns. The error is ErrConflict if an entry has changed meanwhile.
func (f *Factors) attempt(ctx context.Context, account string, pendingKeys []string, change func(*PendingKey, Factor) (Factor, error)) (Factor, error) {
	keyring := f.keyring.Load()
	read, err := f.read(ctx, keyring, account, pendingKeys...)
	if err != nil {
		return Factor{}, err
	}
	pending := read.pending(keyring, account, f.c.Now())
	changed, err := change(pending, read.factor)
	if err != nil {
		return changed, err
	}
	return f.write(ctx, keyring, account, read, pending, changed)
}

// write replaces what was read by changed, and returns that.
func (f *Factors) write(ctx context.Context, keyring *Keyring, account string, read readEntries, pending *PendingKey, changed Factor) (Factor, error) {
	confirmed := pending != nil && pending.Secret == changed.Secret
	if !confirmed && !f.mustWrite(read.factor, changed) {
		return changed, nil
	}
	sealed, err := sealFactor(keyring, account, changed)
	if err != nil {
		return Factor{}, err
	}
	if confirmed {
		err = f.c.Backend.Promote(ctx, pendingKey(account), factorKey(account), read.sealedPending, read.sealed, sealed)
	} else {
		err = f.c.Backend.Swap(ctx, factorKey(account), read.sealed, sealed, 0)
	}
	if err == nil {
		f.c.Written()
	}
	return changed, err
}

// retry calls attempt until it ends without ErrConflict, at most maxSwaps times.
func (f *Factors) retry(attempt func() (Factor, error)) (Factor, error) {
	for range maxSwaps {
		factor, err := attempt()
		if err == nil {
			return factor, nil
		}
		if !errors.Is(err, ErrConflict) {
			return Factor{}, fmt.Errorf("change factor: %w", err)
		}
		f.c.SwapLost()
	}
	return Factor{}, fmt.Errorf("change factor: %w: %d other changes came between", ErrUnavailable, maxSwaps)
}

// mustWrite tells whether a change has to be written. An account that never had a factor and
// still has none needs no entry.
func (f *Factors) mustWrite(before, after Factor) bool {
	return !bytes.Equal(before.encode(), after.encode()) || f.c.Rewrite && after.State != None
}

// readEntries are the entries of an account as they were read.
type readEntries struct {
	factor        Factor
	sealed        []byte // the factor's; nil: none
	sealedPending []byte
}

// read reads the factor of account, the store identity, and the entries under more, at one
// moment. An absent factor counts only beside the right identity: in an empty store nobody would
// have a factor.
func (f *Factors) read(ctx context.Context, keyring *Keyring, account string, more ...string) (readEntries, error) {
	key := factorKey(account)
	values, err := f.c.Backend.GetAll(ctx, append([]string{f.c.Backend.IdentityKey(key), key}, more...)...)
	if err != nil {
		return readEntries{}, err
	}
	if err := f.c.Identity.verify(keyring, values[0]); err != nil {
		return readEntries{}, err
	}
	read := readEntries{sealed: values[1], factor: Factor{State: None}}
	if len(more) > 0 {
		read.sealedPending = values[2]
	}
	if read.sealed != nil {
		if read.factor, err = openFactor(keyring, Digest(account), read.sealed); err != nil {
			f.c.Unreadable()
		}
	}
	return read, err
}

// pending returns the pending secret if it can be opened and is not past its deadline at now.
func (r readEntries) pending(keyring *Keyring, account string, now time.Time) *PendingKey {
	if r.sealedPending == nil {
		return nil
	}
	pending, err := openPending(keyring, account, r.sealedPending)
	if err != nil || !now.Before(pending.Deadline) {
		return nil
	}
	return &pending
}

func factorKey(account string) string { return accountPrefix + Digest(account) + factorSuffix }

// sealFactor binds a factor to the digest of its account: Reseal knows no account. It refuses
// what openFactor would not read: nothing may replace an unreadable factor, so a mistake in a
// change would lock its account out for ever.
func sealFactor(keyring *Keyring, account string, factor Factor) ([]byte, error) {
	plaintext := factor.encode()
	if _, err := decodeFactor(plaintext); err != nil {
		return nil, fmt.Errorf("a factor in state %q with %d recovery codes cannot be stored", factor.State, len(factor.RecoveryCodes))
	}
	return keyring.seal(factorPurpose, Digest(account), plaintext), nil
}

func openFactor(keyring *Keyring, digest string, sealed []byte) (Factor, error) {
	plaintext, err := keyring.open(factorPurpose, digest, sealed)
	if err != nil {
		return Factor{}, ErrUnreadable
	}
	factor, err := decodeFactor(plaintext)
	if err != nil {
		return Factor{}, ErrUnreadable
	}
	return factor, nil
}
