package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/server/auth"
)

// dial connects to the API for at most 3 s: less than the server waits for a body.
func (a *testAPI) dial() (net.Conn, *bufio.Reader) {
	a.t.Helper()
	connection, err := net.Dial("tcp", a.address)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		a.t.Fatal(err)
	}
	return connection, bufio.NewReader(connection)
}

// exchange sends bytes that net/http's client would change, and reads the response.
func (a *testAPI) exchange(request string) reply {
	a.t.Helper()
	connection, responses := a.dial()
	defer connection.Close()
	if _, err := io.WriteString(connection, request); err != nil {
		a.t.Fatal(err)
	}
	return a.readResponse(request, responses)
}

// readResponse reads the response to request and checks it against the document.
func (a *testAPI) readResponse(request string, responses *bufio.Reader) reply {
	a.t.Helper()
	method, target, _ := strings.Cut(request, " ")
	target, _, _ = strings.Cut(target, " ")
	r := &http.Request{Method: method, URL: &url.URL{Path: target}}
	if u, err := url.ParseRequestURI(target); err == nil {
		r.URL = u
	}
	response, err := http.ReadResponse(responses, r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	// net/http itself responds to malformed requests, in plain text, and closes the connection.
	if byServer := response.Close && strings.HasPrefix(response.Header.Get("Content-Type"), "text/plain"); !byServer {
		a.contract.Check(r, response, body)
	}
	return reply{response.StatusCode, response.Header, string(body), response.Close}
}

// TestWire_Credentials has requests that no well-behaved client sends.
func TestWire_Credentials(t *testing.T) {
	a := newTestAPI(t, withBodyTime(100*time.Millisecond)).listen()
	token, key := newToken(t, "ada", nil), a.newAPIKey("ada")
	const open = "POST " + generatePath + " HTTP/1.1\r\nHost: h\r\n"
	const line = open + "Connection: close\r\n"
	at := func(target string) string { return strings.Replace(line, generatePath, target, 1) }
	for _, row := range []struct {
		name, request string
		status        int
		cause         auth.Cause
	}{
		{"rejects a long body before it comes", line + "X-Api-Key: " + key + "\r\nContent-Length: 65537\r\nExpect: 100-continue\r\n\r\n", 413, ""},
		{"does not await a stranger's long body", line + "Content-Length: 65537\r\nExpect: 100-continue\r\n\r\n", 401, auth.NoCredentials},
		{"does not await a stranger's body", open + "Content-Length: 10\r\n\r\nabc", 401, auth.NoCredentials},
		{"does not await the body of an unknown path", strings.Replace(open, generatePath, "/x", 1) + "Content-Length: 10\r\n\r\nabc", 404, ""},
		{"ignores a body that does not come", line + "X-Api-Key: " + key + "\r\nContent-Length: 10\r\n\r\nabc", 200, ""},
		{"ignores malformed chunks", line + "X-Api-Key: " + key + "\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 200, ""},
		{"accepts names in any case", line + "aUtHoRiZaTiOn: bEaReR " + token + "\r\nx-API-key: " + key + "\r\n\r\n", 200, ""},
		{"accepts white space around a value", line + "X-Api-Key: \t " + key + " \t\r\n\r\n", 200, ""},
		{"accepts HTTP/1.0", "POST " + generatePath + " HTTP/1.0\r\nX-Api-Key: " + key + "\r\n\r\n", 200, ""},
		{"refuses two tokens under names in two cases", line + "Authorization: Bearer " + token + "\r\nauthorization: Bearer " + token + "\r\n\r\n", 401, auth.SeveralCredentials},
		{"refuses an API key and an empty one", line + "X-Api-Key: " + key + "\r\nX-API-KEY:\r\n\r\n", 401, auth.SeveralCredentials},
		{"refuses a token and an empty API key", line + "Authorization: Bearer " + token + "\r\nX-Api-Key:\r\n\r\n", 401, auth.KeyMalformed},
		{"refuses underscores for dashes", line + "X_Api_Key: " + key + "\r\n\r\n", 401, auth.NoCredentials},
		{"refuses an API key in the query", at(generatePath+"?X-Api-Key="+key) + "\r\n", 401, auth.NoCredentials},
		{"refuses a token in the query", at(generatePath+"?access_token="+token) + "\r\n", 401, auth.NoCredentials},
		{"refuses a token in the body", line + "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + fmt.Sprint(len("access_token="+token)) + "\r\n\r\naccess_token=" + token, 401, auth.NoCredentials},
		{"refuses an API key in the target", at("http://ada:"+key+"@h"+generatePath) + "\r\n", 401, auth.NoCredentials},
		{"refuses a token in a trailer", line + "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n0\r\nAuthorization: Bearer " + token + "\r\n\r\n", 401, auth.NoCredentials},
		{"refuses bytes beyond ASCII", line + "X-Api-Key: " + key[:43] + "\xff\r\n\r\n", 401, auth.KeyMalformed},
		{"refuses a no-break space after the scheme", line + "Authorization: Bearer\u00a0" + token + "\r\n\r\n", 401, auth.SchemeUnknown},
		{"rejects a space before the colon", line + "X-Api-Key : " + key + "\r\n\r\n", 400, ""},
		{"rejects NUL in a value", line + "X-Api-Key: " + key + "\x00\r\n\r\n", 400, ""},
		{"rejects a carriage return in a value", line + "X-Api-Key: " + key[:20] + "\r" + key[20:] + "\r\n\r\n", 400, ""},
		{"rejects a header of 32 KiB", line + "X-Api-Key: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", 431, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := a.exchange(row.request)
			if got.status != row.status || row.status == http.StatusUnauthorized && got.body != refusedBody {
				t.Fatalf("%d %s; want %d", got.status, got.body, row.status)
			}
			if row.status == 400 || row.status == 431 { // by net/http
				if lines := a.lines(); len(lines) != 0 {
					t.Errorf("log lines %v; want none", lines)
				}
				return
			}
			if line := a.line(); row.cause != "" && line["cause"] != string(row.cause) {
				t.Errorf("log line %v; want cause %s", line, row.cause)
			}
		})
	}
}

func TestWire_PipelinedRequestsKeepTheirCredentials(t *testing.T) {
	a := newTestAPI(t).listen()
	connection, responses := a.dial()
	const line = "POST " + generatePath + " HTTP/1.1\r\nHost: h\r\n"
	ada, bob := newToken(t, "ada", nil), newToken(t, "bob", nil)
	if _, err := io.WriteString(connection, line+"Authorization: Bearer "+ada+"\r\n\r\n"+line+"\r\n"+line+"Authorization: Bearer "+bob+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	first, second, third := a.readResponse(line, responses), a.readResponse(line, responses), a.readResponse(line, responses)
	if !strings.Contains(first.body, ":ada@") || second.status != http.StatusUnauthorized || !strings.Contains(third.body, ":bob@") {
		t.Errorf("responses %s%s%s; want ada's, a refusal, bob's", first.body, second.body, third.body)
	}
}

// TestWire_AmbiguousRequests has requests that two programs may read in different ways: no
// gateway should let them through. The API takes them literally, and changes nothing.
func TestWire_AmbiguousRequests(t *testing.T) {
	a := newTestAPI(t).listen()
	fields := "Host: h\r\nAuthorization: " + asUser(t, "ada").Get("Authorization") + "\r\n"
	to := func(target string) string { return "POST " + target + " HTTP/1.1\r\n" + fields }
	with := func(more string) string { return to(generatePath) + more }
	const chunked, lengthAndChunked = "Transfer-Encoding: chunked\r\n\r\n0\r\n", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
	for _, row := range []struct {
		name, request string
		status        int
		closes        bool // the connection, after the response
	}{
		{"// before the path", to("/" + generatePath), 404, false},
		{"// in the path", to("/accounts//generate-totp-key"), 404, false},
		{"/./", to("/." + generatePath), 404, false},
		{"/x/../", to("/x/.." + generatePath), 404, false},
		{"/ at the end", to(generatePath + "/"), 404, false},
		{"escaped /", to("/accounts%2Fgenerate-totp-key"), 404, false},
		{"escaped -", to("/accounts/generate%2Dtotp-key"), 404, false},
		{"another case", to("/Accounts/generate-totp-key"), 404, false},
		{"; parameter", to(generatePath + ";v=1"), 404, false},
		{"fragment", to(generatePath + "#x"), 404, false},
		{"malformed query", to(generatePath + "?;&%zz"), 200, false},
		{"absolute form", to("http://h" + generatePath), 200, false},
		{"absolute form, another host", to("http://elsewhere.example" + generatePath), 200, false},
		{"no / at the beginning", to(generatePath[1:]), 400, true},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" + fields, 404, false},
		{"OPTIONS", "OPTIONS " + generatePath + " HTTP/1.1\r\n" + fields, 405, false},
		{"TRACE", "TRACE " + generatePath + " HTTP/1.1\r\n" + fields, 405, false},
		{"CONNECT", "CONNECT h:443 HTTP/1.1\r\n" + fields, 404, false},
		{"method in lower case", "post " + generatePath + " HTTP/1.1\r\n" + fields, 405, false},
		{"h2c, at once", "PRI * HTTP/2.0\r\n\r\nSM\r\n", 404, true},
		{"h2c, as an upgrade", with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"), 200, false},
		{"WebSocket", with("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"), 200, false},
		{"method in a header", strings.Replace(with("X-HTTP-Method-Override: POST\r\n"), "POST", "GET", 1), 405, false},
		{"path in a header", strings.Replace(with("X-Original-URL: "+generatePath+"\r\n"), generatePath, "/x", 1), 404, false},
		{"length and chunked", with(lengthAndChunked), 200, true},
		{"chunked and length", with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n"), 200, true},
		{"length and chunked, unknown path", strings.Replace(with(lengthAndChunked), generatePath, "/x", 1), 404, true},
		{"chunked in HTTP/1.0", strings.Replace(with("Connection: keep-alive\r\n"+chunked), "HTTP/1.1", "HTTP/1.0", 1), 200, true},
		{"length and chunked in HTTP/1.0", strings.Replace(with("Connection: keep-alive\r\n"+lengthAndChunked), "HTTP/1.1", "HTTP/1.0", 1), 200, true},
		{"two lengths", with("Content-Length: 3\r\nContent-Length: 4\r\n"), 400, true},
		{"signed length", with("Content-Length: +3\r\n"), 400, true},
		{"two codings", with("Transfer-Encoding: gzip, chunked\r\n"), 501, true},
		{"malformed coding", with("Transfer-Encoding: \x0bchunked\r\n"), 400, true},
		{"folded line", with("X-Folded: a\r\n b\r\n"), 200, false},
		{"two hosts", with("Host: other\r\n"), 400, true},
		{"no host", strings.Replace(with(""), "Host: h\r\n", "", 1), 400, true},
		{"HTTP/3.0", strings.Replace(with(""), "HTTP/1.1", "HTTP/3.0", 1), 505, true},
		{"HTTP/0.9", "POST " + generatePath + "\r\n", 400, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := a.exchange(row.request + "\r\n")
			if got.status != row.status || got.closes != row.closes {
				t.Errorf("%d %s, closes %t; want %d, %t", got.status, got.body, got.closes, row.status, row.closes)
			}
		})
	}
}
