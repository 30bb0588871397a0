package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	testSecret   = "0123456789abcdef0123456789abcdef"
	testIssuer   = "https://issuer.test"
	testAudience = "mfa.test"
	testLeeway   = 30 * time.Second
)

// testNow is the time at which all tokens here are judged.
var testNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newTestVerifier() *tokenVerifier {
	return newTokenVerifier(Config{
		HMACSecret: []byte(testSecret),
		KeySet:     &KeySet{},
		Issuer:     testIssuer,
		Audience:   testAudience,
		Leeway:     testLeeway,
		Now:        func() time.Time { return testNow },
	})
}

func testClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"iss": testIssuer, "aud": []string{testAudience, "other"}, "sub": "ada", "email": "ada@example.com",
		"exp": testNow.Add(time.Hour).Unix(), "nbf": testNow.Unix(), "iat": testNow.Unix(),
	}
}

// sign returns a token with a good signature over any header and payload.
func sign(header, payload string) string {
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return input + "." + base64.RawURLEncoding.EncodeToString(hmacOf(input))
}

func hmacOf(input string) []byte {
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write([]byte(input))
	return mac.Sum(nil)
}

// verifyIndependently is another reading of the same rules, on the standard library
// alone. It returns who the token is for, or an error.
func verifyIndependently(token string) (Principal, error) {
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return Principal{}, errors.New("segments")
	}
	var decoded [3][]byte
	for i, segment := range segments {
		var err error
		if decoded[i], err = base64.RawURLEncoding.DecodeString(segment); err != nil {
			return Principal{}, err
		}
	}
	if !hmac.Equal(decoded[2], hmacOf(segments[0]+"."+segments[1])) {
		return Principal{}, errors.New("signature")
	}
	header, headerErr := readObject(decoded[0])
	payload, payloadErr := readObject(decoded[1])
	if err := errors.Join(headerErr, payloadErr); err != nil {
		return Principal{}, err
	}
	if _, critical := header["crit"]; critical || header["alg"] != "HS256" {
		return Principal{}, errors.New("header")
	}
	audience, isList := payload["aud"].([]any)
	if !isList {
		audience = []any{payload["aud"]}
	}
	if payload["iss"] != testIssuer || !slices.Contains(audience, testAudience) {
		return Principal{}, errors.New("issuer or audience")
	}
	now, skew := testNow.UnixMicro(), testLeeway.Microseconds()
	if microseconds(payload["exp"])+skew <= now || microseconds(payload["nbf"])-skew > now || microseconds(payload["iat"])-skew > now {
		return Principal{}, errors.New("time")
	}
	p := Principal{Scheme: Bearer}
	p.Account, _ = payload["sub"].(string)
	p.Label, _ = payload["email"].(string)
	if p.Label == "" {
		p.Label = p.Account
	}
	if p.Account == "" || len(p.Account) > MaxAccount {
		return Principal{}, errors.New("sub")
	}
	return p, nil
}

// readObject reads one JSON object, and any number in it.
func readObject(text []byte) (map[string]any, error) {
	if !json.Valid(text) { // for Decode is content with one that others follow
		return nil, errors.New("not JSON")
	}
	var object map[string]any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return object, decoder.Decode(&object)
}

func microseconds(claim any) int64 {
	number, _ := claim.(json.Number)
	seconds, _ := number.Float64()
	return int64(seconds * 1e6)
}

// wantAgreement is the invariant: what is accepted means the same to the other
// verifier, and what is refused is refused with a cause. What was good before, or bad,
// makes no difference.
func wantAgreement(t *testing.T, token string) {
	t.Helper()
	got, err := newTestVerifier().verify(t.Context(), token)
	used := newTestVerifier()
	if _, err := used.verify(t.Context(), sign(headers()[0], payloads()[0])); err != nil {
		t.Fatal(err)
	}
	usual := used.usual.Load()
	again, againErr := used.verify(t.Context(), token)
	if again != got || fmt.Sprint(againErr) != fmt.Sprint(err) {
		t.Fatalf("verify = %+v, %v; and after a good token %+v, %v", got, err, again, againErr)
	}
	if refusal, ok := errors.AsType[*Refusal](err); ok && refusal.Cause == TokenSignature && used.usual.Load() != usual {
		t.Fatal("the header of a token with a bad signature is kept")
	}
	if err != nil {
		refusal, ok := errors.AsType[*Refusal](err)
		if !ok && !errors.Is(err, ErrKeysUnavailable) || ok && refusal.Cause == "" || got != (Principal{}) {
			t.Fatalf("verify = %+v, %v; want nobody, and a refusal with its cause", got, err)
		}
		return
	}
	want, err := verifyIndependently(token)
	if err != nil || got != want {
		t.Fatalf("verify = %+v; the other verifier says %+v, %v of %s", got, want, err, token)
	}
}

// payloads are seeds: sound ones, and one for each rule on claims.
func payloads() []string {
	const rest = `"iss":"https://issuer.test","aud":"mfa.test","exp":1795352400`
	return []string{
		`{"sub":"ada",` + rest + `}`,
		`{"sub":"ada","email":"a@b","nbf":1795348800.5,"iat":1795348800,` + rest + `}`,
		`{"sub":"ada","aud":["x","mfa.test"],"iss":"https://issuer.test","exp":1795352400}`,
		`{"act":{"sub":"bob","aud":"x"},"x":"sub","y":["sub",{"exp":1}],"sub":"ada",` + rest + `}`,
		`{"sub":"ada","x":1e999,` + rest + `}`, `{"sub":"ada","nbf":1795348830.0000003,` + rest + `}`,
		`{"sub":"ada","sub":"bob",` + rest + `}`, `{"SUB":"ada",` + rest + `}`, `{"sub":"ada","SUB":"bob",` + rest + `}`,
		"{\"sub\":\"a\xff\"," + rest + `}`, `{"sub":"a\ud800",` + rest + `}`, `{"sub":"\u0061da",` + rest + `}`,
		`{"sub":"",` + rest + `}`, `{"sub":null,` + rest + `}`, `{"sub":7,` + rest + `}`, `{` + rest + `}`,
		`{"sub":"ada","exp":1e99}`, `{"sub":"ada","exp":null}`, `{"sub":"ada","exp":"1795352400"}`, `{"sub":"ada","exp":-0}`,
		`null`, `[]`, `"x"`, `{}`, ``, `{"sub":"ada",` + rest + `}{}`, ` {"sub":"ada",` + rest + `} `, "\ufeff{}",
		`{"sub":"ada","aud":[null,"mfa.test"],"iss":"https://issuer.test","exp":1795352400}`,
	}
}

// headers are seeds: sound ones, and one for each rule on the header.
func headers() []string {
	return []string{
		`{"alg":"HS256"}`, `{"alg":"HS256","typ":"JWT"}`, `{"typ":"application/at+JWT","alg":"HS256"}`,
		`{"alg":"none"}`, `{"alg":"HS256","crit":["b64"],"b64":false}`, `{"alg":"HS256","crit":null}`, `{"ALG":"HS256"}`,
		`{"alg":"none","alg":"HS256"}`, `{"alg":"ES256","kid":"x"}`, `{"alg":"HS256","typ":"secevent+jwt"}`, `null`, `[]`, ``,
	}
}

// FuzzSignedToken lets header and payload be anything, under a good signature.
func FuzzSignedToken(f *testing.F) {
	for _, payload := range payloads() {
		f.Add(headers()[0], payload)
	}
	for _, header := range headers() {
		f.Add(header, payloads()[0])
	}
	f.Fuzz(func(t *testing.T, header, payload string) { wantAgreement(t, sign(header, payload)) })
}

// badly returns a token with a bad signature.
func badly(header string) string {
	token := sign(header, payloads()[0])
	return token[:strings.LastIndex(token, ".")+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 32))
}

// FuzzToken lets the whole token be anything.
func FuzzToken(f *testing.F) {
	sound := sign(headers()[0], payloads()[0])
	for _, token := range []string{
		sound, badly(headers()[1]), sound + "=", sound + ".", "." + sound, "..", "", sound[:len(sound)-1], strings.ToUpper(sound),
		strings.Replace(sound, ".", "\n.", 1), sound + "\r\n", sound + " ", strings.Repeat("A", 9000),
	} {
		f.Add(token)
	}
	f.Fuzz(wantAgreement)
}

func TestTheTwoVerifiersAcceptTheSoundSeeds(t *testing.T) {
	for _, token := range []string{
		sign(headers()[0], payloads()[0]), sign(headers()[1], payloads()[1]), sign(headers()[2], payloads()[2]),
		sign(headers()[0], payloads()[3]),
	} {
		ours, err := newTestVerifier().verify(t.Context(), token)
		theirs, other := verifyIndependently(token)
		if err != nil || other != nil || ours != theirs || ours.Account != "ada" {
			t.Errorf("verify = %+v, %v; the other verifier says %+v, %v", ours, err, theirs, other)
		}
	}
}

// The header that is remembered says which key to ask for, not that the key is still good.
func TestATokenIsJudgedByTheKeysOfNowWhateverIsRemembered(t *testing.T) {
	private, a := benchKey(t, jwt.SigningMethodEdDSA)
	_, b := benchKey(t, jwt.SigningMethodEdDSA)
	_, c := benchKey(t, jwt.SigningMethodES256)
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, testClaims())
	unsigned.Header["kid"] = "a"
	token, err := unsigned.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	v := newTestVerifier()
	v.keys = NewKeySet(KeySetLocation{path: "/no/such/file"}, time.Hour, func() time.Time { return testNow }, nil)
	good := []verificationKey{{"a", jwt.SigningMethodEdDSA, a}, {"b", jwt.SigningMethodEdDSA, b}}
	over, stop := context.WithCancel(t.Context())
	stop() // no key is waited for
	for i, c := range []struct {
		keys []verificationKey
		want Cause
	}{
		{good, ""},
		{good, ""},
		{[]verificationKey{{"a", jwt.SigningMethodEdDSA, b}, {"b", jwt.SigningMethodEdDSA, a}}, TokenSignature},
		{[]verificationKey{{"a", jwt.SigningMethodES256, c}, {"b", jwt.SigningMethodEdDSA, a}}, TokenKeyUnknown},
		{[]verificationKey{{"b", jwt.SigningMethodEdDSA, a}}, TokenKeyUnknown},
		{nil, TokenKeyUnknown},
		{good, ""},
	} {
		v.keys.keys.Store(&c.keys)
		got, err := v.verify((&AwaitedKey{}).Wait(over), token)
		refusal, _ := errors.AsType[*Refusal](err)
		if c.want == "" && (err != nil || got.KeyID != "a") || c.want != "" && (refusal == nil || refusal.Cause != c.want) {
			t.Errorf("token %d: %+v, %v; want cause %q", i, got, err, c.want)
		}
	}
}

func benchKey(b testing.TB, method jwt.SigningMethod) (private, public any) {
	b.Helper()
	switch method {
	case jwt.SigningMethodHS256:
		return []byte(testSecret), []byte(testSecret)
	case jwt.SigningMethodES256, jwt.SigningMethodES384:
		curve := elliptic.P256()
		if method == jwt.SigningMethodES384 {
			curve = elliptic.P384()
		}
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		return key, &key.PublicKey
	case jwt.SigningMethodEdDSA:
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		return private, public
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	return key, &key.PublicKey
}
