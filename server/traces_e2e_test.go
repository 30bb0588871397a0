package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store/storetest"
)

// traceReceiver collects spans, and the bytes that it received.
type traceReceiver struct {
	mu    sync.Mutex
	raw   bytes.Buffer
	spans []*trace.Span
}

// ServeHTTP implements http.Handler.
func (r *traceReceiver) ServeHTTP(_ http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	var traces collector.ExportTraceServiceRequest
	_ = proto.Unmarshal(body, &traces) // without spans the test fails
	r.mu.Lock()
	defer r.mu.Unlock()
	r.raw.Write(body)
	for _, resource := range traces.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
}

// lines returns the spans of one trace in short, sorted.
func (r *traceReceiver) lines(traceID string) (lines []string) {
	names := map[string]string{}
	for _, span := range r.spans {
		names[string(span.SpanId)] = span.Name
	}
	for _, span := range r.spans {
		if hex.EncodeToString(span.TraceId) == traceID {
			lines = append(lines, fmt.Sprintf("%s > %s, %s", names[string(span.ParentSpanId)], span.Name, span.Status.GetCode()))
		}
	}
	slices.Sort(lines)
	return lines
}

func TestServe_TracesFollowGatewayWithoutSecrets(t *testing.T) {
	t.Parallel()
	receiver := &traceReceiver{}
	server := httptest.NewServer(receiver)
	defer server.Close()
	redis := storetest.StartRedis(t)
	s := startProcess(t, testEnviron(redis, "OTEL_EXPORTER_OTLP_ENDPOINT="+server.URL))
	storetest.Eventually(t, func() bool { return s.admin("/readyz").status == http.StatusOK })
	const account = "account-7f3a"
	const sound, failing, refused = "00000000000000000000000000000001", "00000000000000000000000000000002", "00000000000000000000000000000003"
	in := func(traceID string, credential http.Header) http.Header {
		header := credential.Clone()
		header.Set("Traceparent", "00-"+traceID+"-b7ad6b7169203331-01")
		header.Set("Tracestate", "user=ada@example.com")
		header.Set("Baggage", "user="+account)
		return header
	}
	key, token, stranger := s.newAPIKey(account), newToken(t, goodClaims(account, nil)), auth.NewAPIKey()
	totp, _ := s.generate(in(sound, withKey(key)))
	s.post(in(refused, withKey(stranger)))
	s.send(key, "/"+token, nil, http.NoBody)
	redis.Kill()
	s.post(in(failing, bearer(token)))
	if status := s.stop(); status != 0 { // sends the last spans
		t.Fatalf("exit status %d\n%s", status, s.log)
	}
	const request, unset, failed = "POST " + generatePath, ", STATUS_CODE_UNSET", ", STATUS_CODE_ERROR"
	for traceID, want := range map[string][]string{
		sound: {
			" > " + request + unset, request + " > authenticate" + unset, request + " > store put_if_absent" + unset,
			"authenticate > store get" + unset, "authenticate > store update" + unset,
		},
		refused: {" > " + request + unset, request + " > authenticate" + unset, "authenticate > store get" + unset},
		failing: {" > " + request + failed, request + " > authenticate" + unset, request + " > store put_if_absent" + failed},
	} {
		if diff := cmp.Diff(want, receiver.lines(traceID)); diff != "" {
			t.Errorf("spans (-want +got):\n%s", diff)
		}
	}
	for _, secret := range []string{key, key[:16], token, stranger, totp.Secret, account, "example.com", testSecret} {
		if strings.Contains(receiver.raw.String(), secret) {
			t.Errorf("the traces hold %s", secret)
		}
	}
}
