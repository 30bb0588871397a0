package mfa

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"quiva.ai/mfa/store"
)

// drawCode draws a recovery code, which need not be random.
var drawCode = rapid.Custom(func(t *rapid.T) store.RecoveryCode {
	code := store.RecoveryCode(rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, "code"))
	clearCheckBits(&code)
	return code
})

// The codes on paper stay good: these texts must not change.
func TestRecoveryCode_HasItsText(t *testing.T) {
	for want, code := range map[string]store.RecoveryCode{
		"0000-0000-0000-0000": {},
		"ZZZZ-ZZZZ-ZZZZ-ZZZN": {255, 255, 255, 255, 255, 255, 255, 255, 255, 224},
		"000G-0000-0000-000V": {0, 1},
		"0414-8339-NF6Y-Y46F": {1, 2, 68, 12, 105, 171, 205, 239, 16, 192},
	} {
		if got := formatRecoveryCode(code); got != want {
			t.Errorf("%x is %s; want %s", code[:], got, want)
		}
	}
}

func TestRecoveryCode_IsReadAsPeopleTypeIt(t *testing.T) {
	spellings := map[rune][]string{'0': {"0", "O", "o"}, '1': {"1", "I", "i", "L", "l"}}
	rapid.Check(t, func(t *rapid.T) {
		want := drawCode.Draw(t, "code")
		for range 10 { // of each of 100 codes
			var typed strings.Builder
			for _, symbol := range symbolsOf(want) {
				choices := spellings[symbol]
				if choices == nil {
					choices = []string{string(symbol), strings.ToLower(string(symbol))}
				}
				typed.WriteString(rapid.SampledFrom([]string{"", "", "", "-", " ", " - ", "\t", "\r\n", "\u00a0", "–", "−"}).Draw(t, "between"))
				typed.WriteString(rapid.SampledFrom(choices).Draw(t, "symbol"))
			}
			if got, ok := parseRecoveryCode(typed.String()); got != want || !ok {
				t.Fatalf("%q is read as %x, %t; want %x", &typed, got[:], ok, want[:])
			}
		}
	})
}

func TestRecoveryCode_RefusesWhatIsNone(t *testing.T) {
	good := formatRecoveryCode(newRecoveryCodes()[0])
	for name, text := range map[string]string{
		"empty":                    "",
		"dashes":                   "---",
		"a symbol short":           good[:18],
		"a symbol more":            good + "0",
		"twice":                    good + good,
		"eight symbols":            "0000-0000",
		"with U":                   "U" + good[1:],
		"with u":                   "u" + good[1:],
		"with another sign":        good[:18] + "*",
		"with padding":             good + "=",
		"with another script's 0s": strings.Repeat("٠", 16),
		"with a zero byte":         good + "\x00",
		"invalid UTF-8":            good[:18] + "\xff",
		"a code of the app":        "123456",
	} {
		if code, ok := parseRecoveryCode(text); ok || code != (store.RecoveryCode{}) {
			t.Errorf("%s: %q is read as %x; want a refusal", name, text, code[:])
		}
	}
}

// TestRecoveryCode_RefusesEveryTypo tries every symbol at every place, and every swap of two
// symbols.
func TestRecoveryCode_RefusesEveryTypo(t *testing.T) {
	for _, code := range append(newRecoveryCodes(), store.RecoveryCode{}, store.RecoveryCode{9: 0xe0}) {
		good := symbolsOf(code)
		wantRefused := func(typo string) {
			t.Helper()
			if _, ok := parseRecoveryCode(typo); ok != (typo == good) {
				t.Errorf("%s for %s: accepted %t", typo, good, ok)
			}
		}
		for i := range good {
			for _, symbol := range crockford {
				wantRefused(good[:i] + string(symbol) + good[i+1:])
			}
			for j := range i {
				wantRefused(good[:j] + good[i:i+1] + good[j+1:i] + good[j:j+1] + good[i+1:])
			}
		}
	}
}

// TestNewRecoveryCodes_AreRandom counts the ones of each bit in 10^5 codes: they are 50,000,
// with a standard deviation of 158. Equal codes among them have a probability of 10^-13.
func TestNewRecoveryCodes_AreRandom(t *testing.T) {
	const codes = 100_000
	seen := make(map[store.RecoveryCode]bool, codes)
	var ones [80]int
	for len(seen) < codes {
		for _, code := range newRecoveryCodes() {
			if seen[code] {
				t.Fatal("two codes are equal")
			}
			seen[code] = true
			for bit := range ones {
				ones[bit] += int(code[bit/8] >> (7 - bit%8) & 1)
			}
		}
	}
	for bit, n := range ones {
		if bit < 75 && (n < codes/2-1500 || n > codes/2+1500) || bit >= 75 && n != 0 {
			t.Errorf("bit %d is one in %d of %d codes", bit, n, codes)
		}
	}
	set := newRecoveryCodes()
	texts := formatRecoveryCodes(set)
	if len(set) != 10 || len(texts) != 10 || texts[0] != formatRecoveryCode(set[0]) || texts[9] != formatRecoveryCode(set[9]) {
		t.Errorf("a set of %d codes, %d texts; want 10 in their order", len(set), len(texts))
	}
}
