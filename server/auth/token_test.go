package auth

import (
	"bytes"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// shown matches text without line breaks, control characters and format characters.
var (
	shown     = regexp.MustCompile(`^[\pL\pM\pN\pP\pS\p{Zs}]+$`)
	invisible = regexp.MustCompile(`[\x{34f}\x{115f}\x{1160}\x{17b4}\x{17b5}\x{3164}\x{ffa0}]|^[\p{Zs}\pM\x{2800}]*$`)
)

// verifyIndependently implements the same rules on the standard library alone.
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
	p.Label = p.Account
	if email, _ := payload["email"].(string); shown.MatchString(email) && !invisible.MatchString(email) && len(email) <= 254 {
		p.Label = email
	}
	if _, isNumber := payload["auth_time"].(json.Number); isNumber {
		if at := microseconds(payload["auth_time"]); at >= 0 && at <= endOfYear9999*1e6 {
			p.AuthTime = time.UnixMicro(at).UTC()
		}
	}
	if p.Account == "" || len(p.Account) > MaxAccount {
		return Principal{}, errors.New("sub")
	}
	return p, nil
}

// readObject reads one JSON object, with numbers of any size.
func readObject(text []byte) (map[string]any, error) {
	if !json.Valid(text) { // Decode accepts text after the object
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

// wantAgreement is the invariant: an accepted token means the same to the other verifier, and
// a refused token has a cause.
func wantAgreement(t *testing.T, token string) {
	t.Helper()
	got, err := newTestAuthenticator(t, &fakeKeys{}).tokens.verify(t.Context(), token)
	if err != nil {
		refusal, ok := errors.AsType[*Refusal](err)
		if !ok && !errors.Is(err, ErrKeysUnavailable) || ok && refusal.Cause == "" || got != (Principal{}) {
			t.Fatalf("verify = %+v, %v; want no principal, and a refusal with its cause", got, err)
		}
		return
	}
	want, err := verifyIndependently(token)
	if strings.ContainsRune(want.Label, utf8.RuneError) {
		want.Label = got.Label // encoding/json takes a lone surrogate for U+FFFD
	}
	if err != nil || got != want {
		t.Fatalf("verify = %+v; the other verifier says %+v, %v of %s", got, want, err, token)
	}
}

// payloads are seeds: sound payloads first, then one for each rule on claims.
func payloads() []string {
	const rest = `"iss":"https://issuer.test","aud":"mfa.test","exp":1795352400`
	return []string{
		`{"sub":"ada",` + rest + `}`,
		`{"sub":"ada","email":"a@b","nbf":1795348800.5,"iat":1795348800,` + rest + `}`,
		`{"sub":"ada","aud":["x","mfa.test"],"iss":"https://issuer.test","exp":1795352400}`,
		`{"sub":"ada","auth_time":1795348800.25,` + rest + `}`, `{"sub":"ada","auth_time":"x",` + rest + `}`,
		`{"sub":"ada","auth_time":-0.1,` + rest + `}`, `{"sub":"ada","auth_time":1e999,` + rest + `}`,
		`{"act":{"sub":"bob","aud":"x"},"x":"sub","y":["sub",{"exp":1}],"sub":"ada",` + rest + `}`,
		`{"sub":"ada","email":"a\n",` + rest + `}`, `{"sub":"ada","email":null,` + rest + `}`, `{"sub":"ada","email":"\ud800",` + rest + `}`,
		`{"sub":"ada","x":{"a":1,"a":"\ud800"},` + rest + `}`, `{"sub":"ada","x":1,"x":2,` + rest + `}`,
		`{"sub":"ada","x":1e999,` + rest + `}`, `{"sub":"ada","nbf":1795348830.0000003,` + rest + `}`,
		`{"sub":"ada","sub":"bob",` + rest + `}`, `{"SUB":"ada",` + rest + `}`, `{"sub":"ada","SUB":"bob",` + rest + `}`,
		"{\"sub\":\"a\xff\"," + rest + `}`, `{"sub":"a\ud800",` + rest + `}`, `{"sub":"\u0061da",` + rest + `}`,
		`{"sub":"",` + rest + `}`, `{"sub":null,` + rest + `}`, `{"sub":7,` + rest + `}`, `{` + rest + `}`,
		`{"sub":"ada","exp":1e99}`, `{"sub":"ada","exp":null}`, `{"sub":"ada","exp":"1795352400"}`, `{"sub":"ada","exp":-0}`,
		`null`, `[]`, `"x"`, `{}`, ``, `{"sub":"ada",` + rest + `}{}`, ` {"sub":"ada",` + rest + `} `, "\ufeff{}",
		`{"sub":"ada","aud":[null,"mfa.test"],"iss":"https://issuer.test","exp":1795352400}`,
	}
}

// headers are seeds: sound headers first, then one for each rule on the header.
func headers() []string {
	return []string{
		`{"alg":"HS256"}`, `{"alg":"HS256","typ":"JWT"}`, `{"typ":"application/at+JWT","alg":"HS256"}`,
		`{"alg":"none"}`, `{"alg":"HS256","crit":["b64"],"b64":false}`, `{"alg":"HS256","crit":null}`, `{"ALG":"HS256"}`,
		`{"alg":"none","alg":"HS256"}`, `{"alg":"ES256","kid":"x"}`, `{"alg":"HS256","typ":"secevent+jwt"}`, `null`, `[]`, ``,
	}
}

// FuzzSignedToken tries any header and payload under a good signature.
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
	return token[:strings.LastIndex(token, ".")+1] + segment(string(make([]byte, 32)))
}

// FuzzToken tries any text as a token.
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

func TestTokenVerifier_AgreesOnTheSoundSeeds(t *testing.T) {
	for _, token := range []string{
		sign(headers()[0], payloads()[0]), sign(headers()[1], payloads()[1]), sign(headers()[2], payloads()[2]),
		sign(headers()[0], payloads()[3]), sign(headers()[0], payloads()[4]), sign(headers()[0], payloads()[5]),
	} {
		ours, err := newTestAuthenticator(t, &fakeKeys{}).tokens.verify(t.Context(), token)
		theirs, other := verifyIndependently(token)
		if err != nil || other != nil || ours != theirs || ours.Account != "ada" {
			t.Errorf("verify = %+v, %v; the other verifier says %+v, %v", ours, err, theirs, other)
		}
	}
}

// A later golang-jwt may report faults that have no cause of ours.
func TestClaims_RefusesAFaultWithoutACause(t *testing.T) {
	c := claims{subject: "ada"}
	validator := jwt.NewValidator(jwt.WithSubject("bob"))
	if cause := c.validate(validator); cause != TokenClaimUnexpected {
		t.Errorf("cause %q; want %s", cause, TokenClaimUnexpected)
	}
}
