package mfa

import (
	"crypto/subtle"
	"encoding/base32"
	"strings"
	"time"
	"unicode"

	"github.com/pquerna/otp/hotp"

	"quiva.ai/mfa/store"
)

const (
	// period is the length of a time step (RFC 6238, section 5.2).
	period = 30 * time.Second

	// skew is how many steps a code may be early or late. A person types slowly (RFC 6238, section
	// 5.2), and the clock of a device may be a little ahead.
	skew = 1

	// hintSteps is how many steps clockAhead searches in each direction: ten minutes.
	hintSteps = 20

	codeDigits = 6
)

// stepAt returns the time step of now (RFC 6238, section 4.2).
func stepAt(now time.Time) int64 { return now.Unix() / int64(period/time.Second) }

// matchStep returns the time step of code, which must be within skew of now. It computes and
// compares all codes, whichever one matches: its duration tells nothing. If several steps have
// the code, it returns the last: once that step is used up, the code is good no more.
func matchStep(secret store.Secret, code string, now time.Time) (step int64, ok bool) {
	for candidate := stepAt(now) - skew; candidate <= stepAt(now)+skew; candidate++ {
		if isCodeOf(secret, code, candidate) {
			step, ok = candidate, true
		}
	}
	return step, ok
}

// clockAhead returns how far the clock of a device is ahead of now if code is of a step within
// hintSteps. It is for a person who sets up a device and is known already: at sign-in, it would
// tell a guesser that a code is of the future. Like matchStep, it computes all codes.
func clockAhead(secret store.Secret, code string, now time.Time) (ahead time.Duration, ok bool) {
	for steps := hintSteps; steps > skew; steps-- { // The nearest step comes last.
		for _, offset := range []int{-steps, steps} {
			if isCodeOf(secret, code, stepAt(now)+int64(offset)) {
				ahead, ok = time.Duration(offset)*period, true
			}
		}
	}
	return ahead, ok
}

// isCodeOf compares code in constant time. A code that cannot be computed matches nothing.
func isCodeOf(secret store.Secret, code string, step int64) bool {
	want, err := hotp.GenerateCode(secret.Base32(), uint64(step))
	return err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1
}

// isCode tells whether code has the form of a code: six ASCII digits, and nothing else.
// pquerna/otp would cut spaces off, and one code would have many spellings.
func isCode(code string) bool {
	return len(code) == codeDigits && strings.Trim(code, "0123456789") == ""
}

// parseSecret reads a secret as a person may type it: in any case, with spaces and dashes
// between groups, with or without padding.
func parseSecret(text string) (secret store.Secret, ok bool) {
	text = strings.TrimRight(withoutSeparators(text), "=")
	b, err := base32.StdEncoding.DecodeString(text) // 20 bytes need no padding.
	if err != nil || len(b) != store.SecretSize {
		return store.Secret{}, false
	}
	return store.Secret(b), true
}

// withoutSeparators returns text in upper case without spaces and dashes of any kind: phones and
// word processors replace the typed ones.
func withoutSeparators(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Dash, r) {
			return -1
		}
		return unicode.ToUpper(r)
	}, text)
}

func equalSecrets(a, b store.Secret) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
