package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/server/demo"
	"quiva.ai/mfa/store/storetest"
)

var (
	// devCallLine is a call as serve --dev prints it.
	devCallLine   = regexp.MustCompile(`^  curl -i -X POST -H '([A-Za-z-]+): ([^']+)' (http://(127\.0\.0\.1:\d+)/accounts/generate-totp-key)$`)
	devPageLine   = regexp.MustCompile(`^  (http://127\.0\.0\.1:\d+/#[A-Z2-7]{26,})$`)
	listeningLine = regexp.MustCompile(`"msg":"listening","address":"[^"]+","admin_address":"([^"]+)"`)
)

// localPort is the setting that takes a free port in place of the usual one.
const localPort = "MFA_LISTEN=127.0.0.1:0"

// devServer is a running `mfa serve --dev`.
type devServer struct {
	api, admin string    // host:port
	page       string    // the URL of package demo's page; empty: none
	calls      []devCall // as printed
	stop       func() (log string, status int)
}

// devCall is a call that serve --dev prints: the name and the value of a field, and the URL.
type devCall struct{ name, value, url string }

// startDev runs `mfa serve --dev` with these settings, which must not be on the usual port,
// until the test ends. It returns once the calls are printed.
func startDev(t *testing.T, environ ...string) *devServer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stdout, out := io.Pipe()
	stderr, errs := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		defer errs.Close()
		defer out.Close()
		ended <- run(ctx, []string{"serve", "--dev"}, environ, out, errs)
	}()
	s := &devServer{}
	var log []string
	admin, logged := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(logged)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			log = append(log, lines.Text())
			if found := listeningLine.FindStringSubmatch(lines.Text()); found != nil {
				admin <- found[1]
			}
		}
	}()
	stop := sync.OnceValue(func() int { cancel(); <-logged; return <-ended })
	s.stop = func() (string, int) { status := stop(); return strings.Join(log, "\n"), status }
	t.Cleanup(func() {
		if log, status := s.stop(); status != 0 {
			t.Errorf("serve --dev: exit status %d\n%s", status, log)
		}
	})
	giveUp := time.AfterFunc(10*time.Second, cancel)
	lines := bufio.NewScanner(stdout)
	for len(s.calls) < 2 && lines.Scan() {
		if found := devPageLine.FindStringSubmatch(lines.Text()); found != nil {
			s.page = found[1]
		}
		if found := devCallLine.FindStringSubmatch(lines.Text()); found != nil {
			s.calls, s.api = append(s.calls, devCall{found[1], found[2], found[3]}), found[4]
		}
	}
	giveUp.Stop()
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	if len(s.calls) != 2 {
		log, status := s.stop()
		t.Fatalf("serve --dev: exit status %d, %d calls; want 2\n%s", status, len(s.calls), log)
	}
	s.admin = <-admin
	return s
}

// send sends a request with these fields. It returns the response's status, such as 200 OK,
// its header, and its body.
func (s *devServer) send(t *testing.T, method, url string, fields http.Header) (status string, header http.Header, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if fields != nil {
		request.Header = fields
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.Status, response.Header, string(text)
}

func TestServeDev_PrintsCallsThatReturnTheSameKey(t *testing.T) {
	redis, redisEnviron := apiKeyRedis(t)
	const warning = "no MFA_REDIS_URL: secrets, factors and API keys are kept in memory, for this process only, and lost when it stops"
	for name, c := range map[string]struct {
		environ  []string
		warnings int
	}{
		"in memory":        {[]string{localPort}, 1},
		"on Redis":         {append(redisEnviron, localPort), 0},
		"on all addresses": {[]string{"MFA_LISTEN=:0"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dev := startDev(t, c.environ...)
			if dev.calls[0].name != "X-Api-Key" || dev.calls[1].name != "Authorization" {
				t.Fatalf("calls %+v; want one with an API key and one with a token", dev.calls)
			}
			var secrets []string
			for _, call := range dev.calls {
				status, _, body := dev.send(t, http.MethodPost, call.url, http.Header{call.name: {call.value}})
				var key struct{ Data struct{ Secret string } }
				if err := json.Unmarshal([]byte(body), &key); err != nil || status != "200 OK" || key.Data.Secret == "" {
					t.Errorf("%+v: %s, %s; want 200 and a key", call, status, body)
				}
				secrets = append(secrets, key.Data.Secret)
			}
			if secrets[0] != secrets[1] {
				t.Errorf("the calls return %q; want one key", secrets)
			}
			wantDevLifetimes(t, dev, redis, name == "on Redis")
			log, _ := dev.stop()
			if got := strings.Count(log, warning); got != c.warnings {
				t.Errorf("%d warnings about the store in memory; want %d\n%s", got, c.warnings, log)
			}
			if records := listAPIKeys(t, redisEnviron); len(records) != 0 {
				t.Errorf("after the end there are API keys: %+v", records)
			}
		})
	}
}

// pagePaths are the paths of package demo's page, by method.
var pagePaths = map[string][]string{
	http.MethodGet:  {"/", "/demo/demo.css", "/demo/demo.js", "/demo/icon.svg", "/demo/session"},
	http.MethodPost: {"/demo/qr"},
}

func TestServeDev_ServesThePageOnLoopbackOnly(t *testing.T) {
	for listen, want := range map[string]bool{"127.0.0.1:0": true, ":0": false} {
		t.Run(listen, func(t *testing.T) {
			dev := startDev(t, "MFA_LISTEN="+listen)
			if (dev.page != "") != want {
				t.Errorf("serve --dev prints the address %q; want one: %t", dev.page, want)
			}
			for method, paths := range pagePaths {
				for _, path := range paths {
					status, _, body := dev.send(t, method, "http://"+dev.api+path, nil)
					if served := !strings.HasPrefix(status, "404 "); served != want {
						t.Errorf("%s %s: %s, %s", method, path, status, body)
					}
				}
			}
		})
	}
}

func TestServeDev_GivesThePageWorkingCredentials(t *testing.T) {
	dev := startDev(t, localPort)
	origin, accessKey, _ := strings.Cut(dev.page, "/#")
	_, _, body := dev.send(t, http.MethodGet, origin+"/demo/session", http.Header{"Demo-Access-Key": {accessKey}})
	var session demo.Session
	if err := json.Unmarshal([]byte(body), &session); err != nil {
		t.Fatal(err, body)
	}
	if session.APIKey != dev.calls[0].value || "Bearer "+session.Token != dev.calls[1].value {
		t.Errorf("the page's session is %s; want the credentials of the calls", body)
	}
	status, _, body := dev.send(t, http.MethodPost, origin+"/internal/mfa-status", http.Header{"X-Service-Key": {session.ServiceKey}})
	if status != "400 Bad Request" { // it has no body; a wrong key would be a 401
		t.Errorf("with the service key: %s, %s", status, body)
	}
}

// The handler of production has no page: it answers as to any other unknown path.
func TestServe_HasNoPage(t *testing.T) {
	s := startInstance(t, testEnviron(storetest.SharedRedis(t)))
	for method, paths := range pagePaths {
		for _, path := range paths {
			if got := s.send(method, path, nil, http.NoBody); got.status != http.StatusNotFound || got.body != `{"error":"There is nothing at this address."}`+"\n" {
				t.Errorf("%s %s: %d, %s; want 404", method, path, got.status, got.body)
			}
		}
	}
}

// wantDevLifetimes checks that the token and the API key, if that is on redis, are valid for
// a day.
func wantDevLifetimes(t *testing.T, dev *devServer, redis *storetest.RedisServer, onRedis bool) {
	t.Helper()
	var claims jwt.RegisteredClaims
	token := strings.TrimPrefix(dev.calls[1].value, "Bearer ")
	if _, _, err := jwt.NewParser().ParseUnverified(token, &claims); err != nil || claims.ExpiresAt.Sub(claims.IssuedAt.Time) != 24*time.Hour {
		t.Errorf("the token: %v, %+v; want 24 h", err, claims)
	}
	records := listAPIKeys(t, []string{"MFA_REDIS_URL=" + redis.URL})
	if onRedis && (len(records) != 1 || records[0].Expires.Sub(records[0].Created) != 24*time.Hour) {
		t.Errorf("API keys on Redis: %+v; want one for 24 h", records)
	}
}

func TestDevSettings_AreLocalWithRandomKeys(t *testing.T) {
	s, err := config.LoadServe(nil, nil, devSettings(), true)
	if err != nil || s.Listen != "127.0.0.1:8080" || s.AdminListen != "127.0.0.1:0" || s.Drain != 0 {
		t.Errorf("settings of --dev: %v, %+v", err, s)
	}
	first, second := devSettings(), devSettings()
	for _, key := range []string{"MFA_SEAL_KEYS", "MFA_JWT_SECRET"} {
		if first[key] == second[key] {
			t.Errorf("two runs have the same %s", key)
		}
	}
}

func TestLocalURL_NamesAnAddressOfThisMachine(t *testing.T) {
	for address, want := range map[string]string{
		":80": "http://127.0.0.1:80", "0.0.0.0:80": "http://127.0.0.1:80", "[::]:80": "http://127.0.0.1:80",
		"[::1]:80": "http://[::1]:80", "192.0.2.7:80": "http://192.0.2.7:80", "mfa.internal:80": "http://mfa.internal:80",
	} {
		if got := localURL("http", address); got != want {
			t.Errorf("localURL of %s = %s; want %s", address, got, want)
		}
	}
	if got := localURL("https", ":443"); got != "https://127.0.0.1:443" {
		t.Errorf("localURL with https = %s", got)
	}
}
