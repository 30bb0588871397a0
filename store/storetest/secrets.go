package storetest

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"testing"
	"time"

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

// OpenFactors returns the factors in backend, and gives backend a store identity if it has none.
func OpenFactors(t testing.TB, backend store.Backend, keyring *store.Keyring, now func() time.Time) *store.Factors {
	t.Helper()
	id, err := store.InitStore(t.Context(), backend, keyring, false)
	if err != nil && !errors.Is(err, store.ErrConflict) {
		t.Fatal(err)
	}
	return store.NewFactors(store.FactorsConfig{
		Backend: backend, Keyring: keyring, Identity: store.NewIdentity(backend, id), Now: now,
		SwapLost: func() {}, Unreadable: func() {}, Written: func() {},
	})
}

// NewSecret returns a random TOTP secret.
func NewSecret() (s store.Secret) {
	rand.Read(s[:])
	return s
}
