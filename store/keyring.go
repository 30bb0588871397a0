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

// errUnreadable says that a sealed value cannot be opened: the keyring lacks its sealing
// key, the value is damaged, or it was sealed for another purpose or owner.
var errUnreadable = errors.New("sealed value is unreadable")

// Keyring seals and opens values with AES-256-GCM and a random 96-bit nonce, so that the
// backend never holds a secret in the clear.
//
// The first sealing key seals, and all sealing keys open, so that a rotation loses no
// pending secret. First add the new sealing key in second place on every instance. Then
// move it to the front on every instance. One lifetime of a pending secret later, remove
// the old one.
//
// With random nonces a sealing key may seal 2^32 values (NIST SP 800-38D, section 8.3).
// Each call of GetOrCreate seals one, also if it finds a pending secret. At 100 calls a
// second, 2^32 values take sixteen months.
//
// A Keyring is safe for concurrent use and never prints its sealing keys.
type Keyring struct {
	sealID string
	aeads  map[string]cipher.AEAD
}

// UnmarshalText reads "id:key" pairs separated by commas. Each key is 32 bytes in base64
// (standard alphabet, padded). The first pair seals. Errors name a pair by its position and
// show no part of it.
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
		// This AEAD makes a random nonce and puts it before the ciphertext.
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

// Len returns the number of sealing keys.
func (k *Keyring) Len() int { return len(k.aeads) }

// Format hides the keys from every fmt verb.
func (Keyring) Format(f fmt.State, _ rune) { fmt.Fprint(f, "keyring(hidden)") }

// MarshalText hides the keys from encoders such as log/slog's.
func (Keyring) MarshalText() ([]byte, error) { return []byte("keyring(hidden)"), nil }

// seal returns version | key id length | key id | nonce | ciphertext. The value opens only
// for the same purpose and owner, which it does not hold.
func (k *Keyring) seal(purpose, owner string, plaintext []byte) []byte {
	aead := k.aeads[k.sealID]
	header := make([]byte, 0, 2+len(k.sealID)+len(plaintext)+aead.Overhead())
	header = append(append(header, sealVersion, byte(len(k.sealID))), k.sealID...)
	//nolint:gosec // G407: no nonce is given because this AEAD makes a random one.
	return aead.Seal(header, nil, plaintext, associatedData(purpose, owner, header))
}

// sealKeyID returns the id of the sealing key of a sealed value, or "" if it is damaged.
func sealKeyID(sealed []byte) string {
	if len(sealed) < 2 || len(sealed) < 2+int(sealed[1]) {
		return ""
	}
	return string(sealed[2 : 2+int(sealed[1])])
}

// open returns the plaintext of a value that was sealed for this purpose and owner, or
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
	plaintext, err := aead.Open(nil, nil, body, associatedData(purpose, owner, header))
	if err != nil {
		return nil, errUnreadable
	}
	return plaintext, nil
}

// associatedData binds a sealed value to its purpose, owner and header: a value that is
// copied to another account's entry does not open there. The length of each part, as 4
// bytes, precedes it, so that no two triples give the same bytes.
func associatedData(purpose, owner string, header []byte) []byte {
	b := make([]byte, 0, 3*4+len(purpose)+len(owner)+len(header))
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(purpose))), purpose...)
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(owner))), owner...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(header))), header...)
}

func validSealKeyID(id string) bool {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return id != "" && len(id) <= maxSealKeyID && strings.Trim(id, allowed) == ""
}
