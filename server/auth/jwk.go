package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"slices"

	"github.com/MicahParks/jwkset"
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
)

// newVerificationKey returns the key that a member of a set is, or the reason why it is not
// usable, and its kid. We trust a key because it is in the set: its certificates are not read.
func newVerificationKey(member jsontext.Value) (key verificationKey, reason string) {
	var p keyParameters
	err := readMembers(member, p.read)
	key.id = string(p.id)
	switch {
	case err != nil:
		return key, notAnObject
	case p.wrongType != "":
		return key, p.wrongType
	case p.use != "" && p.use != "sig", len(p.operations) > 0 && !slices.Contains(p.operations, "verify"):
		return key, notForVerifying
	case p.kty == "oct":
		return key, symmetric
	}
	public, err := jwkset.NewJWKFromMarshal(jwkset.JWKMarshal{
		KTY: jwkset.KTY(p.kty), CRV: jwkset.CRV(p.crv), X: string(p.x), Y: string(p.y), N: string(p.n), E: string(p.e),
	}, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key, notAPublicKey
	}
	key.material = public.Key()
	methods := methodsFor(key.material)
	if len(methods) == 0 {
		return key, weakOrUnsupported
	}
	// A key without alg is for the first algorithm of its type.
	at := slices.IndexFunc(methods, func(m jwt.SigningMethod) bool { return p.alg == "" || string(p.alg) == m.Alg() })
	if at < 0 {
		return key, otherAlgorithm
	}
	key.method = methods[at]
	return key, ""
}

// keyParameters are the parameters of a JWK that we read (RFC 7517, section 4, and RFC 7518,
// section 6).
type keyParameters struct {
	kty, use, alg, id, crv, x, y, n, e text
	operations                         texts

	wrongType string // the reason if a parameter has another type
}

// read is for readMembers. An empty parameter is as if absent: serializers such as those of
// .NET write all that they know of.
func (p *keyParameters) read(name string, value jsontext.Value) error {
	parameter := map[string]interface{ read(jsontext.Value) error }{
		"kty": &p.kty, "use": &p.use, "alg": &p.alg, "kid": &p.id, "key_ops": &p.operations,
		"crv": &p.crv, "x": &p.x, "y": &p.y, "n": &p.n, "e": &p.e,
	}[name]
	if parameter != nil && !isEmpty(value) && parameter.read(value) != nil {
		p.wrongType = name + " is not of its type"
	}
	return nil
}

// isEmpty tells whether value is null, a blank string, or an empty array or object.
func isEmpty(value jsontext.Value) bool {
	withoutSpaces := string(bytes.Join(bytes.Fields(value), nil))
	return slices.Contains([]string{"null", `""`, "[]", "{}"}, withoutSpaces)
}

// methodsFor returns the algorithms that suit a key, the usual one first. It returns none if
// the key is weak or of another type.
func methodsFor(public any) []jwt.SigningMethod {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= minRSABits && bits <= maxRSABits && key.E == rsaExponent {
			return []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodPS256}
		}
	case *ecdsa.PublicKey:
		switch key.Curve.Params().Name {
		case "P-256":
			return []jwt.SigningMethod{jwt.SigningMethodES256}
		case "P-384":
			return []jwt.SigningMethod{jwt.SigningMethodES384}
		}
	case ed25519.PublicKey:
		return []jwt.SigningMethod{jwt.SigningMethodEdDSA}
	}
	return nil
}

// isAsymmetric tells whether alg is an algorithm for keys of a set.
func isAsymmetric(alg string) bool {
	return slices.Contains([]string{"RS256", "PS256", "ES256", "ES384", "EdDSA"}, alg)
}
