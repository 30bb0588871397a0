package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// pairs are attributes in short.
func pairs(attributes []*common.KeyValue) string {
	var all []string
	for _, a := range attributes {
		text := a.Value.GetStringValue()
		if n := a.Value.GetIntValue(); n != 0 {
			text = fmt.Sprint(n)
		}
		all = append(all, a.Key+"="+text)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// What the service is, what the sampler lets through, and every span's attributes and
// status: these and nothing else.
func TestWhatATraceTellsWhenRedisIsDown(t *testing.T) {
	var mu sync.Mutex
	var resources, got []string
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var part collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &part); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, of := range part.ResourceSpans {
			resources = append(resources, pairs(of.Resource.Attributes))
			for _, scope := range of.ScopeSpans {
				for _, span := range scope.Spans {
					got = append(got, fmt.Sprintf("%s: %s; %s %q, %d events", span.Name, pairs(span.Attributes), span.Status.Code, span.Status.Message, len(span.Events)))
				}
			}
		}
	}))
	t.Cleanup(receiver.Close)
	redis := storetest.StartRedis(t)
	s := startProcess(t, testEnviron(redis, "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL,
		"OTEL_SERVICE_NAME=gate", "OTEL_RESOURCE_ATTRIBUTES=service.name=other,zone=a", "OTEL_TRACES_SAMPLER=parentbased_always_off"))
	from := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	s.generate(asUser(t, "ada")) // without a parent, the sampler lets nothing through
	s.send(http.MethodGet, "/"+testSecret, from, http.NoBody)
	s.post(from)
	redis.Kill()
	s.post(join(from, asUser(t, "ada")))
	s.post(join(from, withKey(auth.NewAPIKey())))
	if status := s.stop(); status != 0 { // and the last traces are sent
		t.Fatalf("exit status %d\n%s", status, s.log)
	}
	const request = "POST " + generatePath + ": http.request.method=POST http.response.status_code=%d http.route=" + generatePath + "; %s \"\", 0 events"
	const sound, failed = "STATUS_CODE_UNSET", "STATUS_CODE_ERROR"
	want := []string{
		"GET: http.request.method=GET http.response.status_code=404; " + sound + " \"\", 0 events",
		"authenticate: mfa.cause=no_credentials; " + sound + " \"\", 0 events",
		fmt.Sprintf(request, 401, sound),
		"authenticate: ; " + sound + " \"\", 0 events",
		"store put_if_absent: mfa.outcome=unavailable; " + failed + " \"\", 0 events",
		fmt.Sprintf(request, 503, failed),
		"store get: mfa.outcome=unavailable; " + failed + " \"\", 0 events",
		"authenticate: ; " + failed + " \"\", 0 events",
		fmt.Sprintf(request, 503, failed),
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	slices.Sort(resources)
	if is := slices.Compact(resources); len(is) != 1 || is[0] != "service.name=gate service.version="+version()+" zone=a" {
		t.Errorf("resources %q; want the service's name, version and zone", is)
	}
}

func TestAClientThatLeftIsNoFaultOfRedis(t *testing.T) {
	s, err := loadSettings(testEnviron(storetest.StartRedis(t)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, log := &process{stderr: io.Discard, now: time.Now}, slog.New(slog.DiscardHandler)
	watch := newObserver(nil, p.now)
	redis := p.openBackend(s, log)
	t.Cleanup(func() { redis.Close() })
	backend := observedBackend{redis, watch}
	pending := store.NewPending(backend, s.SealKeys, time.Duration(s.PendingTTL), p.now)
	api, err := p.newAPI(s, store.NewAPIKeys(backend, p.now), pending, nil, watch, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	leave()
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, generatePath, http.NoBody)
	request.Header = asUser(t, "ada")
	api.ServeHTTP(httptest.NewRecorder(), request)
	metrics := httptest.NewRecorder()
	watch.handler().ServeHTTP(metrics, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	for _, line := range []string{
		`mfa_generate_outcomes_total{outcome="client_left"} 1`,
		`mfa_generate_outcomes_total{outcome="unavailable"} 0`,
		`mfa_store_duration_seconds_count{method="put_if_absent",outcome="client_left"} 1`,
	} {
		if !strings.Contains(metrics.Body.String(), "\n"+line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}

// A call to a Redis that hangs takes a quarter of a second: thousandths would be hundreds.
func TestDurationsAreMeasuredInSeconds(t *testing.T) {
	redis := storetest.StartRedis(t)
	s := startService(t, testEnviron(redis))
	redis.Stop(t)
	s.post(asUser(t, "ada"))
	redis.Continue(t)
	for _, name := range []string{
		`mfa_request_duration_seconds_sum{operation="generateTotpKey",status="503"}`,
		`mfa_store_duration_seconds_sum{method="put_if_absent",outcome="unavailable"}`,
	} {
		if took := s.metric(name); took < 0.1 || took > 20 {
			t.Errorf("%s %v; want a fraction of a second", name, took)
		}
	}
}
