package lifecycle

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/store/storetest"
)

// serve runs Serve on a new Listener until the test ends and returns the address.
func serve(t *testing.T, handler http.Handler, certificate *Certificate, log *slog.Logger) string {
	t.Helper()
	listener, err := Listen(t.Context(), "127.0.0.1:0", 10)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, listener, NewServer(handler, certificate, testIdleTimeout, log), 0) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve = %v; want nil", err)
		}
	})
	return listener.Addr().String()
}

// exchange sends a request as it stands and returns the status of the response and its body.
func exchange(t *testing.T, conn net.Conn, request string) (status int, body string) {
	t.Helper()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestNewServer_SetsLimits(t *testing.T) {
	server := NewServer(http.NotFoundHandler(), nil, time.Hour, slog.New(slog.DiscardHandler))
	if server.ReadTimeout != 5*time.Second || server.WriteTimeout != 10*time.Second || server.IdleTimeout != time.Hour {
		t.Errorf("read, write and idle time %v, %v, %v; want 5s, 10s, 1h0m0s", server.ReadTimeout, server.WriteTimeout, server.IdleTimeout)
	}
	if server.ReadHeaderTimeout != 0 {
		t.Errorf("header time %v; want 0s, so that the read time counts for header and body together", server.ReadHeaderTimeout)
	}
	if server.TLSConfig != nil {
		t.Error("TLS without a certificate")
	}
}

func TestNewServer_RejectsHeadersBeyond10KiB(t *testing.T) {
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, len(r.Header.Get("Authorization")))
	}), nil, slog.New(slog.DiscardHandler))
	const longest = 10 << 10
	header := func(size int) string {
		begin := "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + strings.Repeat("t", 8<<10) + "\r\nX-Other: "
		const end = "\r\n\r\n"
		return begin + strings.Repeat("o", size-len(begin)-len(end)) + end
	}
	for size, want := range map[int]int{longest: http.StatusOK, longest + 1: http.StatusRequestHeaderFieldsTooLarge} {
		status, body := exchange(t, dial(t, address), header(size))
		if status != want {
			t.Errorf("header of %d bytes: status %d; want %d", size, status, want)
		}
		if token := fmt.Sprint(8<<10 + len("Bearer ")); status == http.StatusOK && body != token {
			t.Errorf("the handler saw %s bytes of Authorization; want %s", body, token)
		}
	}
}

func TestNewServer_LeavesOptionsToHandler(t *testing.T) {
	address := serve(t, http.NotFoundHandler(), nil, slog.New(slog.DiscardHandler))
	if status, _ := exchange(t, dial(t, address), "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"); status != http.StatusNotFound {
		t.Errorf("OPTIONS * = %d; want the handler's 404", status)
	}
}

func TestNewServer_LogsPanicAsWarning(t *testing.T) {
	log, lines := newLog(slog.LevelInfo)
	address := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("fault") }), nil, log)
	conn := dial(t, address)
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes; want the connection closed", n)
	}
	if got := lines.take(); !strings.HasPrefix(got, `level=WARN msg="http: panic serving 127.0.0.1:`) || !strings.Contains(got, ": fault\\n") {
		t.Errorf("log: %s; want a WARN of net/http", got)
	}
}

// newServerWithTLS returns the address of a server that has a certificate with serial 1.
func newServerWithTLS(t *testing.T, log *slog.Logger) (address string) {
	t.Helper()
	files := newCertificateFiles(t)
	files.write(newCertificate(t, 1, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)))
	return serve(t, http.NotFoundHandler(), files.load(time.Now, log), log)
}

func TestNewServer_SpeaksHTTP1OverTLS(t *testing.T) {
	address := newServerWithTLS(t, slog.New(slog.DiscardHandler))
	for version, spoken := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", address, &tls.Config{
			InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"},
		})
		if (err == nil) != spoken {
			t.Errorf("%s: %v; want it spoken: %t", tls.VersionName(version), err, spoken)
		}
		if err != nil {
			continue
		}
		defer conn.Close()
		state := conn.ConnectionState()
		if state.NegotiatedProtocol != "http/1.1" || state.PeerCertificates[0].SerialNumber.Int64() != 1 {
			t.Errorf("protocol %q, serial %d; want http/1.1 and 1", state.NegotiatedProtocol, state.PeerCertificates[0].SerialNumber)
		}
		if status, _ := exchange(t, conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); status != http.StatusNotFound {
			t.Errorf("%s: status %d; want 404", tls.VersionName(version), status)
		}
	}
}

func TestNewServer_LogsFailedHandshakesAtDebug(t *testing.T) {
	const want = `^level=DEBUG msg="http: TLS handshake error from 127\.0\.0\.1:\d+: client sent an HTTP request to an HTTPS server"\n$`
	log, lines := newLog(slog.LevelDebug)
	quiet, none := newLog(slog.LevelInfo)
	for _, log := range []*slog.Logger{quiet, log} {
		status, body := exchange(t, dial(t, newServerWithTLS(t, log)), "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if status != http.StatusBadRequest || body != "Client sent an HTTP request to an HTTPS server.\n" {
			t.Errorf("HTTP on the HTTPS port: %d %q; want 400 with the reason", status, body)
		}
	}
	storetest.Eventually(t, func() bool { return lines.size() > 0 }) // net/http logs after the response
	if got := lines.take(); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("log: %s; want %s", got, want)
	}
	none.wantLog(t, "at level INFO", "")
}
