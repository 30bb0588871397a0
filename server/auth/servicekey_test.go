package auth

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

func withServiceKey(keys ...string) http.Header { return http.Header{"X-Service-Key": keys} }

// TestAuthenticateService_Refuses has a row for each way to be refused, and says whether the key
// was looked up.
func TestAuthenticateService_Refuses(t *testing.T) {
	key, apiKey, unknown := NewServiceKey(), NewAPIKey(), NewServiceKey()
	asServiceKey := serviceKeyPrefix + strings.TrimPrefix(apiKey, apiKeyPrefix)
	keys := &fakeKeys{
		apiKeys:     map[string]*Principal{apiKey: {Account: "ada"}, asServiceKey: {Account: "ada"}},
		serviceKeys: map[string]*Principal{key: {KeyID: "key_1"}},
	}
	a := newTestAuthenticator(t, keys)
	good := bearer(signClaims(t, testClaims()))
	for name, row := range map[string]struct {
		header  http.Header
		cause   Cause
		lookups int
	}{
		"no credential":                    {nil, NoCredentials, 0},
		"a token":                          {good, NoCredentials, 0},
		"an API key":                       {withKey(apiKey), NoCredentials, 0},
		"a service key in X-Api-Key":       {withKey(key), NoCredentials, 0},
		"a service key as a token":         {bearer(key), NoCredentials, 0},
		"a service key in a cookie":        {http.Header{"Cookie": {"X-Service-Key=" + key}}, NoCredentials, 0},
		"two service keys":                 {withServiceKey(key, key), SeveralCredentials, 0},
		"a service key and an empty one":   {withServiceKey(key, ""), SeveralCredentials, 0},
		"beside a token":                   {join(withServiceKey(key), good), SeveralCredentials, 0},
		"beside an empty Authorization":    {join(withServiceKey(key), http.Header{"Authorization": {""}}), SeveralCredentials, 0},
		"beside an API key":                {join(withServiceKey(key), withKey(apiKey)), SeveralCredentials, 0},
		"beside an empty X-Api-Key":        {join(withServiceKey(key), withKey("")), SeveralCredentials, 0},
		"two service keys in one field":    {withServiceKey(key + ", " + key), KeyMalformed, 0},
		"an empty service key":             {withServiceKey(""), KeyMalformed, 0},
		"a service key with a typo":        {withServiceKey(key[:len(key)-1]), KeyMalformed, 0},
		"a service key in upper case":      {withServiceKey(strings.ToUpper(key)), KeyMalformed, 0},
		"a service key without its prefix": {withServiceKey(strings.TrimPrefix(key, serviceKeyPrefix)), KeyMalformed, 0},
		"an API key as service key":        {withServiceKey(apiKey), KeyMalformed, 0},
		"a token as service key":           {withServiceKey(strings.TrimPrefix(good.Get("Authorization"), "Bearer ")), KeyMalformed, 0},
		"an API key with the other prefix": {withServiceKey(asServiceKey), KeyUnknown, 1},
		"an unknown service key":           {withServiceKey(unknown), KeyUnknown, 1},
	} {
		t.Run(name, func(t *testing.T) {
			keys.lookups = 0
			principal, err := a.AuthenticateService(t.Context(), row.header)
			wantRefusal(t, err, row.cause)
			if refusal, ok := errors.AsType[*Refusal](err); ok && refusal.Challenge() != plainChallenge {
				t.Errorf("challenge %s; want %s", refusal.Challenge(), plainChallenge)
			}
			if principal != (Principal{}) || keys.lookups != row.lookups {
				t.Errorf("principal %+v after %d look-ups; want none after %d", principal, keys.lookups, row.lookups)
			}
		})
	}
}

// A service key opens no operation of accounts, alone or beside a good credential.
func TestAuthenticate_RefusesAServiceKey(t *testing.T) {
	key, apiKey := NewServiceKey(), NewAPIKey()
	a := newTestAuthenticator(t, &fakeKeys{apiKeys: map[string]*Principal{apiKey: {Account: "ada"}}, serviceKeys: map[string]*Principal{key: {}}})
	good := bearer(signClaims(t, testClaims()))
	for name, row := range map[string]struct {
		header http.Header
		cause  Cause
	}{
		"alone":               {withServiceKey(key), ServiceKeyMisplaced},
		"beside a token":      {join(withServiceKey(key), good), ServiceKeyMisplaced},
		"beside an API key":   {join(withServiceKey(key), withKey(apiKey)), ServiceKeyMisplaced},
		"empty":               {join(withServiceKey(""), good), ServiceKeyMisplaced},
		"in X-Api-Key":        {withKey(key), KeyMalformed},
		"in Authorization":    {bearer(key), TokenMalformed},
		"of the other scheme": {http.Header{"Authorization": {"Service " + key}}, SchemeUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			principal, err := a.Authenticate(t.Context(), row.header)
			wantRefusal(t, err, row.cause)
			if principal != (Principal{}) {
				t.Errorf("principal %+v; want none", principal)
			}
		})
	}
}

func TestAuthenticateService_ReturnsThePrincipalOfTheKey(t *testing.T) {
	key := NewServiceKey()
	a := newTestAuthenticator(t, &fakeKeys{apiKeys: map[string]*Principal{key: {Account: "ada"}}, serviceKeys: map[string]*Principal{key: {KeyID: "key_1"}}})
	want := Principal{Scheme: ServiceKey, KeyID: "key_1"}
	if got, err := a.AuthenticateService(t.Context(), withServiceKey(key)); err != nil || got != want {
		t.Errorf("AuthenticateService = %+v, %v; want %+v", got, err, want)
	}
}
