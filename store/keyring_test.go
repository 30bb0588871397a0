package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func TestKeyringRefusesWhatItCannotUse(t *testing.T) {
	sound := storetest.NewSealKey("k1")
	key := strings.TrimPrefix(sound, "k1:")
	short := base64.StdEncoding.EncodeToString(make([]byte, 31))
	for _, c := range []struct{ text, want string }{
		{"", "key 1: want id:base64"},
		{key, "key 1: want id:base64"},
		{":" + key, "key 1: a key id is 1 to 32 letters, digits, - or _"},
		{strings.Repeat("x", 33) + ":" + key, "key 1: a key id is 1 to 32 letters, digits, - or _"},
		{"k é:" + key, "key 1: a key id is 1 to 32 letters, digits, - or _"},
		{"k1:" + short, "key 1: want base64 of 32 bytes"},
		{"k1:!" + key, "key 1: want base64 of 32 bytes"},
		{"k1:" + strings.TrimRight(key, "="), "key 1: want base64 of 32 bytes"},
		{sound + "," + sound, "key 2: its id was used before"},
		{sound + ",", "key 2: want id:base64"},
	} {
		err := new(store.Keyring).UnmarshalText([]byte(c.text))
		if err == nil || err.Error() != c.want {
			t.Errorf("keyring %q: %v; want %s", c.text, err, c.want)
		}
	}
	if err := new(store.Keyring).UnmarshalText([]byte(sound + ", " + storetest.NewSealKey("k2"))); err != nil {
		t.Errorf("two keys: %v", err)
	}
}

func TestSecretsAndKeysDoNotPrintThemselves(t *testing.T) {
	text := storetest.NewSealKey("k1")
	keyring := storetest.NewKeyring(t, text)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "k1:"))
	if err != nil {
		t.Fatal(err)
	}
	secret := storetest.NewSecret()
	pending := store.PendingKey{Secret: secret}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%o", "%b"} {
		for _, value := range []any{keyring, *keyring, secret, &secret, pending} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).Info("x", "keyring", keyring, "value", *keyring, "secret", secret, "pending", pending)
	}

	for _, leak := range []string{
		string(raw), hex.EncodeToString(raw), fmt.Sprint(raw), fmt.Sprint(secret[:]),
		string(secret[:]), hex.EncodeToString(secret[:]), secret.Base32(),
		base64.StdEncoding.EncodeToString(secret[:]),
	} {
		if strings.Contains(strings.ToLower(out.String()), strings.ToLower(leak)) {
			t.Errorf("printed %q", leak)
		}
	}
}

// stubborn is a backend whose value is always another unreadable one, as when a
// replica with a foreign keyring overwrites ours each time.
type stubborn struct {
	store.Backend
	replaced int
}

func (*stubborn) PutIfAbsent(context.Context, string, []byte, time.Duration) ([]byte, error) {
	return []byte("foreign"), nil
}

func (s *stubborn) Replace(context.Context, string, []byte, []byte, time.Duration) ([]byte, error) {
	s.replaced++
	return []byte("foreign"), nil
}

func TestReplicasThatCannotReadEachOtherGiveUp(t *testing.T) {
	backend := &stubborn{}
	pending := store.NewPending(backend, storetest.NewKeyring(t, storetest.NewSealKey("k1")), time.Minute, time.Now)
	_, err := pending.GetOrCreate(t.Context(), "ada", storetest.NewSecret())
	const want = "keep pending secret: store unavailable: another replica seals with a key that this one lacks"
	if err == nil || err.Error() != want || backend.replaced != 3 {
		t.Errorf("GetOrCreate = %v after %d replacements; want %s after 3", err, backend.replaced, want)
	}
}
