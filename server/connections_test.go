package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
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

func TestAConnectionThatIsClosedTwiceIsCountedOnce(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounded := newBoundedListener(listener, 1, time.Now)
	defer bounded.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := bounded.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_ = server.Close()
	}
	if n := bounded.open.Load(); n != 0 {
		t.Errorf("%d connections are open; want none", n)
	}
}

// serveBounded serves as the API is served, with a handler that answers with the body, but
// has a PUT wait until the test ends. (An httptest.Server calls a ConnState under a lock.)
func serveBounded(t *testing.T, encrypted bool) (address string, client *http.Client, large *turnstile) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounded := newBoundedListener(listener, 10, time.Now)
	listener = bounded
	client = &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	if encrypted {
		certified := httptest.NewTLSServer(nil)
		certified.Close()
		listener = tls.NewListener(bounded, &tls.Config{Certificates: certified.TLS.Certificates})
		client.Transport = certified.Client().Transport
	}
	ended := make(chan struct{})
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			<-ended
		}
		body, _ := io.ReadAll(r.Body) // or what there is of it
		_, _ = w.Write(body)
	}), slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		close(ended)
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String(), client, bounded.large
}

// fill takes all places, until they are freed.
func (t *turnstile) fill() (free func()) {
	for range cap(t.places) {
		t.places <- struct{}{}
	}
	return func() {
		for range cap(t.places) {
			<-t.places
		}
	}
}

func TestALargeHeaderWaitsForItsTurn(t *testing.T) {
	for scheme, row := range map[string]struct {
		encrypted bool
		body      int // that is none of the header's business
	}{
		"http":  {false, 12 << 10},
		"https": {true, 1 << 10}, // where it may be the next header's beginning
	} {
		t.Run(scheme, func(t *testing.T) {
			address, first, large := serveBounded(t, row.encrypted)
			call := func(client *http.Client, header, body int) error {
				request, err := http.NewRequest(http.MethodPost, scheme+"://"+address, strings.NewReader(strings.Repeat("b", body)))
				if err != nil {
					return err
				}
				request.Header.Set("X-Large", strings.Repeat("h", header))
				response, err := client.Do(request)
				if err != nil {
					return err
				}
				defer response.Body.Close()
				n, err := io.Copy(io.Discard, response.Body)
				if err == nil && n != int64(body) {
					err = fmt.Errorf("%s, %d bytes", response.Status, n)
				}
				return err
			}
			// The turnstile is passed twice on one connection, and a usual header is not
			// taken for the end of the large one before it.
			for range 2 {
				free := large.fill()
				done := make(chan error)
				go func() { done <- call(first, 12<<10, 1) }()
				storetest.Eventually(t, func() bool { return large.waiting.Load() == 1 })
				second := &http.Client{Transport: first.Transport.(*http.Transport).Clone(), Timeout: first.Timeout}
				defer second.CloseIdleConnections()
				for range 5 {
					if err := call(second, 2<<10, row.body); err != nil {
						t.Error(err)
					}
				}
				select {
				case err := <-done:
					t.Errorf("a large header went through without a place: %v", err)
				default:
				}
				free()
				if err := <-done; err != nil {
					t.Error(err)
				}
				// With TLS, whoever had a large header has one more turn, before the next.
				if err := call(first, 2<<10, 1); err != nil {
					t.Error(err)
				}
				free = large.fill()
				if err := call(first, 2<<10, 1); err != nil {
					t.Error(err)
				}
				free()
			}
			if n := large.waiting.Load(); n != 0 {
				t.Errorf("%d are waiting; want none", n)
			}
		})
	}
}

// A place is for those whose header is being read. Nobody keeps one while he is waited
// for, or when he has left.
func TestNobodyKeepsAPlaceAtTheTurnstile(t *testing.T) {
	address, _, large := serveBounded(t, false)
	const fields = " / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nX-Large: "
	for name, text := range map[string]string{
		"a header that goes on":      "POST" + fields + strings.Repeat("h", 8<<10),
		"one that is too large":      "POST" + fields + strings.Repeat("h", 64<<10) + "\r\n\r\n",
		"one with a fault":           "POST" + fields + strings.Repeat("h", 8<<10) + "\r\nfault\r\n\r\n",
		"one that is answered":       "POST" + fields + strings.Repeat("h", 8<<10) + "\r\n\r\nb",
		"one whose body is awaited":  "POST" + fields + strings.Repeat("h", 8<<10) + "\r\n\r\n",
		"one that the service keeps": "PUT" + fields + strings.Repeat("h", 8<<10) + "\r\n\r\n",
	} {
		for _, leaves := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, leaves: %v", name, leaves), func(t *testing.T) {
				connection, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer connection.Close()
				free := large.fill()
				if _, err := io.WriteString(connection, text); err != nil {
					t.Fatal(err)
				}
				storetest.Eventually(t, func() bool { return large.waiting.Load() == 1 })
				if leaves {
					connection.Close()
				}
				free()
				storetest.Eventually(t, func() bool { return large.waiting.Load() == 0 && len(large.places) == 0 })
			})
		}
	}
}

func TestNobodyKeepsAPlaceWhileHeIsWrittenTo(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounded := newBoundedListener(listener, 1, time.Now)
	defer bounded.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := bounded.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := client.Write(make([]byte, usualHeader+1)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(server, make([]byte, usualHeader+1)); err != nil {
		t.Fatal(n, err)
	}
	if n := len(bounded.large.places); n != 1 {
		t.Errorf("%d places are taken; want 1", n)
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, func() bool { return len(bounded.large.places) == 0 })
}

func TestAPlaceAtTheTurnstileRestsAsLongAsItWasTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large := newTurnstile(time.Now)
		const inside = maxRest / 2
		begin := time.Now()
		for range 4 * cap(large.places) {
			since := large.enter()
			time.AfterFunc(inside, func() { large.leave(since) })
		}
		if took := time.Since(begin); took != 6*inside {
			t.Errorf("the last of four on each place came in after %v; want %v", took, 6*inside)
		}
		time.Sleep(2 * inside)

		for range cap(large.places) {
			large.leave(large.enter().Add(-time.Hour)) // as after a machine's sleep
		}
		begin = time.Now()
		large.leave(large.enter())
		if took := time.Since(begin); took != maxRest {
			t.Errorf("after an hour inside, a place rested for %v; want %v", took, maxRest)
		}
	})
}
