//go:build interop

package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
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

	"quiva.ai/mfa/store/storetest"
)

// nginxConfig is the README's configuration.
func nginxConfig(t *testing.T) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^    upstream mfa \{\n(    .*\n)+`).FindString(readFile(t, "../README.md"))
	if found == "" {
		t.Fatal("README.md has no configuration of nginx")
	}
	return found
}

// startNginx runs the README's configuration in front of two upstreams with TLS and returns a
// client whose address is not the gateway's.
func startNginx(t *testing.T, files storetest.TLSFiles, upstreams [2]string) *service {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
	config := nginxConfig(t)
	for from, to := range map[string]string{
		"mfa-1.internal:8443":    upstreams[0],
		"mfa-2.internal:8443":    upstreams[1],
		"/etc/nginx/mfa-ca.pem":  files.CA,
		"listen 443 ssl":         "listen " + address + " ssl",
		"/etc/nginx/gateway.pem": files.Cert,
		"/etc/nginx/gateway.key": files.Key,
	} {
		if strings.Count(config, from) != 1 {
			t.Fatalf("README.md: %s is not once in the configuration of nginx", from)
		}
		config = strings.Replace(config, from, to, 1)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "nginx.conf")
	// One worker, so that a kept connection is found again.
	around := "daemon off; worker_processes 1; pid nginx.pid; error_log stderr; events {} http { access_log off;\n"
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		around += name + "_temp_path " + name + ";\n"
	}
	if err := os.WriteFile(path, []byte(around+config+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := background(t, "nginx", "-p", dir, "-c", path, "-e", "stderr")
	authority := x509.NewCertPool()
	authority.AppendCertsFromPEM([]byte(readFile(t, files.CA)))
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
	return &service{t: t, url: "https://" + address, log: log, client: &http.Client{Transport: transport, Timeout: 20 * time.Second}}
}

// wire passes bytes on to a service, counts the connections, and can lose an answer:
// the service has sent it, and the gateway's connection ends.
type wire struct {
	addr        string
	connections atomic.Int32
}

// startWire returns a wire to server. The next answer after lose was set is lost on
// whichever wire it comes.
func startWire(t *testing.T, server string, lose *atomic.Bool) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{addr: listener.Addr().String()}
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
			w.connections.Add(1)
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
	return w
}

func TestInteropNginxBringsTheRequestAsTheClientSentIt(t *testing.T) {
	redis, files := storetest.StartRedis(t), storetest.NewTLSFiles(t)
	var lose atomic.Bool
	var replicas [2]*service
	var wires [2]*wire
	for i := range replicas {
		replicas[i] = startService(t, testEnviron(redis, "MFA_TRUSTED_PROXIES=127.0.0.1/32", "MFA_TLS_CERT="+files.Cert, "MFA_TLS_KEY="+files.Key))
		wires[i] = startWire(t, strings.TrimPrefix(replicas[i].url, "http://"), &lose)
	}
	gateway := startNginx(t, files, [2]string{wires[0].addr, wires[1].addr})
	lines := func(message string) []map[string]any {
		return append(replicas[0].logLines(message), replicas[1].logLines(message)...)
	}

	key := withKey(replicas[0].newAPIKey("ada"))
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
	audited := 0
	for _, line := range append(lines("request"), lines("audit")...) {
		if line["address"] != "127.0.0.3" || line["request_id"] == claimed {
			t.Errorf("%v; want the address 127.0.0.3 and nginx's request id", line)
		}
		if line["request_id"] == id {
			audited++
		}
	}
	if audited != 2 {
		t.Errorf("%d lines have the request id %s; want the request's and the audit's", audited, id)
	}
	for i, w := range wires {
		if n := w.connections.Load(); n != 1 || len(replicas[i].logLines("request")) != 3 {
			t.Errorf("replica %d: %d connections for %d requests; want 1 for 3", i, n, len(replicas[i].logLines("request")))
		}
	}

	// An answer is lost after the key was made.
	lose.Store(true)
	retried, _ := gateway.generate(asUser(t, "bob"))
	storetest.Eventually(t, func() bool { return len(lines("request")) == 8 })
	outcomes := map[any]int{}
	for _, line := range lines("audit") {
		outcomes[line["outcome"]]++
	}
	if again, _ := gateway.generate(asUser(t, "bob")); lose.Load() || retried != again || outcomes["created"] != 2 {
		t.Errorf("answer lost %t, outcomes %v, same key %t; want ada's and bob's created once each", !lose.Load(), outcomes, retried == again)
	}
}

// One replica after the other is restarted, as one does: what failed a moment ago is tried
// again as soon as there is nothing else.
func TestInteropNginxFindsAReplicaThatIsBack(t *testing.T) {
	redis, files := storetest.StartRedis(t), storetest.NewTLSFiles(t)
	var addresses [2]string
	var replicas [2]*service
	restart := func(i int) {
		replicas[i] = startService(t, testEnviron(redis, "MFA_LISTEN="+addresses[i], "MFA_TLS_CERT="+files.Cert, "MFA_TLS_KEY="+files.Key))
	}
	for i := range replicas {
		addresses[i] = fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
		restart(i)
	}
	gateway := startNginx(t, files, addresses)
	replicas[0].stop()
	for range 4 {
		gateway.generate(asUser(t, "ada"))
	}
	restart(0)
	replicas[1].stop()
	for range 4 {
		gateway.generate(asUser(t, "ada"))
	}
}

// What a caller says of the trace would be believed.
func TestInteropNginxPassesNoTraceOfTheCallersOn(t *testing.T) {
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
		t.Errorf("the service gets %v; want the credential, and no trace", got)
	}
}

func TestInteropNginxWaitsLongerThanTheService(t *testing.T) {
	config := nginxConfig(t)
	seconds := func(name string) time.Duration {
		found := regexp.MustCompile(name + ` (\S+);`).FindStringSubmatch(config)
		if found == nil {
			t.Fatalf("no %s", name)
		}
		d, err := time.ParseDuration(found[1])
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for name, ours := range map[string]time.Duration{"proxy_read_timeout": writeTimeout, "proxy_send_timeout": readTimeout} {
		if d := seconds(name); d <= ours {
			t.Errorf("%s is %v; want more than %v", name, d, ours)
		}
	}
	if d := seconds("keepalive_timeout"); d >= idleTimeout {
		t.Errorf("keepalive_timeout is %v; want less than %v, so that nginx closes first", d, idleTimeout)
	}
}
