package storetest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"quiva.ai/mfa/store"
)

// seal seals as store/README.md says, apart from package store: it can seal what the package
// never would. sealKey has the form of MFA_SEAL_KEYS.
func seal(t testing.TB, sealKey, purpose, owner string, plaintext []byte) []byte {
	t.Helper()
	id, encoded, _ := strings.Cut(sealKey, ":")
	key, err := base64.StdEncoding.DecodeString(encoded)
	must(t, err)
	block, err := aes.NewCipher(key)
	must(t, err)
	aead, err := cipher.NewGCM(block)
	must(t, err)
	header := append([]byte{1, byte(len(id))}, id...)
	var associated []byte
	for _, part := range []string{purpose, owner, string(header)} {
		associated = append(binary.BigEndian.AppendUint32(associated, uint32(len(part))), part...)
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	return slices.Concat(header, nonce, aead.Seal(nil, nonce, plaintext, associated))
}

// sealFactor seals the plaintext of ada's factor.
func sealFactor(t testing.TB, sealKey string, plaintext []byte) []byte {
	t.Helper()
	return seal(t, sealKey, "totp factor", store.Digest("ada"), plaintext)
}

// hostileFactors: no method takes a factor that it cannot read for none, or writes over it.
func hostileFactors(t *testing.T, b store.Backend) {
	sealKey := NewSealKey("k1")
	f := NewFactors(t, b, sealKey)
	f.MustEnrol(t, "bob", 2)
	ofBob, err := b.Get(t.Context(), factorKey("bob"))
	must(t, err)
	mustGetOrCreate(t, f.Pending, "ada", NewSecret())
	pending, err := b.Get(t.Context(), pendingOfAda)
	must(t, err)

	plaintext := make([]byte, 82+100)
	plaintext[0], plaintext[1] = 1, 1
	sound := sealFactor(t, sealKey, plaintext)
	setEntry(t, b, factorKey("ada"), sound)
	if got, err := f.Find(t.Context(), "ada"); err != nil || got.State != store.Enrolled || len(got.RecoveryCodes) != 10 {
		t.Fatalf("sealed as README.md says: state %q, %d codes, %v", got.State, len(got.RecoveryCodes), err)
	}
	with := func(i int, value byte) []byte {
		changed := slices.Clone(plaintext)
		changed[i] = value
		return sealFactor(t, sealKey, changed)
	}
	type record struct {
		name  string
		value []byte
	}
	records := []record{
		{"another account's", ofBob},
		{"a pending secret", pending},
		{"a factor sealed as a pending secret", seal(t, sealKey, "pending totp secret", "ada", plaintext)},
		{"another sealing key's", sealFactor(t, NewSealKey("k2"), plaintext)},
		{"another sealing key's with the same id", sealFactor(t, NewSealKey("k1"), plaintext)},
		{"a later version of sealing", append([]byte{2}, sound[1:]...)},
		{"a later version", with(0, 2)},
		{"a state 0", with(1, 0)},
		{"an unknown state", with(1, 4)},
		{"a state 255", with(1, 255)},
		{"half a recovery code", sealFactor(t, sealKey, plaintext[:82+5])},
		{"eleven recovery codes", sealFactor(t, sealKey, slices.Concat(plaintext, make([]byte, 10)))},
		{"no recovery codes and a byte short", sealFactor(t, sealKey, plaintext[:63])},
		{"no plaintext", sealFactor(t, sealKey, nil)},
		{"a byte too long", append(slices.Clone(sound), 0)},
	}
	for n := range sound {
		records = append(records, record{fmt.Sprintf("%d bytes", n), sound[:n]})
	}
	for _, r := range records {
		setEntry(t, b, factorKey("ada"), r.value)
		f.wantRefused(t, "ada", store.ErrUnreadable, "a record of "+r.name)
	}
}

// otherStores: in a store that is not the pinned one, an absent factor is no evidence.
func otherStores(t *testing.T, b store.Backend) {
	sealKey := NewSealKey("k1")
	f := NewFactors(t, b, sealKey)
	want := f.MustEnrol(t, "ada", 1)
	_, other := NewIdentity(t, sealKey)
	_, unreadable := NewIdentity(t, NewSealKey("k1"))
	factor, err := b.Get(t.Context(), factorKey("ada"))
	must(t, err)
	right, err := b.Get(t.Context(), b.IdentityKey(factorKey("ada")))
	must(t, err)
	for name, identity := range map[string][]byte{
		"no identity": nil, "another identity": other, "an unreadable identity": unreadable, "an empty identity": {}, "a factor as identity": factor,
	} {
		setIdentities(t, b, identity)
		for _, account := range accounts { // bob has no factor.
			mustGetOrCreate(t, f.Pending, account, NewSecret())
			f.wantRefused(t, account, store.ErrIdentity, name)
		}
		if err := f.Check(t.Context()); !errors.Is(err, store.ErrIdentity) || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Check with %s = %v; want ErrIdentity", name, err)
		}
	}
	setIdentities(t, b, right)
	must(t, f.Check(t.Context()))
	f.WantFactor(t, "ada", want)
}
