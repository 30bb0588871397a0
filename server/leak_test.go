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

// After calls with every outcome, neither Redis nor the log has a secret in plain text.
func TestLeak_NoSecretInRedisOrLog(t *testing.T) {
	redis := storetest.StartRedis(t)
	sealKey := storetest.NewSealKey("k1")
	s := startInstance(t, testEnviron(redis, "MFA_SEAL_KEYS="+sealKey, "MFA_LOG_LEVEL=debug"))
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
	addKey("sealing key", strings.TrimPrefix(sealKey, "k1:"))

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
			"unknown key":   withKey(stranger),
			"mistyped key":  withKey(typo(key)),
			"token":         bearer(token),
			"damaged token": bearer(bad),
			"key as token":  bearer(key),
			"token as path": nil,
		} {
			s.post(fields)
			for _, values := range fields {
				forbidden[name+" "+account] = strings.TrimPrefix(values[0], "Bearer ")
			}
		}
		// Clients also put credentials where they do not belong.
		s.send(http.MethodPost, generatePath+"?key="+key+"&access_token="+token, nil, strings.NewReader(key+token))
		s.send(key, generatePath, nil, http.NoBody)
		forbidden["half a key as method "+account] = key[:16]
		s.send(http.MethodGet, "/"+token, http.Header{"Cookie": {key}, "User-Agent": {token}, "X-Request-Id": {key}}, http.NoBody)
	}
	redis.Stop(t)
	for _, fields := range []http.Header{header, asUser(t, "account-0")} {
		if got := s.post(fields); got.status != http.StatusServiceUnavailable {
			t.Fatalf("%d while Redis is stopped; want 503", got.status)
		}
	}
	redis.Continue(t)
	// Another instance cannot open the first instance's pending secrets.
	stranger := startInstance(t, testEnviron(redis, "MFA_SEAL_KEYS="+storetest.NewSealKey("k2"), "MFA_LOG_LEVEL=debug"))
	for i := range 5 {
		totp, _ := stranger.generate(asUser(t, fmt.Sprintf("account-%d", i)))
		forbidden[fmt.Sprintf("replaced secret %d", i)] = totp.Secret
	}

	log := s.log.String() + stranger.log.String()
	if found := secretPattern.FindString(log); found != "" {
		t.Errorf("the log has %s, which looks like a secret", found)
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
	if len(places) != 2+41 || len(s.logLines("request")) < 100 {
		t.Fatalf("%d places, %d requests: want 43 and at least 100", len(places), len(s.logLines("request")))
	}
	for where, text := range places {
		text = strings.ToLower(text)
		for what, secret := range forbidden {
			if strings.Contains(text, strings.ToLower(secret)) {
				t.Errorf("%s has the %s", where, what)
			}
		}
	}
}

// By default Redis compresses its dumps, and the test above would not find a secret there.
func TestLeak_DumpIsNotCompressed(t *testing.T) {
	redis := storetest.SharedRedis(t)
	leaky := `{"padding":"` + strings.Repeat("x", 100) + `","key":"` + auth.NewAPIKey() + `"}`
	if err := redis.Client.Set(t.Context(), "k", leaky, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if dump := redis.Dump(t)["k"]; !strings.Contains(dump, leaky) {
		t.Errorf("DUMP of %s is %q", leaky, dump)
	}
}
