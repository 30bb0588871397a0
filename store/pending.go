package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	pendingPurpose = "pending totp secret"
	accountPrefix  = "mfa:{" // The digest in braces selects a cluster's slot.
	pendingSuffix  = "}:pending"
)

// Outcome says how GetOrCreate came to the pending secret that it returned.
type Outcome string

// The outcomes of Pending.GetOrCreate.
const (
	Created            Outcome = "created"             // there was no pending secret
	Reused             Outcome = "reused"              // there was one
	ReplacedUnreadable Outcome = "replaced_unreadable" // there was an entry that no sealing key opens
	ReplacedExpired    Outcome = "replaced_expired"    // there was one past its deadline that the backend still had
)

// PendingKey is the pending secret of an account, to be confirmed before Deadline.
type PendingKey struct {
	Secret   Secret
	Deadline time.Time
	Outcome  Outcome
	Account  string // Digest of the account
}

// Pending keeps at most one pending secret for each account: a TOTP secret that its owner
// has not confirmed yet. It is safe for concurrent use.
type Pending struct {
	backend Backend
	keyring atomic.Pointer[Keyring]
	ttl     time.Duration
	now     func() time.Time
}

// NewPending returns a Pending that keeps secrets in backend for ttl (1 ms or more), sealed
// by keyring.
func NewPending(backend Backend, keyring *Keyring, ttl time.Duration, now func() time.Time) *Pending {
	p := &Pending{backend: backend, ttl: ttl, now: now}
	p.SetKeyring(keyring)
	return p
}

// SetKeyring sets the keyring for calls that begin from now on. Calls under way keep theirs.
func (p *Pending) SetKeyring(keyring *Keyring) { p.keyring.Store(keyring) }

// maxAttempts is the most attempts to read or replace a pending secret. A second attempt is
// needed only if another instance has stored an unreadable value meanwhile: then the two
// instances lack each other's sealing key.
const maxAttempts = 3

// GetOrCreate returns the pending secret of account. If there is none, fresh becomes it.
// Concurrent callers on all instances get the same secret. Its deadline is set when it is
// created and does not move.
//
// GetOrCreate replaces an entry that it cannot open, and a pending secret past its deadline:
// no code could confirm them. The second case arises because the backend removes an entry
// some milliseconds after the deadline, or later if the instances' clocks differ.
//
// If it cannot learn which secret is pending, GetOrCreate returns ErrUnavailable. Then
// fresh may have become the pending secret.
func (p *Pending) GetOrCreate(ctx context.Context, account string, fresh Secret) (PendingKey, error) {
	now := p.now()
	name := Digest(account)
	key := accountPrefix + name + pendingSuffix
	keyring := p.keyring.Load()
	offered := PendingKey{Secret: fresh, Deadline: deadline(now, p.ttl), Outcome: Created, Account: name}
	plaintext := encodePending(offered)
	sealed := keyring.seal(pendingPurpose, account, plaintext[:])

	for range maxAttempts {
		existing, err := p.backend.PutIfAbsent(ctx, key, sealed, p.ttl)
		if err != nil {
			return PendingKey{}, fmt.Errorf("keep pending secret: %w", err)
		}
		if existing == nil {
			return offered, nil
		}
		found, unreadable := openPending(keyring, account, existing)
		if unreadable == nil && now.Before(found.Deadline) {
			found.Account = name
			return found, nil
		}
		replaced := offered
		replaced.Outcome = ReplacedExpired
		if unreadable != nil {
			replaced.Outcome = ReplacedUnreadable
		}
		err = p.backend.Swap(ctx, key, existing, sealed, p.ttl)
		if err == nil {
			return replaced, nil
		}
		if !errors.Is(err, ErrConflict) {
			return PendingKey{}, fmt.Errorf("replace pending secret: %w", err)
		}
	}
	return PendingKey{}, fmt.Errorf("keep pending secret: %w: another instance seals with a key that this instance lacks", ErrUnavailable)
}

func pendingKey(account string) string { return accountPrefix + Digest(account) + pendingSuffix }

func openPending(keyring *Keyring, account string, sealed []byte) (PendingKey, error) {
	plaintext, err := keyring.open(pendingPurpose, account, sealed)
	if err != nil {
		return PendingKey{}, err
	}
	return decodePending(plaintext)
}

// encodePending returns the plaintext of a sealed pending secret: the deadline in Unix
// milliseconds (6 bytes), and the secret. The deadline is inside so that it holds even if
// the entry has lost its own, as after a restore. Six bytes are enough, and keep the sealed
// value in a 64-byte allocation of Redis if the key id has at most four characters.
func encodePending(key PendingKey) (b [pendingSize]byte) {
	milliseconds := uint64(key.Deadline.UnixMilli())
	binary.BigEndian.PutUint16(b[:], uint16(milliseconds>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(milliseconds))
	copy(b[6:], key.Secret[:])
	return b
}

const pendingSize = 6 + SecretSize

func decodePending(b []byte) (PendingKey, error) {
	if len(b) != pendingSize {
		return PendingKey{}, errUnreadable
	}
	milliseconds := int64(binary.BigEndian.Uint16(b))<<32 | int64(binary.BigEndian.Uint32(b[2:]))
	return PendingKey{Secret: Secret(b[6:]), Deadline: time.UnixMilli(milliseconds), Outcome: Reused}, nil
}

// deadline returns the deadline in whole milliseconds, as it is sealed. So the call that
// creates a secret and the calls that find it return the same deadline.
func deadline(created time.Time, ttl time.Duration) time.Time {
	return time.UnixMilli(created.UnixMilli()).Add(ttl.Truncate(time.Millisecond))
}
