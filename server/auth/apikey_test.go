package auth

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"
)

func TestNewAPIKey_IsRandomInEveryByte(t *testing.T) {
	var seen [apiKeyRandom]map[byte]bool
	for i := range seen {
		seen[i] = map[byte]bool{}
	}
	for range 200 {
		key := NewAPIKey()
		if !wellFormedKey(apiKeyPrefix, key) {
			t.Fatalf("%s is not well formed", key)
		}
		b, err := apiKeyEncoding.DecodeString(strings.TrimPrefix(key, "mfa_"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range seen {
			seen[i][b[i]] = true
		}
	}
	for i := range seen {
		if len(seen[i]) < 50 { // of 200 draws from 256, some 138 differ
			t.Errorf("byte %d of a key takes %d values in 200 keys", i, len(seen[i]))
		}
	}
}

func TestWellFormedAPIKey_AcceptsOneSpelling(t *testing.T) {
	withChecksum := func(random int) string {
		b := make([]byte, random)
		return "mfa_" + apiKeyEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b)))
	}
	sound := withChecksum(apiKeyRandom)
	if !wellFormedKey(apiKeyPrefix, sound) {
		t.Fatalf("%s is not well formed", sound)
	}
	for _, key := range []string{
		"", "mfa_", withChecksum(apiKeyRandom + 5), withChecksum(apiKeyRandom - 5), "MFA_" + sound[4:], strings.ToUpper(sound),
		sound + "=", sound[:20] + "\n" + sound[20:], sound[:43] + "\n", " " + sound, sound[:43] + "1",
	} {
		if wellFormedKey(apiKeyPrefix, key) {
			t.Errorf("%q is well formed", key)
		}
	}
	// The CRC finds every single wrong character.
	for i := 4; i < len(sound); i++ {
		other := "b"
		if sound[i] == 'b' {
			other = "c"
		}
		if typo := sound[:i] + other + sound[i+1:]; wellFormedKey(apiKeyPrefix, typo) {
			t.Errorf("%s is well formed", typo)
		}
	}
}
