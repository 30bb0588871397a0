package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"quiva.ai/mfa/store/storetest"
)

func TestAConnectionTooManyIsClosedAtOnce(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t), "MFA_MAX_CONNECTIONS=2"))
	first, answers := s.dial()
	s.dial() // and says nothing
	_, tooMany := s.dial()
	if _, err := tooMany.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one too many: %v; want it closed", err)
	}
	request := "POST " + generatePath + " HTTP/1.1\r\nHost: h\r\nAuthorization: " + asUser(t, "ada").Get("Authorization") + "\r\n\r\n"
	if _, err := io.WriteString(first, request); err != nil {
		t.Fatal(err)
	}
	if got := s.readAnswerTo(request, answers); got.status != http.StatusOK {
		t.Errorf("one that was there before: %d; want 200", got.status)
	}
	for _, line := range []string{"mfa_connections 2", "mfa_connections_refused_total 1", "mfa_large_headers_waiting 0"} {
		if got := s.admin("/metrics"); !strings.Contains(got.body, "\n"+line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	first.Close()
	storetest.Eventually(t, func() bool { return strings.Contains(s.admin("/metrics").body, "\nmfa_connections 1\n") })
	if got := s.post(asUser(t, "ada")); got.status != http.StatusOK {
		t.Errorf("after one has left: %d; want 200", got.status)
	}
}

// Whoever reaches the admin listener cannot take the files that the API's connections need.
func TestTheAdminListenerIsBounded(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	address := s.logLines("listening")[0]["admin_address"].(string)
	var connections []net.Conn
	for range maxAdmin + 1 {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		if err := connection.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		connections = append(connections, connection)
	}
	if _, err := connections[maxAdmin].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one too many: %v; want it closed", err)
	}
	connections[0].Close()
	storetest.Eventually(t, func() bool {
		response, err := http.Get("http://" + address + "/livez")
		return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
}

// connect returns both ends of a connection that a bounded listener has accepted.
func connect(t *testing.T) (bounded *boundedListener, server, client net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounded = newBoundedListener(listener, 1)
	t.Cleanup(func() { bounded.Close() })
	client, err = net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err = bounded.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return bounded, server, client
}

func TestAConnectionThatIsClosedTwiceIsCountedOnce(t *testing.T) {
	bounded, server, _ := connect(t)
	for range 2 {
		_ = server.Close()
	}
	if n := bounded.open.Load(); n != 0 {
		t.Errorf("%d connections are open; want none", n)
	}
}

// A header beyond what is usual has to wait, whatever it consists of and however it comes,
// and nothing else has.
func TestLargeHeadersWait(t *testing.T) {
	const large = 6000
	type step any // an http.ConnState; a string that the client sends; or by how much fewer bytes may be read then
	sent := func(size int) step { return strings.Repeat("x", size) }
	for name, steps := range map[string][]step{
		"a usual header":             {sent(usualHeader), 0},
		"a large one":                {sent(large), large},
		"one in pieces":              {sent(5000), 0, sent(1000), large, sent(1000), large + 1000},
		"a few bytes more":           {sent(large), large, sent(fewBytes), large, sent(1), large + fewBytes + 1},
		"a large body":               {sent(1000), http.StateActive, sent(large), http.StateIdle, 0},
		"the next header":            {sent(large), http.StateActive, http.StateIdle, sent(usualHeader), large, sent(1000), large + usualHeader + 1000},
		"a header that came early":   {sent(1000), http.StateActive, sent(large), http.StateIdle, 0, sent(usualHeader), 4<<10 + usualHeader},
		"a header after a large one": {sent(large), http.StateActive, http.StateIdle, sent(fewBytes), large},
	} {
		t.Run(name, func(t *testing.T) {
			bounded, server, client := connect(t)
			bounded.large.SetLimit(0)
			followHeader(server, http.StateNew)
			for i, step := range steps {
				switch step := step.(type) {
				case http.ConnState:
					followHeader(server, step)
				case string:
					if _, err := io.WriteString(client, step); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(server, make([]byte, len(step))); err != nil {
						t.Fatal(err)
					}
				case int:
					if waited := largeBurst - int(bounded.large.Tokens()); waited != step {
						t.Errorf("after step %d, %d bytes have waited; want %d", i, waited, step)
					}
				}
			}
		})
	}
}

// With TLS, a whole header may have come before net/http asks for it.
func TestAHeaderThatWasReadAheadWaits(t *testing.T) {
	t.Parallel()
	certified := httptest.NewTLSServer(nil)
	certified.Close()
	bounded, accepted, dialed := connect(t)
	bounded.large.SetLimit(0)
	server := tls.Server(accepted, &tls.Config{Certificates: certified.TLS.Certificates})
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	client := tls.Client(dialed, &tls.Config{RootCAs: roots, ServerName: "example.com"})

	written := make(chan error)
	// One after the other: TLS reads as much as it finds.
	transfer := func(size int) {
		t.Helper()
		go func() {
			_, err := client.Write(make([]byte, size))
			written <- err
		}()
		_, err := io.ReadFull(server, make([]byte, size))
		if err := errors.Join(err, <-written); err != nil {
			t.Fatal(err)
		}
	}
	const usual, large = 4000, 20_000
	followHeader(server, http.StateNew)
	transfer(large)
	followHeader(server, http.StateActive)
	before := bounded.large.Tokens()
	followHeader(server, http.StateIdle)
	if n := bounded.large.Tokens(); n != before {
		t.Errorf("%v bytes of a header have waited twice", before-n)
	}
	transfer(usual)
	followHeader(server, http.StateActive)
	// This is how net/http notices, while it answers, that a client leaves. How much is
	// encrypted in one record is up to TLS.
	transfer(large)
	if n := bounded.large.Tokens(); n != before {
		t.Errorf("before there was an answer, %v bytes have waited", before-n)
	}
	followHeader(server, http.StateIdle)
	if waited := before - bounded.large.Tokens(); waited != maxRecord {
		t.Errorf("%v bytes have waited; want %d", waited, maxRecord)
	}

	followHeader(server, http.StateActive)
	transfer(large)
	bounded.large.AllowN(time.Now(), int(bounded.large.Tokens()))
	followHeader(server, http.StateIdle)
	if n := bounded.open.Load(); n != 0 {
		t.Errorf("after the time for a header, %d connections are open; want none", n)
	}
}

// What did not come through is missing: net/http must not read on after it.
func TestAHeaderThatCameTooLateIsNotReadOn(t *testing.T) {
	t.Parallel()
	bounded, server, client := connect(t)
	bounded.large.SetLimit(0)
	bounded.large.AllowN(time.Now(), largeBurst)
	followHeader(server, http.StateNew)
	for range 2 {
		if _, err := client.Write(make([]byte, 2*usualHeader)); err != nil {
			t.Fatal(err)
		}
	}
	// Read fully, so that it does not matter in how many pieces the header comes.
	if _, err := io.ReadFull(server, make([]byte, 2*usualHeader)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v; want %v", err, os.ErrDeadlineExceeded)
	}
	if n, err := server.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes more; want none", n)
	}
}

// While large headers wait, usual ones do not, and who would have to wait for too long gets
// no answer.
func TestOnlyLargeHeadersWait(t *testing.T) {
	t.Parallel()
	for scheme, encrypted := range map[string]bool{"http": false, "https": true} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			bounded := newBoundedListener(listener, 10)
			transport := &http.Transport{}
			listener = bounded
			if encrypted {
				certified := httptest.NewTLSServer(nil)
				certified.Close()
				listener = tls.NewListener(bounded, &tls.Config{Certificates: certified.TLS.Certificates})
				transport = certified.Client().Transport.(*http.Transport)
			}
			transport.DisableKeepAlives = true
			client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
			server := newServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
			go func() { _ = server.Serve(listener) }()
			defer server.Close()
			call := func(header int) error {
				request, err := http.NewRequest(http.MethodGet, scheme+"://"+listener.Addr().String(), http.NoBody)
				if err != nil {
					return err
				}
				request.Header.Set("X-Large", strings.Repeat("h", header))
				response, err := client.Do(request)
				if err != nil {
					return err
				}
				return response.Body.Close()
			}

			const large = 12 << 10
			bounded.large.SetLimit(50 << 10)
			bounded.large.AllowN(time.Now(), largeBurst)
			begin := time.Now()
			if err := call(large); err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took < 100*time.Millisecond {
				t.Errorf("%d bytes at %v a second took %v", large, bounded.large.Limit(), took)
			}

			bounded.large.SetLimit(1)
			late := make(chan error)
			go func() { late <- call(large) }()
			storetest.Eventually(t, func() bool { return bounded.large.waiting.Load() == 1 })
			// With the handshake, which is none of it, this header would be large.
			if err := call(4000); err != nil {
				t.Error(err)
			}
			select {
			case err := <-late:
				t.Fatalf("a header whose turn was far away: %v; want it waiting", err)
			default:
			}
			if err := <-late; err == nil {
				t.Error("a header whose turn was far away was answered")
			}
			storetest.Eventually(t, func() bool { return bounded.large.waiting.Load() == 0 && bounded.open.Load() == 0 })
		})
	}
}
