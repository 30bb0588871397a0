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
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"quiva.ai/mfa/store/storetest"
)

// alert is a row of the README's table of what to alert on.
type alert struct{ name, query, hold string }

func readmeAlerts(t *testing.T) (alerts []alert) {
	t.Helper()
	_, chapter, _ := strings.Cut(readFile(t, "../README.md"), "\n### What to alert on\n")
	chapter, _, _ = strings.Cut(chapter, "\n### ")
	for _, row := range regexp.MustCompile("(?m)^\\| ([^|]+) \\| `([^`|]+)` \\| (\\d+m) \\| [^|]+ \\|$").FindAllStringSubmatch(chapter, -1) {
		alerts = append(alerts, alert{row[1], row[2], row[3]})
	}
	if len(alerts) != 5 {
		t.Fatalf("README.md has %d signals to alert on; want 5", len(alerts))
	}
	return alerts
}

// scrapeConfig is the README's, for these targets.
func scrapeConfig(t *testing.T, targets [2]string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^    scrape_configs:\n(      .*\n)+`).FindString(readFile(t, "../README.md"))
	for i, target := range targets {
		name := fmt.Sprintf("mfa-%d.internal:9090", i+1)
		if strings.Count(found, name) != 1 {
			t.Fatalf("README.md: %s is not once in the scrape configuration %q", name, found)
		}
		found = strings.Replace(found, name, target, 1)
	}
	return strings.ReplaceAll("\n"+found, "\n    ", "\n")
}

// startPrometheus starts a Prometheus that has the alerts for its rules and scrapes targets.
func startPrometheus(t *testing.T, alerts []alert, targets [2]string) *service {
	t.Helper()
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", storetest.FreePort(t))
	config, rules := filepath.Join(dir, "prometheus.yml"), filepath.Join(dir, "rules.yml")
	var of []map[string]string
	for _, a := range alerts {
		of = append(of, map[string]string{"alert": a.name, "expr": a.query, "for": a.hold})
	}
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "mfa", "rules": of}}}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	write(t, rules, string(text))
	write(t, config, "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nrule_files: ["+rules+"]"+scrapeConfig(t, targets))
	printed(t, exec.CommandContext(t.Context(), "promtool", "check", "rules", "--lint-fatal", rules), "")
	printed(t, exec.CommandContext(t.Context(), "promtool", "check", "config", "--lint-fatal", config), "")
	log := background(t, "prometheus", "--config.file="+config, "--storage.tsdb.path="+dir+"/data", "--web.listen-address="+address)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	storetest.Eventually(t, func() bool {
		answer, err := client.Get("http://" + address + "/-/ready")
		if err == nil {
			answer.Body.Close()
		}
		return err == nil && answer.StatusCode == http.StatusOK
	})
	return &service{t: t, url: "http://" + address, log: log, client: client}
}

// query returns the values that Prometheus finds at present.
func (s *service) query(query string) (values []string) {
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

// firing names the alerts whose query finds something.
func (s *service) firing(alerts []alert) (names []string) {
	s.t.Helper()
	for _, a := range alerts {
		if len(s.query(a.query)) > 0 {
			names = append(names, a.name)
		}
	}
	return names
}

// threshold is where a query begins to compare.
var threshold = regexp.MustCompile(` [<>] [0-9.]+$`)

// replica is what is broken: a service that has everything of which an alert tells. Beside
// it there is another one.
type replica struct {
	*service
	other    *service
	redis    *storetest.RedisServer
	proxy    *storetest.Proxy
	issuer   *issuer
	sealKeys string // the file
}

func startReplica(t *testing.T) replica {
	t.Helper()
	r := replica{redis: storetest.StartRedis(t), sealKeys: filepath.Join(t.TempDir(), "seal")}
	r.proxy = storetest.StartProxy(t, r.redis.Addr)
	r.issuer = newIssuer(t, set(keySet(t, newIssuerKey(t, "1", jwt.SigningMethodES256).member(t, nil))))
	write(t, r.sealKeys, storetest.NewSealKey("old"))
	for _, s := range []**service{&r.service, &r.other} {
		*s = startProcess(t, testEnviron(nil, "MFA_REDIS_URL="+r.proxy.URL, "MFA_JWT_JWKS="+r.issuer.URL,
			"MFA_SEAL_KEYS", "MFA_SEAL_KEYS_FILE="+r.sealKeys, fmt.Sprintf("MFA_ADMIN_LISTEN=127.0.0.1:%d", storetest.FreePort(t))))
	}
	return r
}

func TestInteropPrometheusEachAlertFiresForItsFaultAlone(t *testing.T) {
	t.Parallel() // as its subtests, because Prometheus waits for 5 s before it scrapes anything
	alerts := readmeAlerts(t)
	const gone, failing, refused, unreadable, outdated = 0, 1, 2, 3, 4
	for name, c := range map[string]struct {
		alert int
		fault func(r replica)
		calls bool // there have to be some, for the alert
	}{
		"the process has ended": {gone, func(r replica) { r.stop() }, false},
		"Redis hangs": {failing, func(r replica) {
			r.redis.Stop(r.t)
			r.t.Cleanup(func() { r.redis.Continue(r.t) })
		}, true},
		"Redis takes 150 ms, twice": {failing, func(r replica) {
			r.proxy.Do(storetest.Fault{Action: storetest.Delay(func() time.Duration { return 150 * time.Millisecond })})
		}, true},
		"Redis has lost the API keys": {refused, func(r replica) { r.redis.Client.FlushAll(r.t.Context()) }, true},
		"the sealing key was dropped": {unreadable, func(r replica) {
			write(r.t, r.sealKeys, storetest.NewSealKey("new"))
			r.reload(reloaded)
		}, true},
		"the issuer fails, and the replica starts anew": {outdated, func(r replica) {
			r.issuer.publish(status(http.StatusInternalServerError))
			r.stop()
			startProcess(r.t, r.environ)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startReplica(t)
			key := withKey(r.newAPIKey("ada"))
			var targets [2]string
			for i, s := range []*service{r.service, r.other} {
				targets[i] = s.logLines("listening")[0]["admin_address"].(string)
			}
			prometheus := startPrometheus(t, alerts, targets)

			// All is well, and it is not for want of data that no query finds anything.
			storetest.Eventually(t, func() bool {
				r.post(key)
				return prometheus.firing(alerts) == nil && !slices.ContainsFunc(alerts, func(a alert) bool {
					values := prometheus.query(threshold.ReplaceAllString(a.query, ""))
					return values == nil || slices.Contains(values, "NaN")
				})
			})

			c.fault(r)
			want := []string{alerts[c.alert].name}
			storetest.Eventually(t, func() bool {
				if c.calls {
					r.post(key)
				}
				return cmp.Equal(want, prometheus.firing(alerts))
			})
		})
	}
}
