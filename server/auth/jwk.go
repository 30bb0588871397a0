package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// verificationKey is a public key, or the HS256 secret, and the one algorithm that it is used with
// (RFC 8725 section 3.1).
type verificationKey struct {
	id       string // kid; may be empty
	method   jwt.SigningMethod
	material any
}

// The RSA keys that we verify with: 2048 bits are demanded by RFC 7518 section 3.3. The
// upper limit and the exponent that all issuers use keep a verification cheap.
const (
	minRSABits  = 2048
	maxRSABits  = 4096
	rsaExponent = 65537

	maxKeys = 100 // in a set, of any kind
)

var errNoKeySet = errors.New(`not a JWK set: want one JSON object with "keys"`)

// parseKeySet returns the keys of a JWK set (RFC 7517 section 5) that we verify
// with. Others are passed over, as section 5 asks: symmetric keys above all, which
// must never verify a token that claims an asymmetric algorithm; keys for
// encryption; unknown types; keys that are not sound.
func parseKeySet(text []byte) ([]verificationKey, error) {
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if unmarshalObject(text, &set) != nil || set.Keys == nil {
		return nil, errNoKeySet
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("JWK set has more than %d keys", maxKeys)
	}
	var keys []verificationKey
	for _, member := range set.Keys {
		var parameters jwkset.JWKMarshal
		if unmarshalObject(member, &parameters) != nil {
			continue
		}
		if key, ok := newVerificationKey(parameters); ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func newVerificationKey(parameters jwkset.JWKMarshal) (verificationKey, bool) {
	if parameters.USE != "" && parameters.USE != jwkset.UseSig ||
		parameters.KEYOPS != nil && !slices.Contains(parameters.KEYOPS, jwkset.KeyOpsVerify) {
		return verificationKey{}, false
	}
	// Certificates are not what we trust a key by, and are not looked at.
	parameters.X5C, parameters.X5U, parameters.X5T, parameters.X5TS256 = nil, "", "", ""
	jwk, err := jwkset.NewJWKFromMarshal(parameters, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return verificationKey{}, false
	}
	method := methodFor(jwk.Key(), string(parameters.ALG))
	return verificationKey{id: parameters.KID, method: method, material: jwk.Key()}, method != nil
}

// methodFor returns the algorithm for a key: the one that its set says, if that
// suits the key, else the one that its type implies. An RSA key without alg is for
// RS256: issuers who mean PS256 say so.
func methodFor(public any, alg string) jwt.SigningMethod {
	var suitable []jwt.SigningMethod
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= minRSABits && bits <= maxRSABits && key.E == rsaExponent {
			suitable = []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodPS256}
		}
	case *ecdsa.PublicKey:
		switch key.Curve.Params().Name {
		case "P-256":
			suitable = []jwt.SigningMethod{jwt.SigningMethodES256}
		case "P-384":
			suitable = []jwt.SigningMethod{jwt.SigningMethodES384}
		}
	case ed25519.PublicKey:
		suitable = []jwt.SigningMethod{jwt.SigningMethodEdDSA}
	}
	for _, method := range suitable {
		if alg == "" || alg == method.Alg() {
			return method
		}
	}
	return nil
}

// asymmetric tells whether alg is one that a key of a set may be for.
func asymmetric(alg string) bool {
	return slices.Contains([]string{"RS256", "PS256", "ES256", "ES384", "EdDSA"}, alg)
}
