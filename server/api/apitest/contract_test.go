package apitest

import (
	"net/http"
	"strings"
	"testing"
)

const generatePath = "/accounts/generate-totp-key"

// TestContract_FindsFaults has in each row a sound response with one fault.
func TestContract_FindsFaults(t *testing.T) {
	const ok, refused = `{"data":{"otpauth_url":"u","secret":"s"}}`, `{"error":"no"}`
	type headers map[string]string // "" removes the header
	contract := NewContract(t, nil, nil)
	for _, row := range []struct {
		name, method, path string
		status             int
		header             headers
		body               string
		want               string // part of the fault; "": none
	}{
		{"sound 200", "POST", generatePath, 200, nil, ok, ""},
		{"sound 401", "POST", generatePath, 401, headers{"Www-Authenticate": `Bearer realm="quiva.ai Gateway"`}, refused, ""},
		{"sound 404", "GET", "/", 404, nil, refused, ""},
		{"sound 404 to HEAD", "HEAD", "/", 404, nil, ``, ""},
		{"sound 405", "GET", generatePath, 405, headers{"Allow": "POST"}, refused, ""},
		{"undeclared status", "POST", generatePath, 418, nil, refused, "status is not supported"},
		{"undeclared header", "POST", generatePath, 200, headers{"X-Powered-By": "x"}, ok, "undeclared header X-Powered-By"},
		{"undeclared header of a 404", "GET", "/", 404, headers{"X-Powered-By": "x"}, refused, "undeclared header X-Powered-By"},
		{"header of another status", "POST", generatePath, 413, headers{"Retry-After": "1"}, refused, "undeclared header Retry-After"},
		{"repeated header", "POST", generatePath, 200, headers{"Totp-Key-Expires-In": "1\n2"}, ok, "header Totp-Key-Expires-In is there 2 times"},
		{"missing header", "POST", generatePath, 200, headers{"Totp-Key-Expires-In": ""}, ok, `"Totp-Key-Expires-In" missing`},
		{"header out of range", "POST", generatePath, 200, headers{"Totp-Key-Expires-In": "-1"}, ok, "minimum"},
		{"header of another pattern", "POST", generatePath, 401, headers{"Www-Authenticate": "Basic"}, refused, "regular expression"},
		{"other Content-Type", "POST", generatePath, 200, headers{"Content-Type": "text/plain"}, ok, `header Content-Type is "text/plain"; want "application/json"`},
		{"no Cache-Control", "POST", generatePath, 200, headers{"Cache-Control": ""}, ok, `header Cache-Control is ""; want "no-store"`},
		{"no X-Content-Type-Options", "POST", generatePath, 200, headers{"X-Content-Type-Options": ""}, ok, `header X-Content-Type-Options is ""; want "nosniff"`},
		{"no request id", "GET", "/", 404, headers{"X-Request-Id": ""}, refused, `header X-Request-Id is ""`},
		{"malformed request id", "GET", "/", 404, headers{"X-Request-Id": "a b"}, refused, `header X-Request-Id is "a b"`},
		{"missing member", "POST", generatePath, 200, nil, `{}`, `property "data" is missing`},
		{"undeclared member", "POST", generatePath, 200, nil, `{"data":{},"x":1}`, "undeclared member body.x"},
		{"undeclared member below", "POST", generatePath, 200, nil, `{"data":{"x":1}}`, "undeclared member body.data.x"},
		{"undeclared member of a 404", "GET", "/", 404, nil, `{"error":"no","x":1}`, "undeclared member body.x"},
		{"member of another type", "POST", generatePath, 200, nil, `{"data":{"secret":1}}`, "must be a string"},
		{"no body", "POST", generatePath, 200, nil, ``, "unexpected end of JSON input"},
		{"two values in the body", "POST", generatePath, 200, nil, ok + ok, "invalid character '{' after top-level value"},
		{"404 without an error", "GET", "/", 404, nil, `"x"`, "must be an object"},
		{"404 without JSON", "GET", "/", 404, nil, `x`, "invalid character"},
		{"200 for an unknown path", "GET", "/", 200, nil, ok, "status 200; want 404"},
		{"200 for a path and a slash", "POST", generatePath + "/", 200, nil, ok, "status 200; want 404"},
		{"200 for another method", "GET", generatePath, 200, headers{"Allow": "POST"}, ok, "status 200; want 405"},
		{"405 without Allow", "GET", generatePath, 405, nil, refused, `header Allow is ""; want "POST"`},
		{"405 with another Allow", "GET", generatePath, 405, headers{"Allow": "GET, POST"}, refused, `header Allow is "GET, POST"; want "POST"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), row.method, "http://service"+row.path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			header := http.Header{"Cache-Control": {"no-store"}, "X-Content-Type-Options": {"nosniff"}, "Content-Type": {"application/json"}, "X-Request-Id": {"0123456789abcdef"}}
			if row.status == http.StatusOK && row.method == http.MethodPost && row.path == generatePath {
				header.Set("Totp-Key-Expires-In", "1")
			}
			for name, value := range row.header {
				header[name] = strings.Split(value, "\n")
				if value == "" {
					header.Del(name)
				}
			}
			fault := contract.Fault(r, &http.Response{StatusCode: row.status, Header: header}, []byte(row.body))
			if row.want == "" && fault != nil || row.want != "" && (fault == nil || !strings.Contains(fault.Error(), row.want)) {
				t.Errorf("fault = %v; want one with %q", fault, row.want)
			}
		})
	}
}

// transport is an http.RoundTripper as a function.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// failures is a testing.TB that counts failures instead of failing.
type failures struct {
	testing.TB
	count int
}

func (f *failures) Errorf(string, ...any) { f.count++ }

func TestContract_FailsTheTestAndPassesTheResponseOn(t *testing.T) {
	failed := &failures{TB: t}
	teapot := transport(func(*http.Request) (*http.Response, error) {
		w := http.Response{StatusCode: http.StatusTeapot, Body: http.NoBody, Header: http.Header{"X-New": {"x"}}}
		return &w, nil
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://service"+generatePath, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := NewContract(failed, teapot, nil).RoundTrip(r)
	if err != nil || response.StatusCode != http.StatusTeapot || failed.count != 1 {
		t.Errorf("%+v, %v, %d failures; want 418 and one failure", response, err, failed.count)
	}
	response.Body.Close()
}
