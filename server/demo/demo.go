// Package demo is a page for developers that shows the whole flow: QR code, confirmation,
// recovery codes, sign-in, removal. It makes the real calls and shows each as it went over the
// wire.
//
// The page is part of serve --dev alone, at / on the API's own origin, and only if that is a
// loopback address. It stands in front of the API's handler, which knows nothing of it. The
// page's credentials are those that serve --dev prints. The page gets them from /demo/session
// with the access key, which is in the fragment of the page's URL: other users of the machine
// and other sites in the browser do not know it.
//
// The page loads nothing from another host, and its CSP refuses scripts in text. The QR code is
// made here, and in --dev only: the service itself returns the URL, and clients draw it.
package demo

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"io"
	"net/http"
)

//go:embed index.html demo.css demo.js icon.svg
var files embed.FS

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Session has the credentials that the page calls the API with.
type Session struct {
	Account    string `json:"account"`
	APIKey     string `json:"api_key"`     // of Account
	Token      string `json:"token"`       // of Account
	ServiceKey string `json:"service_key"` // of the gateway's sign-in
}

// Page is the handler of the page. It passes requests for other paths to the API, unchanged.
type Page struct {
	api       http.Handler
	routes    map[string]http.HandlerFunc // by method and path
	session   Session
	accessKey string
}

// NewPage returns the page in front of api.
func NewPage(session Session, api http.Handler) *Page {
	p := &Page{api: api, session: session, accessKey: rand.Text()}
	p.routes = map[string]http.HandlerFunc{
		"GET /":              file("index.html", "text/html; charset=utf-8"),
		"GET /demo/demo.css": file("demo.css", "text/css; charset=utf-8"),
		"GET /demo/demo.js":  file("demo.js", "text/javascript; charset=utf-8"),
		"GET /demo/icon.svg": file("icon.svg", "image/svg+xml"),
		"GET /demo/session":  p.sendSession,
		"POST /demo/qr":      drawQRCode,
	}
	return p
}

// URL returns the page's URL with the access key. origin is the API's.
func (p *Page) URL(origin string) string { return origin + "/#" + p.accessKey }

// ServeHTTP implements http.Handler. Its own routes are no patterns of a ServeMux, which would
// redirect requests of the API to cleaned paths.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve := p.routes[r.Method+" "+r.URL.Path]
	if serve == nil {
		p.api.ServeHTTP(w, r)
		return
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", policy)
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	serve(w, r)
}

func file(name, contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		content, _ := files.ReadFile(name) // embedded, so it is there
		send(w, contentType, content)
	}
}

// sendSession returns the credentials to callers with the access key.
func (p *Page) sendSession(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Demo-Access-Key")), []byte(p.accessKey)) != 1 {
		http.Error(w, "open the address that serve --dev printed", http.StatusForbidden)
		return
	}
	content, _ := json.Marshal(p.session) //nolint:gosec // G117: sending credentials is its purpose. Strings can be encoded.
	send(w, "application/json", content)
}

// maxURL is longer than any otpauth URL of the service.
const maxURL = 1 << 10

// drawQRCode returns the QR code of the otpauth URL in the body as SVG.
func drawQRCode(w http.ResponseWriter, r *http.Request) {
	url, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxURL))
	if err != nil || !bytes.HasPrefix(url, []byte("otpauth://")) {
		http.Error(w, "the body must be an otpauth URL", http.StatusBadRequest)
		return
	}
	code, err := NewQRCode(string(url))
	if err != nil {
		http.Error(w, "the URL does not fit into a QR code", http.StatusBadRequest)
		return
	}
	send(w, "image/svg+xml", code.SVG())
}

func send(w http.ResponseWriter, contentType string, content []byte) {
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(content) // a failed write means that the client is gone
}
