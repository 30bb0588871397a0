package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/golang-jwt/jwt/v5"
)

// hmacKey is HS256 with one secret. Unlike golang-jwt's method, it does not begin each
// time with hashing the secret: it keeps states that have done so.
type hmacKey struct {
	*jwt.SigningMethodHMAC
	states sync.Pool // of *hmacState
}

// hmacState is used by one goroutine at a time. Its buffers are here because what is given
// to a hash.Hash would else be allocated each time.
type hmacState struct {
	hash.Hash
	signed []byte
	sum    [sha256.Size]byte
}

// newHMACKey returns nil for an empty secret.
func newHMACKey(secret []byte) *hmacKey {
	if len(secret) == 0 {
		return nil
	}
	return &hmacKey{
		SigningMethodHMAC: jwt.SigningMethodHS256,
		states:            sync.Pool{New: func() any { return &hmacState{Hash: hmac.New(sha256.New, secret)} }},
	}
}

// Verify implements jwt.SigningMethod; the key is k itself.
func (k *hmacKey) Verify(signed string, signature []byte, _ any) error {
	state, ok := k.states.Get().(*hmacState)
	if !ok {
		return jwt.ErrSignatureInvalid // the pool has nothing else
	}
	defer k.states.Put(state)
	state.Reset()
	state.signed = append(state.signed[:0], signed...)
	_, _ = state.Write(state.signed) // hash.Hash: it never returns an error
	if !hmac.Equal(state.Sum(state.sum[:0]), signature) {
		return jwt.ErrSignatureInvalid
	}
	return nil
}
