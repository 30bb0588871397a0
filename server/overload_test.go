package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

func TestMoreThanMayBeInFlightAreTurnedAwayAtOnce(t *testing.T) {
	arrived, finish := make(chan struct{}, testInFlight+1), make(chan struct{})
	s := serveOps(t, spec(t), anyKey{}, opsFunc(func(context.Context) (gen.GenerateTOTPKeyResponseObject, error) {
		arrived <- struct{}{}
		<-finish
		return nil, errors.New("enough")
	}))
	finishAll := sync.OnceFunc(func() { close(finish) })
	defer finishAll()
	key := withKey(auth.NewAPIKey())
	waiting, answer := s.awaitBody(key)
	var held sync.WaitGroup
	for range testInFlight {
		held.Go(func() { s.post(key) })
		<-arrived
	}
	// Whoever they are: nothing is looked at. What costs nothing is answered all the same.
	for _, header := range []http.Header{key, nil} {
		if got := s.post(header); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") != "1" {
			t.Errorf("one too many: %d %s; want 503", got.status, got.body)
		}
	}
	if _, err := waiting.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := s.readAnswerTo("POST "+generatePath, answer); got.status != http.StatusServiceUnavailable {
		t.Errorf("one whose body came meanwhile: %d; want 503", got.status)
	}
	if got := s.send(http.MethodGet, generatePath, nil, http.NoBody); got.status != http.StatusMethodNotAllowed {
		t.Errorf("no operation, meanwhile: %d; want 405", got.status)
	}
	finishAll()
	held.Wait()
	if got := s.post(key); got.status != http.StatusInternalServerError || len(arrived) != 1 {
		t.Errorf("afterwards: %d, %d operations; want the operation's own answer", got.status, len(arrived))
	}
	causes := map[any]int{}
	for _, line := range s.logLines("request") {
		if line["level"] == "INFO" {
			causes[line["cause"]]++
		}
	}
	if causes["overloaded"] != 3 {
		t.Errorf("causes %v; want overloaded three times, at INFO", causes)
	}
}

// dial connects to the API, until the test ends or 20 s are over.
func (s *service) dial() (net.Conn, *bufio.Reader) {
	s.t.Helper()
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	return connection, bufio.NewReader(connection)
}

// awaitBody begins a request whose body, of one byte, is awaited when it returns: for a
// second.
func (s *service) awaitBody(credential http.Header) (net.Conn, *bufio.Reader) {
	s.t.Helper()
	connection, answer := s.dial()
	var request bytes.Buffer
	fmt.Fprintf(&request, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue\r\n", generatePath)
	if err := credential.Write(&request); err != nil {
		s.t.Fatal(err)
	}
	request.WriteString("\r\n")
	if _, err := request.WriteTo(connection); err != nil {
		s.t.Fatal(err)
	}
	const want = "HTTP/1.1 100 Continue\r\n\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(answer, got); err != nil || string(got) != want {
		s.t.Fatalf("%q, %v; want %q", got, err, want)
	}
	return connection, answer
}

// However many bodies do not come, they keep nobody out.
func TestABodyThatDoesNotComeTakesNoPlace(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t), "MFA_MAX_IN_FLIGHT=1"))
	_, answer := s.awaitBody(asUser(t, "ada"))
	if got := s.post(asUser(t, "bob")); got.status != http.StatusOK || len(s.logLines("request")) != 1 {
		t.Errorf("%d, %d requests answered; want 200 before the other", got.status, len(s.logLines("request")))
	}
	if got := s.readAnswerTo("POST "+generatePath, answer); got.status != http.StatusOK {
		t.Errorf("without its body: %d; want 200", got.status)
	}
}

// awaitsKey has a token's key awaited, unless it has been already.
type awaitsKey struct{ calls int }

func (a *awaitsKey) Authenticate(context.Context, http.Header) (auth.Principal, error) {
	if a.calls++; a.calls == 1 {
		return auth.Principal{}, &auth.AwaitedKey{}
	}
	return auth.Principal{Account: "ada"}, nil
}

// Whoever has an unknown key, which anybody can invent, waits outside and comes in again
// like everybody else.
func TestAKeyThatIsAwaitedTakesNoPlace(t *testing.T) {
	for name, other := range map[string]bool{"alone": false, "somebody else comes in": true} {
		synctest.Test(t, func(t *testing.T) {
			o := &operations{inFlight: make(chan struct{}, 1), overloaded: prometheus.NewCounter(prometheus.CounterOpts{}), authenticator: &awaitsKey{}}
			waiting := place{operations: o}
			if err := waiting.take(); err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(100*time.Millisecond, func() {
				meanwhile := place{operations: o}
				if err := meanwhile.take(); err != nil {
					t.Errorf("%s: it keeps its place while it waits", name)
				}
				if !other {
					meanwhile.leave()
				}
			})
			principal, err := waiting.authenticate(httptest.NewRequest(http.MethodPost, generatePath, http.NoBody))
			if other && !errors.Is(err, errOverloaded) || !other && (err != nil || principal.Account != "ada" || len(o.inFlight) != 1) {
				t.Errorf("%s: %+v, %v, %d places taken", name, principal, err, len(o.inFlight))
			}
		})
	}
}

func TestTheOverloadIsCounted(t *testing.T) {
	redis := storetest.StartRedis(t)
	s := startService(t, testEnviron(redis, "MFA_MAX_IN_FLIGHT=1"))
	redis.Stop(t)
	storetest.Eventually(t, func() bool {
		var both sync.WaitGroup
		for _, header := range []http.Header{asUser(t, "ada"), asUser(t, "bob")} {
			both.Go(func() { s.post(header) })
		}
		both.Wait()
		return regexp.MustCompile(`\nmfa_overloaded_total [1-9]`).MatchString(s.admin("/metrics").body)
	})
	redis.Continue(t)
}

// The answer has no length and ends with the connection. A reset in place of that end
// would cast doubt on it, or take it away.
func TestTheAnswerToAnOversizedHeaderHasAnEnd(t *testing.T) {
	s := startService(t, testEnviron(storetest.StartRedis(t)))
	connection, answer := s.dial()
	if _, err := fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: h\r\nX-Long: %s\r\n\r\n", generatePath, strings.Repeat("x", 64<<10)); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(answer); err != nil || !bytes.HasPrefix(text, []byte("HTTP/1.1 431 ")) {
		t.Errorf("%q, %v; want 431 and the end", text, err)
	}
}

func TestASmallMemoryLimitDoesWithoutTheHeapFloor(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	if got := len(makeHeapFloor()); got != heapFloor {
		t.Errorf("a floor of %d bytes; want %d", got, heapFloor)
	}
	debug.SetMemoryLimit(4*heapFloor - 1)
	if got := len(makeHeapFloor()); got != 0 {
		t.Errorf("a floor of %d bytes with a small GOMEMLIMIT; want none", got)
	}
}
