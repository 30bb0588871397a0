package main

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

// After calls with every outcome, no place has a secret or a code in plain text: Redis, log, metrics,
// traces, and what the commands print.
func TestLeak_NoSecretAnywhere(t *testing.T) {
	t.Parallel()
	redis := storetest.StartRedis(t)
	traces := &traceReceiver{}
	collector := httptest.NewServer(traces)
	defer collector.Close()
	environ := func(sealKey string) []string { // The last sealing key opens the store identity.
		return testEnviron(redis, "MFA_SEAL_KEYS="+sealKey+","+testSealKeys, "MFA_LOG_LEVEL=debug", "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL)
	}
	sealKey := storetest.NewSealKey("mine")
	s := startProcess(t, environ(sealKey))
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
	addKey("sealing key", strings.TrimPrefix(sealKey, "mine:"))

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
	for i := range 5 {
		s.changeFactor(fmt.Sprintf("account-%d", 15+i), forbidden)
	}
	redis.Stop(t)
	for _, fields := range []http.Header{header, asUser(t, "account-0")} {
		if got := s.post(fields); got.status != http.StatusServiceUnavailable {
			t.Fatalf("%d while Redis is stopped; want 503", got.status)
		}
	}
	redis.Continue(t)
	// Another instance cannot open the first instance's pending secrets and factors.
	stranger := startProcess(t, environ(storetest.NewSealKey("other")))
	for _, c := range []call{callInfo, callRemove, callView, callIssue, confirm(t, forbidden["secret account-15"], 0)} {
		if got := stranger.call(c, asUser(t, "account-15")); got.status != http.StatusServiceUnavailable {
			t.Errorf("%s of an unreadable factor = %d; want 503", c.path, got.status)
		}
	}
	for i := range 5 {
		totp, _ := stranger.generate(asUser(t, fmt.Sprintf("account-%d", i)))
		forbidden[fmt.Sprintf("replaced secret %d", i)] = totp.Secret
	}

	places := map[string]string{"Redis": "", "metrics": s.admin("/metrics").body, "commands": ""}
	for _, of := range []*instance{stranger, s} {
		for _, args := range []string{"account show --account account-15", "account unlock --account account-16 --json", "account reset --account account-17", "store check"} {
			stdout, stderr, _ := of.command(strings.Fields(args)...) // The stranger cannot read them.
			places["commands"] += stdout + stderr
		}
		of.stop() // sends the last spans
		places["log"] += of.log.String()
	}
	places["traces"] = traces.raw.String()
	if found := secretPattern.FindString(places["log"]); found != "" {
		t.Errorf("the log has %s, which looks like a secret", found)
	}
	for _, name := range personal {
		if strings.Contains(places["log"], name) {
			t.Errorf("the log names %s", name)
		}
	}
	dump := redis.Dump(t)
	for key, value := range dump {
		places["Redis"] += key + value
	}
	// Redis has executed the last generate call after all, and account-19 has both entries. Five are service keys.
	if len(dump) != 47 || len(s.logLines("request")) < 100 || len(traces.spans) < 100 || len(places["commands"]) < 1000 || len(places["metrics"]) < 1000 {
		t.Fatalf("%d entries, %d requests, %d spans; commands: %s", len(dump), len(s.logLines("request")), len(traces.spans), places["commands"])
	}
	for where, text := range places {
		text = regexp.MustCompile(`"duration_us":\d+`).ReplaceAllString(text, "")
		lower := strings.ToLower(text)
		for what, secret := range forbidden {
			found := strings.Contains(text, secret)
			if utf8.ValidString(secret) { // else ToLower would make all raw bytes the same
				found = strings.Contains(lower, strings.ToLower(secret))
			}
			if found && len(secret) == 6 { // A code may be a part of another number.
				found = regexp.MustCompile(`\b` + secret + `\b`).MatchString(text)
			}
			if found {
				t.Errorf("%s has the %s", where, what)
			}
		}
	}
}

// changeFactor confirms the account's pending secret, issues recovery codes and verifies codes, with
// refusals of each kind, and adds the codes to forbidden.
func (s *instance) changeFactor(account string, forbidden map[string]string) {
	s.t.Helper()
	fields, service := asUser(s.t, account), s.newServiceKey()
	forbidden["service key of "+account] = service
	key, _ := s.generate(fields)
	for what, c := range map[string]call{
		"wrong code": confirm(s.t, key.Secret, 1000), "early code": confirm(s.t, key.Secret, 5), "code": confirm(s.t, key.Secret, 0),
		"code of another key": confirm(s.t, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 0), "long code": {http.MethodPost, confirmPath, `{"code":"98765432","secret":"` + key.Secret + `"}`},
	} {
		s.callAndForbid(what+" "+key.Secret, c, fields, forbidden)
	}
	codes := s.recoveryCodes(callView, fields)
	s.callAndForbid("issued "+key.Secret, callIssue, fields, forbidden)
	codes = append(codes[:1], s.recoveryCodes(callView, fields)[:2]...)
	for what, code := range map[string]string{
		"old recovery code": codes[0], "used recovery code": codes[1], "recovery code in lower case": strings.ToLower(codes[2]), "mistyped recovery code": codes[1][:18] + "U",
		"next code": codesAt(s.t, key.Secret, 1, 1)[0], "wrong code at sign-in": wrongCodes(s.t, key.Secret, 200)[199], "text for a code": "code-of-" + account,
	} {
		for range 6 { // until it is locked
			s.callAndForbid(what+" "+key.Secret, verify(account, code), http.Header{"X-Service-Key": {service}}, forbidden)
		}
		forbidden[what+" "+key.Secret] = code
	}
	s.call(callOff, fields)
}

// callAndForbid adds the code that a call sends, and the recovery codes that it returns.
func (s *instance) callAndForbid(what string, c call, fields http.Header, forbidden map[string]string) {
	s.t.Helper()
	got := s.call(c, fields)
	if sent := regexp.MustCompile(`\d{6,}`).FindString(c.body); sent != "" {
		forbidden[what] = sent
	}
	for i, code := range regexp.MustCompile(`\w{4}(-\w{4}){3}`).FindAllString(got.body, -1) {
		short := strings.ReplaceAll(code, "-", "")
		raw, _ := base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").DecodeString(short)
		name := fmt.Sprint("recovery code ", i, " ", what)
		// The check character is not stored.
		forbidden[name], forbidden[name+" without dashes"], forbidden[name+" raw"] = code, short[:15], string(raw[:9])
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
