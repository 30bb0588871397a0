package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

const (
	codesPath  = "/accounts/recovery-codes"
	statusPath = "/internal/mfa-status"
	verifyPath = "/internal/verify-mfa-code"
)

// verify asks as the gateway's sign-in whether the code is ada's.
func (a *testAPI) verify(service http.Header, code string) reply {
	a.t.Helper()
	return a.json(http.MethodPost, verifyPath, service, `{"account":"ada","code":"`+code+`"}`)
}

// codeAt returns the code of the time step that is steps after the present one.
func codeAt(t testing.TB, secret string, steps int) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, middleOfStep().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// recoveryCodes returns the codes of a response of codesPath.
func recoveryCodes(t testing.TB, got reply) []string {
	t.Helper()
	var body struct{ Data []string }
	if err := json.Unmarshal([]byte(got.body), &body); err != nil || got.status != http.StatusOK {
		t.Fatalf("recovery codes = %d %s; want 200", got.status, got.body)
	}
	return body.Data
}

func (a *testAPI) wantVerified(service http.Header, code, method string, left int) {
	a.t.Helper()
	want := `{"data":{"method":"` + method + `","recovery_codes_left":` + strconv.Itoa(left) + "}}\n"
	if got := a.verify(service, code); got.status != http.StatusOK || got.body != want {
		a.t.Errorf("verify = %d %s; want %s", got.status, got.body, want)
	}
}

func (a *testAPI) wantRefused(service http.Header, code string, status int, reason string) {
	a.t.Helper()
	got := a.verify(service, code)
	if got.status != status || !strings.HasSuffix(got.body, `,"reason":"`+reason+`"}`+"\n") {
		a.t.Errorf("verify = %d %s; want %d %s", got.status, got.body, status, reason)
	}
	if got.header.Get("Retry-After") != "" != (status == http.StatusTooManyRequests) {
		a.t.Errorf("Retry-After of a %d is %q", status, got.header.Get("Retry-After"))
	}
}

func TestVerify_AcceptsEachCodeOnce(t *testing.T) {
	a := newTestAPI(t)
	ada, service := person(t, "ada", time.Now()), http.Header{"X-Service-Key": {a.newServiceKey()}}
	secret := a.enrol(ada)
	codes := recoveryCodes(t, a.json(http.MethodPost, codesPath, ada, ""))
	a.wantRefused(service, codeAt(t, secret, 0), 400, "replayed") // It has confirmed the key.
	a.wantVerified(service, codeAt(t, secret, 1), "totp", 10)
	a.wantRefused(service, codeAt(t, secret, 1), 400, "replayed")
	a.wantRefused(service, codeAt(t, secret, 0), 400, "replayed")
	a.wantVerified(service, " "+strings.ToLower(strings.ReplaceAll(codes[3], "-", " ")), "recovery_code", 9)
	a.wantRefused(service, codes[3], 400, "replayed")
	a.wantRefused(service, codes[4][1:], 400, "malformed")
	if got := recoveryCodes(t, a.json(http.MethodGet, codesPath, ada, "")); len(got) != 9 || got[2] != codes[2] || got[3] != codes[4] {
		t.Errorf("unused codes %v of %v; want all but the fourth", got, codes)
	}
	again := recoveryCodes(t, a.json(http.MethodPost, codesPath, ada, `{"email":"ADA@example.com"}`))
	a.wantRefused(service, codes[5], 400, "wrong_code")
	a.wantVerified(service, again[0], "recovery_code", 9)
	if got := a.json(http.MethodPost, statusPath, service, `{"account":"ada"}`); got.body != `{"data":{"passkey_enabled":false,"recovery_codes_left":9,"totp_enabled":true}}`+"\n" {
		t.Errorf("status = %d %s; want 9 recovery codes", got.status, got.body)
	}
}

func TestVerify_LocksAfterFiveWrongCodes(t *testing.T) {
	a := newTestAPI(t)
	ada, service := person(t, "ada", time.Now()), http.Header{"X-Service-Key": {a.newServiceKey()}}
	secret := a.enrol(ada)
	codes := recoveryCodes(t, a.json(http.MethodGet, codesPath, ada, ""))
	wrong := "000000"
	for _, steps := range []int{-1, 0, 1, 2} {
		if codeAt(t, secret, steps) == wrong {
			wrong = "111111" // It is not of these steps too: once in 10^10 runs.
		}
	}
	for range 5 {
		a.wantRefused(service, wrong, 400, "wrong_code")
	}
	a.wantRefused(service, codeAt(t, secret, 1), 429, "locked")
	a.wantVerified(service, codes[0], "recovery_code", 9) // Wrong codes of the app do not lock it.
}

// The person has typed a recovery code: the sentence must not speak of the app's code.
func TestVerify_SaysThatARecoveryCodeIsWrong(t *testing.T) {
	const other = "0000-0000-0000-0000" // of another account, and well formed
	a := newTestAPI(t)
	ada, service := person(t, "ada", time.Now()), http.Header{"X-Service-Key": {a.newServiceKey()}}
	a.enrol(ada)
	used := recoveryCodes(t, a.json(http.MethodGet, codesPath, ada, ""))[0]
	a.wantVerified(service, used, "recovery_code", 9)
	if got := a.verify(service, used); !strings.Contains(got.body, "This recovery code was used already") {
		t.Errorf("%d %s", got.status, got.body)
	}
	for range 5 {
		if got := a.verify(service, other); !strings.Contains(got.body, "This recovery code is wrong") {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	if got := a.verify(service, used); !strings.Contains(got.body, "Too many wrong recovery codes") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// TestVerify_Refuses has a row for each refusal of the calls about recovery codes and sign-in.
func TestVerify_Refuses(t *testing.T) {
	a := newTestAPI(t)
	ada, bob, service := person(t, "ada", time.Now()), person(t, "bob", time.Now()), http.Header{"X-Service-Key": {a.newServiceKey()}}
	secret := a.enrol(ada)
	stale, key := person(t, "ada", time.Now().Add(-2*time.Hour)), withKey(a.newAPIKey("ada"))
	good := `{"account":"ada","code":"` + codeAt(t, secret, 1) + `"}`
	before := a.factorEntries()
	for name, row := range map[string]struct {
		method, path string
		fields       http.Header
		body         string
		status       int
		reason       string
	}{
		"issue without a factor":           {"POST", codesPath, bob, "", 400, "not_enrolled"},
		"issue for another account":        {"POST", codesPath, ada, `{"email":"bob@example.com"}`, 403, "other_account"},
		"issue by a stale sign-in":         {"POST", codesPath, stale, "", 401, ""},
		"issue by an API key":              {"POST", codesPath, key, "", 403, "step_up"},
		"view of another account":          {"GET", codesPath + "?email=bob@example.com", ada, "", 403, "other_account"},
		"view of two addresses":            {"GET", codesPath + "?email=a@b&email=c@d", ada, "", 400, ""},
		"view by a stale sign-in":          {"GET", codesPath, stale, "", 401, ""},
		"view by an API key":               {"GET", codesPath, key, "", 403, "step_up"},
		"verify without a factor":          {"POST", verifyPath, service, `{"account":"bob","code":"123456"}`, 400, "not_enrolled"},
		"verify of no code":                {"POST", verifyPath, service, `{"account":"ada","code":"12345"}`, 400, "malformed"},
		"verify of a code with a space":    {"POST", verifyPath, service, `{"account":"ada","code":"123 456"}`, 400, "malformed"},
		"verify of 256 bytes of account":   {"POST", verifyPath, service, `{"account":"` + strings.Repeat("é", 128) + `","code":"123456"}`, 400, "malformed"},
		"verify of no account":             {"POST", verifyPath, service, `{"account":"","code":"123456"}`, 400, ""},
		"verify by a person":               {"POST", verifyPath, ada, good, 401, ""},
		"verify by an API key":             {"POST", verifyPath, key, good, 401, ""},
		"verify by a person and a service": {"POST", verifyPath, join(ada, service), good, 401, ""},
		"verify by a stranger":             {"POST", verifyPath, http.Header{}, good, 401, ""},
		"verify by an API key as service":  {"POST", verifyPath, http.Header{"X-Service-Key": key["X-Api-Key"]}, good, 401, ""},
		"status of no account":             {"POST", statusPath, service, `{}`, 400, ""},
		"status by a person":               {"POST", statusPath, ada, `{"account":"ada"}`, 401, ""},
		"info by a service":                {"GET", infoPath, service, "", 401, ""},
		"info by a person and a service":   {"GET", infoPath, join(ada, service), "", 401, ""},
		"info by a service as API key":     {"GET", infoPath, http.Header{"X-Api-Key": service["X-Service-Key"]}, "", 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := a.json(row.method, row.path, row.fields, row.body)
			var body struct{ Error, Reason string }
			if err := json.Unmarshal([]byte(got.body), &body); err != nil {
				t.Fatal(err)
			}
			if got.status != row.status || body.Reason != row.reason {
				t.Errorf("%d %s; want %d, reason %q", got.status, got.body, row.status, row.reason)
			}
			if !sameEntries(before, a.factorEntries()) {
				t.Error("an entry has changed")
			}
		})
	}
	if got := recoveryCodes(t, a.json(http.MethodGet, codesPath, bob, "")); got == nil || len(got) != 0 {
		t.Errorf("recovery codes without a factor: %v; want []", got)
	}
}
