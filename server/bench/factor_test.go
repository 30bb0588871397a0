//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

var (
	confirmed = expected{http.StatusOK, `"recovery_codes":["`}
	enrolled  = expected{http.StatusOK, `"totp_enabled":true`}
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
	// Both servers accept codes of the next time step: for 60 s at least.
	for i, secret := range secrets {
		requests[i] = confirmation(t, generate[i], secret, time.Now().Add(30*time.Second))
	}
	return requests
}

// infos has each account enrol a factor, and returns the requests that ask for it.
func infos(t testing.TB, p *process, generate [][]byte) [][]byte {
	t.Helper()
	requests := make([][]byte, len(generate))
	c := dial(t, []*process{p}, 1)[0]
	defer c.Close()
	for i, request := range generate {
		if err := c.call(confirmation(t, request, c.generate(t, request), time.Now()), confirmed); err != nil {
			t.Fatal(err)
		}
		requests[i] = redirect(request, "GET /accounts/user-mfa-info", "")
	}
	return requests
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

// confirmation returns the request that confirms secret with its code of that time, by the
// caller of a request to generate.
func confirmation(t testing.TB, generate []byte, secret string, at time.Time) []byte {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return redirect(generate, "POST /accounts/confirm-totp-registration", fmt.Sprintf(`{"code":%q,"secret":%q}`, code, secret))
}

// redirect returns the request for another operation by the same caller.
func redirect(generate []byte, operation, body string) []byte {
	_, credential, _ := bytes.Cut(generate, []byte("Content-Length: 0\r\n"))
	return fmt.Appendf(nil, "%s HTTP/1.1\r\nHost: mfa.test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s%s",
		operation, len(body), credential, body)
}
