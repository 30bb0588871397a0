package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"quiva.ai/mfa/gen/client"
	"quiva.ai/mfa/server/api/apitest"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// TestMain runs the tests. In a process of startProcess it runs the program.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	// This goroutine of go-redis sees a second late that its client was closed.
	goleak.VerifyTestMain(storetest.Main(m), goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
		// net/http keeps a connection for 500 ms after a response to an unread body.
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const asProgram = "TEST_BINARY_IS_MFA"

const (
	generatePath = "/accounts/generate-totp-key"
	testIssuer   = "https://issuer.test"
	testAudience = "mfa.test"
	testSecret   = "0123456789abcdef0123456789abcdef" // signs HS256 tokens
	testSealKeys = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

	refusedBody = `{"error":"Sign in, or send a valid API key, to use this service."}` + "\n"
)

var secretPattern = regexp.MustCompile(`\b[A-Z2-7]{32}\b`)

// instance is the whole program, started as main starts it, and a client of it.
type instance struct {
	t       testing.TB
	url     string
	environ []string
	stdout  *output
	log     *output
	client  *http.Client
	stop    func() int      // stops the program and returns its exit status
	wait    func() int      // waits for the end and returns the exit status
	status  int             // the exit status that the test expects
	signal  func(os.Signal) // with startProcess only
	killed  atomic.Bool
}

// kill ends a process of startProcess at once. Calls to it then return status 0.
func (s *instance) kill() { s.killed.Store(true); s.signal(syscall.SIGKILL) }

// output collects what a program prints. A test may read it while the program runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// discard drops the text so far: the log of a long run would fill the memory.
func (o *output) discard() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Reset()
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// testEnviron returns the settings of an instance on redis, or of one whose store has no identity.
// A change is name=value; a name alone removes the setting.
func testEnviron(redis *storetest.RedisServer, changes ...string) []string {
	values := map[string]string{
		"MFA_LISTEN":       "127.0.0.1:0",
		"MFA_ADMIN_LISTEN": "127.0.0.1:0",
		"MFA_DRAIN":        "0s",
		"MFA_SEAL_KEYS":    testSealKeys,
		"MFA_JWT_ISSUER":   testIssuer,
		"MFA_JWT_AUDIENCE": testAudience,
		"MFA_JWT_SECRET":   testSecret,
		"MFA_STORE_ID":     "none",
	}
	if redis != nil {
		values["MFA_REDIS_URL"] = redis.URL
		values["MFA_STORE_ID"] = initStore(redis.URL)
	}
	for _, change := range changes {
		name, value, set := strings.Cut(change, "=")
		values[name] = value
		if !set {
			delete(values, name)
		}
	}
	var environ []string
	for name, value := range values {
		environ = append(environ, name+"="+value)
	}
	return environ
}

// initStore gives the Redis at url an identity if it has none, and returns its id: "none" if Redis
// is down.
func initStore(url string) string {
	backend, keyring := openRedis(url)
	defer backend.Close()
	id, _ := store.InitStore(context.Background(), backend, keyring, false)
	return cmp.Or(id, "none")
}

// openRedis returns the Redis at url as a backend, and the keyring of testEnviron.
func openRedis(url string) (*store.Redis, *store.Keyring) {
	var location store.RedisURL
	var keyring store.Keyring
	if err := errors.Join(location.UnmarshalText([]byte(url)), keyring.UnmarshalText([]byte(testSealKeys))); err != nil {
		panic(err)
	}
	return store.NewRedis(location), &keyring
}

// startInstance runs `mfa serve` in the test's process until the test ends.
func startInstance(t testing.TB, environ []string) *instance {
	t.Helper()
	return startWith(t, environ, func(ctx context.Context, stdout, stderr io.Writer) int {
		return run(ctx, []string{"serve"}, environ, stdout, stderr)
	})
}

// startProcess runs `mfa serve` with args in a process of its own.
func startProcess(t testing.TB, environ []string, args ...string) *instance {
	t.Helper()
	var program *exec.Cmd
	s := startWith(t, environ, func(ctx context.Context, stdout, stderr io.Writer) int {
		program = exec.CommandContext(ctx, os.Args[0], append([]string{"serve"}, args...)...)
		program.Env = slices.Concat(environ, []string{asProgram + "=1"})
		program.Stdout, program.Stderr = stdout, stderr
		program.Cancel = func() error { return program.Process.Signal(syscall.SIGTERM) }
		program.WaitDelay = 20 * time.Second
		if err := program.Run(); err != nil && program.ProcessState == nil { // It did not start.
			fmt.Fprintln(stderr, err)
		}
		return program.ProcessState.ExitCode()
	})
	s.signal = func(signal os.Signal) {
		if err := program.Process.Signal(signal); err != nil {
			t.Error(err)
		}
	}
	return s
}

func startWith(t testing.TB, environ []string, serve func(ctx context.Context, stdout, stderr io.Writer) int) *instance {
	t.Helper()
	s := &instance{t: t, environ: environ, stdout: &output{}, log: &output{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() { ended <- serve(ctx, s.stdout, s.log) }()
	s.wait = sync.OnceValue(func() int { return <-ended })
	s.stop = func() int { cancel(); return s.wait() }

	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	s.client = &http.Client{
		Transport:     apitest.NewContract(t, transport, nil),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if status := s.stop(); status != s.status && !s.killed.Load() {
			t.Errorf("exit status %d; want %d\n%s", status, s.status, s.log)
		}
		for line := range strings.Lines(s.log.String()) {
			if !json.Valid([]byte(line)) {
				t.Errorf("log line %s is not JSON", line)
			}
		}
	})
	storetest.Eventually(t, func() bool {
		for _, line := range s.logLines("listening") {
			s.url = "http://" + line["address"].(string)
		}
		return s.url != ""
	})
	return s
}

// logLines returns the log's records with this message.
func (s *instance) logLines(message string) []map[string]any {
	var found []map[string]any
	for line := range strings.Lines(s.log.String()) {
		var record map[string]any
		// The log of a long test has thousands of other lines.
		if strings.Contains(line, message) && json.Unmarshal([]byte(line), &record) == nil && record["msg"] == message {
			found = append(found, record)
		}
	}
	return found
}

// reply is a response with its body.
type reply struct {
	status int
	header http.Header
	body   string
	closes bool // the connection, after this response
}

// post sends the generate request with these header fields.
func (s *instance) post(fields http.Header) reply {
	s.t.Helper()
	return s.send(http.MethodPost, generatePath, fields, http.NoBody)
}

// send returns the response. Without one it fails the test and returns status 0. Any
// goroutine may call it.
func (s *instance) send(method, path string, fields http.Header, body io.Reader) reply {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Error(err)
		return reply{}
	}
	maps.Copy(r.Header, fields)
	return s.do(s.client, r)
}

// admin returns a response of the admin listener, which has no contract.
func (s *instance) admin(path string) reply {
	s.t.Helper()
	address := s.logLines("listening")[0]["admin_address"].(string)
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	return s.do(&http.Client{Transport: transport}, r)
}

func (s *instance) do(through *http.Client, r *http.Request) reply {
	s.t.Helper()
	response, err := through.Do(r)
	var text []byte
	if err == nil {
		defer response.Body.Close()
		text, err = io.ReadAll(response.Body)
	}
	if err != nil {
		if !s.killed.Load() {
			s.t.Error(err)
		}
		return reply{}
	}
	return reply{response.StatusCode, response.Header, string(text), response.Close}
}

// generate expects a 200 and returns its key and the seconds left.
func (s *instance) generate(fields http.Header) (key client.TOTPKey, expiresIn int) {
	s.t.Helper()
	api, err := client.NewClientWithResponses(s.url, client.WithHTTPClient(s.client))
	if err != nil {
		s.t.Fatal(err)
	}
	got, err := api.GenerateTOTPKeyWithResponse(s.t.Context(), func(_ context.Context, r *http.Request) error {
		maps.Copy(r.Header, fields)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if got.JSON200 == nil {
		s.t.Fatalf("generate = %s %s; want 200\n%s", got.Status(), got.Body, s.log)
	}
	return got.JSON200.Data, got.Headers200.TOTPKeyExpiresIn
}

// ready returns the status of /readyz and the state of each check: ok, or its error.
func (s *instance) ready() (status int, states string) {
	s.t.Helper()
	got := s.admin("/readyz")
	var checks map[string]struct{ Status, Error string }
	if err := json.Unmarshal([]byte(got.body), &checks); err != nil {
		s.t.Fatal(err)
	}
	byName := map[string]string{}
	for name, check := range checks {
		byName[name] = cmp.Or(check.Error, check.Status)
	}
	return got.status, fmt.Sprint(byName)
}

// reload sends SIGHUP and returns the next log record with this message.
func (s *instance) reload(message string) map[string]any {
	s.t.Helper()
	before := len(s.logLines(message))
	s.signal(syscall.SIGHUP)
	storetest.Eventually(s.t, func() bool { return len(s.logLines(message)) > before })
	return s.logLines(message)[before]
}

// command runs another command of the program with the instance's settings, for at most 10 s.
func (s *instance) command(args ...string) (stdout, stderr string, status int) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	defer time.AfterFunc(10*time.Second, cancel).Stop()
	var out, errs bytes.Buffer
	status = run(ctx, args, s.environ, &out, &errs)
	return out.String(), errs.String(), status
}

// newAPIKey creates an API key with the operator's command.
func (s *instance) newAPIKey(account string) string {
	s.t.Helper()
	stdout, stderr, status := s.command("apikey", "create", "--account", account, "--email", "key@example.com")
	if status != 0 {
		s.t.Fatalf("apikey create: status %d: %s", status, stderr)
	}
	return strings.TrimSpace(stdout)
}

// write replaces a file at once, as Kubernetes does.
func write(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}
