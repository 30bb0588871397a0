package auth

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const maxKeys = 100 // in a set, of any kind

var (
	errNoKeySet    = errors.New(`not a JWK set: want one JSON object with "keys"`)
	errNoUsableKey = errors.New("JWK set has no key that can verify a token")
)

// parseKeySet returns the usable keys of a JWK set, and why others are not usable. It ignores
// those, as RFC 7517, section 5, asks: keys for encryption, of unknown types, malformed keys,
// and symmetric keys, which must never verify a token that claims an asymmetric algorithm.
// The error is errNoUsableKey if no key is left that a token can select. A byte order mark, which
// editors write, is ignored (RFC 8259, section 8.1).
func parseKeySet(text []byte) (keys []verificationKey, faults []keyFault, err error) {
	var members []jsontext.Value
	readErr := readMembers(bytes.TrimPrefix(text, []byte("\ufeff")), func(name string, value jsontext.Value) error {
		if name != "keys" {
			return nil
		}
		return json.Unmarshal(value, &members, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	})
	if readErr != nil || members == nil {
		return nil, nil, errNoKeySet
	}
	if len(members) > maxKeys {
		return nil, nil, fmt.Errorf("JWK set has more than %d keys", maxKeys)
	}
	for _, member := range members {
		key, reason := newVerificationKey(member)
		if reason == "" {
			keys = append(keys, key)
		} else {
			faults = append(faults, keyFault{shorten(key.id), reason})
		}
	}
	err = errNoUsableKey
	for _, key := range keys {
		if _, ok := selectKey(keys, key.id, key.method.Alg()); ok {
			err = nil
		} else {
			faults = append(faults, keyFault{shorten(key.id), ambiguous})
		}
	}
	return keys, faults, err
}

// selectKey returns the one key for tokens with this kid and alg. A token without kid selects
// by alg alone. Equal keys are one key. If different keys fit, there is none: trying one after
// the other would let a token choose.
func selectKey(keys []verificationKey, kid, alg string) (selected verificationKey, ok bool) {
	for _, key := range keys {
		if key.method.Alg() != alg || kid != "" && key.id != kid {
			continue
		}
		if ok && !key.hasMaterial(selected.material) {
			return verificationKey{}, false
		}
		if !ok {
			selected, ok = key, true
		}
	}
	return selected, ok
}

// hasMaterial tells whether a public key has this material.
func (k verificationKey) hasMaterial(material any) bool {
	public, ok := k.material.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(material)
}
