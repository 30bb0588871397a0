package auth

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// An API key is "mfa_" and 40 lower-case base32 characters: 21 random bytes (168 bits) and
// their CRC-32. The prefix lets secret scanners find a leaked key. The checksum refuses typos
// and junk without a call to the store. A key has one spelling: no padding, no upper case, and
// 25 bytes fill 40 characters to the last bit. A service key has the same form after "mfasvc_".
const (
	apiKeyPrefix     = "mfa_"
	serviceKeyPrefix = "mfasvc_"
	apiKeyRandom     = 21
	apiKeyEncoded    = 40
)

var apiKeyEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewAPIKey returns a new random API key.
func NewAPIKey() string { return apiKeyPrefix + newKeyText() }

// NewServiceKey returns a new random service key.
func NewServiceKey() string { return serviceKeyPrefix + newKeyText() }

func newKeyText() string {
	b := make([]byte, apiKeyRandom, apiKeyRandom+crc32.Size)
	rand.Read(b)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return apiKeyEncoding.EncodeToString(b)
}

func wellFormedKey(prefix, key string) bool {
	encoded, ok := strings.CutPrefix(key, prefix)
	if !ok || len(encoded) != apiKeyEncoded {
		return false
	}
	b, err := apiKeyEncoding.DecodeString(encoded)
	if err != nil || len(b) != apiKeyRandom+crc32.Size {
		return false
	}
	return binary.BigEndian.Uint32(b[apiKeyRandom:]) == crc32.ChecksumIEEE(b[:apiKeyRandom])
}
