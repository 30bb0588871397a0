//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"quiva.ai/mfa/server/auth"
)

var (
	confirmed = expected{http.StatusOK, `"recovery_codes":["`}
	enrolled  = expected{http.StatusOK, `"totp_enabled":true`}
	verified  = expected{http.StatusOK, `"method":"totp"`}

	serviceKey = auth.NewServiceKey() // of the gateway; a setting of the baseline
)

// confirmations has each account generate a key, and returns the requests that confirm them.
func confirmations(t testing.TB, p *process, generate [][]byte) [][]byte {
	t.Helper()
	requests, secrets := make([][]byte, len(generate)), make([]string, len(generate))
	c := dial(t, []*process{p}, 1)[0]
	defer c.Close()
	for i, request := range generate {
		secrets[i] = c.generate(t, request)
	}
	for i, secret := range secrets {
		requests[i] = confirmation(generate[i], secret, nextCode(t, secret))
	}
	return requests
}

// infos has each account enrol a factor, and returns the requests that ask for it.
func infos(t testing.TB, p *process, generate [][]byte) [][]byte {
	t.Helper()
	requests := make([][]byte, len(generate))
	enrol(t, p, generate)
	for i, request := range generate {
		requests[i] = redirect(request, "GET /accounts/user-mfa-info", "")
	}
	return requests
}

// statuses is infos for the gateway. The accounts have the numbers from 0.
func statuses(t testing.TB, p *process, generate [][]byte) [][]byte {
	t.Helper()
	requests := make([][]byte, len(generate))
	enrol(t, p, generate)
	for i := range requests {
		requests[i] = internal("mfa-status", fmt.Sprintf(`{"account":%q}`, accountName(i)))
	}
	return requests
}

// verifications has each account enrol a factor, and returns the requests that verify a code
// of it. The accounts have the numbers from 0.
func verifications(t testing.TB, p *process, generate [][]byte) [][]byte {
	t.Helper()
	requests := make([][]byte, len(generate))
	for i, secret := range enrol(t, p, generate) {
		requests[i] = internal("verify-mfa-code", fmt.Sprintf(`{"account":%q,"code":%q}`, accountName(i), nextCode(t, secret)))
	}
	return requests
}

// enrol has each account enrol a factor and returns the secrets.
func enrol(t testing.TB, p *process, generate [][]byte) []string {
	t.Helper()
	secrets := make([]string, len(generate))
	c := dial(t, []*process{p}, 1)[0]
	defer c.Close()
	for i, request := range generate {
		secrets[i] = c.generate(t, request)
		if err := c.call(confirmation(request, secrets[i], codeAt(t, secrets[i], time.Now())), confirmed); err != nil {
			t.Fatal(err)
		}
	}
	return secrets
}

// generate sends a request to generate a key and returns its secret.
func (c *connection) generate(t testing.TB, request []byte) (secret string) {
	t.Helper()
	if err := c.call(request, issued); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(c.body, []byte(issued.text))
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(value)
}

// nextCode returns the code of the next time step. It is valid for 60 s at least, and was not
// used to enrol.
func nextCode(t testing.TB, secret string) string {
	t.Helper()
	return codeAt(t, secret, time.Now().Add(30*time.Second))
}

func codeAt(t testing.TB, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// internal returns a request of the gateway.
func internal(operation, body string) []byte {
	return redirect(request("X-Service-Key: "+serviceKey+"\r\n"), "POST /internal/"+operation, body)
}

// confirmation returns the request that confirms secret by the caller of a request to generate.
func confirmation(generate []byte, secret, code string) []byte {
	return redirect(generate, "POST /accounts/confirm-totp-registration", fmt.Sprintf(`{"code":%q,"secret":%q}`, code, secret))
}

// redirect returns the request for another operation by the same caller.
func redirect(generate []byte, operation, body string) []byte {
	_, credential, _ := bytes.Cut(generate, []byte("Content-Length: 0\r\n"))
	return fmt.Appendf(nil, "%s HTTP/1.1\r\nHost: mfa.test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s%s",
		operation, len(body), credential, body)
}
