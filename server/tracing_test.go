package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
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
	known, unknown := newIssuerKey(t, "1", jwt.SigningMethodES256), newIssuerKey(t, "2", jwt.SigningMethodES256)
	issuer := newIssuer(t, set(keySet(t, known.member(t, nil))))
	s := startProcess(t, testEnviron(storetest.StartRedis(t), "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL, "MFA_JWT_JWKS="+issuer.URL))
	storetest.Eventually(t, func() bool { status, _ := s.ready(); return status == http.StatusOK })
	const account, trace, parent = "account-7f3a", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	key, token, stranger := s.newAPIKey(account), newToken(t, goodClaims(account, nil)), auth.NewAPIKey()
	from := http.Header{"Traceparent": {"00-" + trace + "-" + parent + "-01"}, "Tracestate": {"user=ada@example.com"}, "Baggage": {"user=" + account}}
	totp, _ := s.generate(join(withKey(key), from))
	s.post(join(bearer(token), from))
	s.post(withKey(stranger))
	s.post(bearer(unknown.token(t, goodClaims(account, nil), nil)))
	s.send(key, "/"+token, nil, http.NoBody)
	if status := s.stop(); status != 0 { // and the last traces are sent
		t.Fatalf("exit status %d\n%s", status, s.log)
	}
	names, parents, traced := map[string]string{}, map[string]string{}, []string{}
	for _, resource := range received.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				names[hex.EncodeToString(span.SpanId)] = span.Name
				if span.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
					t.Errorf("%s is in error, where nothing went wrong", span.Name)
				}
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
		"OTEL_BSP_MAX_QUEUE_SIZE":            "99999999999",
		"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT":    "few",
		"OTEL_RESOURCE_ATTRIBUTES":           "team=%zz-secret",
	} {
		s := &service{t: t, environ: testEnviron(nil, "MFA_REDIS_URL=redis://127.0.0.1:1", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", name+"="+value)}
		_, stderr, status := s.command("serve")
		if status != exitUsage || !strings.Contains(stderr, name) || strings.Contains(stderr, value) {
			t.Errorf("%s: status %d, %s; want its name and not its value", name, status, stderr)
		}
	}
}

func TestACertificateIsForAnEndpointWithTLS(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	certificate, _ := newCertificate(t, 1)
	write(t, file, certificate)
	const general, traces = "OTEL_EXPORTER_OTLP_ENDPOINT=", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="
	for endpoints, faulty := range map[[2]string]bool{
		{general + "http://a"}: true, {general + "HTTP://a"}: true, {traces + "http://a", general + "https://a"}: true,
		{general + "https://a"}: false, {traces + "https://a", general + "http://a"}: false,
	} {
		wrong := judgeOTel(append(endpoints[:], "OTEL_EXPORTER_OTLP_CERTIFICATE="+file))
		if (len(wrong) == 1) != faulty || faulty && !strings.HasPrefix(wrong[0], "OTEL_EXPORTER_OTLP_CERTIFICATE, ") {
			t.Errorf("%q: %v; want a fault: %t", endpoints, wrong, faulty)
		}
	}
}

func TestAHeaderThatBeginsWithAnotherIsHidden(t *testing.T) {
	hide := hideHeaders(map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "a=key,b=key%20two,c=", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=keys"})
	if got := hide.Replace("key two, key%20two, keys, key"); got != "(hidden), (hidden), (hidden), (hidden)" {
		t.Errorf("%s; want nothing of them", got)
	}
}

func TestAReceiverThatFailsCostsAWarningAndNoRequest(t *testing.T) {
	const secret = "hunter 2"
	for name, c := range map[string]struct {
		receive http.HandlerFunc
		message string // of the warning
		error   string // and where its error ends
		least   time.Duration
	}{
		// It repeats the header, as one that is meant for debugging may.
		"400": {repeat(http.StatusBadRequest), "traces were not exported", "/v1/traces: 400 Bad Request (", 0},
		// Neither in the reason, nor in where it sends us.
		"reason":   {reason, "traces were not exported", "/v1/traces: 400 no (hidden) (", 0},
		"redirect": {redirect, "traces were not exported", "", 0},
		"500":      {repeat(http.StatusInternalServerError), "traces were not exported", "/v1/traces: 500 Internal Server Error (", 0},
		"hangs":    {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "the last traces were not exported", "deadline exceeded", flushTime},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then the end of the connection is noticed
				c.receive(w, r)
			}))
			t.Cleanup(receiver.Close)
			s := startProcess(t, testEnviron(storetest.StartRedis(t), "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL,
				"OTEL_EXPORTER_OTLP_HEADERS=authorization="+url.PathEscape(secret), "OTEL_BSP_SCHEDULE_DELAY=1"))
			s.generate(asUser(t, "ada"))
			if c.least == 0 {
				storetest.Eventually(t, func() bool { return len(s.logLines(c.message)) > 0 })
			}
			s.generate(asUser(t, "ada"))
			start := time.Now()
			status, took := s.stop(), time.Since(start)
			if status != 0 || took < c.least || took > c.least+2*time.Second {
				t.Errorf("status %d after %v; want 0 after %v", status, took, c.least)
			}
			lines := s.logLines(c.message)
			if len(lines) == 0 || lines[0]["level"] != "WARN" || !strings.HasSuffix(lines[0]["error"].(string), c.error) {
				t.Errorf("log %v; want a warning that ends with %s", lines, c.error)
			}
			if strings.Contains(s.log.String(), secret) || strings.Contains(s.log.String(), url.PathEscape(secret)) {
				t.Errorf("the log has what the receiver was sent:\n%s", s.log)
			}
		})
	}
}

// repeat answers with the credential that came.
func repeat(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, r.Header.Get("Authorization"))
	}
}

// reason does so in the status line.
func reason(w http.ResponseWriter, r *http.Request) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer connection.Close()
	fmt.Fprintf(connection, "HTTP/1.1 400 no %s\r\nContent-Length: 0\r\n\r\n", r.Header.Get("Authorization"))
}

// redirect does so in a Location.
func redirect(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Location", "http://127.0.0.1:1/?k="+url.PathEscape(r.Header.Get("Authorization")))
	w.WriteHeader(http.StatusTemporaryRedirect)
}

func TestTracesThatAreSwitchedOffGoNowhere(t *testing.T) {
	for off, want := range map[string]bool{"OTEL_SDK_DISABLED=true": false, "OTEL_TRACES_EXPORTER=none": false, "OTEL_TRACES_EXPORTER=otlp": true} {
		var called atomic.Bool
		receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Store(true) }))
		s := startProcess(t, testEnviron(storetest.StartRedis(t), "OTEL_EXPORTER_OTLP_ENDPOINT="+receiver.URL, off))
		s.generate(asUser(t, "ada"))
		s.stop() // and the last traces are sent
		receiver.Close()
		if called.Load() != want {
			t.Errorf("%s: the receiver was called: %t; want %t", off, called.Load(), want)
		}
	}
}
