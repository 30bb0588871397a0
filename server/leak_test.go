package main

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

// TestNoSecretStaysWhereItCanBeRead looks through everything that Redis holds and
// everything that was logged, after calls of every outcome, for whatever must be
// in neither.
func TestNoSecretStaysWhereItCanBeRead(t *testing.T) {
	redis := storetest.StartRedis(t)
	sealKey := storetest.NewSealKey("k1")
	s := startService(t, testEnviron(redis, "MFA_SEAL_KEYS="+sealKey, "MFA_LOG_LEVEL=debug"))
	forbidden := map[string]string{"HS256 key": testSecret}
	addKey := func(name, encoded string) {
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		forbidden[name] = encoded
		forbidden[name+" in hex"] = hex.EncodeToString(raw)
		forbidden[name+" raw"] = string(raw)
	}
	addKey("seal key", strings.TrimPrefix(sealKey, "k1:"))

	personal := []string{"key@example.com"}
	header := http.Header{}
	for i := range 20 {
		account := fmt.Sprintf("account-%d", i)
		personal = append(personal, account)
		key, token := s.newAPIKey(account), newToken(t, goodClaims(account, nil))
		for _, header = range []http.Header{withKey(key), bearer(token)} {
			totp, _ := s.generate(header)
			raw, err := base32.StdEncoding.DecodeString(totp.Secret)
			if err != nil {
				t.Fatal(err)
			}
			forbidden["secret "+account] = totp.Secret
			forbidden["secret in hex "+account] = hex.EncodeToString(raw)
			forbidden["secret raw "+account] = string(raw)
		}
		stranger := auth.NewAPIKey()
		bad := token[:len(token)-6] + "AAAAAA"
		for name, fields := range map[string]http.Header{
			"API key":       withKey(key),
			"stranger key":  withKey(stranger),
			"spoilt key":    withKey(typo(key)),
			"token":         bearer(token),
			"spoilt token":  bearer(bad),
			"key as token":  bearer(key),
			"token as path": nil,
		} {
			s.post(fields)
			for _, values := range fields {
				forbidden[name+" "+account] = strings.TrimPrefix(values[0], "Bearer ")
			}
		}
		// Where credentials do not belong, and where clients put them all the same.
		s.send(http.MethodPost, generatePath+"?key="+key+"&access_token="+token, nil, strings.NewReader(key+token))
		s.send(key, generatePath, nil, http.NoBody)
		forbidden["half a key as method "+account] = key[:16]
		s.send(http.MethodGet, "/"+token, http.Header{"Cookie": {key}, "User-Agent": {token}, "X-Request-Id": {key}}, http.NoBody)
	}
	redis.Stop(t)
	for _, fields := range []http.Header{header, asUser(t, "account-0")} {
		if got := s.post(fields); got.status != http.StatusServiceUnavailable {
			t.Fatalf("%d while Redis stands still; want 503", got.status)
		}
	}
	redis.Continue(t)
	// Another replica, which cannot open what the first one has sealed.
	stranger := startService(t, testEnviron(redis, "MFA_SEAL_KEYS="+storetest.NewSealKey("k2"), "MFA_LOG_LEVEL=debug"))
	for i := range 5 {
		totp, _ := stranger.generate(asUser(t, fmt.Sprintf("account-%d", i)))
		forbidden[fmt.Sprintf("replaced secret %d", i)] = totp.Secret
	}

	log := s.log.String() + stranger.log.String()
	if found := secretPattern.FindString(log); found != "" {
		t.Errorf("the log holds %s, which could be a secret that nobody got", found)
	}
	for _, name := range personal {
		if strings.Contains(log, name) {
			t.Errorf("the log names %s", name)
		}
	}
	places := map[string]string{"the log": log, "standard output": s.stdout.String()}
	for key, value := range redis.Dump(t) {
		places["Redis at "+key] = key + value
	}
	if len(places) != 2+40 || len(s.logLines("request")) < 100 {
		t.Fatalf("%d places, %d requests: not everything was looked at", len(places), len(s.logLines("request")))
	}
	for where, text := range places {
		text = strings.ToLower(text)
		for what, secret := range forbidden {
			if strings.Contains(text, strings.ToLower(secret)) {
				t.Errorf("%s holds the %s", where, what)
			}
		}
	}
}

// TestTheScanSeesWhatRedisHolds makes sure that the scan above would find a secret:
// by default Redis compresses what it dumps, and a secret could go unseen.
func TestTheScanSeesWhatRedisHolds(t *testing.T) {
	redis := storetest.StartRedis(t)
	leaky := `{"padding":"` + strings.Repeat("x", 100) + `","key":"` + auth.NewAPIKey() + `"}`
	if err := redis.Client.Set(t.Context(), "k", leaky, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if dump := redis.Dump(t)["k"]; !strings.Contains(dump, leaky) {
		t.Errorf("DUMP of %s is %q", leaky, dump)
	}
}
