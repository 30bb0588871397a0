package auth

import (
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// setMethods are the algorithms that keys of a JWK set may have.
var setMethods = []jwt.SigningMethod{
	jwt.SigningMethodRS256, jwt.SigningMethodPS256, jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodEdDSA,
}

// A key of the JWK set verifies tokens with its own algorithm and kid, and no others.
func TestAuthenticate_UsesEachKeyForItsOwnAlgorithm(t *testing.T) {
	private := map[jwt.SigningMethod]any{}
	var members []string
	for _, method := range setMethods {
		var public any
		private[method], public = newKey(t, method)
		members = append(members, jwk(t, public, method.Alg(), method.Alg(), nil))
	}
	keys, err := parseKeySet([]byte(`{"keys":[` + strings.Join(members, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	a := newTestAuthenticator(t, fakeKeys{}, keys...)
	for _, method := range setMethods {
		for _, kid := range []string{method.Alg(), ""} {
			want := Principal{Account: "ada", Label: "ada@example.com", Scheme: Bearer, KeyID: method.Alg()}
			if got, err := a.Authenticate(t.Context(), bearer(signWith(t, method, private[method], kid))); err != nil || got != want {
				t.Errorf("%s with kid %q: %+v, %v; want %+v", method.Alg(), kid, got, err, want)
			}
		}
		for _, other := range setMethods {
			if other != method {
				_, err := a.Authenticate(t.Context(), bearer(signWith(t, method, private[method], other.Alg())))
				wantRefusal(t, err, TokenKeyUnknown)
			}
		}
	}
}

func TestAuthenticate_RefusesChangedTokens(t *testing.T) {
	eve := strings.Split(signClaims(t, change("sub", "eve")), ".")[1]
	for _, method := range setMethods {
		private, public := newKey(t, method)
		a := newTestAuthenticator(t, fakeKeys{}, verificationKey{"k", method, public})
		parts := strings.Split(signWith(t, method, private, "k"), ".")
		_, err := a.Authenticate(t.Context(), bearer(parts[0]+"."+eve+"."+parts[2]))
		wantRefusal(t, err, TokenSignature)
	}
}

// A public key never works as the HS256 secret, and a token never has a choice of keys.
func TestAuthenticate_ConfusesNoKeys(t *testing.T) {
	private, public := newKey(t, jwt.SigningMethodRS256)
	member := jwk(t, public, "k", "RS256", nil)
	keys, err := parseKeySet([]byte(`{"keys":[` + member + `,` + member + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keys  []verificationKey
		token string
		cause Cause
	}{
		"two keys with the token's kid are none": {keys, signWith(t, jwt.SigningMethodRS256, private, "k"), TokenKeyUnknown},
		"two keys for a token without kid too":   {keys, signWith(t, jwt.SigningMethodRS256, private, ""), TokenKeyUnknown},
		"an RS256 key verifies no PS256 token":   {keys[:1], signWith(t, jwt.SigningMethodPS256, private, "k"), TokenKeyUnknown},
		"an unknown kid has no key":              {keys[:1], signWith(t, jwt.SigningMethodRS256, private, "x"), TokenKeyUnknown},
		"a kid in another case has no key":       {keys[:1], signWith(t, jwt.SigningMethodRS256, private, "K"), TokenKeyUnknown},
		"an empty set has no key":                {nil, signWith(t, jwt.SigningMethodRS256, private, ""), TokenKeyUnknown},
		"the modulus is no HS256 secret":         {keys[:1], signWith(t, jwt.SigningMethodHS256, public.(*rsa.PublicKey).N.Bytes(), "k"), TokenSignature},
		"the JSON of the key is no HS256 secret": {keys[:1], signWith(t, jwt.SigningMethodHS256, []byte(member), "k"), TokenSignature},
		"the empty key is no HS256 secret":       {keys[:1], signWith(t, jwt.SigningMethodHS256, []byte{}, "k"), TokenSignature},
		"the secret verifies no HS512 token":     {keys[:1], signWith(t, jwt.SigningMethodHS512, []byte(testSecret), "k"), TokenAlgorithm},
		"an RSA key verifies no RS512 token":     {keys[:1], signWith(t, jwt.SigningMethodRS512, private, "k"), TokenAlgorithm},
		"no key verifies alg none":               {keys[:1], signWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "k"), TokenAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newTestAuthenticator(t, fakeKeys{}, c.keys...).Authenticate(t.Context(), bearer(c.token))
			wantRefusal(t, err, c.cause)
		})
	}
}

// Without a secret no HS256 token is verified, not even with the empty key. Without a JWK set
// no other token is.
func TestAuthenticate_RefusesAlgorithmsWithoutKeys(t *testing.T) {
	private, public := newKey(t, jwt.SigningMethodES256)
	a := newTestAuthenticator(t, fakeKeys{}, verificationKey{"k", jwt.SigningMethodES256, public})
	a.tokens.secret = nil
	for _, secret := range []string{"", testSecret} {
		_, err := a.Authenticate(t.Context(), bearer(signWith(t, jwt.SigningMethodHS256, []byte(secret), "")))
		wantRefusal(t, err, TokenAlgorithm)
	}
	a.tokens.keys = nil
	_, err := a.Authenticate(t.Context(), bearer(signWith(t, jwt.SigningMethodES256, private, "k")))
	wantRefusal(t, err, TokenAlgorithm)
}

// A token may name an address or a key of its own. Neither is used.
func TestAuthenticate_IgnoresKeysThatATokenBrings(t *testing.T) {
	private, _ := newKey(t, jwt.SigningMethodES256)
	_, genuine := newKey(t, jwt.SigningMethodES256)
	a := newTestAuthenticator(t, fakeKeys{}, verificationKey{"k", jwt.SigningMethodES256, genuine})
	for name, value := range map[string]any{"jku": "https://evil.test", "x5u": "https://evil.test", "x5c": []string{"MIIB"}, "jwk": "own"} {
		forged := jwt.NewWithClaims(jwt.SigningMethodES256, testClaims())
		forged.Header["kid"], forged.Header[name] = "k", value
		token, err := forged.SignedString(private)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Authenticate(t.Context(), bearer(token))
		wantRefusal(t, err, TokenSignature)
	}
}

// rsaJWK returns an RSA key whose modulus has this many bits.
func rsaJWK(bits uint) map[string]any {
	modulus := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return map[string]any{"n": segment(string(modulus.SetBit(modulus, 0, 1).Bytes()))}
}

// privateHalf returns the private parameters of the tests' RSA key.
func privateHalf(t *testing.T) map[string]any {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	parameters := map[string]any{}
	for name, number := range map[string]*big.Int{
		"d": key.D, "p": key.Primes[0], "q": key.Primes[1],
		"dp": key.Precomputed.Dp, "dq": key.Precomputed.Dq, "qi": key.Precomputed.Qinv,
	} {
		parameters[name] = segment(string(number.Bytes()))
	}
	return parameters
}

func TestParseKeySet_KeepsOnlyKeysThatMayVerify(t *testing.T) {
	_, rs := newKey(t, jwt.SigningMethodRS256)
	_, es := newKey(t, jwt.SigningMethodES256)
	_, es384 := newKey(t, jwt.SigningMethodES384)
	_, ed := newKey(t, jwt.SigningMethodEdDSA)
	type changes = map[string]any
	for name, c := range map[string]struct {
		member string
		want   string // the algorithm of the key; empty: it is ignored
	}{
		"keeps RSA":                                   {jwk(t, rs, "k", "RS256", nil), "RS256"},
		"keeps RSA without alg, for RS256":            {jwk(t, rs, "k", "", changes{"alg": nil}), "RS256"},
		"keeps RSA for PS256":                         {jwk(t, rs, "k", "PS256", nil), "PS256"},
		"keeps RSA of 2048 bits":                      {jwk(t, rs, "k", "RS256", rsaJWK(2048)), "RS256"},
		"keeps RSA of 4096 bits":                      {jwk(t, rs, "k", "RS256", rsaJWK(4096)), "RS256"},
		"keeps P-256 without alg":                     {jwk(t, es, "k", "", changes{"alg": nil}), "ES256"},
		"keeps P-384 without alg":                     {jwk(t, es384, "k", "", changes{"alg": nil}), "ES384"},
		"keeps Ed25519 without alg":                   {jwk(t, ed, "k", "", changes{"alg": nil}), "EdDSA"},
		"keeps a key without use":                     {jwk(t, es, "k", "ES256", changes{"use": nil}), "ES256"},
		"keeps a key with key_ops verify":             {jwk(t, es, "k", "ES256", changes{"key_ops": []string{"verify"}}), "ES256"},
		"keeps a key, whatever its x5c":               {jwk(t, es, "k", "ES256", changes{"x5c": []string{"MIIB"}, "x5t": "x", "x5u": "https://evil.test"}), "ES256"},
		"keeps only the public half of a private key": {jwk(t, rs, "k", "RS256", privateHalf(t)), "RS256"},
		"ignores a key for encryption":                {jwk(t, rs, "k", "RS256", changes{"use": "enc"}), ""},
		"ignores a key for signing":                   {jwk(t, rs, "k", "RS256", changes{"key_ops": []string{"sign"}}), ""},
		"ignores a key with empty key_ops":            {jwk(t, rs, "k", "RS256", changes{"key_ops": []string{}}), ""},
		"ignores RSA of 2047 bits":                    {jwk(t, rs, "k", "RS256", rsaJWK(2047)), ""},
		"ignores RSA of 1024 bits":                    {jwk(t, rs, "k", "RS256", rsaJWK(1024)), ""},
		"ignores RSA of 4097 bits":                    {jwk(t, rs, "k", "RS256", rsaJWK(4097)), ""},
		"ignores RSA with exponent 3":                 {jwk(t, rs, "k", "RS256", changes{"e": "Aw"}), ""},
		"ignores the alg of another type":             {jwk(t, es, "k", "RS256", nil), ""},
		"ignores RS512":                               {jwk(t, rs, "k", "RS512", nil), ""},
		"ignores P-384 for ES256":                     {jwk(t, es384, "k", "ES256", nil), ""},
		"ignores a point off the curve":               {jwk(t, es, "k", "ES256", changes{"y": segment(strings.Repeat("x", 32))}), ""},
		"ignores an unknown type":                     {jwk(t, rs, "k", "RS256", changes{"kty": "LATTICE"}), ""},
		"ignores KTY for kty":                         {jwk(t, es, "k", "ES256", changes{"kty": nil, "KTY": "EC"}), ""},
		"ignores symmetric keys":                      {`{"kty":"oct","kid":"k","alg":"HS256","k":"` + segment(testSecret) + `"}`, ""},
		"ignores symmetric keys for RS256":            {`{"kty":"oct","kid":"k","alg":"RS256","k":"` + segment(testSecret) + `"}`, ""},
		"ignores symmetric keys without alg":          {`{"kty":"oct","kid":"k","k":"` + segment(testSecret) + `"}`, ""},
		"ignores a number in place of a key":          {`7`, ""},
		"ignores a kty that is a number":              {`{"kty":7}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			// A second key shows that an ignored key leaves the others in place.
			keys, err := parseKeySet([]byte(`{"keys":[` + c.member + `,` + jwk(t, ed, "last", "EdDSA", nil) + `]}`))
			if err != nil || len(keys) == 0 || keys[len(keys)-1].id != "last" {
				t.Fatalf("keys %v, %v; want the last key of the set", keys, err)
			}
			got := ""
			if len(keys) == 2 {
				got = keys[0].method.Alg()
			}
			if got != c.want || len(keys) > 2 {
				t.Errorf("%d keys, algorithm %q; want %q", len(keys)-1, got, c.want)
			}
		})
	}
}

func TestParseKeySet_RefusesOtherDocuments(t *testing.T) {
	hundred := `{"keys":[0` + strings.Repeat(",0", maxKeys-1) + `]}`
	if keys, err := parseKeySet([]byte(hundred)); len(keys) != 0 || err != nil {
		t.Errorf("100 keys: %v, %v; want an empty set", keys, err)
	}
	for text, want := range map[string]string{
		"":                                 errNoKeySet.Error(),
		"<html>":                           errNoKeySet.Error(),
		"null":                             errNoKeySet.Error(),
		"[]":                               errNoKeySet.Error(),
		"{}":                               errNoKeySet.Error(),
		`{"keys":null}`:                    errNoKeySet.Error(),
		`{"keys":{}}`:                      errNoKeySet.Error(),
		`{"keys":[],"keys":[]}`:            errNoKeySet.Error(),
		`{"keys":[{"kid":"a","kid":"b"}]}`: errNoKeySet.Error(),
		`{"KEYS":[]}`:                      errNoKeySet.Error(),
		`{"keys":[]}{"keys":[]}`:           errNoKeySet.Error(),
		`{"keys":[0` + strings.Repeat(",0", maxKeys) + `]}`: "JWK set has more than 100 keys",
	} {
		if keys, err := parseKeySet([]byte(text)); keys != nil || err == nil || err.Error() != want {
			t.Errorf("%.20s: %v, %v; want %s", text, keys, err, want)
		}
	}
}
