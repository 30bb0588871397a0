package auth

import (
	"errors"
	"testing"
	"time"
)

func TestStepUp_DemandsARecentSignIn(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	tooOld := &Refusal{Cause: SignInTooOld, maxAge: time.Hour}
	for name, row := range map[string]struct {
		maxAge time.Duration
		p      Principal
		want   error
	}{
		"a recent sign-in":                 {time.Hour, Principal{Scheme: Bearer, AuthTime: now.Add(-time.Minute)}, nil},
		"the oldest sign-in":               {time.Hour, Principal{Scheme: Bearer, AuthTime: now.Add(-time.Hour)}, nil},
		"an old sign-in":                   {time.Hour, Principal{Scheme: Bearer, AuthTime: now.Add(-time.Hour - 1)}, tooOld},
		"a sign-in within the leeway":      {time.Hour, Principal{Scheme: Bearer, AuthTime: now.Add(30 * time.Second)}, nil},
		"a sign-in in the future":          {time.Hour, Principal{Scheme: Bearer, AuthTime: now.Add(30*time.Second + 1)}, tooOld},
		"a token without auth_time":        {time.Hour, Principal{Scheme: Bearer}, tooOld},
		"a max age longer than Unix time":  {100 * 365 * 24 * time.Hour, Principal{Scheme: Bearer}, &Refusal{Cause: SignInTooOld, maxAge: 100 * 365 * 24 * time.Hour}},
		"an API key":                       {time.Hour, Principal{Scheme: APIKey}, ErrPersonRequired},
		"an API key with auth_time":        {time.Hour, Principal{Scheme: APIKey, AuthTime: now}, ErrPersonRequired},
		"an API key and a recent sign-in":  {time.Hour, Principal{Scheme: Both, AuthTime: now}, nil},
		"an API key and an old sign-in":    {time.Hour, Principal{Scheme: Both, AuthTime: now.Add(-2 * time.Hour)}, tooOld},
		"an API key, with step-up off":     {0, Principal{Scheme: APIKey}, nil},
		"an old sign-in, with step-up off": {0, Principal{Scheme: Bearer, AuthTime: now.Add(-2 * time.Hour)}, nil},
	} {
		err := StepUp{MaxAge: row.maxAge, Leeway: 30 * time.Second, Now: func() time.Time { return now }}.Check(row.p)
		refusal, _ := errors.AsType[*Refusal](err)
		if want, ok := errors.AsType[*Refusal](row.want); ok && (refusal == nil || *refusal != *want) || !ok && !errors.Is(err, row.want) {
			t.Errorf("%s: %v; want %v", name, err, row.want)
		}
	}
	const want = `Bearer realm="quiva.ai Gateway", error="insufficient_user_authentication", max_age=3600`
	if got := tooOld.Challenge(); got != want { // RFC 9470, section 3
		t.Errorf("challenge %s; want %s", got, want)
	}
}
