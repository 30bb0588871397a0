package main

import (
	"encoding/base64"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

const (
	refusedBody    = `{"error":"Sign in, or send a valid API key, to use this service."}` + "\n"
	plainChallenge = `Bearer realm="quiva.ai Gateway"`
	tokenChallenge = plainChallenge + `, error="invalid_token"`
)

// segment encodes one part of a token.
func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signed returns a token of these two texts with a good signature.
func signed(t testing.TB, header, payload string) string {
	t.Helper()
	input := segment(header) + "." + segment(payload)
	signature, err := jwt.SigningMethodHS256.Sign(input, []byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// TestRefusals has a row for each way to be turned away. Whatever the way, the
// client sees the same, Redis keeps what it has, and a bad token costs no call to
// Redis. The log has the cause.
func TestRefusals(t *testing.T) {
	redis := storetest.StartRedis(t)
	s := startService(t, testEnviron(redis))
	revoked := s.newAPIKey("ada")
	revokeOnlyKey(t, s)
	key := s.newAPIKey("ada")
	good := newToken(t, goodClaims("ada", nil))
	if _, left := s.generate(http.Header{"Authorization": {"bEaReR   " + good}, "X-Api-Key": {key}}); left == 0 {
		t.Fatal("the credentials that the rows spoil are not good to begin with")
	}
	inAnHour := time.Now().Add(time.Hour).Unix()
	claims := func(name string, value any) http.Header {
		return bearer(newToken(t, goodClaims("ada", jwt.MapClaims{name: value})))
	}
	const hs256 = `{"alg":"HS256","typ":"JWT"}`
	payload := func(more string) string {
		return `{"iss":"` + testIssuer + `","aud":"` + testAudience + `","exp":4000000000` + more + `}`
	}
	raw := func(header, payload string) http.Header { return bearer(signed(t, header, payload)) }
	parts := strings.Split(good, ".")
	otherKey, err := jwt.NewWithClaims(jwt.SigningMethodHS256, goodClaims("ada", nil)).SignedString([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	hs512, err := jwt.NewWithClaims(jwt.SigningMethodHS512, goodClaims("ada", nil)).SignedString([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}

	for _, row := range []struct {
		name      string
		header    http.Header
		cause     auth.Cause
		challenge string
	}{
		{"nothing", nil, auth.NoCredentials, plainChallenge},
		{"identity headers only", http.Header{"X-User-Id": {"ada"}, "X-Forwarded-User": {"ada"}}, auth.NoCredentials, plainChallenge},
		{"token in a cookie", http.Header{"Cookie": {"token=" + good}}, auth.NoCredentials, plainChallenge},
		{"token for a proxy", http.Header{"Proxy-Authorization": {"Bearer " + good}}, auth.NoCredentials, plainChallenge},
		{"basic scheme", http.Header{"Authorization": {"Basic YTpi"}}, auth.SchemeUnknown, plainChallenge},
		{"empty authorization", http.Header{"Authorization": {""}}, auth.SchemeUnknown, plainChallenge},
		{"token without scheme", http.Header{"Authorization": {good}}, auth.SchemeUnknown, plainChallenge},
		{"scheme without token", http.Header{"Authorization": {"Bearer"}}, auth.TokenMalformed, tokenChallenge},
		{"tab after the scheme", http.Header{"Authorization": {"Bearer\t" + good}}, auth.SchemeUnknown, plainChallenge},
		{"two tokens", http.Header{"Authorization": {"Bearer " + good, "Bearer " + good}}, auth.SeveralCredentials, tokenChallenge},
		{"two tokens, joined", http.Header{"Authorization": {"Bearer " + good + ", Bearer " + good}}, auth.TokenMalformed, tokenChallenge},
		{"two schemes", http.Header{"Authorization": {"Basic YTpi", "Bearer " + good}}, auth.SeveralCredentials, tokenChallenge},
		{"two keys", http.Header{"X-Api-Key": {key, key}}, auth.SeveralCredentials, plainChallenge},
		{"two keys, joined", withKey(key + ", " + key), auth.KeyMalformed, plainChallenge},

		{"empty key", withKey(""), auth.KeyMalformed, plainChallenge},
		{"unknown key", withKey(auth.NewAPIKey()), auth.KeyUnknown, plainChallenge},
		{"revoked key", withKey(revoked), auth.KeyUnknown, plainChallenge},
		{"key with a typo", withKey(typo(key)), auth.KeyMalformed, plainChallenge},
		{"key in upper case", withKey(strings.ToUpper(key)), auth.KeyMalformed, plainChallenge},
		{"key without prefix", withKey(strings.TrimPrefix(key, "mfa_")), auth.KeyMalformed, plainChallenge},
		{"key as token", bearer(key), auth.TokenMalformed, tokenChallenge},
		{"token as key", withKey(good), auth.KeyMalformed, plainChallenge},
		{"good token, unknown key", join(bearer(good), withKey(auth.NewAPIKey())), auth.KeyUnknown, tokenChallenge},
		{"good token, malformed key", join(bearer(good), withKey("x")), auth.KeyMalformed, tokenChallenge},
		{"bad token, good key", join(bearer("a.b.c"), withKey(key)), auth.TokenMalformed, tokenChallenge},
		{"good token, two keys", join(bearer(good), http.Header{"X-Api-Key": {key, key}}), auth.SeveralCredentials, tokenChallenge},
		{"other scheme, good key", join(http.Header{"Authorization": {"Basic YTpi"}}, withKey(key)), auth.SchemeUnknown, plainChallenge},
		{"token and key of two accounts", join(asUser(t, "bob"), withKey(key)), auth.AccountsDiffer, tokenChallenge},

		{"no dots", bearer("x"), auth.TokenMalformed, tokenChallenge},
		{"two segments", bearer(parts[0] + "." + parts[1]), auth.TokenMalformed, tokenChallenge},
		{"four segments", bearer(good + ".x"), auth.TokenMalformed, tokenChallenge},
		{"padded", bearer(good + "="), auth.TokenMalformed, tokenChallenge},
		{"stray trailing bits", bearer(good[:len(good)-1] + nextBase64(good[len(good)-1])), auth.TokenMalformed, tokenChallenge},
		{"only dots", bearer(".."), auth.TokenMalformed, tokenChallenge},
		{"dot before", bearer("." + good), auth.TokenMalformed, tokenChallenge},
		{"space inside", bearer(strings.Replace(good, ".", " .", 1)), auth.TokenMalformed, tokenChallenge},
		{"alphabet of plain base64", bearer("+" + good[1:]), auth.TokenMalformed, tokenChallenge},
		{"percent-encoded", bearer(strings.ReplaceAll(good, ".", "%2E")), auth.TokenMalformed, tokenChallenge},
		{"comma after", bearer(good + ","), auth.TokenMalformed, tokenChallenge},
		{"JWE of five segments", bearer("e30.e30.e30.e30.e30"), auth.TokenMalformed, tokenChallenge},
		{"longer than 8 KiB", raw(hs256, payload(`,"sub":"ada","x":"`+strings.Repeat("x", 6200)+`"`)), auth.TokenMalformed, tokenChallenge},
		{"header no object", raw(`[]`, payload(`,"sub":"ada"`)), auth.TokenMalformed, tokenChallenge},
		{"header null", raw(`null`, payload(`,"sub":"ada"`)), auth.TokenMalformed, tokenChallenge},
		{"header empty", raw(``, payload(`,"sub":"ada"`)), auth.TokenMalformed, tokenChallenge},
		{"header with a comma too many", raw(`{"alg":"HS256",}`, payload(`,"sub":"ada"`)), auth.TokenMalformed, tokenChallenge},
		{"header not UTF-8", raw("{\"alg\":\"HS256\",\"x\":\"\xff\"}", payload(`,"sub":"ada"`)), auth.TokenMalformed, tokenChallenge},
		{"kid a number", raw(`{"alg":"HS256","kid":7}`, payload(`,"sub":"ada"`)), auth.TokenMalformed, tokenChallenge},
		{"alg a number", raw(`{"alg":256}`, payload(`,"sub":"ada"`)), auth.TokenMalformed, tokenChallenge},
		{"ALG for alg", raw(`{"ALG":"HS256"}`, payload(`,"sub":"ada"`)), auth.TokenAlgorithm, tokenChallenge},
		{"alg RS256 without a key set", raw(`{"alg":"RS256"}`, payload(`,"sub":"ada"`)), auth.TokenAlgorithm, tokenChallenge},
		{"header with alg twice", raw(`{"alg":"none","alg":"HS256"}`, payload(`,"sub":"ada"`)), auth.TokenMalformed, tokenChallenge},
		{"no signature", bearer(parts[0] + "." + parts[1] + "."), auth.TokenSignature, tokenChallenge},
		{"other key", bearer(otherKey), auth.TokenSignature, tokenChallenge},
		{"alg none", bearer(segment(`{"alg":"none"}`) + "." + parts[1] + "."), auth.TokenAlgorithm, tokenChallenge},
		{"alg nOnE", bearer(segment(`{"alg":"nOnE"}`) + "." + parts[1] + "."), auth.TokenAlgorithm, tokenChallenge},
		{"alg in lower case", raw(`{"alg":"hs256"}`, payload(`,"sub":"ada"`)), auth.TokenAlgorithm, tokenChallenge},
		{"alg missing", raw(`{}`, payload(`,"sub":"ada"`)), auth.TokenAlgorithm, tokenChallenge},
		{"alg HS512 with our key", bearer(hs512), auth.TokenAlgorithm, tokenChallenge},
		{"crit", raw(`{"alg":"HS256","crit":["exp"]}`, payload(`,"sub":"ada"`)), auth.TokenHeaderUnexpected, tokenChallenge},
		{"empty crit", raw(`{"alg":"HS256","crit":null}`, payload(`,"sub":"ada"`)), auth.TokenHeaderUnexpected, tokenChallenge},
		{"typ of another kind", raw(`{"alg":"HS256","typ":"dpop+jwt"}`, payload(`,"sub":"ada"`)), auth.TokenHeaderUnexpected, tokenChallenge},

		{"typ empty", raw(`{"alg":"HS256","typ":""}`, payload(`,"sub":"ada"`)), auth.TokenHeaderUnexpected, tokenChallenge},
		{"typ null", raw(`{"alg":"HS256","typ":null}`, payload(`,"sub":"ada"`)), auth.TokenHeaderUnexpected, tokenChallenge},
		{"typ a number", raw(`{"alg":"HS256","typ":7}`, payload(`,"sub":"ada"`)), auth.TokenHeaderUnexpected, tokenChallenge},
		{"typ a prefix only", raw(`{"alg":"HS256","typ":"application/"}`, payload(`,"sub":"ada"`)), auth.TokenHeaderUnexpected, tokenChallenge},
		{"typ that only looks right", raw(`{"alg":"HS256","typ":"appl\u0130cation/jwt"}`, payload(`,"sub":"ada"`)), auth.TokenHeaderUnexpected, tokenChallenge},
		{"kid null", raw(`{"alg":"HS256","kid":null}`, payload(`,"sub":"ada"`)), auth.TokenMalformed, tokenChallenge},
		{"payload null", raw(hs256, `null`), auth.TokenClaimUnexpected, tokenChallenge},
		{"payload array", raw(hs256, `[]`), auth.TokenClaimUnexpected, tokenChallenge},
		{"payload twice", raw(hs256, payload(`,"sub":"ada"`)+`{}`), auth.TokenClaimUnexpected, tokenChallenge},
		{"payload after a byte order mark", raw(hs256, "\ufeff"+payload(`,"sub":"ada"`)), auth.TokenClaimUnexpected, tokenChallenge},
		{"payload no JSON", raw(hs256, `sub=ada`), auth.TokenClaimUnexpected, tokenChallenge},
		{"payload empty", raw(hs256, ``), auth.TokenClaimUnexpected, tokenChallenge},
		{"claim twice that is not used", raw(hs256, payload(`,"sub":"ada","x":1,"x":2`)), auth.TokenClaimUnexpected, tokenChallenge},
		{"claim twice in another spelling", raw(hs256, payload(`,"sub":"ada","\u0073ub":"bob"`)), auth.TokenClaimUnexpected, tokenChallenge},
		{"sub twice", raw(hs256, payload(`,"sub":"bob","sub":"ada"`)), auth.TokenClaimUnexpected, tokenChallenge},
		{"sub not UTF-8", raw(hs256, payload(",\"sub\":\"ad\xff\"")), auth.TokenClaimUnexpected, tokenChallenge},
		{"SUB for sub", raw(hs256, payload(`,"SUB":"ada"`)), auth.TokenClaimMissing, tokenChallenge},
		{"sub missing", claims("sub", nil), auth.TokenClaimMissing, tokenChallenge},
		{"sub empty", claims("sub", ""), auth.TokenClaimMissing, tokenChallenge},
		{"sub null", raw(hs256, payload(`,"sub":null`)), auth.TokenClaimUnexpected, tokenChallenge},
		{"sub a lone surrogate", raw(hs256, payload(`,"sub":"ad\ud800"`)), auth.TokenClaimUnexpected, tokenChallenge},
		{"sub a list", claims("sub", []string{"ada"}), auth.TokenClaimUnexpected, tokenChallenge},
		{"sub a number", claims("sub", 7), auth.TokenClaimUnexpected, tokenChallenge},
		{"sub of 256 bytes", claims("sub", strings.Repeat("x", 256)), auth.TokenClaimUnexpected, tokenChallenge},
		{"email no string", claims("email", []string{"a@example.com"}), auth.TokenClaimUnexpected, tokenChallenge},
		{"iss missing", claims("iss", nil), auth.TokenClaimMissing, tokenChallenge},
		{"iss of another", claims("iss", testIssuer+"/"), auth.TokenIssuer, tokenChallenge},
		{"iss a list", claims("iss", []string{testIssuer}), auth.TokenClaimUnexpected, tokenChallenge},
		{"iss empty", claims("iss", ""), auth.TokenClaimMissing, tokenChallenge},
		{"aud missing", claims("aud", nil), auth.TokenClaimMissing, tokenChallenge},
		{"aud of another", claims("aud", []string{"a", "b"}), auth.TokenAudience, tokenChallenge},
		{"aud empty", claims("aud", []string{}), auth.TokenClaimMissing, tokenChallenge},
		{"aud null", raw(hs256, `{"iss":"`+testIssuer+`","sub":"ada","exp":4000000000,"aud":null}`), auth.TokenClaimUnexpected, tokenChallenge},
		{"aud with null", raw(hs256, `{"iss":"`+testIssuer+`","sub":"ada","exp":4000000000,"aud":[null,"`+testAudience+`"]}`), auth.TokenClaimUnexpected, tokenChallenge},
		{"email null", raw(hs256, payload(`,"sub":"ada","email":null`)), auth.TokenClaimUnexpected, tokenChallenge},
		{"aud in another case", claims("aud", strings.ToUpper(testAudience)), auth.TokenAudience, tokenChallenge},
		{"aud with a number", claims("aud", []any{testAudience, 7}), auth.TokenClaimUnexpected, tokenChallenge},
		{"aud a number", claims("aud", 7), auth.TokenClaimUnexpected, tokenChallenge},
		{"aud an object", claims("aud", map[string]string{"x": testAudience}), auth.TokenClaimUnexpected, tokenChallenge},
		{"exp missing", claims("exp", nil), auth.TokenClaimMissing, tokenChallenge},
		{"exp past the leeway", claims("exp", time.Now().Add(-31*time.Second).Unix()), auth.TokenExpired, tokenChallenge},
		{"exp a string", claims("exp", "4000000000"), auth.TokenClaimUnexpected, tokenChallenge},
		{"exp null", raw(hs256, `{"iss":"x","sub":"ada","exp":null}`), auth.TokenClaimUnexpected, tokenChallenge},
		{"exp below zero", claims("exp", -1), auth.TokenClaimUnexpected, tokenChallenge},
		{"exp past the year 9999", claims("exp", 1e12), auth.TokenClaimUnexpected, tokenChallenge},
		{"exp beyond numbers", raw(hs256, `{"iss":"x","sub":"ada","exp":1e999}`), auth.TokenClaimUnexpected, tokenChallenge},
		{"exp a list", claims("exp", []int64{4000000000}), auth.TokenClaimUnexpected, tokenChallenge},
		{"exp true", claims("exp", true), auth.TokenClaimUnexpected, tokenChallenge},
		{"nbf a string", claims("nbf", "0"), auth.TokenClaimUnexpected, tokenChallenge},
		{"iat null", raw(hs256, payload(`,"sub":"ada","iat":null`)), auth.TokenClaimUnexpected, tokenChallenge},
		{"nbf in the future", claims("nbf", inAnHour), auth.TokenNotYetValid, tokenChallenge},
		{"iat in the future", claims("iat", inAnHour), auth.TokenNotYetValid, tokenChallenge},
	} {
		t.Run(row.name, func(t *testing.T) {
			if err := redis.Client.ConfigResetStat(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			before := redis.Dump(t)
			got := s.post(row.header)
			if got.status != http.StatusUnauthorized || got.body != refusedBody {
				t.Errorf("%d %s; want 401 %s", got.status, got.body, refusedBody)
			}
			if challenge := got.header.Get("Www-Authenticate"); challenge != row.challenge {
				t.Errorf("challenge %s; want %s", challenge, row.challenge)
			}
			lines := s.logLines("request")
			if line := lines[len(lines)-1]; line["cause"] != string(row.cause) || line["level"] != "INFO" || line["request_id"] == "" {
				t.Errorf("log line %v; want INFO, the request id and cause %s", line, row.cause)
			}
			if diff := cmp.Diff(before, redis.Dump(t)); diff != "" {
				t.Errorf("Redis has changed:\n%s", diff)
			}
			// The test's own looking is scan and dump.
			calls := redis.Calls(t)
			delete(calls, "scan")
			delete(calls, "dump")
			want := map[string]int{}
			if row.cause == auth.KeyUnknown || row.cause == auth.AccountsDiffer {
				want["get"] = 1
			}
			if diff := cmp.Diff(want, calls); diff != "" {
				t.Errorf("commands to Redis (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWhatIsNotRefused is the other side of the rules: what looks odd and is right.
func TestWhatIsNotRefused(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	const rest = `{"iss":"` + testIssuer + `","sub":"ada","exp":4000000000,"aud":`
	raw := func(header, payload string) http.Header { return bearer(signed(t, header, payload)) }
	for name, header := range map[string]http.Header{
		"scheme in lower case":        {"Authorization": {"bearer " + newToken(t, goodClaims("ada", nil))}},
		"several spaces":              {"Authorization": {"Bearer    " + newToken(t, goodClaims("ada", nil))}},
		"no typ":                      raw(`{"alg":"HS256"}`, rest+`"`+testAudience+`"}`),
		"typ at+jwt":                  raw(`{"alg":"HS256","typ":"application/AT+JWT"}`, rest+`"`+testAudience+`"}`),
		"several audiences":           raw(`{"alg":"HS256"}`, rest+`["x","`+testAudience+`"]}`),
		"exp with a fraction":         raw(`{"alg":"HS256"}`, rest+`"`+testAudience+`","nbf":1.5}`),
		"unknown claims and headers":  raw(`{"alg":"HS256","kid":"x","jku":"https://evil.test"}`, rest+`"`+testAudience+`","SUB":"eve","x":{"sub":"eve"}}`),
		"expired within the leeway":   bearer(newToken(t, goodClaims("ada", jwt.MapClaims{"exp": time.Now().Add(-20 * time.Second).Unix()}))),
		"nbf within the leeway":       bearer(newToken(t, goodClaims("ada", jwt.MapClaims{"nbf": time.Now().Add(20 * time.Second).Unix()}))),
		"a forged identity header":    join(asUser(t, "ada"), http.Header{"X-User-Id": {"eve"}}),
		"credentials of eve in query": asUser(t, "ada"),
	} {
		got := s.send(http.MethodPost, generatePath+"?access_token=x&X-Api-Key=y", header, http.NoBody)
		if got.status != http.StatusOK {
			t.Errorf("%s: %d %s; want 200", name, got.status, got.body)
		}
	}
	long := strings.Repeat("x", 255)
	s.generate(asUser(t, long))
}

// typo changes one character of a key.
func typo(key string) string {
	if strings.HasSuffix(key, "a") {
		return key[:len(key)-1] + "b"
	}
	return key[:len(key)-1] + "a"
}

// nextBase64 changes only the bits of a last character that carry nothing: 32
// bytes leave two of them.
func nextBase64(last byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, last)|1:][:1]
}

func join(a, b http.Header) http.Header {
	joined := a.Clone()
	maps.Copy(joined, b)
	return joined
}
