package main

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// tampering plants a fault in every answer of one status.
type tampering struct {
	next   http.RoundTripper
	status int
	tamper func(*reply)
}

func (p tampering) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := p.next.RoundTrip(r)
	if err != nil || response.StatusCode != p.status {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	tampered := reply{status: p.status, header: response.Header, body: string(body)}
	p.tamper(&tampered)
	response.StatusCode, response.Body = tampered.status, io.NopCloser(strings.NewReader(tampered.body))
	return response, err
}

// empty200 is a 200 that lacks no header, only the body.
func empty200(r *reply) {
	r.status, r.body = http.StatusOK, ""
	r.header.Del("Www-Authenticate")
	r.header.Del("Allow")
	r.header.Set("Totp-Key-Expires-In", "1")
}

// TestRandomRequestsFindPlantedFaults shows what the random requests would notice, and
// after how many of them.
func TestRandomRequestsFindPlantedFaults(t *testing.T) {
	d := newDriver(t)
	contract := d.service.client.Transport.(*contract)
	contract.produced = nil
	sound := contract.next
	for _, c := range []struct {
		name   string
		status int
		tamper func(*reply)
		want   []string // of each validator, and of the rules
	}{
		{"wrong content type", 200, func(r *reply) { r.header.Set("Content-Type", "text/html") },
			[]string{`response header Content-Type has unexpected value: "text/html"`, "content type 'text/html' does not exist"}},
		{"missing required header", 401, func(r *reply) { r.header.Del("Www-Authenticate") },
			[]string{`response header "WWW-Authenticate" missing`, "'WWW-Authenticate' is missing"}},
		{"undeclared status", 401, func(r *reply) { r.status = http.StatusForbidden },
			[]string{"status is not supported", "'403' does not exist", "status 403; want 401"}},
		{"200 without body for a 401", 401, empty200,
			[]string{"failed to decode response body", "response object is missing", "status 200; want 401"}},
		{"200 without body for a 404", 404, empty200, []string{"breaks the contract: status 200; want 404"}},
		{"200 without body for a 405", 405, empty200, []string{"breaks the contract: status 200; want 405"}},
		{"another key", 200, func(r *reply) { r.body = `{"data":{"otpauth_url":"u","secret":"s"}}` }, []string{"the answer is not the pending key of"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			contract.next = tampering{sound, c.status, c.tamper}
			sent, found := 0, ""
			rapid.Check(t, func(t *rapid.T) {
				for _, call := range d.calls.Draw(t, "calls") {
					if found == "" {
						sent++
						found = strings.Join(d.send(call), "\n")
					}
				}
			})
			for _, want := range c.want {
				if !strings.Contains(found, want) {
					t.Errorf("after %d requests found %q; want %s", sent, found, want)
				}
			}
			t.Logf("%-26s found by request %2d: %s", c.name, sent, strings.Join(c.want, "; "))
		})
	}
}
