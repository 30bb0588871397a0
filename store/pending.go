package store

import (
	"context"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"
)

// SecretSize is the length of a TOTP secret in bytes: 160 bits, the length that
// RFC 4226 section 4, R6 recommends.
const SecretSize = 20

const (
	pendingPurpose = "pending totp secret"
	pendingPrefix  = "mfa:{"
)

// Secret is a TOTP shared secret. It never prints itself: Base32 is the one way
// out.
type Secret [SecretSize]byte

// Base32 returns the secret as authenticator apps want it: RFC 4648 section 6,
// upper case, unpadded, 32 characters.
func (s Secret) Base32() string {
	var text [32]byte
	unpadded.Encode(text[:], s[:])
	return string(text[:])
}

var unpadded = base32.StdEncoding.WithPadding(base32.NoPadding)

// Format hides the secret from every fmt verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "secret(hidden)") }

// MarshalText hides the secret from encoders, log/slog's among them.
func (s Secret) MarshalText() ([]byte, error) { return []byte("secret(hidden)"), nil }

// Outcome says how a pending key came to be the one that was returned.
type Outcome string

// The outcomes of Pending.GetOrCreate.
const (
	Created            Outcome = "created"             // none was pending
	Reused             Outcome = "reused"              // one was pending already
	ReplacedUnreadable Outcome = "replaced_unreadable" // what was there could not be opened
	ReplacedExpired    Outcome = "replaced_expired"    // what was there is past its deadline, though not gone yet
)

// PendingKey is the TOTP key that an account has to confirm before Deadline.
type PendingKey struct {
	Secret   Secret
	Deadline time.Time
	Outcome  Outcome
	Account  string // its Digest
}

// Pending keeps, for each account, at most one TOTP secret that its owner has
// not confirmed yet. It is safe for concurrent use.
type Pending struct {
	backend Backend
	keyring atomic.Pointer[Keyring]
	ttl     time.Duration
	now     func() time.Time
}

// NewPending keeps secrets in backend, sealed by keyring, for ttl (1 ms or more).
func NewPending(backend Backend, keyring *Keyring, ttl time.Duration, now func() time.Time) *Pending {
	p := &Pending{backend: backend, ttl: ttl, now: now}
	p.SetKeyring(keyring)
	return p
}

// SetKeyring has all calls that begin from now on seal and open with keyring. A call
// under way keeps the one that it began with.
func (p *Pending) SetKeyring(keyring *Keyring) { p.keyring.Store(keyring) }

// maxReplacements bounds the attempts to replace what cannot be opened. More
// than one is needed only if somebody else put another unreadable value there
// meanwhile, which takes two replicas that cannot open each other's values.
const maxReplacements = 3

// GetOrCreate returns the key that is pending for account: the one that is
// there, or else fresh. Of any number of concurrent callers, on any number of
// replicas, all get the same one. Its deadline was set when it was created and
// does not move.
//
// What is there but cannot be opened, or is past its deadline, is replaced: nobody
// could confirm it. The backend drops a key later than at its deadline by what it took to
// keep it, and by what clocks differ: those of the replicas have to agree, because what
// one that is ahead seals has a deadline after the backend drops it. Any failure to learn
// what is pending is ErrUnavailable, and then fresh may or may not be.
func (p *Pending) GetOrCreate(ctx context.Context, account string, fresh Secret) (PendingKey, error) {
	created := p.now()
	text := digest(account)
	key := pendingPrefix + string(text[:]) + "}:pending"
	name := key[len(pendingPrefix):][:digestSize]
	keyring := p.keyring.Load()
	mine := PendingKey{Secret: fresh, Deadline: deadline(created, p.ttl), Outcome: Created, Account: name}
	plaintext := encodePending(mine)
	sealed := keyring.seal(pendingPurpose, account, plaintext[:])

	existing, err := p.backend.PutIfAbsent(ctx, key, sealed, p.ttl)
	for replaced := 0; ; replaced++ {
		if err != nil {
			return PendingKey{}, fmt.Errorf("keep pending secret: %w", err)
		}
		if existing == nil {
			return mine, nil
		}
		theirs, unreadable := openPending(keyring, account, existing)
		if unreadable == nil && created.Before(theirs.Deadline) {
			theirs.Account = name
			return theirs, nil
		}
		if replaced == maxReplacements {
			return PendingKey{}, fmt.Errorf("keep pending secret: %w: another replica seals with a key that this one lacks", ErrUnavailable)
		}
		mine.Outcome = ReplacedExpired
		if unreadable != nil {
			mine.Outcome = ReplacedUnreadable
		}
		existing, err = p.backend.Replace(ctx, key, existing, sealed, p.ttl)
	}
}

func openPending(keyring *Keyring, account string, sealed []byte) (PendingKey, error) {
	plaintext, err := keyring.open(pendingPurpose, account, sealed)
	if err != nil {
		return PendingKey{}, err
	}
	return decodePending(plaintext)
}

// encodePending lays out the deadline (Unix milliseconds, 6 bytes) and the secret. The
// deadline is inside too, so that it is checked on reading even if the backend's own is
// lost, and stays what it was if the setting changes. Every byte counts: with a key id of
// up to four characters, what is sealed fits an allocation of 64 bytes in Redis, the next
// larger one being 80.
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

// deadline is computed from whole milliseconds, as sealed, so that the call
// that creates a key and the calls that find it agree on it.
func deadline(created time.Time, ttl time.Duration) time.Time {
	return time.UnixMilli(created.UnixMilli()).Add(ttl.Truncate(time.Millisecond))
}
