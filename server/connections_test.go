package main

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
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
	for _, line := range []string{"mfa_connections 2", "mfa_connections_refused_total 1", "mfa_large_requests_waiting 0"} {
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
	bounded = newBoundedListener(listener, 1, nil, slog.New(slog.DiscardHandler))
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

// A request beyond what is usual has to wait, whatever it consists of and however it comes,
// and nothing else has.
func TestLargeRequestsWait(t *testing.T) {
	const large = usualRequest + 2000
	type step any // what the client sends; idle; or how many bytes have waited then
	const idle = http.StateIdle
	sent := func(size int) step { return strings.Repeat("x", size) }
	lines := func(n int) step { return strings.Repeat("\n", n) }
	const line = 1 + perLine
	for name, steps := range map[string][]step{
		"a usual one":           {sent(4 << 10), 0, lines(31), 0},
		"a large one":           {sent(large), large},
		"many lines":            {lines(100), 100 * line, lines(5), 105 * line},
		"more than can be read": {lines(4000), largeBurst},
		"one in pieces":         {sent(usualRequest), 0, sent(1000), usualRequest + 1000, sent(1000), usualRequest + 2000},
		"a few bytes more":      {sent(large), large, sent(fewBytes), large, sent(1), large + fewBytes + 1},
		"the next":              {sent(large), large, idle, sent(usualRequest), large, sent(1000), large + usualRequest + 1000},
		"a usual one after it":  {sent(large), idle, sent(usualRequest), large},
	} {
		t.Run(name, func(t *testing.T) {
			bounded, server, client := connect(t)
			bounded.large.SetLimit(0)
			followRequests(server, http.StateNew)
			for i, step := range steps {
				switch step := step.(type) {
				case http.ConnState:
					followRequests(server, step)
				case string:
					followRequests(server, http.StateActive)
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

// TLS writes when it reads, where net/http sets no limit of time.
func TestWhoDoesNotListenIsSentAway(t *testing.T) {
	t.Parallel()
	bounded, server, client := connect(t)
	certified := httptest.NewTLSServer(nil)
	certified.Close()
	secure := certified.TLS.Clone()
	// More than the kernel takes for somebody who does not listen.
	secure.Certificates[0].Certificate = slices.Repeat(secure.Certificates[0].Certificate, 10_000)
	bounded.secure = secure
	secured := bounded.newConnection(server.(*boundedConnection).stream.(*net.TCPConn))
	if err := tls.Client(deaf{client}, &tls.Config{InsecureSkipVerify: true}).Handshake(); !errors.Is(err, errDeaf) {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := secured.Read(make([]byte, 1))
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, io.EOF) {
			t.Errorf("%v; want the end", err)
		}
	case <-time.After(4 * writeTimeout):
		t.Fatal("is still there")
	}
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("what TLS may read next: %v; want the connection closed", err)
	}
}

// deaf reads nothing.
type deaf struct{ net.Conn }

var errDeaf = errors.New("deaf")

func (deaf) Read([]byte) (int, error) { return 0, errDeaf }

// What did not come through is missing: net/http must not read on after it.
func TestARequestThatCameTooLateIsNotReadOn(t *testing.T) {
	t.Parallel()
	bounded, server, client := connect(t)
	bounded.large.SetLimit(0)
	bounded.large.AllowN(time.Now(), largeBurst)
	for range 2 {
		if _, err := client.Write(make([]byte, 2*usualRequest)); err != nil {
			t.Fatal(err)
		}
	}
	// Read fully, so that it does not matter in how many pieces the header comes.
	if _, err := io.ReadFull(server, make([]byte, 2*usualRequest)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v; want %v", err, os.ErrDeadlineExceeded)
	}
	if n, err := server.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes more; want none", n)
	}
}

// While large requests wait, usual ones do not. Who would have to wait for too long gets no
// answer, nor does who says nothing.
func TestOnlyLargeRequestsWait(t *testing.T) {
	t.Parallel()
	for scheme, encrypted := range map[string]bool{"http": false, "https": true} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			transport := &http.Transport{}
			var secure *tls.Config
			if encrypted {
				certified := httptest.NewTLSServer(nil)
				certified.Close()
				secure = certified.TLS
				transport = certified.Client().Transport.(*http.Transport)
			}
			bounded := newBoundedListener(listener, 10, secure, slog.New(slog.DiscardHandler))
			transport.DisableKeepAlives = true
			client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
			server := newServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
			go func() { _ = server.Serve(bounded) }()
			defer server.Close()
			silent, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
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

			const large = 14 << 10
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
