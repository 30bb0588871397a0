package store

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"
	"time"
)

// newTwinKeyring returns a keyring with one key under two ids of the same length.
func newTwinKeyring(t testing.TB) *Keyring {
	t.Helper()
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), sealKeySize))
	keyring := new(Keyring)
	if err := keyring.UnmarshalText([]byte("k1:" + key + ",k2:" + key)); err != nil {
		t.Fatal(err)
	}
	return keyring
}

func TestKeyring_OpensOnlyForTheSamePurposeAndOwner(t *testing.T) {
	type binding struct{ purpose, owner string }
	keyring := newTwinKeyring(t)
	for _, c := range []struct{ sealed, opened binding }{
		{binding{"pending", "ada"}, binding{"other", "ada"}},
		{binding{"pending", "ada"}, binding{"pending", "bob"}},
		{binding{"pending", "ada"}, binding{"pending", ""}},
		{binding{"pending", "ada"}, binding{"ada", "pending"}},
		// Without their lengths, the parts of these two would be the same bytes.
		{binding{"a", "bc"}, binding{"ab", "c"}},
	} {
		value := keyring.seal(c.sealed.purpose, c.sealed.owner, []byte("plain"))
		if got, err := keyring.open(c.opened.purpose, c.opened.owner, value); !errors.Is(err, errUnreadable) {
			t.Errorf("sealed for %+v, opened for %+v = %q, %v; want errUnreadable", c.sealed, c.opened, got, err)
		}
		if got, err := keyring.open(c.sealed.purpose, c.sealed.owner, value); string(got) != "plain" || err != nil {
			t.Errorf("sealed and opened for %+v = %q, %v; want plain", c.sealed, got, err)
		}
	}
}

func TestKeyring_OpensOnlyUnderTheSameHeader(t *testing.T) {
	keyring := newTwinKeyring(t)
	renamed := keyring.seal("p", "ada", []byte("plain"))
	renamed[3] = '2' // The other id names the same key.

	// A later version may have another format, even if the key fits.
	header := []byte{sealVersion + 1, 2, 'k', '1'}
	later := keyring.aeads["k1"].Seal(bytes.Clone(header), nil, []byte("plain"), associatedData("p", "ada", header))

	for name, value := range map[string][]byte{"another key id": renamed, "a later version": later} {
		if got, err := keyring.open("p", "ada", value); !errors.Is(err, errUnreadable) {
			t.Errorf("open with %s = %q, %v; want errUnreadable", name, got, err)
		}
	}
}

func TestPending_PlaintextOfAnotherSizeIsUnreadable(t *testing.T) {
	keyring := newTwinKeyring(t)
	encoded := encodePending(PendingKey{Secret: Secret{1}, Deadline: time.Now()})
	sound := encoded[:]
	for _, plaintext := range [][]byte{{}, sound[:len(sound)-1], append(bytes.Clone(sound), 0)} {
		sealed := keyring.seal(pendingPurpose, "ada", plaintext)
		if _, err := openPending(keyring, "ada", sealed); !errors.Is(err, errUnreadable) {
			t.Errorf("open of %d bytes = %v; want errUnreadable", len(plaintext), err)
		}
	}
	if got, err := openPending(keyring, "ada", keyring.seal(pendingPurpose, "ada", sound)); got.Secret != (Secret{1}) || err != nil {
		t.Errorf("open of a sound plaintext: %v", err)
	}
}

func BenchmarkSealAndOpen(b *testing.B) {
	keyring, plaintext := newTwinKeyring(b), make([]byte, pendingSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keyring.open(pendingPurpose, "ada", keyring.seal(pendingPurpose, "ada", plaintext)); err != nil {
			b.Fatal(err)
		}
	}
}
