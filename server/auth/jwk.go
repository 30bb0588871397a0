package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// verificationKey is a public key, or the HS256 secret, with its one algorithm (RFC 8725,
// section 3.1).
type verificationKey struct {
	id       string // kid; may be empty
	method   jwt.SigningMethod
	material any
}

// The RSA keys that we verify with. RFC 7518, section 3.3, demands 2048 bits. The upper limit
// and the exponent, which all issuers use, keep a verification cheap.
const (
	minRSABits  = 2048
	maxRSABits  = 4096
	rsaExponent = 65537

	maxKeys = 100 // in a set, of any kind
)

var errNoKeySet = errors.New(`not a JWK set: want one JSON object with "keys"`)

// parseKeySet returns the usable keys of a JWK set. It ignores all others, as RFC 7517,
// section 5, asks: keys for encryption, of unknown types, malformed keys, and symmetric keys,
// which must never verify a token that claims an asymmetric algorithm.
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
	// We trust a key because it is in the set. Its certificates are not read.
	parameters.X5C, parameters.X5U, parameters.X5T, parameters.X5TS256 = nil, "", "", ""
	jwk, err := jwkset.NewJWKFromMarshal(parameters, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return verificationKey{}, false
	}
	method := methodFor(jwk.Key(), string(parameters.ALG))
	return verificationKey{id: parameters.KID, method: method, material: jwk.Key()}, method != nil
}

// methodFor returns the algorithm of a key: its alg if that suits its type, and without alg
// the algorithm that the type implies. An RSA key without alg is for RS256. It returns nil if
// there is none.
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

// isAsymmetric tells whether alg is an algorithm for keys of a set.
func isAsymmetric(alg string) bool {
	return slices.Contains([]string{"RS256", "PS256", "ES256", "ES384", "EdDSA"}, alg)
}

func unmarshalObject(data []byte, into any) error {
	if jsontext.Value(data).Kind() != jsontext.KindBeginObject {
		return errors.New("not an object")
	}
	return json.Unmarshal(data, into)
}
