//go:build interop

package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quiva.ai/mfa/store/storetest"
)

// What the README's chapter "Call it" shows: calls, an answer line by line, and a script.
var (
	readmeCall   = regexp.MustCompile(`(?m)^    (curl .+)$`)
	readmeAnswer = regexp.MustCompile(`(?m)^    (HTTP/.+|[A-Z][A-Za-z-]+: .+|\{"data":.+)$`)
	readmeScript = regexp.MustCompile(`(?m)^    const response = (?:.+\n)(?:    .+\n)+`)

	// varying is what differs from answer to answer.
	varying = regexp.MustCompile(`\b[A-Z2-7]{26,32}\b|\d+$`)
)

// startREADME does what the README says first: it starts what `make run` starts, and
// puts the credentials that this prints into API_KEY and TOKEN. The chapter that it
// returns has the service's address in the place of the usual one.
func startREADME(t *testing.T) (s *service, chapter string) {
	t.Helper()
	s = startService(t, []string{"MFA_LISTEN=127.0.0.1:0"}, "--dev")
	storetest.Eventually(t, func() bool { return len(curlLine.FindAllString(s.stdout.String(), -1)) == 2 })
	for _, call := range curlLine.FindAllStringSubmatch(s.stdout.String(), -1) {
		if token, ok := strings.CutPrefix(call[2], "Bearer "); ok {
			t.Setenv("TOKEN", token)
		} else {
			t.Setenv("API_KEY", call[2])
		}
	}
	_, chapter, _ = strings.Cut(readFile(t, "../README.md"), "\n## Call it\n")
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	return s, strings.ReplaceAll(chapter, "http://127.0.0.1:8080", s.url)
}

func TestInteropTheCallsOfTheREADMEGetItsAnswer(t *testing.T) {
	_, chapter := startREADME(t)
	calls := readmeCall.FindAllStringSubmatch(chapter, -1)
	want := readmeAnswer.FindAllStringSubmatch(chapter, -1)
	if len(calls) != 2 || len(want) != 7 {
		t.Fatalf("the README has %d calls and an answer of %d lines; want 2 and 7", len(calls), len(want))
	}
	secrets := map[string]bool{}
	for _, call := range calls {
		answer := printed(t, exec.CommandContext(t.Context(), "sh", "-c", call[1]), "")
		secrets[secretPattern.FindString(answer)] = true
		var got []string
		for line := range strings.Lines(answer) {
			got = append(got, varying.ReplaceAllString(strings.TrimSpace(line), ""))
		}
		for _, line := range want {
			if !slices.Contains(got, varying.ReplaceAllString(line[1], "")) {
				t.Errorf("%s\n%s\nhas no line like %s", call[1], answer, line[1])
			}
		}
	}
	if len(secrets) != 1 || secrets[""] {
		t.Errorf("%d secrets; want the same one from each call", len(secrets))
	}
}

func TestInteropTheScriptOfTheREADMEPrintsTheURLAndThrowsTheError(t *testing.T) {
	s, chapter := startREADME(t)
	script := func() *exec.Cmd {
		text := readmeScript.FindString(chapter)
		return exec.CommandContext(t.Context(), "node", "--input-type=module", "--eval", text)
	}
	key, _ := s.generate(withKey(os.Getenv("API_KEY")))
	if got := printed(t, script(), ""); got != key.OTPAuthURL+"\n" {
		t.Errorf("the script prints %q; want %s", got, key.OTPAuthURL)
	}
	t.Setenv("TOKEN", "stale")
	const want = "\nError: Sign in, or send a valid API key, to use this service.\n"
	if thrown, err := script().CombinedOutput(); err == nil || !strings.Contains(string(thrown), want) {
		t.Errorf("with a bad token the script ends with %v and prints %s; want %s", err, thrown, want)
	}
}
