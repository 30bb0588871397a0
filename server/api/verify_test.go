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
	for range 5 {
		a.wantRefused(service, "0000-0000-0000-0000", 400, "wrong_code")
	}
	a.wantRefused(service, codes[4], 429, "locked")
	again := recoveryCodes(t, a.json(http.MethodPost, codesPath, ada, `{"email":"ADA@example.com"}`))
	if got := a.json(http.MethodPost, statusPath, service, `{"account":"ada"}`); got.body != `{"data":{"passkey_enabled":false,"recovery_codes_left":10,"totp_enabled":true}}`+"\n" || len(again) != 10 {
		t.Errorf("status = %d %s; want 10 recovery codes", got.status, got.body)
	}
}
