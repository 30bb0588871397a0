package auth

import (
	"crypto/rsa"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// setMethods are the algorithms that keys of a JWK set may have.
var setMethods = []jwt.SigningMethod{
	jwt.SigningMethodRS256, jwt.SigningMethodPS256, jwt.SigningMethodES256, jwt.SigningMethodES384, jwt.SigningMethodEdDSA,
}

// mustParse returns the usable keys of a set with these members.
func mustParse(t *testing.T, members ...string) []verificationKey {
	t.Helper()
	keys, _, err := parseKeySet([]byte(`{"keys":[` + strings.Join(members, ",") + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	return keys
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
	keys := mustParse(t, members...)
	a := newTestAuthenticator(t, &fakeKeys{}, keys...)
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
		a := newTestAuthenticator(t, &fakeKeys{}, verificationKey{"k", method, public})
		parts := strings.Split(signWith(t, method, private, "k"), ".")
		_, err := a.Authenticate(t.Context(), bearer(parts[0]+"."+eve+"."+parts[2]))
		wantRefusal(t, err, TokenSignature)
	}
}

// A public key never works as the HS256 secret, and a token never has a choice of keys.
func TestAuthenticate_ConfusesNoKeys(t *testing.T) {
	private, public := newKey(t, jwt.SigningMethodRS256)
	member := jwk(t, public, "k", "RS256", nil)
	keys := append(mustParse(t, member), mustParse(t, jwk(t, public, "k", "RS256", rsaJWK(2048)))...)
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
			_, err := newTestAuthenticator(t, &fakeKeys{}, c.keys...).Authenticate(t.Context(), bearer(c.token))
			wantRefusal(t, err, c.cause)
		})
	}
}

// Without a secret no HS256 token is verified, not even with the empty key. Without a JWK set
// no other token is.
func TestAuthenticate_RefusesAlgorithmsWithoutKeys(t *testing.T) {
	private, public := newKey(t, jwt.SigningMethodES256)
	a := newTestAuthenticator(t, &fakeKeys{}, verificationKey{"k", jwt.SigningMethodES256, public})
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
	a := newTestAuthenticator(t, &fakeKeys{}, verificationKey{"k", jwt.SigningMethodES256, genuine})
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

// nulls are all parameters that an RSA key for RS256 does without.
func nulls() map[string]any {
	var null *int
	parameters := map[string]any{}
	for _, name := range []string{"use", "key_ops", "alg", "crv", "x", "y", "d", "p", "q", "dp", "dq", "qi", "oth", "k", "x5u", "x5c", "x5t", "x5t#S256"} {
		parameters[name] = null
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
		want   string // the algorithm of the key, or why it is ignored
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
		"ignores a key for encryption":                {jwk(t, rs, "k", "RS256", changes{"use": "enc"}), notForVerifying},
		"ignores a key for signing":                   {jwk(t, rs, "k", "RS256", changes{"key_ops": []string{"sign"}}), notForVerifying},
		"keeps a key with the empty members of .NET":  {jwk(t, rs, "k", "RS256", changes{"key_ops": []any{}, "oth": []any{}, "x5c": []any{}}), "RS256"},
		"keeps a key with null members":               {jwk(t, rs, "k", "RS256", nulls()), "RS256"},
		"keeps a key with empty texts":                {jwk(t, rs, "k", "", changes{"use": "", "key_ops": "", "crv": "", "x": "", "y": "", "d": "", "x5t": "", "x5u": "", "k": ""}), "RS256"},
		"keeps a key with empty objects":              {jwk(t, ed, "k", "EdDSA", changes{"use": changes{}, "n": changes{}, "x5c": changes{}, "ext": changes{}}), "EdDSA"},
		"keeps a key with empty members and spaces":   {strings.Replace(jwk(t, es, "k", "ES256", nil), "{", `{"key_ops":[ ],"n":[ ],"e":{ },`, 1), "ES256"},
		"keeps a key, whatever other members are":     {strings.Replace(jwk(t, es, "k", "ES256", changes{"d": 7, "ext": true, "x5c": 7, "oth": "x"}), "{", `{"v":{"a":1,"a":"\ud800"},`, 1), "ES256"},
		"keeps a key with one key_ops and unknown":    {jwk(t, es, "k", "ES256", changes{"key_ops": []string{"attest", "verify"}}), "ES256"},
		"ignores a key with a member twice":           {strings.Replace(jwk(t, es, "k", "ES256", nil), "{", `{"alg":"ES256",`, 1), notAnObject},
		"ignores a key without its n":                 {jwk(t, rs, "k", "RS256", changes{"n": ""}), notAPublicKey},
		"ignores a key whose kid is a number":         {jwk(t, es, "k", "ES256", changes{"kid": 7}), "kid is not of its type"},
		"ignores a key whose kid is no text":          {strings.Replace(jwk(t, es, "k", "ES256", changes{"kid": nil}), "{", `{"kid":"\ud800",`, 1), "kid is not of its type"},
		"ignores a key whose key_ops has null":        {jwk(t, es, "k", "ES256", changes{"key_ops": []any{nil}}), "key_ops is not of its type"},
		"ignores Ed448":                               {jwk(t, ed, "k", "EdDSA", changes{"crv": "Ed448"}), notAPublicKey},
		"ignores X25519":                              {jwk(t, ed, "k", "", changes{"crv": "X25519"}), weakOrUnsupported},
		"ignores RSA of 2047 bits":                    {jwk(t, rs, "k", "RS256", rsaJWK(2047)), weakOrUnsupported},
		"ignores RSA of 1024 bits":                    {jwk(t, rs, "k", "RS256", rsaJWK(1024)), weakOrUnsupported},
		"ignores RSA of 4097 bits":                    {jwk(t, rs, "k", "RS256", rsaJWK(4097)), weakOrUnsupported},
		"ignores RSA with exponent 3":                 {jwk(t, rs, "k", "RS256", changes{"e": "Aw"}), weakOrUnsupported},
		"ignores the alg of another type":             {jwk(t, es, "k", "RS256", nil), otherAlgorithm},
		"ignores RS512":                               {jwk(t, rs, "k", "RS512", nil), otherAlgorithm},
		"ignores P-384 for ES256":                     {jwk(t, es384, "k", "ES256", nil), otherAlgorithm},
		"ignores a point off the curve":               {jwk(t, es, "k", "ES256", changes{"y": segment(strings.Repeat("x", 32))}), notAPublicKey},
		"ignores an unknown type":                     {jwk(t, rs, "k", "RS256", changes{"kty": "LATTICE"}), notAPublicKey},
		"ignores KTY for kty":                         {jwk(t, es, "k", "ES256", changes{"kty": nil, "KTY": "EC"}), notAPublicKey},
		"ignores symmetric keys":                      {`{"kty":"oct","kid":"k","alg":"HS256","k":"` + segment(testSecret) + `"}`, symmetric},
		"ignores symmetric keys for RS256":            {`{"kty":"oct","kid":"k","alg":"RS256","k":"` + segment(testSecret) + `"}`, symmetric},
		"ignores symmetric keys without alg":          {`{"kty":"oct","kid":"k","k":"` + segment(testSecret) + `"}`, symmetric},
		"ignores a number in place of a key":          {`7`, notAnObject},
		"ignores a kty that is a number":              {`{"kty":7}`, "kty is not of its type"},
	} {
		t.Run(name, func(t *testing.T) {
			// A second key shows that an ignored key leaves the others in place.
			keys, faults, err := parseKeySet([]byte(`{"keys":[` + c.member + `,` + jwk(t, es384, "last", "ES384", nil) + `]}`))
			if err != nil || len(keys)+len(faults) != 2 || keys[len(keys)-1].id != "last" {
				t.Fatalf("keys %v, faults %v, %v; want the last key of the set", keys, faults, err)
			}
			got := keys[0].method.Alg()
			if len(faults) == 1 {
				got = faults[0].reason
			}
			if got != c.want {
				t.Errorf("%s; want %s", got, c.want)
			}
		})
	}
}

func TestParseKeySet_RefusesOtherDocuments(t *testing.T) {
	hundred := `{"keys":[0` + strings.Repeat(",0", maxKeys-1) + `]}`
	if keys, faults, err := parseKeySet([]byte(hundred)); len(keys) != 0 || len(faults) != maxKeys || !errors.Is(err, errNoUsableKey) {
		t.Errorf("100 keys: %v, %v, %v; want a set without usable keys", keys, faults, err)
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
		`{"keys":[]}`:                      errNoUsableKey.Error(),
		`{"v":{"a":1,"a":2},"keys":[{}]}`:  errNoUsableKey.Error(),
		`{"keys":[{"kid":"a","kid":"b"}]}`: errNoUsableKey.Error(),
		`{"KEYS":[]}`:                      errNoKeySet.Error(),
		"\ufeff" + `{"keys":[]}`:           errNoUsableKey.Error(), // as without the byte order mark
		`{"keys":[]}{"keys":[]}`:           errNoKeySet.Error(),
		`{"keys":[0` + strings.Repeat(",0", maxKeys) + `]}`: "JWK set has more than 100 keys",
	} {
		if keys, _, err := parseKeySet([]byte(text)); keys != nil || err == nil || err.Error() != want {
			t.Errorf("%.20s: %v, %v; want %s", text, keys, err, want)
		}
	}
}

// Equal keys are one key, also if they differ in their kid and a token has none. Of different
// keys none is tried: not even if only one of them is good.
func TestParseKeySet_TellsAmbiguousKeys(t *testing.T) {
	private, public := newKey(t, jwt.SigningMethodES256)
	_, other := newKey(t, jwt.SigningMethodES256)
	rsaPrivate, rs := newKey(t, jwt.SigningMethodRS256)
	edPrivate, ed := newKey(t, jwt.SigningMethodEdDSA)
	k := jwk(t, public, "k", "ES256", nil)
	withoutKID := jwk(t, public, "", "ES256", map[string]any{"kid": nil})
	another := jwk(t, other, "k", "ES256", nil)
	rsaWithoutAlg := jwk(t, rs, "k", "", map[string]any{"alg": nil})
	byES := func(kid string) string { return signWith(t, jwt.SigningMethodES256, private, kid) }
	for name, c := range map[string]struct {
		members []string
		token   string
		refused bool
		faults  []keyFault
	}{
		"the same key twice":                   {[]string{k, k}, byES("k"), false, nil},
		"the same key three times":             {[]string{k, k, k}, byES(""), false, nil},
		"the same key with and without use":    {[]string{k, jwk(t, public, "k", "ES256", map[string]any{"use": nil})}, byES("k"), false, nil},
		"the same key with and without kid":    {[]string{withoutKID, k}, byES("k"), false, nil},
		"for a token without kid":              {[]string{k, withoutKID}, byES(""), false, nil},
		"the same key with two kids":           {[]string{k, jwk(t, public, "l", "ES256", nil)}, byES(""), false, nil},
		"the same RSA key, once without alg":   {[]string{rsaWithoutAlg, jwk(t, rs, "k", "RS256", nil)}, signWith(t, jwt.SigningMethodRS256, rsaPrivate, "k"), false, nil},
		"the same Ed25519 key twice":           {[]string{jwk(t, ed, "k", "EdDSA", nil), jwk(t, ed, "k", "EdDSA", nil)}, signWith(t, jwt.SigningMethodEdDSA, edPrivate, ""), false, nil},
		"one kid for two algs":                 {[]string{k, jwk(t, rs, "k", "RS256", nil)}, byES("k"), false, nil},
		"two kids, as during a change":         {[]string{k, jwk(t, other, "l", "ES256", nil)}, byES("k"), false, nil},
		"one of two keys of the kid encrypts":  {[]string{k, jwk(t, other, "k", "ES256", map[string]any{"use": "enc"})}, byES("k"), false, []keyFault{{"k", notForVerifying}}},
		"two keys with one kid":                {[]string{jwk(t, rs, "r", "RS256", nil), k, another}, byES("k"), true, []keyFault{{"k", ambiguous}, {"k", ambiguous}}},
		"two keys with one kid, one twice":     {[]string{jwk(t, rs, "r", "RS256", nil), k, k, another}, byES("k"), true, []keyFault{{"k", ambiguous}, {"k", ambiguous}, {"k", ambiguous}}},
		"two keys without kid":                 {[]string{jwk(t, rs, "r", "RS256", nil), withoutKID, jwk(t, other, "", "ES256", nil)}, byES(""), true, []keyFault{{"", ambiguous}, {"", ambiguous}}},
		"a key without kid beside one with it": {[]string{withoutKID, jwk(t, other, "k", "ES256", nil)}, byES(""), true, []keyFault{{"", ambiguous}}},
	} {
		t.Run(name, func(t *testing.T) {
			keys, faults, err := parseKeySet([]byte(`{"keys":[` + strings.Join(c.members, ",") + `]}`))
			if err != nil || !slices.Equal(faults, c.faults) {
				t.Fatalf("faults %v, %v; want %v", faults, err, c.faults)
			}
			_, err = newTestAuthenticator(t, &fakeKeys{}, keys...).Authenticate(t.Context(), bearer(c.token))
			if c.refused {
				wantRefusal(t, err, TokenKeyUnknown)
			} else if err != nil {
				t.Errorf("the token: %v; want it accepted", err)
			}
		})
	}
	if _, _, err := parseKeySet([]byte(`{"keys":[` + k + `,` + another + `]}`)); !errors.Is(err, errNoUsableKey) {
		t.Errorf("a set of ambiguous keys alone: %v; want %v", err, errNoUsableKey)
	}
}
