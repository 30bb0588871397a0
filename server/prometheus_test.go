//go:build interop

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// alert is an alert's name and the value that it compares.
type alert struct{ name, query, value string }

func readAlerts(t *testing.T) (alerts []alert) {
	t.Helper()
	rule := regexp.MustCompile(`(?m)^      - alert: (\w+)\n(?:        #.*\n)*        expr: ((.+) [<>] [0-9.]+)$`)
	for _, found := range rule.FindAllStringSubmatch(readPage(t, alertsFile), -1) {
		alerts = append(alerts, alert{found[1], found[2], found[3]})
	}
	if len(alerts) != 12 {
		t.Fatalf("%s has %d alerts; want 12", alertsFile, len(alerts))
	}
	return alerts
}

// startPrometheus starts a Prometheus with the files of deploy/ that scrapes targets.
func startPrometheus(t *testing.T, targets [2]string) *instance {
	t.Helper()
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
	config, rules := filepath.Join(dir, "prometheus.yaml"), filepath.Join(dir, "alerts.yaml")
	write(t, rules, readPage(t, alertsFile))
	// A scrape waits up to 500 ms for Redis.
	write(t, config, "global: {scrape_interval: 700ms, scrape_timeout: 700ms}\n"+replaceEach(t, readPage(t, prometheusFile),
		map[string]string{"mfa-1.internal:9090": targets[0], "mfa-2.internal:9090": targets[1]}))
	printed(t, exec.CommandContext(t.Context(), "promtool", "check", "rules", "--lint-fatal", rules), "")
	printed(t, exec.CommandContext(t.Context(), "promtool", "check", "config", "--lint-fatal", config), "")
	log := background(t, "prometheus", "--config.file="+config, "--storage.tsdb.path="+dir+"/data", "--web.listen-address="+address)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	storetest.Eventually(t, func() bool {
		response, err := client.Get("http://" + address + "/-/ready")
		if err == nil {
			response.Body.Close()
		}
		return err == nil && response.StatusCode == http.StatusOK
	})
	return &instance{t: t, url: "http://" + address, log: log, client: client}
}

// query returns the present values of a query.
func (s *instance) query(query string) (values []string) {
	s.t.Helper()
	var found struct {
		Data struct {
			Result []struct{ Value [2]any } // the time, and the value as text
		}
	}
	got := s.send(http.MethodGet, "/api/v1/query?query="+url.QueryEscape(query), nil, http.NoBody)
	if err := json.Unmarshal([]byte(got.body), &found); err != nil || got.status != http.StatusOK {
		s.t.Fatalf("%s: %d %s", query, got.status, got.body)
	}
	for _, result := range found.Data.Result {
		values = append(values, fmt.Sprint(result.Value[1]))
	}
	return values
}

// firing names the alerts whose query has a value.
func (s *instance) firing(alerts []alert) (names []string) {
	s.t.Helper()
	for _, a := range alerts {
		if len(s.query(a.query)) > 0 {
			names = append(names, a.name)
		}
	}
	return names
}

// watched is an instance that a test breaks, a second one, and their surroundings.
type watched struct {
	*instance
	second   *instance
	redis    *storetest.RedisServer
	proxy    *storetest.Proxy
	issuer   *issuer
	sealKeys string // path of the file
}

func startWatched(t *testing.T) watched {
	t.Helper()
	w := watched{redis: storetest.StartRedis(t), sealKeys: filepath.Join(t.TempDir(), "seal")}
	w.proxy = storetest.StartProxy(t, w.redis.Addr)
	w.issuer = newIssuer(t, set(keySet(t, newIssuerKey(t, "1", jwt.SigningMethodES256).member(t))))
	write(t, w.sealKeys, storetest.NewSealKey("old"))
	id, stderr, status := runCommand(t, []string{"MFA_REDIS_URL=" + w.redis.URL, "MFA_SEAL_KEYS_FILE=" + w.sealKeys}, "store", "init")
	if status != 0 {
		t.Fatal(stderr)
	}
	for _, s := range []**instance{&w.instance, &w.second} {
		*s = startProcess(t, testEnviron(nil, "MFA_REDIS_URL="+w.proxy.URL, "MFA_JWT_JWKS="+w.issuer.URL,
			"MFA_STORE_ID="+strings.TrimSpace(id), "MFA_SEAL_KEYS", "MFA_SEAL_KEYS_FILE="+w.sealKeys, fmt.Sprintf("MFA_ADMIN_LISTEN=127.0.0.1:%d", storetest.FreePort(t))))
	}
	return w
}

// damageFactor makes the factor of an account unreadable, and reads it once.
func (w watched) damageFactor() {
	w.redis.Client.Set(w.t.Context(), "mfa:{"+store.Digest("bob")+"}:factor", "damaged", 0)
	if got := w.call(callInfo, asUser(w.t, "bob")); got.status != http.StatusServiceUnavailable {
		w.t.Errorf("info with a damaged factor: %d; want 503", got.status)
	}
}

// confirmLate confirms with a code of five minutes ago.
func (w watched) confirmLate() {
	key, _ := w.generate(asUser(w.t, "bob"))
	w.call(confirm(w.t, key.Secret, -10), asUser(w.t, "bob"))
}

// collide switches a factor on and off many times at once.
func (w watched) collide() {
	var calls sync.WaitGroup
	for i := range 6 {
		instance := []*instance{w.instance, w.second}[i%2]
		body := fmt.Sprintf(`{"totp_enabled":%t}`, i%3 == 0)
		calls.Go(func() { instance.call(call{callOff.method, callOff.path, body}, asUser(w.t, "bob")) })
	}
	calls.Wait()
}

// guess sends wrong codes as the gateway's sign-in. All but the first five come too early.
func (w watched) guess() {
	service := http.Header{"X-Service-Key": {w.newServiceKey()}}
	for range 20 {
		w.call(call{http.MethodPost, "/internal/verify-mfa-code", `{"account":"bob","code":"000000"}`}, service)
	}
}

// callWithoutServiceKey asks once as a sign-in whose service key was revoked, among good calls.
func (w watched) callWithoutServiceKey(key http.Header) {
	w.post(key)
	w.post(key)
	w.wantOpens(auth.NewServiceKey(), false)
}

func TestInterop_PrometheusAlertsFireForTheirFaultsAlone(t *testing.T) {
	t.Parallel() // and so do the faults: Prometheus scrapes nothing for its first 5 s
	alerts := readAlerts(t)
	generate := func(w watched, key http.Header) { w.post(key) }
	for name, c := range map[string]struct {
		alerts []string // in the order of the file
		fault  func(w watched)
		call   func(w watched, key http.Header) // until the alerts fire; nil: they need no calls
	}{
		"instance stopped": {[]string{"MfaInstanceDown"}, func(w watched) { w.stop() }, nil},
		"Redis hangs": {[]string{"MfaNotReady", "MfaCallsFailing"}, func(w watched) {
			w.redis.Stop(w.t)
			w.t.Cleanup(func() { w.redis.Continue(w.t) })
		}, generate},
		"Redis slow": {[]string{"MfaCallsFailing"}, func(w watched) { // 150 ms, twice for a call
			w.proxy.Do(storetest.Fault{Action: storetest.Delay(func() time.Duration { return 150 * time.Millisecond })})
		}, generate},
		"API keys lost": {[]string{"MfaCallsRefused"}, func(w watched) {
			w.redis.Client.Del(w.t.Context(), w.redis.Client.Keys(w.t.Context(), "mfa:apikey:*").Val()...)
		}, generate},
		"store lost":     {[]string{"MfaNotReady"}, func(w watched) { w.redis.Client.FlushAll(w.t.Context()) }, nil},
		"factor damaged": {[]string{"MfaFactorsUnreadable"}, watched.damageFactor, generate},
		"clock wrong":    {[]string{"MfaClocksOff"}, func(watched) {}, func(w watched, _ http.Header) { w.confirmLate() }},
		"parallel calls": {[]string{"MfaFactorChangesCollide"}, func(w watched) { w.enrol(asUser(w.t, "bob")) },
			func(w watched, _ http.Header) { w.collide() }},
		"codes guessed": {[]string{"MfaCodesGuessed", "MfaAccountsLocked"}, func(w watched) { w.enrol(asUser(w.t, "bob")) },
			func(w watched, _ http.Header) { w.guess() }},
		"service key revoked": {[]string{"MfaSignInRefused"}, func(watched) {}, watched.callWithoutServiceKey},
		"sealing key removed": {[]string{"MfaSecretsUnreadable"}, func(w watched) {
			write(w.t, w.sealKeys, storetest.NewSealKey("new"))
			w.reload(reloaded)
		}, generate},
		"issuer down at a restart": {[]string{"MfaNotReady", "MfaJWKSetOutdated"}, func(w watched) {
			w.issuer.publish(status(http.StatusInternalServerError))
			w.stop()
			startProcess(w.t, w.environ)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := startWatched(t)
			key := withKey(w.newAPIKey("ada"))
			var targets [2]string
			for i, s := range []*instance{w.instance, w.second} {
				targets[i] = s.logLines("listening")[0]["admin_address"].(string)
			}
			prometheus := startPrometheus(t, targets)

			// Without a fault no alert fires, although each has data.
			storetest.Eventually(t, func() bool {
				w.post(key)
				return prometheus.firing(alerts) == nil && !slices.ContainsFunc(alerts, func(a alert) bool {
					values := prometheus.query(a.value)
					return values == nil || slices.Contains(values, "NaN")
				})
			})
			c.fault(w)
			storetest.Eventually(t, func() bool {
				if c.call != nil {
					c.call(w, key)
				}
				return cmp.Equal(c.alerts, prometheus.firing(alerts))
			})
		})
	}
}
