package main

import (
	"bytes"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

func TestTracesFollowTheGatewaysAndHoldNoSecret(t *testing.T) {
	var mu sync.Mutex
	var raw bytes.Buffer
	var received collector.ExportTraceServiceRequest
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var part collector.ExportTraceServiceRequest
		err := proto.Unmarshal(body, &part)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		raw.Write(body)
		proto.Merge(&received, &part)
	}))
	t.Cleanup(receiver.Close)
	s := startProcess(t, testEnviron(storetest.StartRedis(t), "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL))
	const account, trace, parent = "account-7f3a", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	key, token, stranger := s.newAPIKey(account), newToken(t, goodClaims(account, nil)), auth.NewAPIKey()
	from := http.Header{"Traceparent": {"00-" + trace + "-" + parent + "-01"}, "Tracestate": {"user=ada@example.com"}, "Baggage": {"user=" + account}}
	totp, _ := s.generate(join(withKey(key), from))
	s.post(join(bearer(token), from))
	s.post(withKey(stranger))
	s.send(key, "/"+token, nil, http.NoBody)
	if status := s.stop(); status != 0 { // and the last traces are sent
		t.Fatalf("exit status %d\n%s", status, s.log)
	}
	names, parents, traced := map[string]string{}, map[string]string{}, []string{}
	for _, resource := range received.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				names[hex.EncodeToString(span.SpanId)] = span.Name
				if hex.EncodeToString(span.TraceId) == trace {
					parents[hex.EncodeToString(span.SpanId)] = hex.EncodeToString(span.ParentSpanId)
				}
			}
		}
	}
	names[parent] = "gateway"
	counts := map[string]int{}
	for child, of := range parents {
		counts[names[of]+" > "+names[child]]++
		traced = append(traced, child)
	}
	const request = "POST " + generatePath
	want := map[string]int{
		"gateway > " + request: 2, request + " > authenticate": 2, request + " > store put_if_absent": 2,
		"authenticate > store get": 1, "authenticate > store update": 1,
	}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if len(names) <= len(traced)+1 {
		t.Error("requests without a parent have no spans")
	}
	for _, secret := range []string{key, key[:16], token, stranger, totp.Secret, account, "example.com", testSecret} {
		if strings.Contains(raw.String(), secret) {
			t.Errorf("the traces hold %s", secret)
		}
	}
}

func TestAFaultyTraceSettingIsNamed(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_TRACES_EXPORTER":               "zipkin",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "receiver:4318",
		"OTEL_EXPORTER_OTLP_PROTOCOL":        "grpc",
		"OTEL_EXPORTER_OTLP_HEADERS":         "authorization=%zz-secret",
		"OTEL_EXPORTER_OTLP_CERTIFICATE":     "/no/such/file",
		"OTEL_EXPORTER_OTLP_CLIENT_KEY":      "/no/such/file",
		"OTEL_TRACES_SAMPLER":                "sometimes",
		"OTEL_TRACES_SAMPLER_ARG":            "2",
		"OTEL_BSP_SCHEDULE_DELAY":            "5s",
		"OTEL_RESOURCE_ATTRIBUTES":           "team=%zz-secret",
	} {
		s := &service{t: t, environ: testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", name+"="+value)}
		_, stderr, status := s.command("serve")
		if status != exitUsage || !strings.Contains(stderr, name) || strings.Contains(stderr, value) {
			t.Errorf("%s: status %d, %s; want its name and not its value", name, status, stderr)
		}
	}
}
