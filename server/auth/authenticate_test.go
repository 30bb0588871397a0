package auth

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	plainChallenge = `Bearer realm="quiva.ai Gateway"`
	tokenChallenge = plainChallenge + `, error="invalid_token"`
)

// TestAuthenticate_Refuses has a row for each way to be refused. Malformed keys, and keys beside a
// credential that is refused, must not reach the store.
func TestAuthenticate_Refuses(t *testing.T) {
	good, key, unknownKey, otherKey := signClaims(t, testClaims()), NewAPIKey(), NewAPIKey(), NewAPIKey()
	keys := &fakeKeys{apiKeys: map[string]*Principal{key: {Account: "ada"}, otherKey: {Account: "bob"}}}
	a := newTestAuthenticator(t, keys)
	parts := strings.Split(good, ".")
	forged := parts[0] + "." + parts[1] + "." + segment(strings.Repeat("x", 32))
	payload := func(more string) string {
		return `{"iss":"` + testIssuer + `","aud":"` + testAudience + `","exp":4000000000` + more + `}`
	}
	header := func(text string) http.Header { return bearer(sign(text, payload(`,"sub":"ada"`))) }
	raw := func(text string) http.Header { return bearer(sign(`{"alg":"HS256"}`, text)) }
	claim := func(name string, value any) http.Header { return bearer(signClaims(t, change(name, value))) }
	at := func(offset float64) float64 { return float64(testNow.Unix()) + offset }
	for _, row := range []struct {
		name      string
		header    http.Header
		cause     Cause
		challenge string
	}{
		{"no credential", nil, NoCredentials, plainChallenge},
		{"identity header", http.Header{"X-User-Id": {"ada"}, "X-Forwarded-User": {"ada"}}, NoCredentials, plainChallenge},
		{"token in a cookie", http.Header{"Cookie": {"token=" + good}}, NoCredentials, plainChallenge},
		{"token for a proxy", http.Header{"Proxy-Authorization": {"Bearer " + good}}, NoCredentials, plainChallenge},
		{"basic scheme", http.Header{"Authorization": {"Basic YTpi"}}, SchemeUnknown, plainChallenge},
		{"empty authorization", http.Header{"Authorization": {""}}, SchemeUnknown, plainChallenge},
		{"token without scheme", http.Header{"Authorization": {good}}, SchemeUnknown, plainChallenge},
		{"tab after the scheme", http.Header{"Authorization": {"Bearer\t" + good}}, SchemeUnknown, plainChallenge},
		{"scheme without token", http.Header{"Authorization": {"Bearer"}}, TokenMalformed, tokenChallenge},
		{"two tokens", http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}, SeveralCredentials, tokenChallenge},
		{"two tokens in one field", bearer(good + ", Bearer " + good), TokenMalformed, tokenChallenge},
		{"two schemes", http.Header{"Authorization": {"Basic YTpi", "Bearer " + good}}, SeveralCredentials, tokenChallenge},
		{"two keys", http.Header{"X-Api-Key": {key, key}}, SeveralCredentials, plainChallenge},
		{"two keys in one field", withKey(key + ", " + key), KeyMalformed, plainChallenge},

		{"empty key", withKey(""), KeyMalformed, plainChallenge},
		{"unknown key", withKey(unknownKey), KeyUnknown, plainChallenge},
		{"key in upper case", withKey(strings.ToUpper(key)), KeyMalformed, plainChallenge},
		{"key without prefix", withKey(strings.TrimPrefix(key, "mfa_")), KeyMalformed, plainChallenge},
		{"key as token", bearer(key), TokenMalformed, tokenChallenge},
		{"token as key", withKey(good), KeyMalformed, plainChallenge},
		{"good token, unknown key", join(bearer(good), withKey(unknownKey)), KeyUnknown, tokenChallenge},
		{"good token, malformed key", join(bearer(good), withKey("x")), KeyMalformed, tokenChallenge},
		{"bad token, good key", join(bearer(forged), withKey(key)), TokenSignature, tokenChallenge},
		{"expired token, good key", join(claim("exp", 1), withKey(key)), TokenExpired, tokenChallenge},
		{"two tokens, good key", join(http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}, withKey(key)), SeveralCredentials, tokenChallenge},
		{"good token, two keys", join(bearer(good), http.Header{"X-Api-Key": {key, key}}), SeveralCredentials, tokenChallenge},
		{"other scheme, good key", join(http.Header{"Authorization": {"Basic YTpi"}}, withKey(key)), SchemeUnknown, plainChallenge},
		{"token and key of two accounts", join(bearer(good), withKey(otherKey)), AccountsDiffer, tokenChallenge},

		{"no dots", bearer("x"), TokenMalformed, tokenChallenge},
		{"two segments", bearer(parts[0] + "." + parts[1]), TokenMalformed, tokenChallenge},
		{"four segments", bearer(good + ".x"), TokenMalformed, tokenChallenge},
		{"only dots", bearer(".."), TokenMalformed, tokenChallenge},
		{"padding", bearer(good + "="), TokenMalformed, tokenChallenge},
		{"stray trailing bits", bearer(good[:len(good)-1] + nextBase64(good[len(good)-1])), TokenMalformed, tokenChallenge},
		{"space inside", bearer(strings.Replace(good, ".", " .", 1)), TokenMalformed, tokenChallenge},
		{"line break inside", bearer(good[:5] + "\n" + good[5:]), TokenMalformed, tokenChallenge},
		{"carriage return at the end", bearer(good + "\r"), TokenMalformed, tokenChallenge},
		{"alphabet of plain base64", bearer("+" + good[1:]), TokenMalformed, tokenChallenge},
		{"8193 bytes", bearer(tokenOfSize(t, 8193)), TokenMalformed, tokenChallenge},
		{"header is an array", header(`[]`), TokenMalformed, tokenChallenge},
		{"header is null", header(`null`), TokenMalformed, tokenChallenge},
		{"header is empty", header(``), TokenMalformed, tokenChallenge},
		{"header with an extra comma", header(`{"alg":"HS256",}`), TokenMalformed, tokenChallenge},
		{"header is not UTF-8", header("{\"alg\":\"HS256\",\"x\":\"\xff\"}"), TokenMalformed, tokenChallenge},
		{"alg twice", header(`{"alg":"none","alg":"HS256"}`), TokenMalformed, tokenChallenge},
		{"alg is a number", header(`{"alg":256}`), TokenMalformed, tokenChallenge},
		{"kid is a number", header(`{"alg":"HS256","kid":7}`), TokenMalformed, tokenChallenge},
		{"kid is null", header(`{"alg":"HS256","kid":null}`), TokenMalformed, tokenChallenge},
		{"alg none with a signature", header(`{"alg":"none"}`), TokenAlgorithm, tokenChallenge},
		{"alg nOnE", bearer(segment(`{"alg":"nOnE"}`) + "." + parts[1] + "."), TokenAlgorithm, tokenChallenge},
		{"alg none", bearer(segment(`{"alg":"none"}`) + "." + parts[1] + "."), TokenAlgorithm, tokenChallenge},
		{"alg in lower case", header(`{"alg":"hs256"}`), TokenAlgorithm, tokenChallenge},
		{"alg missing", header(`{}`), TokenAlgorithm, tokenChallenge},
		{"ALG for alg", header(`{"ALG":"HS256"}`), TokenAlgorithm, tokenChallenge},
		{"alg HS512 with our key", bearer(signWith(t, jwt.SigningMethodHS512, []byte(testSecret), "")), TokenAlgorithm, tokenChallenge},
		{"alg of no key", header(`{"alg":"RS256"}`), TokenKeyUnknown, tokenChallenge},
		{"crit", header(`{"alg":"HS256","crit":["exp"]}`), TokenHeaderUnexpected, tokenChallenge},
		{"crit is null", header(`{"alg":"HS256","crit":null}`), TokenHeaderUnexpected, tokenChallenge},
		{"typ of another kind", header(`{"alg":"HS256","typ":"dpop+jwt"}`), TokenHeaderUnexpected, tokenChallenge},
		{"typ is empty", header(`{"alg":"HS256","typ":""}`), TokenHeaderUnexpected, tokenChallenge},
		{"typ is null", header(`{"alg":"HS256","typ":null}`), TokenHeaderUnexpected, tokenChallenge},
		{"typ is a number", header(`{"alg":"HS256","typ":7}`), TokenHeaderUnexpected, tokenChallenge},
		{"typ with a letter that folds", header(`{"alg":"HS256","typ":"appl\u0130cation/jwt"}`), TokenHeaderUnexpected, tokenChallenge},
		{"typ is a prefix", header(`{"alg":"HS256","typ":"application/"}`), TokenHeaderUnexpected, tokenChallenge},
		{"no signature", bearer(parts[0] + "." + parts[1] + "."), TokenSignature, tokenChallenge},
		{"forged signature", bearer(forged), TokenSignature, tokenChallenge},

		{"payload is null", raw(`null`), TokenClaimUnexpected, tokenChallenge},
		{"payload is an array", raw(`[]`), TokenClaimUnexpected, tokenChallenge},
		{"payload is empty", raw(``), TokenClaimUnexpected, tokenChallenge},
		{"payload twice", raw(payload(`,"sub":"ada"`) + `{}`), TokenClaimUnexpected, tokenChallenge},
		{"payload with a byte order mark", raw("\ufeff" + payload(`,"sub":"ada"`)), TokenClaimUnexpected, tokenChallenge},
		{"sub twice", raw(payload(`,"sub":"bob","sub":"ada"`)), TokenClaimUnexpected, tokenChallenge},
		{"sub twice, once escaped", raw(payload(`,"sub":"ada","\u0073ub":"bob"`)), TokenClaimUnexpected, tokenChallenge},
		{"another claim twice", raw(payload(`,"sub":"ada","x":1,"x":2`)), TokenClaimUnexpected, tokenChallenge},
		{"another claim without value", raw(payload(`,"sub":"ada","x":`)), TokenClaimUnexpected, tokenChallenge},
		{"another claim is not UTF-8", raw(payload(",\"sub\":\"ada\",\"x\":[\"\xff\"]")), TokenClaimUnexpected, tokenChallenge},
		{"sub is not UTF-8", raw(payload(",\"sub\":\"ad\xff\"")), TokenClaimUnexpected, tokenChallenge},
		{"sub has a lone surrogate", raw(payload(`,"sub":"ad\ud800"`)), TokenClaimUnexpected, tokenChallenge},
		{"SUB for sub", raw(payload(`,"SUB":"ada"`)), TokenClaimMissing, tokenChallenge},
		{"sub missing", claim("sub", nil), TokenClaimMissing, tokenChallenge},
		{"sub is empty", claim("sub", ""), TokenClaimMissing, tokenChallenge},
		{"sub is null", raw(payload(`,"sub":null`)), TokenClaimUnexpected, tokenChallenge},
		{"sub is a list", claim("sub", []string{"ada"}), TokenClaimUnexpected, tokenChallenge},
		{"sub is a number", claim("sub", 7), TokenClaimUnexpected, tokenChallenge},
		{"sub of 256 bytes", claim("sub", strings.Repeat("é", 128)), TokenClaimUnexpected, tokenChallenge},
		{"email twice", raw(payload(`,"sub":"ada","email":"a@example.com","email":"b@example.com"`)), TokenClaimUnexpected, tokenChallenge},
		{"iss missing", claim("iss", nil), TokenClaimMissing, tokenChallenge},
		{"iss is empty", claim("iss", ""), TokenClaimMissing, tokenChallenge},
		{"iss of another", claim("iss", testIssuer+"/"), TokenIssuer, tokenChallenge},
		{"iss is a list", claim("iss", []string{testIssuer}), TokenClaimUnexpected, tokenChallenge},
		{"aud missing", claim("aud", nil), TokenClaimMissing, tokenChallenge},
		{"aud is an empty list", claim("aud", []string{}), TokenClaimMissing, tokenChallenge},
		{"aud of others", claim("aud", []string{"a", "b"}), TokenAudience, tokenChallenge},
		{"aud in another case", claim("aud", strings.ToUpper(testAudience)), TokenAudience, tokenChallenge},
		{"aud is null", raw(`{"iss":"` + testIssuer + `","sub":"ada","exp":4000000000,"aud":null}`), TokenClaimUnexpected, tokenChallenge},
		{"aud has a number", claim("aud", []any{testAudience, 7}), TokenClaimUnexpected, tokenChallenge},
		{"aud has null", claim("aud", []any{nil, testAudience}), TokenClaimUnexpected, tokenChallenge},
		{"aud is an object", claim("aud", map[string]string{"x": testAudience}), TokenClaimUnexpected, tokenChallenge},
		{"exp missing", claim("exp", nil), TokenClaimMissing, tokenChallenge},
		{"exp at the end of the leeway", claim("exp", at(-30)), TokenExpired, tokenChallenge},
		{"exp is a string", claim("exp", "4000000000"), TokenClaimUnexpected, tokenChallenge},
		{"exp is null", raw(`{"iss":"x","sub":"ada","exp":null}`), TokenClaimUnexpected, tokenChallenge},
		{"exp below zero", claim("exp", -1), TokenClaimUnexpected, tokenChallenge},
		{"exp after the year 9999", claim("exp", endOfYear9999+1), TokenClaimUnexpected, tokenChallenge},
		{"exp beyond floating point", raw(`{"iss":"x","sub":"ada","exp":1e999}`), TokenClaimUnexpected, tokenChallenge},
		{"nbf after the leeway", claim("nbf", at(30.5)), TokenNotYetValid, tokenChallenge},
		{"nbf is a string", claim("nbf", "0"), TokenClaimUnexpected, tokenChallenge},
		{"iat after the leeway", claim("iat", at(30.5)), TokenNotYetValid, tokenChallenge},
		{"iss has a lone surrogate", raw(strings.Replace(payload(`,"sub":"ada"`), testIssuer, testIssuer+`\ud800`, 1)), TokenClaimUnexpected, tokenChallenge},
		{"aud has a lone surrogate", raw(strings.Replace(payload(`,"sub":"ada"`), `"`+testAudience, `["\ud800","`+testAudience+`"],"x":"`, 1)), TokenClaimUnexpected, tokenChallenge},
		{"iat is null", raw(payload(`,"sub":"ada","iat":null`)), TokenClaimUnexpected, tokenChallenge},
	} {
		t.Run(row.name, func(t *testing.T) {
			keys.lookups = 0
			principal, err := a.Authenticate(t.Context(), row.header)
			if lookedUp := row.cause == KeyUnknown || row.cause == AccountsDiffer; keys.lookups > 0 != lookedUp {
				t.Errorf("%d look-ups; want one only of a well-formed key: %t", keys.lookups, lookedUp)
			}
			refusal, ok := errors.AsType[*Refusal](err)
			if !ok || principal != (Principal{}) {
				t.Fatalf("Authenticate = %+v, %v; want no principal and a refusal", principal, err)
			}
			if refusal.Cause != row.cause || refusal.Challenge() != row.challenge {
				t.Errorf("%s, challenge %s; want %s, %s", refusal.Cause, refusal.Challenge(), row.cause, row.challenge)
			}
		})
	}
}

// TestAuthenticate_Accepts has a row for each unusual form that is valid.
func TestAuthenticate_Accepts(t *testing.T) {
	key, unlabelled := NewAPIKey(), NewAPIKey()
	a := newTestAuthenticator(t, &fakeKeys{apiKeys: map[string]*Principal{
		key:        {Account: "ada", Label: "key@example.com", KeyID: "key_1"},
		unlabelled: {Account: "bob"},
	}})
	good := signClaims(t, testClaims())
	token := Principal{Account: "ada", Label: "ada@example.com", Scheme: Bearer}
	unnamed := Principal{Account: "ada", Label: "ada", Scheme: Bearer}
	header := func(text string) http.Header { return bearer(sign(text, payloads()[0])) }
	at := func(offset float64) float64 { return float64(testNow.Unix()) + offset }
	long := strings.Repeat("x", 255)
	for name, row := range map[string]struct {
		header http.Header
		want   Principal
	}{
		"token":                      {bearer(good), token},
		"scheme in another case":     {http.Header{"Authorization": {"bEaReR    " + good}}, token},
		"API key":                    {withKey(key), Principal{Account: "ada", Label: "key@example.com", Scheme: APIKey, KeyID: "key_1"}},
		"API key without label":      {withKey(unlabelled), Principal{Account: "bob", Scheme: APIKey}},
		"token and API key":          {join(bearer(good), withKey(key)), Principal{Account: "ada", Label: "ada@example.com", Scheme: Both, KeyID: "key_1"}},
		"token without email":        {header(`{"alg":"HS256"}`), unnamed},
		"empty email":                {bearer(signClaims(t, change("email", ""))), unnamed},
		"typ JWT":                    {header(`{"alg":"HS256","typ":"JWT"}`), unnamed},
		"typ jwt":                    {header(`{"alg":"HS256","typ":"jwt"}`), unnamed},
		"typ application/jwt":        {header(`{"alg":"HS256","typ":"application/jwt"}`), unnamed},
		"typ at+jwt":                 {header(`{"alg":"HS256","typ":"at+jwt"}`), unnamed},
		"typ application/AT+JWT":     {header(`{"alg":"HS256","typ":"application/AT+JWT"}`), unnamed},
		"unknown header parameters":  {header(`{"alg":"HS256","kid":"x","jku":"https://evil.test"}`), unnamed},
		"second of two audiences":    {bearer(signClaims(t, change("aud", []string{"other", testAudience}))), token},
		"one audience":               {bearer(signClaims(t, change("aud", testAudience))), token},
		"claims that we do not read": {bearer(signClaims(t, change("act", map[string]any{"sub": "eve"}))), token},
		"forged identity header":     {join(bearer(good), http.Header{"X-User-Id": {"eve"}}), token},
		"exp within the leeway":      {bearer(signClaims(t, change("exp", at(-29.5)))), token},
		"exp at the end of 9999":     {bearer(signClaims(t, change("exp", endOfYear9999))), token},
		"nbf at the leeway":          {bearer(signClaims(t, change("nbf", at(30)))), token},
		"iat at the leeway":          {bearer(signClaims(t, change("iat", at(30)))), token},
		"8192 bytes":                 {bearer(tokenOfSize(t, 8192)), token},
		"sub of 255 bytes":           {bearer(signClaims(t, change("sub", long))), Principal{Account: long, Label: "ada@example.com", Scheme: Bearer}},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := a.Authenticate(t.Context(), row.header); err != nil || got != row.want {
				t.Errorf("Authenticate = %+v, %v; want %+v", got, err, row.want)
			}
		})
	}
}

// An email that cannot be shown is ignored: the label is the account.
func TestAuthenticate_LabelsWithAnEmailThatCanBeShown(t *testing.T) {
	a := newTestAuthenticator(t, &fakeKeys{})
	long := strings.Repeat("x", 242) + "@example.com" // 254 bytes
	for email, want := range map[string]string{
		`"ada@example.com"`:        "ada@example.com",
		`"Ada L. <ada@ex.com>"`:    "Ada L. <ada@ex.com>",
		`"d\u00fcrer@example.com"`: "dürer@example.com",
		`"` + long + `"`:           long,
		`"` + long + `m"`:          "ada",
		`null`:                     "ada",
		`7`:                        "ada",
		`false`:                    "ada",
		`["ada@example.com"]`:      "ada",
		`{"a":"x","a":"y"}`:        "ada",
		`""`:                       "ada",
		`" "`:                      "ada",
		`"\u00a0\u3000"`:           "ada",
		`"ada@example.com\n"`:      "ada",
		`"a\r\nb@example.com"`:     "ada",
		`"a\tb@example.com"`:       "ada",
		`"\u0000@example.com"`:     "ada",
		`"\u007f@example.com"`:     "ada",
		`"\u0085@example.com"`:     "ada", // next line
		`"\u2028@example.com"`:     "ada", // line separator
		`"\u202e@example.com"`:     "ada", // right-to-left override
		`"\u200b"`:                 "ada", // zero-width space
		`"\ud800@example.com"`:     "ada", // lone surrogate
		`"\u3164"`:                 "ada", // Hangul filler
		`"a\u034fda@example.com"`:  "ada", // combining grapheme joiner
		`"\u2800 \ufe0f"`:          "ada", // blanks and a mark
	} {
		token := sign(`{"alg":"HS256"}`, strings.Replace(payloads()[0], "{", `{"email":`+email+`,`, 1))
		if got, err := a.Authenticate(t.Context(), bearer(token)); err != nil || got.Account != "ada" || got.Label != want {
			t.Errorf("%s: %+v, %v; want label %s", email, got, err, want)
		}
	}
}

// What we do not read only has to be JSON, in claims and in header parameters.
func TestAuthenticate_AcceptsAnyJSONInOtherMembers(t *testing.T) {
	a := newTestAuthenticator(t, &fakeKeys{})
	for _, value := range []string{
		`null`, `""`, `[]`, `{}`, ` [ 1 , { } ] `, `1e999`, `-0.0E-400`, `123456789012345678901234567890.5`,
		`{"a":1,"a":2}`, `[{"a":{"b":1,"b":2}}]`, `{"":1,"":2}`, `"\ud800"`, `{"\udfff":"\ud83d"}`, `"\u0000\n\/\ud83d\ude00"`,
		strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
	} {
		for name, token := range map[string]string{
			"claim":            sign(`{"alg":"HS256"}`, strings.Replace(payloads()[0], "{", `{"x":`+value+`,`, 1)),
			"header parameter": sign(`{"alg":"HS256","x":`+value+`}`, payloads()[0]),
		} {
			want := Principal{Account: "ada", Label: "ada", Scheme: Bearer}
			if got, err := a.Authenticate(t.Context(), bearer(token)); err != nil || got != want {
				t.Errorf("%s %.40s: %+v, %v; want %+v", name, value, got, err, want)
			}
		}
	}
}

// A malformed auth_time is ignored. The token's holds beside an API key.
func TestAuthenticate_ReturnsTheTimeOfTheSignIn(t *testing.T) {
	key := NewAPIKey()
	a := newTestAuthenticator(t, &fakeKeys{apiKeys: map[string]*Principal{key: {Account: "ada"}}})
	for value, want := range map[string]time.Time{
		`1795348800`:      testNow,
		`1795348800.5`:    testNow.Add(500 * time.Millisecond),
		`4000000000`:      time.Unix(4000000000, 0).UTC(), // in the future: the reader's affair
		`0`:               time.Unix(0, 0).UTC(),
		`-1`:              {},
		`1e999`:           {},
		`253402300800`:    {}, // the year 10000
		`null`:            {},
		`true`:            {},
		`"1795348800"`:    {},
		`[1795348800]`:    {},
		`{"a":1,"b":[0]}`: {},
	} {
		token := bearer(sign(`{"alg":"HS256"}`, strings.Replace(payloads()[0], "{", `{"auth_time":`+value+`,`, 1)))
		for _, header := range []http.Header{token, join(token, withKey(key))} {
			if got, err := a.Authenticate(t.Context(), header); err != nil || got.Account != "ada" || got.AuthTime != want {
				t.Errorf("%s: %+v, %v; want AuthTime %v", value, got, err, want)
			}
		}
	}
	for name, header := range map[string]http.Header{"no claim": bearer(signClaims(t, testClaims())), "API key": withKey(key)} {
		if got, err := a.Authenticate(t.Context(), header); err != nil || !got.AuthTime.IsZero() {
			t.Errorf("%s: %+v, %v; want a zero AuthTime", name, got, err)
		}
	}
}

// The error of a look-up is no refusal, and KeyTime limits the look-up.
func TestAuthenticate_ReturnsTheErrorOfTheLookUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, serviceKey := NewAPIKey(), NewServiceKey()
		a := newTestAuthenticator(t, &fakeKeys{apiKeys: map[string]*Principal{key: nil}, serviceKeys: map[string]*Principal{serviceKey: nil}})
		for name, call := range map[string]struct {
			authenticate func(context.Context, http.Header) (Principal, error)
			header       http.Header
		}{
			"API key":           {a.Authenticate, withKey(key)},
			"token and API key": {a.Authenticate, join(bearer(signClaims(t, testClaims())), withKey(key))},
			"service key":       {a.AuthenticateService, withServiceKey(serviceKey)},
		} {
			began := time.Now()
			got, err := call.authenticate(t.Context(), call.header)
			if took := time.Since(began); took != time.Second || !errors.Is(err, errLookup) || got != (Principal{}) {
				t.Errorf("%s: %+v, %v after %v; want no principal and the KeyFinder's error after KeyTime", name, got, err, took)
			}
		}
	})
}

// Before the first JWK set is loaded, a token for it is neither accepted nor refused.
func TestAuthenticate_ReturnsErrKeysUnavailableBeforeTheFirstSet(t *testing.T) {
	private, _ := newKey(t, jwt.SigningMethodES256)
	a := newTestAuthenticator(t, &fakeKeys{})
	a.tokens.keys.keys.Store(nil)
	if got, err := a.Authenticate(t.Context(), bearer(signWith(t, jwt.SigningMethodES256, private, "k"))); !errors.Is(err, ErrKeysUnavailable) || got != (Principal{}) {
		t.Errorf("Authenticate = %+v, %v; want ErrKeysUnavailable", got, err)
	}
	if _, err := a.Authenticate(t.Context(), bearer(signClaims(t, testClaims()))); err != nil {
		t.Errorf("an HS256 token: %v; want it accepted", err)
	}
}

// tokenOfSize returns a good token of this many bytes.
func tokenOfSize(t *testing.T, size int) string {
	t.Helper()
	for padding := size*3/4 - 300; padding < size; padding++ {
		if token := signClaims(t, change("x", strings.Repeat("x", padding))); len(token) == size {
			return token
		}
	}
	t.Fatalf("no token has %d bytes", size)
	return ""
}

// nextBase64 changes only the bits of a last character that carry nothing: 32 bytes leave two.
func nextBase64(last byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, last)|1:][:1]
}
