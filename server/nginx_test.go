//go:build interop

package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/server/lifecycle"
	"quiva.ai/mfa/store/storetest"
)

// startNginx runs deploy/nginx.conf in front of two upstreams with TLS. The returned client
// has another address than the gateway.
func startNginx(t *testing.T, files storetest.TLSFiles, upstreams [2]string) *instance {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
	config := replaceEach(t, readPage(t, nginxFile), map[string]string{
		"mfa-1.internal:8443":    upstreams[0],
		"mfa-2.internal:8443":    upstreams[1],
		"/etc/nginx/mfa-ca.pem":  files.CA,
		"listen 443 ssl":         "listen " + address + " ssl",
		"/etc/nginx/gateway.pem": files.Cert,
		"/etc/nginx/gateway.key": files.Key,
	})
	dir := t.TempDir()
	path := filepath.Join(dir, "nginx.conf")
	// With one worker all requests can use the same idle connection.
	around := "daemon off; worker_processes 1; pid nginx.pid; error_log stderr; events {} http { access_log off;\n"
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		around += name + "_temp_path " + name + ";\n"
	}
	if err := os.WriteFile(path, []byte(around+config+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := background(t, "nginx", "-p", dir, "-c", path, "-e", "stderr")
	authority := x509.NewCertPool()
	authority.AppendCertsFromPEM([]byte(readPage(t, files.CA)))
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: authority},
		DialContext:     (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}}).DialContext,
	}
	t.Cleanup(transport.CloseIdleConnections)
	storetest.Eventually(t, func() bool {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
		}
		return err == nil
	})
	return &instance{t: t, url: "https://" + address, log: log, client: &http.Client{Transport: transport, Timeout: 20 * time.Second}}
}

// relay passes bytes on to an instance and counts the connections. It can lose a response that
// the instance has sent: it closes the gateway's connection instead.
type relay struct {
	addr        string
	connections atomic.Int32
}

// startRelay returns a relay to server. Once lose is set, the next response is lost, on any of
// the relays that share lose.
func startRelay(t *testing.T, server string, lose *atomic.Bool) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: listener.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			gateway, err := listener.Accept()
			if err != nil {
				return
			}
			service, err := net.Dial("tcp", server)
			if err != nil {
				gateway.Close()
				continue
			}
			r.connections.Add(1)
			serving.Go(func() { _, _ = io.Copy(service, gateway); service.Close() })
			serving.Go(func() {
				defer gateway.Close()
				for b := make([]byte, 32<<10); ; {
					n, err := service.Read(b)
					if err != nil || lose.CompareAndSwap(true, false) {
						return
					}
					if _, err := gateway.Write(b[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return r
}

func TestInterop_NginxForwardsRequestsUnchanged(t *testing.T) {
	redis, files := storetest.SharedRedis(t), storetest.NewTLSFiles(t)
	var lose atomic.Bool
	var instances [2]*instance
	var relays [2]*relay
	for i := range instances {
		instances[i] = startInstance(t, testEnviron(redis, "MFA_TRUSTED_PROXIES=127.0.0.1/32", "MFA_TLS_CERT="+files.Cert, "MFA_TLS_KEY="+files.Key))
		relays[i] = startRelay(t, strings.TrimPrefix(instances[i].url, "http://"), &lose)
	}
	gateway := startNginx(t, files, [2]string{relays[0].addr, relays[1].addr})
	lines := func() []map[string]any {
		return append(instances[0].logLines("request"), instances[1].logLines("request")...)
	}

	key := withKey(instances[0].newAPIKey("ada"))
	longest := ""
	for n := 5800; len(longest) < 8<<10-3; n++ {
		longest = newToken(t, goodClaims("ada", jwt.MapClaims{"padding": strings.Repeat("x", n)}))
	}
	first, _ := gateway.generate(asUser(t, "ada"))
	for name, fields := range map[string]http.Header{
		"API key": key, "both": join(asUser(t, "ada"), key), "a long token": bearer(longest),
	} {
		if again, _ := gateway.generate(fields); again != first && name != "API key" || again.Secret != first.Secret {
			t.Errorf("%s: another key", name)
		}
	}
	if got := gateway.post(bearer("x")); got.status != http.StatusUnauthorized || got.body != refusedBody || !strings.Contains(got.header.Get("WWW-Authenticate"), "invalid_token") {
		t.Errorf("%d %v %s; want the service's 401", got.status, got.header, got.body)
	}

	const claimed = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
	got := gateway.post(join(key, http.Header{"X-Request-Id": {claimed}, "X-Forwarded-For": {"203.0.113.9"}}))
	id := got.header.Get("X-Request-Id")
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
		t.Errorf("request id %q; want nginx's", id)
	}
	found := 0
	for _, line := range lines() {
		if line["address"] != "127.0.0.3" || line["request_id"] == claimed {
			t.Errorf("%v; want the address 127.0.0.3 and nginx's request id", line)
		}
		if line["request_id"] == id {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d log lines have the request id %s; want 1", found, id)
	}
	for i, r := range relays {
		if n := r.connections.Load(); n != 1 || len(instances[i].logLines("request")) != 3 {
			t.Errorf("instance %d: %d connections for %d requests; want 1 for 3", i, n, len(instances[i].logLines("request")))
		}
	}

	// A response is lost after the secret was stored.
	lose.Store(true)
	retried, _ := gateway.generate(asUser(t, "bob"))
	storetest.Eventually(t, func() bool { return len(lines()) == 8 })
	outcomes := map[any]int{}
	for _, line := range lines() {
		outcomes[line["outcome"]]++
	}
	if again, _ := gateway.generate(asUser(t, "bob")); lose.Load() || retried != again || outcomes["created"] != 2 {
		t.Errorf("response lost %t, outcomes %v, same key %t; want ada's and bob's created once each", !lose.Load(), outcomes, retried == again)
	}
}

// Each method passes, with its body. A repeated confirm returns the recovery codes of the first.
func TestInterop_NginxForwardsTheWayOfAFactor(t *testing.T) {
	redis, files := storetest.SharedRedis(t), storetest.NewTLSFiles(t)
	var lose atomic.Bool
	s := startInstance(t, testEnviron(redis, "MFA_TLS_CERT="+files.Cert, "MFA_TLS_KEY="+files.Key))
	r := startRelay(t, strings.TrimPrefix(s.url, "http://"), &lose)
	gateway := startNginx(t, files, [2]string{r.addr, r.addr})
	user := asUser(t, "ada")
	key, _ := gateway.generate(user)
	lose.Store(true)
	first := gateway.call(confirm(t, key.Secret, 0), user)
	again := gateway.call(confirm(t, key.Secret, 0), user)
	if first.status != http.StatusOK || lose.Load() || first.body != again.body {
		t.Errorf("confirm with a lost response: %d %s, then %d %s; want the same recovery codes", first.status, first.body, again.status, again.body)
	}
	for _, c := range []struct {
		call   call
		status int
		body   string
	}{
		{callInfo, http.StatusOK, `"totp_enabled":true`},
		{callOff, http.StatusOK, "changed"},
		{callInfo, http.StatusOK, `"totp_enabled":false`},
		{callRemove, http.StatusOK, "removed"},
		{call{http.MethodPost, confirmPath, strings.Repeat(" ", 64<<10+1)}, http.StatusRequestEntityTooLarge, "nginx"},
	} {
		if got := gateway.call(c.call, user); got.status != c.status || !strings.Contains(got.body, c.body) {
			t.Errorf("%s %s: %d %s; want %d with %s", c.call.method, c.call.path, got.status, got.body, c.status, c.body)
		}
	}
	if got := gateway.call(call{http.MethodPost, "/internal/verify-mfa-code", "{}"}, user); !strings.Contains(got.body, "<center>nginx/") {
		t.Errorf("an internal operation: %d %s; want nginx's refusal", got.status, got.body)
	}
}

// postTarget sends a request with this target as it stands. It returns the status and whether the page is nginx's own.
func (s *instance) postTarget(target string, fields http.Header) (status int, byNginx bool) {
	s.t.Helper()
	transport := s.client.Transport.(*http.Transport)
	connection, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), transport.TLSClientConfig)
	if err != nil {
		s.t.Fatal(err)
	}
	defer connection.Close()
	const body = `{"account":"ada","code":"000000"}`
	var head strings.Builder
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", target, len(body))
	if err := errors.Join(fields.Write(&head), connection.SetDeadline(time.Now().Add(20*time.Second))); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(connection, head.String()+"\r\n"+body); err != nil {
		s.t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		s.t.Fatalf("%s: %v", target, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, strings.Contains(string(text), "<center>nginx/")
}

// Even with a service key, nobody reaches an internal operation through the public side: nginx
// refuses its path in each spelling. Of a path that nginx takes for another operation's, the
// service refuses the spelling.
func TestInterop_NginxForwardsNoInternalOperation(t *testing.T) {
	files := storetest.NewTLSFiles(t)
	s := startInstance(t, testEnviron(storetest.SharedRedis(t), "MFA_TLS_CERT="+files.Cert, "MFA_TLS_KEY="+files.Key))
	address := strings.TrimPrefix(s.url, "http://")
	gateway := startNginx(t, files, [2]string{address, address})
	key := http.Header{"X-Service-Key": {s.newServiceKey()}}
	direct := &instance{t: t, url: "https://" + address, client: gateway.client}
	if status, _ := direct.postTarget("/internal/mfa-status", key); status != http.StatusOK {
		t.Fatalf("the sign-in's own call to an instance: %d; want 200", status)
	}
	for target, want := range map[string]struct {
		status  int
		byNginx bool
	}{
		"/internal/mfa-status":                             {404, true},
		"/internal/verify-mfa-code":                        {404, true},
		"/internal/mfa-status/":                            {404, true},
		"/internal/mfa-status.":                            {404, true},
		"/internal/./mfa-status":                           {404, true},
		"/internal//mfa-status":                            {404, true},
		"/internal/mfa-status?/accounts/totp":              {404, true},
		"/internal/mfa-status#/accounts/totp":              {404, true},
		"/internal/mfa-status;/../../accounts/totp/x":      {404, true},
		"//internal/mfa-status":                            {404, true},
		"///internal///mfa-status":                         {404, true},
		"/%69nternal/mfa-status":                           {404, true},
		"/internal%2Fmfa-status":                           {404, true},
		"/%2Finternal/mfa-status":                          {404, true},
		"/%2569nternal/mfa-status":                         {404, true},
		"/INTERNAL/mfa-status":                             {404, true},
		"/Internal/Mfa-Status":                             {404, true},
		"https://gateway/internal/mfa-status":              {404, true},
		"/accounts/../internal/mfa-status":                 {404, true},
		"/accounts/totp/../../internal/mfa-status":         {404, true},
		"/accounts/totp/%2e%2e/%2E%2E/internal/mfa-status": {404, true},
		"/accounts/totp%2F..%2F..%2Finternal%2Fmfa-status": {404, true},
		"/accounts/totp/..;/..;/internal/mfa-status":       {404, true},
		`/accounts/totp\..\..\internal\mfa-status`:         {404, true},
		"/accounts/totp/internal/mfa-status":               {404, true},
		"/../internal/mfa-status":                          {400, true},
		"/accounts/totp%00/../../internal/mfa-status":      {400, true},
		"/internal/../accounts/totp":                       {404, false},
		"/internal/mfa-status/../../accounts/totp":         {404, false},
		"/accounts/totp#/../../internal/mfa-status":        {404, false},
		"/accounts/totp%0A":                                {404, false},
		"//accounts/totp":                                  {404, false},
		"/accounts/totp?/../../internal/mfa-status":        {405, false},
	} {
		status, byNginx := gateway.postTarget(target, key)
		if status != want.status || byNginx != want.byNginx {
			t.Errorf("%s: %d, by nginx %t; want %d, %t", target, status, byNginx, want.status, want.byNginx)
		}
	}
	served := 0
	for _, line := range s.logLines("request") {
		if route, _ := line["route"].(string); strings.HasPrefix(route, "/internal/") {
			served++
		}
	}
	if served != 1 {
		t.Errorf("the service served %d internal calls; want the direct one alone", served)
	}
}

// The instances restart one after the other. nginx must use the first again at once.
func TestInterop_NginxFindsARestartedInstance(t *testing.T) {
	redis, files := storetest.SharedRedis(t), storetest.NewTLSFiles(t)
	var addresses [2]string
	var instances [2]*instance
	restart := func(i int) {
		instances[i] = startInstance(t, testEnviron(redis, "MFA_LISTEN="+addresses[i], "MFA_TLS_CERT="+files.Cert, "MFA_TLS_KEY="+files.Key))
	}
	for i := range instances {
		addresses[i] = fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
		restart(i)
	}
	gateway := startNginx(t, files, addresses)
	instances[0].stop()
	for range 4 {
		gateway.generate(asUser(t, "ada"))
	}
	restart(0)
	instances[1].stop()
	for range 4 {
		gateway.generate(asUser(t, "ada"))
	}
}

// The service would accept a trace context that a caller made up.
func TestInterop_NginxDropsTheCallersTraceContext(t *testing.T) {
	files := storetest.NewTLSFiles(t)
	certificate, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan http.Header, 1)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { received <- r.Header }))
	upstream.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	upstream.StartTLS()
	defer upstream.Close()
	address := upstream.Listener.Addr().String()
	gateway := startNginx(t, files, [2]string{address, address})
	gateway.post(join(withKey("k"), http.Header{
		"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}, "Tracestate": {"a=b"},
	}))
	got := <-received
	if got.Get("X-Api-Key") != "k" || got.Values("Traceparent") != nil || got.Values("Tracestate") != nil {
		t.Errorf("the service gets %v; want the credential and no trace context", got)
	}
}

func TestInterop_NginxTimeoutsFitTheService(t *testing.T) {
	page := readPage(t, nginxFile)
	duration := func(name string) time.Duration {
		found := regexp.MustCompile(name + ` (\S+);`).FindStringSubmatch(page)
		if found == nil {
			t.Fatalf("no %s", name)
		}
		d, err := time.ParseDuration(found[1])
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	settings, err := config.Load(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := lifecycle.NewServer(nil, nil, settings.IdleTimeout, slog.New(slog.DiscardHandler))
	for name, ours := range map[string]time.Duration{"proxy_read_timeout": server.WriteTimeout, "proxy_send_timeout": server.ReadTimeout} {
		if d := duration(name); d <= ours {
			t.Errorf("%s is %v; want more than %v", name, d, ours)
		}
	}
	if d := duration("keepalive_timeout"); d >= server.IdleTimeout {
		t.Errorf("keepalive_timeout is %v; want less than %v, so that nginx closes first", d, server.IdleTimeout)
	}
}
