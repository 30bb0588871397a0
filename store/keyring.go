package store

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	sealVersion   = 1
	sealKeySize   = 32 // AES-256
	maxSealKeyID  = 32
	sealKeyIDRule = "a key id is 1 to 32 letters, digits, - or _"
)

// errUnreadable says that a sealed value cannot be opened: its key was retired,
// it was damaged, or it was sealed for something else.
var errUnreadable = errors.New("sealed value is unreadable")

// Keyring seals and opens what the backend must not see in the clear:
// AES-256-GCM with a random 96-bit nonce. One key seals, all keys open, so keys
// rotate without losing what is pending: first add the new key in second place
// on every replica, then move it to the front, then, one pending lifetime
// later, drop the old one.
//
// With random nonces a key may seal 2^32 values (NIST SP 800-38D, section
// 8.3). Each call seals one, also those that find a key pending: at 100 calls a second,
// that is sixteen months.
//
// A Keyring is safe for concurrent use and never prints its keys.
type Keyring struct {
	sealID string
	aeads  map[string]cipher.AEAD
}

// UnmarshalText reads "id:key" pairs separated by commas, each key base64
// (standard alphabet, padded) of 32 bytes. The first pair seals. Errors name
// the pair by its position, never by what it holds.
func (k *Keyring) UnmarshalText(text []byte) error {
	ring := Keyring{aeads: map[string]cipher.AEAD{}}
	for i, pair := range strings.Split(string(text), ",") {
		id, encoded, ok := strings.Cut(strings.TrimSpace(pair), ":")
		if !ok {
			return fmt.Errorf("key %d: want id:base64", i+1)
		}
		if !validSealKeyID(id) {
			return fmt.Errorf("key %d: %s", i+1, sealKeyIDRule)
		}
		if _, dup := ring.aeads[id]; dup {
			return fmt.Errorf("key %d: its id was used before", i+1)
		}
		key, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil || len(key) != sealKeySize {
			return fmt.Errorf("key %d: want base64 of %d bytes", i+1, sealKeySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return fmt.Errorf("key %d: %w", i+1, err)
		}
		// The AEAD makes the nonce itself and puts it before the ciphertext.
		ring.aeads[id], err = cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return fmt.Errorf("key %d: %w", i+1, err)
		}
		if i == 0 {
			ring.sealID = id
		}
	}
	*k = ring
	return nil
}

// Len returns the number of keys.
func (k *Keyring) Len() int { return len(k.aeads) }

// Format hides the keys from every fmt verb.
func (Keyring) Format(f fmt.State, _ rune) { fmt.Fprint(f, "keyring(hidden)") }

// MarshalText hides the keys from encoders, log/slog's among them.
func (Keyring) MarshalText() ([]byte, error) { return []byte("keyring(hidden)"), nil }

// seal returns version | length of key id | key id | nonce | ciphertext.
// Purpose and owner are bound to the value, not part of it.
func (k *Keyring) seal(purpose, owner string, plaintext []byte) []byte {
	aead := k.aeads[k.sealID]
	size := 2 + len(k.sealID) + len(plaintext) + aead.Overhead()
	// What an AEAD is given is on the heap: all of it together, rather than each by itself.
	buffer := make([]byte, 0, size+associatedSize(purpose, owner, k.sealID)+len(plaintext))
	header := append(append(buffer[:0:size], sealVersion, byte(len(k.sealID))), k.sealID...)
	ad := appendAssociatedData(buffer[size:size], purpose, owner, header)
	//nolint:gosec // G407: no nonce is given because this AEAD makes a random one.
	return aead.Seal(header, nil, append(ad[len(ad):], plaintext...), ad)
}

// open returns what was sealed for exactly this purpose and owner, or
// errUnreadable.
func (k *Keyring) open(purpose, owner string, sealed []byte) ([]byte, error) {
	if len(sealed) < 2 || sealed[0] != sealVersion || len(sealed) < 2+int(sealed[1]) {
		return nil, errUnreadable
	}
	header, body := sealed[:2+int(sealed[1])], sealed[2+int(sealed[1]):]
	aead, ok := k.aeads[string(header[2:])]
	if !ok {
		return nil, errUnreadable
	}
	ad := appendAssociatedData(make([]byte, 0, associatedSize(purpose, owner, string(header[2:]))), purpose, owner, header)
	plaintext, err := aead.Open(nil, nil, body, ad)
	if err != nil {
		return nil, errUnreadable
	}
	return plaintext, nil
}

// appendAssociatedData appends what binds a sealed value to its purpose, owner and header,
// so that a value copied to another account's key does not open there. Each part is
// preceded by its length: no two triples give the same bytes.
func appendAssociatedData(b []byte, purpose, owner string, header []byte) []byte {
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(purpose))), purpose...)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(owner))), owner...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(header))), header...)
}

func associatedSize(purpose, owner, sealID string) int {
	return 3*4 + len(purpose) + len(owner) + 2 + len(sealID)
}

func validSealKeyID(id string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return id != "" && len(id) <= maxSealKeyID && strings.Trim(id, allowed) == ""
}
