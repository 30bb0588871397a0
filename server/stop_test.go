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
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// hold begins a request whose body does not come, which takes the service a second. It
// says whether the connection was refused.
func (s *service) hold() (refused bool) {
	s.t.Helper()
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	s.t.Cleanup(func() { connection.Close() })
	fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: h\r\nAuthorization: %s\r\nContent-Length: 1\r\n\r\n",
		generatePath, asUser(s.t, "ada").Get("Authorization"))
	return false
}

func TestTheEndComesStepByStep(t *testing.T) {
	s := startProcess(t, testEnviron(storetest.StartRedis(t), "MFA_DRAIN=1s"))
	storetest.Eventually(t, func() bool { return s.admin("/readyz").status == http.StatusOK })
	s.signal(syscall.SIGTERM)
	storetest.Eventually(t, func() bool { return s.admin("/readyz").status == http.StatusServiceUnavailable })
	// Readiness is gone; it is live, and requests are still taken.
	for _, path := range []string{"/livez", "/metrics"} {
		if got := s.admin(path); got.status != http.StatusOK {
			t.Errorf("%s = %d while stopping; want 200", path, got.status)
		}
	}
	if got := s.post(asUser(t, "ada")); got.status != http.StatusOK || !got.closes {
		t.Errorf("%d, closes %t; want 200 and the connection closed", got.status, got.closes)
	}
	// Connections are refused, with requests in flight, and the admin listener still answers.
	storetest.Eventually(t, s.hold)
	if got := s.admin("/readyz"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, `"error":"stopping"`) {
		t.Errorf("/readyz = %d %s after the last connection; want 503, stopping", got.status, got.body)
	}
	if status := s.wait(); status != 0 {
		t.Errorf("exit status %d; want 0", status)
	}
}

// Whether a log's reader hangs or has gone, the process ends, and only when it is told to.
func TestALogThatIsNotReadDoesNotKeepTheProcessNorEndIt(t *testing.T) {
	redis := storetest.StartRedis(t)
	for name, row := range map[string]struct {
		closed bool
		status int
	}{"hangs": {false, exitFault}, "has gone": {true, 0}} {
		t.Run(name, func(t *testing.T) {
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			address := fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			program := exec.CommandContext(ctx, os.Args[0], "serve")
			program.Env = append(testEnviron(redis, "MFA_LISTEN="+address, "MFA_STOP_TIMEOUT=6s"), asProgram+"=1")
			program.Stderr = writer
			if err := errors.Join(program.Start(), writer.Close()); err != nil {
				t.Fatal(err)
			}
			client := http.Client{Timeout: time.Second}
			post := func() (status int, err error) {
				response, err := client.Post("http://"+address+generatePath, "", http.NoBody)
				if err != nil {
					return 0, err
				}
				return response.StatusCode, response.Body.Close()
			}
			storetest.Eventually(t, func() bool { status, _ := post(); return status == http.StatusUnauthorized })
			if row.closed {
				reader.Close()
			}
			for range 1000 { // more than the pipe has room for
				status, err := post()
				if os.IsTimeout(err) && !row.closed {
					break
				}
				if err != nil || status != http.StatusUnauthorized {
					t.Fatalf("%d, %v; want 401", status, err)
				}
			}
			if err := program.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_ = program.Wait()
			if status, took := program.ProcessState.ExitCode(), time.Since(start); status != row.status || took > 15*time.Second {
				t.Errorf("exit status %d after %v; want %d, after ten seconds at most", status, took, row.status)
			}
		})
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	s := startProcess(t, testEnviron(storetest.StartRedis(t), "MFA_DRAIN=5m"))
	s.status = -1 // ended by a signal
	s.hold()
	s.signal(syscall.SIGTERM)
	storetest.Eventually(t, func() bool { return len(s.logLines("stopping")) == 1 })
	ended := make(chan int, 1)
	go func() { ended <- s.wait() }()
	// One that comes before main has seen to the first is as good as none.
	for range 10 {
		s.signal(syscall.SIGTERM)
		select {
		case status := <-ended:
			if status != -1 {
				t.Errorf("exit status %d; want -1", status)
			}
			s.log = &output{} // its last line says how it ended, and is not JSON
			return
		case <-time.After(2 * time.Second):
		}
	}
	t.Error("it has not ended after a second signal")
}

// The service has failed: nobody is there whom the drain would serve.
func TestAFailureEndsTheDrain(t *testing.T) {
	ctx, fail := context.WithCancel(t.Context())
	stop, ended, log := make(chan struct{}), make(chan struct{}), &service{log: &output{}}
	close(stop)
	go func() {
		(&process{}).drain(ctx, stop, settings{Drain: drainTime(5 * time.Minute)}, newLogger(log.log, slog.LevelInfo, "json"))
		close(ended)
	}()
	storetest.Eventually(t, func() bool { return len(log.logLines("stopping")) == 1 })
	fail()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}

// The setting's least value is more than a request can take.
func TestTheStopTimeoutIsTheSettings(t *testing.T) {
	environ := testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1")
	s := startWith(t, environ, func(ctx context.Context, stdout, stderr io.Writer) int {
		loaded, err := loadSettings(environ, nil, nil)
		if err != nil {
			t.Error(err)
		}
		loaded.StopTimeout = stopTimeout(time.Millisecond)
		err = (&process{environ: environ, stdout: stdout, stderr: stderr, now: time.Now}).serve(ctx, loaded, nil, false)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("serve = %v; want context.DeadlineExceeded", err)
		}
		return 0
	})
	s.awaitBody(asUser(t, "ada"))
	s.stop()
}

func TestTheEndDoesNotAwaitARequestForEver(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	server := newServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		stop()
		<-r.Context().Done()
	}), slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- serveHTTP(ctx, listener, server, time.Millisecond) }()
	transport := &http.Transport{DisableKeepAlives: true}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := transport.RoundTrip(r); err == nil {
		response.Body.Close()
		t.Errorf("%s; want no answer", response.Status)
	}
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("serveHTTP = %v; want context.DeadlineExceeded", err)
	}
}

// load is what came of requests sent so many times a second over connections kept alive, of
// which one in ten is the last of its connection.
type load struct {
	sent, answered, refused, lost atomic.Int64
	unavailable                   atomic.Int64 // of those that were answered
	last                          atomic.Pointer[string]
}

func (l *load) text() string {
	if last := l.last.Load(); last != nil {
		return *last
	}
	return "none"
}

// callAtRate calls until proceed says no, with one header after the other, and waits for
// the answers.
func (s *service) callAtRate(rate int, proceed func() bool, headers ...http.Header) *load {
	counts := &load{}
	transport := &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	var running sync.WaitGroup
	for begin := time.Now(); proceed(); counts.sent.Add(1) {
		number := int(counts.sent.Load())
		time.Sleep(time.Until(begin.Add(time.Duration(number) * time.Second / time.Duration(rate))))
		running.Go(func() {
			r, err := http.NewRequest(http.MethodPost, s.url+generatePath, http.NoBody)
			if err != nil {
				s.t.Error(err)
				return
			}
			r.Header, r.Close = headers[number%len(headers)], number%10 == 9
			response, err := client.Do(r)
			if err == nil {
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
			switch {
			case errors.Is(err, syscall.ECONNREFUSED):
				counts.refused.Add(1)
			case err != nil || response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable:
				text := fmt.Sprint(response, err)
				counts.last.Store(&text)
				counts.lost.Add(1)
			default:
				counts.answered.Add(1)
				if response.StatusCode == http.StatusServiceUnavailable {
					counts.unavailable.Add(1)
				}
			}
		})
	}
	running.Wait()
	// On a machine that is slower than the calls, Redis has too little time. There is no
	// other reason for a 503.
	storetest.Eventually(s.t, func() bool {
		var slow int64
		for _, line := range s.logLines("request") {
			if text, _ := line["error"].(string); line["status"] == 503.0 && strings.Contains(text, store.ErrUnavailable.Error()) {
				slow++
			}
		}
		return slow == counts.unavailable.Load()
	})
	return counts
}

// A client that looks at /readyz, as a gateway does, loses no request at all.
func TestNoRequestIsLostToAStopUnderLoad(t *testing.T) {
	s := startProcess(t, testEnviron(storetest.StartRedis(t), "MFA_DRAIN=5s"))
	var ready atomic.Bool
	ready.Store(true)
	go func() {
		time.Sleep(time.Second) // of load
		s.signal(syscall.SIGTERM)
		for s.admin("/readyz").status == http.StatusOK {
			time.Sleep(100 * time.Millisecond)
		}
		ready.Store(false)
	}()
	got := s.callAtRate(500, ready.Load, asUser(t, "ada"))
	if status := s.wait(); status != 0 {
		t.Errorf("exit status %d; want 0", status)
	}
	t.Logf("%d sent, %d answered", got.sent.Load(), got.answered.Load())
	if got.sent.Load() < 300 || got.answered.Load() != got.sent.Load() {
		t.Errorf("%d sent, %d answered, %d refused, %d lost, the last: %v", got.sent.Load(), got.answered.Load(), got.refused.Load(), got.lost.Load(), got.text())
	}
}

// Of a client that looks at nothing, every request that the service took is answered.
func TestEveryRequestThatWasTakenIsAnswered(t *testing.T) {
	s := startProcess(t, testEnviron(storetest.StartRedis(t), "MFA_DRAIN=1s"))
	until := time.Now().Add(3 * time.Second)
	time.AfterFunc(time.Second, func() { s.signal(os.Interrupt) })
	got := s.callAtRate(500, func() bool { return time.Now().Before(until) }, asUser(t, "ada"))
	if status := s.wait(); status != 0 {
		t.Errorf("exit status %d; want 0", status)
	}
	t.Logf("%d sent, %d answered, %d refused, %d lost before they were taken", got.sent.Load(), got.answered.Load(), got.refused.Load(), got.lost.Load())
	if taken := int64(len(s.logLines("request"))); got.answered.Load() != taken || taken < 300 {
		t.Errorf("%d requests taken, %d answered; want as many answered as taken, and 300 at least; the last lost: %v", taken, got.answered.Load(), got.text())
	}
}

// A reload of whatever can be reloaded, and with whatever it finds, costs no request.
func TestNoRequestIsLostToReloadsUnderLoad(t *testing.T) {
	folder := t.TempDir()
	seal, level := filepath.Join(folder, "seal"), filepath.Join(folder, "level")
	cert, key := filepath.Join(folder, "cert"), filepath.Join(folder, "key")
	k1, k2 := storetest.NewSealKey("k1"), storetest.NewSealKey("k2")
	cert1, key1 := newCertificate(t, 1)
	cert2, key2 := newCertificate(t, 2)
	signer, other := newIssuerKey(t, "1", jwt.SigningMethodES256), newIssuerKey(t, "2", jwt.SigningMethodES256)
	issuer := newIssuer(t, nil)
	publish := func(sealKeys, logLevel, certPEM, keyPEM string, jwks http.HandlerFunc) {
		write(t, seal, sealKeys)
		write(t, level, logLevel)
		write(t, cert, certPEM)
		write(t, key, keyPEM)
		issuer.publish(jwks)
	}
	one, two := set(keySet(t, signer.member(t, nil))), set(keySet(t, other.member(t, nil), signer.member(t, nil)))
	versions := []func(){
		func() { publish(k1+","+k2, "info", cert1, key1, one) },
		func() { publish(k2+","+k1, "debug", cert2, key2, two) },
		func() { publish("spoilt", "debug", cert1, key1, one) },
		func() { publish(k2+","+k1, "spoilt", cert1, key1, one) },
		func() { publish(k2+","+k1, "debug", cert1, key2, one) },
		func() { publish(k2+","+k1, "debug", cert2, key2, set("spoilt")) },
	}
	versions[0]()
	s := startProcess(t, testEnviron(storetest.StartRedis(t), "MFA_SEAL_KEYS", "MFA_SEAL_KEYS_FILE="+seal, "MFA_LOG_LEVEL_FILE="+level,
		"MFA_TLS_CERT="+cert, "MFA_TLS_KEY="+key, "MFA_JWT_JWKS="+issuer.URL, "MFA_JWT_JWKS_REFRESH=1h"))
	storetest.Eventually(t, func() bool { return s.admin("/readyz").status == http.StatusOK })
	s.url = strings.Replace(s.url, "http:", "https:", 1)

	headers := slices.Repeat([]http.Header{asUser(t, "ada")}, 10)
	headers[0] = bearer(signer.token(t, goodClaims("ada", nil), nil))
	messages := []string{reloaded, notReloaded, "TLS files were reloaded", "JWK set was not refreshed; the last good one stays"}
	var hangups int
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for begin := time.Now(); time.Since(begin) < 20*time.Second; hangups++ {
			log := s.log.String()
			if hangups >= 50 && !slices.ContainsFunc(messages, func(m string) bool { return strings.Count(log, m) < 5 }) {
				return
			}
			versions[hangups%len(versions)]()
			s.signal(syscall.SIGHUP)
			time.Sleep(50 * time.Millisecond)
		}
	}()
	got := s.callAtRate(200, func() bool {
		select {
		case <-ended:
			return false
		default:
			return true
		}
	}, headers...)
	t.Logf("%d sent, %d answered; %d hangups", got.sent.Load(), got.answered.Load(), hangups)
	if got.answered.Load() != got.sent.Load() || got.sent.Load() < 300 {
		t.Errorf("%d sent, %d answered, the last lost: %v", got.sent.Load(), got.answered.Load(), got.text())
	}
	for _, message := range messages {
		lines := len(s.logLines(message))
		t.Logf("%d times: %s", lines, message)
		if lines < 5 {
			t.Errorf("%d times %q; want it 5 times at least", lines, message)
		}
	}
	outcomes := map[any]int{}
	for _, line := range s.logLines("audit") {
		outcomes[line["outcome"]]++
	}
	if outcomes["created"] != 1 || len(outcomes) != 2 {
		t.Errorf("outcomes %v; want one key, created and then reused", outcomes)
	}
}
