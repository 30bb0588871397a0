//go:build interop

package main

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/store/storetest"
)

const signInFile = "deploy/signin.mjs"

// wrongCode returns a code that the secret does not have within two minutes.
func wrongCode(t *testing.T, secret string) string {
	t.Helper()
	near := ""
	for steps := -4; steps <= 4; steps++ {
		near += " " + codeAt(t, secret, time.Now().Add(time.Duration(steps)*30*time.Second))
	}
	for code := []byte("000000"); ; code[5]++ {
		if !strings.Contains(near, string(code)) {
			return string(code)
		}
	}
}

// signIn runs the example with these codes. The lines that it prints must match the patterns.
func signIn(t *testing.T, url, key, account string, codes []string, want ...string) {
	t.Helper()
	program := exec.CommandContext(t.Context(), "node", append([]string{signInFile, url, account}, codes...)...)
	program.Env = append(program.Environ(), "SERVICE_KEY="+key)
	output := printed(t, program, "")
	if !regexp.MustCompile("^" + strings.Join(want, "\n") + "\n$").MatchString(output) {
		t.Errorf("%s prints\n%s\nwant\n%s", signInFile, output, strings.Join(want, "\n"))
	}
}

func TestInterop_NodeSignsInWithCodes(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.SharedRedis(t)))
	key, ada := s.newServiceKey(), asUser(t, "ada")
	secret := s.enrol(ada)
	var recovery struct{ Data []string }
	if got := s.call(call{http.MethodGet, "/accounts/recovery-codes", ""}, ada); json.Unmarshal([]byte(got.body), &recovery) != nil || len(recovery.Data) != 10 {
		t.Fatalf("recovery codes = %d %s; want ten", got.status, got.body)
	}
	const (
		ask         = `Enter the code of your app, or a recovery code\.`
		tokens      = `Tokens of ada\.`
		wrong       = `The code is wrong; please enter the code that your app shows now\.`
		usedUp      = `This recovery code was used already; please enter another one\.`
		unavailable = `Sign-in is not available now\. Please try again later\.`
	)
	right, bad, used := codeAt(t, secret, time.Now().Add(30*time.Second)), wrongCode(t, secret), recovery.Data[0]
	signIn(t, s.url, key, "ada", []string{right, right, bad, "12345", strings.ToLower(used), used},
		ask, tokens, `This code was used already; please wait for the next one\.`, wrong,
		`This is not a valid code; please check it and try again\.`, tokens+` You have 9 recovery codes left\.`, usedUp)
	signIn(t, s.url, key, "ada", []string{bad, bad, bad, bad, right, recovery.Data[1]},
		ask, wrong, wrong, wrong, wrong, `Too many wrong codes; please wait, or use a recovery code\. The next code may come in [1-6][0-9] s\.`,
		tokens+` You have 8 recovery codes left\.`)
	signIn(t, s.url, key, "bob", []string{bad}, `Tokens of bob\.`, `Please sign in again\.`)
	signIn(t, s.url, typo(key), "ada", []string{recovery.Data[2]}, unavailable, unavailable)
	signIn(t, s.url, s.newAPIKey("ada"), "ada", []string{recovery.Data[2]}, unavailable, unavailable)
	signIn(t, "http://127.0.0.1:1", key, "ada", []string{recovery.Data[2]}, unavailable, unavailable)
}

// Without Redis, nobody gets in, not even an account that may have no factor.
func TestInterop_NodeSignsNobodyInWithoutRedis(t *testing.T) {
	redis := storetest.StartRedis(t)
	s := startInstance(t, testEnviron(redis))
	key := s.newServiceKey()
	redis.Stop(t)
	t.Cleanup(func() { redis.Continue(t) })
	signIn(t, s.url, key, "ada", []string{"123456"},
		`Sign-in is not available now\. Please try again later\.`, `The service is temporarily unavailable; please try again\.`)
}
