package demo

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// apiResponse is what the API of the tests answers to every request.
const apiResponse = "the API: "

func newTestPage() *Page {
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte(apiResponse + r.Method + " " + r.URL.String()))
	})
	return NewPage(Session{"ada", "key-of-ada", "token-of-ada", "service-key"}, api)
}

// request returns the page's response to a request with an access key, or without one if that is "".
func request(p *Page, method, target, accessKey, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if accessKey != "" {
		r.Header.Set("Demo-Access-Key", accessKey)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func accessKeyOf(p *Page) string { return strings.TrimPrefix(p.URL(""), "/#") }

func TestPage_SendsItsFilesWithAStrictPolicy(t *testing.T) {
	for path, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/demo/demo.css": "text/css; charset=utf-8",
		"/demo/demo.js": "text/javascript; charset=utf-8", "/demo/icon.svg": "image/svg+xml",
	} {
		got := request(newTestPage(), http.MethodGet, path, "", "")
		if got.Code != http.StatusOK || got.Header().Get("Content-Type") != contentType || got.Body.Len() < 100 {
			t.Errorf("GET %s: %d, %v, %d bytes", path, got.Code, got.Header(), got.Body.Len())
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "Content-Security-Policy": policy, "Cross-Origin-Resource-Policy": "same-origin",
			"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
		} {
			if got.Header().Get(name) != want {
				t.Errorf("GET %s: %s: %s; want %s", path, name, got.Header().Get(name), want)
			}
		}
	}
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) || strings.Contains(policy, "unsafe") {
			t.Errorf("the policy is %s", policy)
		}
	}
}

func TestPage_PassesOtherRequestsToTheAPI(t *testing.T) {
	for _, c := range []struct{ method, target string }{
		{http.MethodPost, "/accounts/generate-totp-key"},
		{http.MethodGet, "/accounts//user-mfa-info?email=a@example.com"}, // a ServeMux would redirect
		{http.MethodPost, "/"},
		{http.MethodGet, "/demo"},
		{http.MethodGet, "/demo/"},
		{http.MethodGet, "/demo/../demo/demo.js"},
		{http.MethodGet, "/demo/index.html"},
		{http.MethodGet, "/demo/demo.go"},
		{http.MethodGet, "/demo/qr"},
	} {
		got := request(newTestPage(), c.method, c.target, "", "")
		if got.Code != http.StatusTeapot || got.Body.String() != apiResponse+c.method+" "+c.target || len(got.Header()) != 0 {
			t.Errorf("%s %s: %d, %v, %s", c.method, c.target, got.Code, got.Header(), got.Body)
		}
	}
}

func TestPage_SendsCredentialsToCallersWithTheAccessKeyOnly(t *testing.T) {
	p, other := newTestPage(), newTestPage()
	if len(accessKeyOf(p)) < 26 || accessKeyOf(p) == accessKeyOf(other) {
		t.Fatalf("access keys %q and %q", accessKeyOf(p), accessKeyOf(other))
	}
	for _, accessKey := range []string{"", "x", accessKeyOf(other), accessKeyOf(p)[1:]} {
		got := request(p, http.MethodGet, "/demo/session", accessKey, "")
		if got.Code != http.StatusForbidden || strings.Contains(got.Body.String(), "ada") {
			t.Errorf("with the access key %q: %d, %s", accessKey, got.Code, got.Body)
		}
	}
	got := request(p, http.MethodGet, "/demo/session", accessKeyOf(p), "")
	var session Session
	if err := json.Unmarshal(got.Body.Bytes(), &session); err != nil || got.Code != http.StatusOK || session != p.session {
		t.Errorf("with the access key: %d, %s", got.Code, got.Body)
	}
}

func TestPage_DrawsOtpauthURLsOnly(t *testing.T) {
	const url = "otpauth://totp/quiva.ai:ada@example.com?secret=TPQGLR5V5QWJUG5MEVIVX4GVEXOCQQOP&issuer=quiva.ai"
	if got := request(newTestPage(), http.MethodPost, "/demo/qr", "", url); got.Code != http.StatusOK || got.Header().Get("Content-Type") != "image/svg+xml" {
		t.Errorf("%d, %s", got.Code, got.Body)
	}
	for _, body := range []string{"", "https://example.com/", url + strings.Repeat("x", maxURL)} {
		if got := request(newTestPage(), http.MethodPost, "/demo/qr", "", body); got.Code != http.StatusBadRequest {
			t.Errorf("%.50s: %d, %s; want 400", body, got.Code, got.Body)
		}
	}
}

func TestPage_IsSmallAndNamesNoOtherHost(t *testing.T) {
	size := 0
	host := regexp.MustCompile(`(?:https?:)?//[a-z0-9.-]+\.[a-z]+`)
	entries, err := fs.ReadDir(files, ".")
	if err != nil || len(entries) != 4 {
		t.Fatalf("%v, %v; want four files", entries, err)
	}
	for _, entry := range entries {
		content, err := files.ReadFile(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		size += len(content)
		// The name of a namespace is no address.
		for _, found := range host.FindAllString(strings.ReplaceAll(string(content), "http://www.w3.org/2000/svg", ""), -1) {
			t.Errorf("%s names %s", entry.Name(), found)
		}
	}
	if size > 60_000 {
		t.Errorf("the page has %d bytes; want at most 60 kB", size)
	}
}
