package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/pquerna/otp/totp"

	"quiva.ai/mfa/store"
)

const (
	confirmPath  = "/accounts/confirm-totp-registration"
	infoPath     = "/accounts/user-mfa-info"
	settingsPath = "/accounts/mfa-settings"
	totpPath     = "/accounts/totp"
)

// json sends a request with a JSON body; an empty body is none.
func (a *testAPI) json(method, path string, fields http.Header, body string) reply {
	a.t.Helper()
	if body == "" {
		return a.send(method, path, fields, http.NoBody)
	}
	return a.send(method, path, join(fields, http.Header{"Content-Type": {"application/json"}}), strings.NewReader(body))
}

// person returns the header of a person who has signed in at the time.
func person(t testing.TB, account string, signedIn time.Time) http.Header {
	t.Helper()
	return bearer(newToken(t, account, jwt.MapClaims{"auth_time": signedIn.Unix()}))
}

// pendingSecret makes a pending key and returns its secret.
func (a *testAPI) pendingSecret(fields http.Header) string {
	a.t.Helper()
	var body struct{ Data struct{ Secret string } }
	if got := a.post(fields); json.Unmarshal([]byte(got.body), &body) != nil || got.status != http.StatusOK {
		a.t.Fatalf("generate = %d %s; want 200", got.status, got.body)
	}
	return body.Data.Secret
}

func confirmBody(t testing.TB, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return `{"code":"` + code + `","secret":"` + secret + `"}`
}

// enrol gives the caller a factor.
func (a *testAPI) enrol(fields http.Header) (secret string) {
	a.t.Helper()
	secret = a.pendingSecret(fields)
	if got := a.json(http.MethodPost, confirmPath, fields, confirmBody(a.t, secret, time.Now())); got.status != http.StatusOK {
		a.t.Fatalf("confirm = %d %s; want 200", got.status, got.body)
	}
	return secret
}

// wantInfo checks what the caller's info says of TOTP.
func (a *testAPI) wantInfo(fields http.Header, enabled string) {
	a.t.Helper()
	want := `{"data":{"passkey_enabled":false,"totp_enabled":` + enabled + "}}\n"
	if got := a.json(http.MethodGet, infoPath, fields, ""); got.status != http.StatusOK || got.body != want {
		a.t.Errorf("info = %d %s; want %s", got.status, got.body, want)
	}
}

func TestFactor_GoesFromPendingToRemoved(t *testing.T) {
	a := newTestAPI(t)
	ada := person(t, "ada", time.Now())
	a.wantInfo(ada, "false")
	a.enrol(ada)
	a.wantInfo(ada, "true")
	for _, step := range []struct{ method, path, body, enabled string }{
		{http.MethodPatch, settingsPath, `{"totp_enabled":false}`, "false"},
		{http.MethodPatch, settingsPath, `{}`, "false"},
		{http.MethodPatch, settingsPath, `{"totp_enabled":true,"passkey_enabled":false}`, "true"},
		{http.MethodDelete, totpPath, `{"email":"Ada@Example.com"}`, "false"},
		{http.MethodDelete, totpPath, "", "false"},
	} {
		if got := a.json(step.method, step.path, ada, step.body); got.status != http.StatusOK {
			t.Errorf("%s %s %s = %d %s; want 200", step.method, step.path, step.body, got.status, got.body)
		}
		a.wantInfo(ada, step.enabled)
	}
	a.enrol(ada)
	a.wantInfo(ada, "true")
}

// TestOperations_Refuse has a row for each kind of refusal of each operation. The account ada has a
// factor and a pending key, and bob has neither. Nothing may change for them.
func TestOperations_Refuse(t *testing.T) {
	a := newTestAPI(t)
	ada, bob, service := person(t, "ada", time.Now()), person(t, "bob", time.Now()), http.Header{"X-Service-Key": {a.newServiceKey()}}
	a.enrol(ada)
	secret := a.pendingSecret(ada)
	stale, key := person(t, "ada", time.Now().Add(-2*time.Hour)), withKey(a.newAPIKey("ada"))
	good := confirmBody(t, secret, time.Now())
	messages := map[string]string{ // by reason, or status
		"400":           "The request does not match the description of the API.",
		"401":           "Sign in, or send a valid API key, to use this service.",
		"step_up":       "An API key cannot do this: sign in and try again.",
		"malformed":     "This is not a valid code; please check it and try again.",
		"wrong_code":    "The code is wrong; please enter the code that your app shows now.",
		"clock_off":     "The clock of your device is about 5 minutes slow; please correct it and try again.",
		"not_pending":   "This key has expired or was replaced; please request a new one.",
		"not_enrolled":  "This factor is not set up for the account.",
		"other_account": "You can do this for your own account only.",
	}
	before := a.factorEntries()
	for name, row := range map[string]struct {
		method, path string
		fields       http.Header
		body         string
		status       int
		reason       string
	}{
		"confirm without a code":              {"POST", confirmPath, ada, `{"secret":"` + secret + `"}`, 400, ""},
		"confirm with a number":               {"POST", confirmPath, ada, `{"code":123456,"secret":"` + secret + `"}`, 400, ""},
		"confirm with CODE":                   {"POST", confirmPath, ada, strings.Replace(good, "code", "CODE", 1), 400, ""},
		"confirm with a code of CODE":         {"POST", confirmPath, ada, `{"code":"000","CODE"` + strings.TrimPrefix(good, `{"code"`), 400, "malformed"},
		"confirm with an empty secret":        {"POST", confirmPath, ada, `{"code":"123456","secret":""}`, 400, "malformed"},
		"confirm a secret of another account": {"POST", confirmPath, bob, good, 400, "not_pending"},
		"confirm with a wrong code":           {"POST", confirmPath, ada, confirmBody(t, secret, middleOfStep().Add(time.Hour)), 400, "wrong_code"},
		"confirm with a slow clock":           {"POST", confirmPath, ada, confirmBody(t, secret, middleOfStep().Add(-270*time.Second)), 400, "clock_off"},
		"confirm by a stale sign-in":          {"POST", confirmPath, stale, good, 401, ""},
		"confirm by an API key":               {"POST", confirmPath, key, good, 403, "step_up"},
		"info of another account":             {"GET", infoPath + "?email=bob@example.com", ada, "", 403, "other_account"},
		"info of no address":                  {"GET", infoPath + "?email=bob", ada, "", 403, "other_account"},
		"info of two addresses":               {"GET", infoPath + "?email=ada@example.com&email=bob@example.com", ada, "", 400, ""},
		"info of what is no query":            {"GET", infoPath + "?email=bob%zz", ada, "", 400, ""},
		"info by a service":                   {"GET", infoPath, service, "", 401, ""},
		"remove of another account":           {"DELETE", totpPath, ada, `{"email":"bob@example.com"}`, 403, "other_account"},
		"remove of no address":                {"DELETE", totpPath, ada, `{"email":"bob"}`, 400, ""},
		"remove by a stale sign-in":           {"DELETE", totpPath, stale, "", 401, ""},
		"remove by an API key":                {"DELETE", totpPath, key, "", 403, "step_up"},
		"settings that are text":              {"PATCH", settingsPath, ada, `{"totp_enabled":"false"}`, 400, ""},
		"settings for a passkey":              {"PATCH", settingsPath, ada, `{"totp_enabled":false,"passkey_enabled":true}`, 400, "not_enrolled"},
		"settings by a stale sign-in":         {"PATCH", settingsPath, stale, `{"totp_enabled":false}`, 401, ""},
		"settings by an API key":              {"PATCH", settingsPath, key, `{"totp_enabled":false}`, 403, "step_up"},
		"issue without a factor":              {"POST", codesPath, bob, "", 400, "not_enrolled"},
		"issue for another account":           {"POST", codesPath, ada, `{"email":"bob@example.com"}`, 403, "other_account"},
		"issue by a stale sign-in":            {"POST", codesPath, stale, "", 401, ""},
		"issue by an API key":                 {"POST", codesPath, key, "", 403, "step_up"},
		"view of another account":             {"GET", codesPath + "?email=bob@example.com", ada, "", 403, "other_account"},
		"view of two addresses":               {"GET", codesPath + "?email=a@b&email=c@d", ada, "", 400, ""},
		"view by a stale sign-in":             {"GET", codesPath, stale, "", 401, ""},
		"view by an API key":                  {"GET", codesPath, key, "", 403, "step_up"},
		"verify without a factor":             {"POST", verifyPath, service, `{"account":"bob","code":"123456"}`, 400, "not_enrolled"},
		"verify of 256 bytes of account":      {"POST", verifyPath, service, `{"account":"` + strings.Repeat("é", 128) + `","code":"123456"}`, 400, "malformed"},
		"verify of no account":                {"POST", verifyPath, service, `{"account":"","code":"123456"}`, 400, ""},
		"verify by a person":                  {"POST", verifyPath, ada, `{"account":"ada","code":"123456"}`, 401, ""},
		"status of no account":                {"POST", statusPath, service, `{}`, 400, ""},
		"status by a person":                  {"POST", statusPath, ada, `{"account":"ada"}`, 401, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := a.json(row.method, row.path, row.fields, row.body)
			var body struct{ Error, Reason string }
			if err := json.Unmarshal([]byte(got.body), &body); err != nil {
				t.Fatal(err)
			}
			message := messages[cmp.Or(row.reason, strconv.Itoa(row.status))]
			if got.status != row.status || body.Reason != row.reason || body.Error != message {
				t.Errorf("%d %s; want %d, reason %q, %q", got.status, got.body, row.status, row.reason, message)
			}
			if len(before) != 2 || !maps.EqualFunc(before, a.factorEntries(), bytes.Equal) {
				t.Error("an entry has changed")
			}
		})
	}
	if got := recoveryCodes(t, a.json(http.MethodGet, codesPath, bob, "")); got == nil || len(got) != 0 {
		t.Errorf("recovery codes without a factor: %v; want []", got)
	}
}

// factorEntries returns the entries of accounts.
func (a *testAPI) factorEntries() map[string][]byte {
	a.t.Helper()
	entries, err := store.Entries(a.t.Context(), a.backend, "mfa:{")
	must(a.t, err)
	return entries
}

// middleOfStep returns a time in the middle of the present time step.
func middleOfStep() time.Time { return time.Now().Truncate(30 * time.Second).Add(15 * time.Second) }

// TestFactor_FailsClosed takes each operation through a store that fails, and through a factor
// that cannot be read. Info never says false then.
func TestFactor_FailsClosed(t *testing.T) {
	for name, row := range map[string]struct {
		breakStore func(*testAPI)
		status     int
	}{
		"without a store":           {func(a *testAPI) { a.backend.fails = store.ErrUnavailable }, 503},
		"with a fault in the store": {func(a *testAPI) { a.backend.fails = errors.New("fault") }, 500},
		"without a store identity":  {func(a *testAPI) { must(a.t, a.backend.Delete(a.t.Context(), a.backend.IdentityKey(""))) }, 503},
		"with an unreadable factor": {func(a *testAPI) { a.damage("}:factor") }, 503},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestAPI(t)
			ada := person(t, "ada", time.Now())
			service := http.Header{"X-Service-Key": {a.newServiceKey()}}
			a.enrol(ada)
			a.json(http.MethodPost, statusPath, service, `{"account":"ada"}`) // notes the use of the key
			good := confirmBody(t, a.pendingSecret(ada), time.Now())
			row.breakStore(a)
			before := a.factorEntries()
			for _, call := range []struct{ method, path, body string }{
				{http.MethodPost, confirmPath, good},
				{http.MethodGet, infoPath, ""},
				{http.MethodDelete, totpPath, ""},
				{http.MethodPatch, settingsPath, `{"totp_enabled":false}`},
				{http.MethodPost, codesPath, ""},
				{http.MethodGet, codesPath, ""},
				{http.MethodPost, statusPath, `{"account":"ada"}`},
				{http.MethodPost, verifyPath, `{"account":"ada","code":"123456"}`},
			} {
				caller := ada
				if strings.HasPrefix(call.path, "/internal/") {
					caller = service
				}
				if got := a.json(call.method, call.path, caller, call.body); got.status != row.status {
					t.Errorf("%s %s = %d %s; want %d", call.method, call.path, got.status, got.body, row.status)
				}
			}
			if !maps.EqualFunc(before, a.factorEntries(), bytes.Equal) {
				t.Error("an entry has changed")
			}
		})
	}
}

// damage changes the last byte of the entry whose key has the suffix.
func (a *testAPI) damage(suffix string) {
	a.t.Helper()
	must(a.t, a.backend.Walk(a.t.Context(), "", suffix, func(key string, value []byte) error {
		damaged := slices.Clone(value)
		damaged[len(damaged)-1] ^= 1
		return a.backend.Swap(a.t.Context(), key, value, damaged, 0)
	}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFactor_RefusesALargeBody covers 413 of each operation.
func TestFactor_RefusesALargeBody(t *testing.T) {
	a := newTestAPI(t)
	ada := person(t, "ada", time.Now())
	service := http.Header{"X-Service-Key": {a.newServiceKey()}}
	for call, fields := range map[string]http.Header{
		"POST " + confirmPath: ada, "GET " + infoPath: ada, "DELETE " + totpPath: ada, "PATCH " + settingsPath: ada,
		"POST " + codesPath: ada, "GET " + codesPath: ada, "POST " + statusPath: service, "POST " + verifyPath: service,
	} {
		method, path, _ := strings.Cut(call, " ")
		large := io.MultiReader(strings.NewReader(`{"code":"`), strings.NewReader(strings.Repeat("1", maxBody)))
		got := a.send(method, path, join(fields, http.Header{"Content-Type": {"application/json"}}), large)
		if got.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s %s = %d; want 413", method, path, got.status)
		}
	}
}

func TestFactor_AcceptsAnEmptyBodyOfUnknownLength(t *testing.T) {
	a := newTestAPI(t).listen()
	got := a.send(http.MethodDelete, totpPath, person(t, "ada", time.Now()), io.MultiReader(strings.NewReader("")))
	if got.status != http.StatusOK {
		t.Errorf("remove = %d %s; want 200", got.status, got.body)
	}
}
