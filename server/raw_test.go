package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

// exchange sends bytes that net/http's client would tidy, and reads one answer, which
// it holds against the contract.
func (s *service) exchange(request string) reply {
	s.t.Helper()
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, request); err != nil {
		s.t.Fatal(err)
	}
	return s.readAnswerTo(request, bufio.NewReader(connection))
}

// readAnswerTo reads the answer to a request, of which the first line matters.
func (s *service) readAnswerTo(request string, connection *bufio.Reader) reply {
	s.t.Helper()
	method, target, _ := strings.Cut(request, " ")
	target, _, _ = strings.Cut(target, " ")
	r := &http.Request{Method: method, URL: &url.URL{Path: target}}
	if u, err := url.ParseRequestURI(target); err == nil {
		r.URL = u
	}
	response, err := http.ReadResponse(connection, r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	// What is not HTTP never reaches the API: net/http answers by itself and hangs up.
	if byListener := response.Close && strings.HasPrefix(response.Header.Get("Content-Type"), "text/plain"); !byListener {
		s.client.Transport.(*contract).hold(r, response, body)
	}
	return reply{response.StatusCode, response.Header, string(body), response.Close}
}

// TestHeadersAsTheyComeOverTheWire has shapes that a tidy client does not send.
func TestHeadersAsTheyComeOverTheWire(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	token, key := newToken(t, goodClaims("ada", nil)), s.newAPIKey("ada")
	const line = "POST " + generatePath + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
	const kept = "POST " + generatePath + " HTTP/1.1\r\nHost: h\r\n" // net/http may await the body
	for _, row := range []struct {
		name, request string
		status        int
		cause         auth.Cause
	}{
		{"a long body is refused before it is sent", line + "X-Api-Key: " + key + "\r\nContent-Length: 65537\r\nExpect: 100-continue\r\n\r\n", 413, ""},
		{"a stranger's long body is not awaited", line + "Content-Length: 65537\r\nExpect: 100-continue\r\n\r\n", 401, auth.NoCredentials},
		{"a stranger's body that does not come is not awaited", kept + "Content-Length: 10\r\n\r\nabc", 401, auth.NoCredentials},
		{"nor that of a request for nothing", strings.Replace(kept, generatePath, generatePath+"/x", 1) + "Content-Length: 10\r\n\r\nabc", 404, ""},
		{"a body that does not come", line + "X-Api-Key: " + key + "\r\nContent-Length: 10\r\n\r\nabc", 200, ""},
		{"names in any case", line + "aUtHoRiZaTiOn: bEaReR " + token + "\r\nx-API-key: " + key + "\r\n\r\n", 200, ""},
		{"white space around a value", line + "X-Api-Key: \t " + key + " \t\r\n\r\n", 200, ""},
		{"HTTP/1.0", "POST " + generatePath + " HTTP/1.0\r\nX-Api-Key: " + key + "\r\n\r\n", 200, ""},
		{"chunks that are none", line + "X-Api-Key: " + key + "\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 200, ""},
		{"two tokens under names of two cases", line + "Authorization: Bearer " + token + "\r\nauthorization: Bearer " + token + "\r\n\r\n", 401, auth.SeveralCredentials},
		{"two keys, one of them empty", line + "X-Api-Key: " + key + "\r\nX-API-KEY:\r\n\r\n", 401, auth.SeveralCredentials},
		{"empty key beside a token", line + "Authorization: Bearer " + token + "\r\nX-Api-Key:\r\n\r\n", 401, auth.KeyMalformed},
		{"underscores for dashes", line + "X_Api_Key: " + key + "\r\n\r\n", 401, auth.NoCredentials},
		{"key in the query", strings.Replace(line, generatePath, generatePath+"?X-Api-Key="+key, 1) + "\r\n", 401, auth.NoCredentials},
		{"token in the query", strings.Replace(line, generatePath, generatePath+"?access_token="+token, 1) + "\r\n", 401, auth.NoCredentials},
		{"token in the body", line + "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + fmt.Sprint(len("access_token="+token)) + "\r\n\r\naccess_token=" + token, 401, auth.NoCredentials},
		{"user in the target", strings.Replace(line, generatePath, "http://ada:"+key+"@h"+generatePath, 1) + "\r\n", 401, auth.NoCredentials},
		{"token in a trailer", line + "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n0\r\nAuthorization: Bearer " + token + "\r\n\r\n", 401, auth.NoCredentials},
		{"bytes beyond ASCII", line + "X-Api-Key: " + key[:43] + "\xff\r\n\r\n", 401, auth.KeyMalformed},
		{"no-break space after the scheme", line + "Authorization: Bearer\u00a0" + token + "\r\n\r\n", 401, auth.SchemeUnknown},
		{"space before the colon", line + "X-Api-Key : " + key + "\r\n\r\n", 400, ""},
		{"NUL in a value", line + "X-Api-Key: " + key + "\x00\r\n\r\n", 400, ""},
		{"carriage return in a value", line + "X-Api-Key: " + key[:20] + "\r" + key[20:] + "\r\n\r\n", 400, ""},
		{"header of 32 KiB", line + "X-Api-Key: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", 431, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := len(s.logLines("request"))
			got := s.exchange(row.request)
			if got.status != row.status {
				t.Fatalf("%d %s; want %d", got.status, got.body, row.status)
			}
			lines := s.logLines("request")[before:]
			switch {
			case row.status == 400 || row.status == 431:
				if len(lines) != 0 {
					t.Error("the API saw what is not HTTP")
				}
			case row.status == 401 && (got.body != refusedBody || lines[0]["cause"] != string(row.cause)):
				t.Errorf("%s, cause %v; want the constant body, %s", got.body, lines[0]["cause"], row.cause)
			}
		})
	}
}

func TestRequestsOnOneConnectionKeepTheirOwnCredentials(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	const line = "POST " + generatePath + " HTTP/1.1\r\nHost: h\r\n"
	ada, bob := newToken(t, goodClaims("ada", nil)), newToken(t, goodClaims("bob", nil))
	if _, err := io.WriteString(connection, line+"Authorization: Bearer "+ada+"\r\n\r\n"+line+"\r\n"+line+"Authorization: Bearer "+bob+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(connection)
	first, second, third := s.readAnswerTo(line, answers), s.readAnswerTo(line, answers), s.readAnswerTo(line, answers)
	if !strings.Contains(first.body, ":ada@") || second.status != http.StatusUnauthorized || !strings.Contains(third.body, ":bob@") {
		t.Errorf("answers %s%s%s; want ada's, a refusal, bob's", first.body, second.body, third.body)
	}
}

// TestOddRequests has what no gateway should let through, one row each: where two
// programs read a request in different ways, one of them is deceived. Nothing here is
// cleaned up, or taken for something else than it says.
func TestOddRequests(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	fields := "Host: h\r\nAuthorization: " + asUser(t, "ada").Get("Authorization") + "\r\n"
	to := func(target string) string { return "POST " + target + " HTTP/1.1\r\n" + fields }
	with := func(more string) string { return to(generatePath) + more }
	for _, row := range []struct {
		name, request string
		status        int
		closes        bool // the connection, after the answer
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
		{"query that is none", to(generatePath + "?;&%zz"), 200, false},
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
		{"CL and TE", with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), 200, true},
		{"TE and CL", with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n"), 200, true},
		{"CL and TE for nothing", strings.Replace(with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), generatePath, "/x", 1), 404, true},
		{"TE in HTTP/1.0", strings.Replace(with("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), "HTTP/1.1", "HTTP/1.0", 1), 200, true},
		{"CL and TE in HTTP/1.0", strings.Replace(with("Connection: keep-alive\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), "HTTP/1.1", "HTTP/1.0", 1), 200, true},
		{"two lengths", with("Content-Length: 3\r\nContent-Length: 4\r\n"), 400, true},
		{"signed length", with("Content-Length: +3\r\n"), 400, true},
		{"two codings", with("Transfer-Encoding: gzip, chunked\r\n"), 501, true},
		{"coding that is none", with("Transfer-Encoding: \x0bchunked\r\n"), 400, true},
		{"folded line", with("X-Folded: a\r\n b\r\n"), 200, false},
		{"two hosts", with("Host: other\r\n"), 400, true},
		{"no host", strings.Replace(with(""), "Host: h\r\n", "", 1), 400, true},
		{"HTTP/3.0", strings.Replace(with(""), "HTTP/1.1", "HTTP/3.0", 1), 505, true},
		{"HTTP/0.9", "POST " + generatePath + "\r\n", 400, true},
	} {
		got := s.exchange(row.request + "\r\n")
		if got.status != row.status || got.closes != row.closes {
			t.Errorf("%s: %d %s, closes %t; want %d, %t", row.name, got.status, got.body, got.closes, row.status, row.closes)
		}
	}
}
