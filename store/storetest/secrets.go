package storetest

import (
	"crypto/rand"
	"encoding/base64"
	"testing"

	"quiva.ai/mfa/store"
)

// NewSealKey returns a random sealing key in the form of MFA_SEAL_KEYS: id:base64.
func NewSealKey(id string) string {
	key := make([]byte, 32)
	rand.Read(key)
	return id + ":" + base64.StdEncoding.EncodeToString(key)
}

// NewKeyring returns the keyring of a text in the form of MFA_SEAL_KEYS.
func NewKeyring(t testing.TB, text string) *store.Keyring {
	t.Helper()
	keyring := new(store.Keyring)
	must(t, keyring.UnmarshalText([]byte(text)))
	return keyring
}

// NewSecret returns a random TOTP secret.
func NewSecret() (s store.Secret) {
	rand.Read(s[:])
	return s
}
