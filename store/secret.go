package store

import (
	"encoding/base32"
	"fmt"
)

// SecretSize is the length of a TOTP secret in bytes: 160 bits, the length that
// RFC 4226 section 4, R6 recommends.
const SecretSize = 20

// Secret is a TOTP shared secret. It never prints itself: only Base32 shows it.
type Secret [SecretSize]byte

// Base32 returns the secret in the form of authenticator apps: RFC 4648 section 6, upper
// case, unpadded, 32 characters.
func (s Secret) Base32() string {
	var text [32]byte
	unpadded.Encode(text[:], s[:])
	return string(text[:])
}

var unpadded = base32.StdEncoding.WithPadding(base32.NoPadding)

// Format hides the secret from every fmt verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "secret(hidden)") }

// MarshalText hides the secret from encoders such as log/slog's.
func (s Secret) MarshalText() ([]byte, error) { return []byte("secret(hidden)"), nil }
