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
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

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
	if len(alerts) != 5 {
		t.Fatalf("%s has %d alerts; want 5", alertsFile, len(alerts))
	}
	return alerts
}

// startPrometheus starts a Prometheus with the files of deploy/ that scrapes targets.
func startPrometheus(t *testing.T, targets [2]string) *instance {
	t.Helper()
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
	config, rules := filepath.Join(dir, "prometheus.yaml"), filepath.Join(dir, "alerts.yaml")
	write(t, rules, readPage(t, alertsFile))
	write(t, config, "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"+replaceEach(t, readPage(t, prometheusFile),
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
	for _, s := range []**instance{&w.instance, &w.second} {
		*s = startProcess(t, testEnviron(nil, "MFA_REDIS_URL="+w.proxy.URL, "MFA_JWT_JWKS="+w.issuer.URL,
			"MFA_SEAL_KEYS", "MFA_SEAL_KEYS_FILE="+w.sealKeys, fmt.Sprintf("MFA_ADMIN_LISTEN=127.0.0.1:%d", storetest.FreePort(t))))
	}
	return w
}

func TestInterop_PrometheusAlertsFireForTheirFaultsAlone(t *testing.T) {
	t.Parallel() // and so do the faults: Prometheus scrapes nothing for its first 5 s
	alerts := readAlerts(t)
	for name, c := range map[string]struct {
		alert string
		fault func(w watched)
		calls bool // whether the alert needs calls
	}{
		"instance stopped": {"MfaInstanceDown", func(w watched) { w.stop() }, false},
		"Redis hangs": {"MfaCallsFailing", func(w watched) {
			w.redis.Stop(w.t)
			w.t.Cleanup(func() { w.redis.Continue(w.t) })
		}, true},
		"Redis slow": {"MfaCallsFailing", func(w watched) { // 150 ms, twice for a call
			w.proxy.Do(storetest.Fault{Action: storetest.Delay(func() time.Duration { return 150 * time.Millisecond })})
		}, true},
		"API keys lost": {"MfaCallsRefused", func(w watched) { w.redis.Client.FlushAll(w.t.Context()) }, true},
		"sealing key removed": {"MfaSecretsUnreadable", func(w watched) {
			write(w.t, w.sealKeys, storetest.NewSealKey("new"))
			w.reload(reloaded)
		}, true},
		"issuer down at a restart": {"MfaJWKSetOutdated", func(w watched) {
			w.issuer.publish(status(http.StatusInternalServerError))
			w.stop()
			startProcess(w.t, w.environ)
		}, false},
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
				if c.calls {
					w.post(key)
				}
				return cmp.Equal([]string{c.alert}, prometheus.firing(alerts))
			})
		})
	}
}
