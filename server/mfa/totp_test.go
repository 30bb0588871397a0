package mfa

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"pgregory.net/rapid"

	"quiva.ai/mfa/store"
)

// rfcSecret is the secret of RFC 6238, appendix B, for SHA-1.
var rfcSecret = store.Secret([]byte("12345678901234567890"))

func startOf(step int64) time.Time { return time.Unix(step*30, 0) }

func codeOf(t testing.TB, secret store.Secret, step int64) string {
	t.Helper()
	code, err := totp.GenerateCode(secret.Base32(), startOf(step))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// The codes of RFC 6238 have 8 digits. Ours have the default of 6, which are the last 6.
func TestIsCodeOf_AgreesWithRFC6238(t *testing.T) {
	for _, row := range []struct {
		unix, step int64
		code       string
	}{
		{59, 0x1, "94287082"}, {1111111109, 0x23523EC, "07081804"}, {1111111111, 0x23523ED, "14050471"},
		{1234567890, 0x273EF07, "89005924"}, {2000000000, 0x3F940AA, "69279037"}, {20000000000, 0x27BC86AA, "65353130"},
	} {
		if step := stepAt(time.Unix(row.unix, 0)); step != row.step || !isCodeOf(rfcSecret, row.code[2:], step) {
			t.Errorf("at %d: step %#x, want %#x; %s is its code: %t", row.unix, step, row.step, row.code[2:], isCodeOf(rfcSecret, row.code[2:], step))
		}
		if isCodeOf(rfcSecret, row.code, row.step) || isCodeOf(rfcSecret, "", row.step) || isCodeOf(store.Secret{}, row.code[2:], row.step) {
			t.Errorf("at %d: another code or secret is accepted", row.unix)
		}
	}
}

func TestIsCodeOf_AgreesWithOathtoolAndPquerna(t *testing.T) {
	oathtool, err := exec.LookPath("oathtool")
	if err != nil {
		t.Fatal("oathtool is not on PATH: run the tests with `make test`, or `apt-get install oathtool`")
	}
	rapid.Check(t, func(r *rapid.T) {
		secret := store.Secret(rapid.SliceOfN(rapid.Byte(), store.SecretSize, store.SecretSize).Draw(r, "secret"))
		first := rapid.Int64Range(0, 1<<28).Draw(r, "step") // until the year 2225
		printed, err := exec.CommandContext(t.Context(), oathtool, "--totp", "--base32", "--window=19",
			"--now", startOf(first).UTC().Format("2006-01-02 15:04:05 UTC"), secret.Base32()).Output()
		codes := strings.Fields(string(printed))
		if err != nil || len(codes) != 20 {
			r.Fatalf("oathtool printed %d codes, %v; want 20", len(codes), err)
		}
		for i, code := range codes {
			if step := first + int64(i); code != codeOf(t, secret, step) || !isCodeOf(secret, code, step) {
				r.Fatalf("step %d: oathtool says %s, pquerna/otp %s; ours: %t", step, code, codeOf(t, secret, step), isCodeOf(secret, code, step))
			}
		}
	})
}

// In this range, no two steps have the same code.
const someStep = 0x23523EC

func TestMatchStep_AcceptsOneStepBeforeAndAfter(t *testing.T) {
	for offset := int64(-25); offset <= 25; offset++ {
		for _, passed := range []time.Duration{0, period - time.Nanosecond} {
			step, ok := matchStep(rfcSecret, codeOf(t, rfcSecret, someStep+offset), startOf(someStep).Add(passed))
			if want := -1 <= offset && offset <= 1; ok != want || ok && step != someStep+offset {
				t.Errorf("%v into the step, code of %d steps ahead: step %d, %t; want %t", passed, offset, step, ok, want)
			}
		}
	}
}

func TestClockAhead_FindsTheNearestOf20StepsOutsideTheSkew(t *testing.T) {
	for offset := int64(-25); offset <= 25; offset++ {
		ahead, ok := clockAhead(rfcSecret, codeOf(t, rfcSecret, someStep+offset), startOf(someStep))
		want := max(offset, -offset) >= 2 && max(offset, -offset) <= 20
		if ok != want || ok && ahead != time.Duration(offset)*30*time.Second {
			t.Errorf("code of %d steps ahead: %v, %t; want %t", offset, ahead, ok, want)
		}
	}
	const twice = 38545244 // The code of two steps before is that of nine steps after.
	code := codeOf(t, rfcSecret, twice+9)
	if ahead, ok := clockAhead(rfcSecret, code, startOf(twice)); !ok || ahead != -time.Minute || code != codeOf(t, rfcSecret, twice-2) {
		t.Errorf("code of the steps -2 and +9: %v, %t; want -1m0s", ahead, ok)
	}
}

// A search that ended at a match would compute fewer codes, and so allocate less.
func TestMatchStepAndClockAhead_ComputeAllCodes(t *testing.T) {
	for name, search := range map[string]func(code string){
		"matchStep":  func(code string) { matchStep(rfcSecret, code, startOf(someStep)) },
		"clockAhead": func(code string) { clockAhead(rfcSecret, code, startOf(someStep)) },
	} {
		allocs := func(code string) float64 { return testing.AllocsPerRun(20, func() { search(code) }) }
		all := allocs("no code")
		for offset := int64(-20); offset <= 20; offset++ {
			if n := allocs(codeOf(t, rfcSecret, someStep+offset)); n < .8*all { // The race detector varies it a little.
				t.Errorf("%s allocates %.0f times for the code of %d steps ahead, and %.0f times for none", name, n, offset, all)
			}
		}
	}
}

func TestIsCode_AcceptsSixDigits(t *testing.T) {
	for code, want := range map[string]bool{
		"123456": true, "000000": true, "": false, "12345": false, "1234567": false, "123 456": false, " 12345": false, "12345 ": false,
		"12345\n": false, "12345a": false, "+12345": false, "-12345": false, "1e0000": false, "١٢٣": false, "١٢٣٤٥٦": false, "１２３４５６": false, "１２": false,
	} {
		if isCode(code) != want {
			t.Errorf("isCode(%q) = %t; want %t", code, !want, want)
		}
	}
}

func TestParseSecret_ReadsSecretsAsPeopleTypeThem(t *testing.T) {
	const text = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
	for typed, want := range map[string]bool{
		text:                  true,
		strings.ToLower(text): true,
		"gezd gnbv gy3t qojq GEZD GNBV GY3T QOJQ":       true,
		" GEZDGNBV-GY3TQOJQ–GEZDGNBV\u00a0GY3TQOJQ\r\n": true,
		text + "======":                true, // 20 bytes need no padding, but tools may add some
		"":                             false,
		"====":                         false,
		"- -":                          false,
		text[:31]:                      false,
		text[:24]:                      false,
		text + "A":                     false,
		text + text:                    false,
		text[:16] + "=" + text[16:]:    false,
		"0" + text[1:]:                 false,
		"1" + text[1:]:                 false,
		text[:31] + "\x00":             false,
		"12345678901234567890":         false,
		"secret=" + text:               false,
		"MFRGGZDFMZTWQ2LKNNWG23TPOA==": false, // 16 bytes
	} {
		got, ok := parseSecret(typed)
		if ok != want || ok != (got == rfcSecret) || !ok && got != (store.Secret{}) {
			t.Errorf("%q: right secret %t, %t; want %t", typed, got == rfcSecret, ok, want)
		}
	}
}
