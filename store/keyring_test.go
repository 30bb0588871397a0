package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

func TestKeyring_RefusesUnusableText(t *testing.T) {
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
		// The last two bits of the text encode nothing. They must be zero, so that a key has one text.
		{"k1:" + strings.Repeat("A", 42) + "B=", "key 1: want base64 of 32 bytes"},
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

func TestSecretKeyringAndRedisURL_DoNotPrintThemselves(t *testing.T) {
	text := storetest.NewSealKey("k1")
	keyring := storetest.NewKeyring(t, text)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "k1:"))
	if err != nil {
		t.Fatal(err)
	}
	secret := storetest.NewSecret()
	var url store.RedisURL
	if err := url.UnmarshalText([]byte("redis://user:hunter2@host:1")); err != nil {
		t.Fatal(err)
	}
	nested := map[string]any{
		"key":     store.PendingKey{Secret: secret, Outcome: store.Created},
		"secrets": []store.Secret{secret},
		"structs": struct {
			Keyring *store.Keyring
			Secret  *store.Secret
			URL     *store.RedisURL
		}{keyring, &secret, &url},
		"values": []any{*keyring, secret, url},
	}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%o", "%b"} {
		for _, value := range []any{keyring, *keyring, secret, &secret, url, &url, nested["key"], nested} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).Info("x", "keyring", keyring, "value", *keyring, "secret", secret, "url", url, "nested", nested)
	}
	encoded, err := json.Marshal(nested)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"key":{"Secret":"secret(hidden)","Deadline":"0001-01-01T00:00:00Z","Outcome":"created","Account":""},` +
		`"secrets":["secret(hidden)"],` +
		`"structs":{"Keyring":"keyring(hidden)","Secret":"secret(hidden)","URL":"redis URL (hidden)"},` +
		`"values":["keyring(hidden)","secret(hidden)","redis URL (hidden)"]}`
	if string(encoded) != want {
		t.Errorf("JSON = %s; want %s", encoded, want)
	}

	leaks := []string{"hunter2", secret.Base32()}
	for _, b := range [][]byte{raw, secret[:]} {
		list := strings.Trim(fmt.Sprint(b), "[]")
		leaks = append(leaks, string(b), hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b),
			list, strings.ReplaceAll(list, " ", ","), strings.ReplaceAll(list, " ", ", "))
	}
	printed := strings.ToLower(out.String() + string(encoded))
	for _, leak := range leaks {
		if strings.Contains(printed, strings.ToLower(leak)) {
			t.Errorf("printed %q", leak)
		}
	}
}
