package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestLivenessAndReadiness(t *testing.T) {
	bounded := false
	now := func() time.Time { return time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC) }
	sound := readinessCheck{"sound", func(ctx context.Context) error {
		deadline, ok := ctx.Deadline()
		bounded = ok && time.Until(deadline) <= readinessTime
		return nil
	}}
	broken := readinessCheck{"broken", func(context.Context) error { return errors.New("down") }}
	for _, c := range []struct {
		method, path string
		checks       []readinessCheck
		status       int
		body         string
	}{
		{"GET", "/livez", []readinessCheck{broken}, 200, `{"live":true}`},
		{"GET", "/readyz", nil, 200, `{}`},
		{"GET", "/readyz", []readinessCheck{sound}, 200, `{"sound":{"status":"ok","since":"2026-11-23T01:02:03Z"}}`},
		{"GET", "/readyz", []readinessCheck{broken, sound}, 503,
			`{"broken":{"status":"failing","since":"2026-11-23T01:02:03Z","error":"down"},"sound":{"status":"ok","since":"2026-11-23T01:02:03Z"}}`},
	} {
		w := httptest.NewRecorder()
		newAdmin(newReadiness(c.checks, now), nil, http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, c.path, http.NoBody))
		if w.Code != c.status || strings.TrimSpace(w.Body.String()) != c.body || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s = %d %s; want %d %s", c.method, c.path, w.Code, w.Body, c.status, c.body)
		}
	}
	if !bounded {
		t.Error("a check may take for ever")
	}
}

func TestReadinessTellsSinceWhenACheckHasHadItsState(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	var state error
	r := newReadiness([]readinessCheck{{"redis", func(context.Context) error { return state }}}, func() time.Time { return now })
	down, loading := errors.New("down"), errors.New("loading")
	for i, c := range []struct {
		state error
		want  string // the minute of since, and the error
	}{{nil, "0"}, {nil, "0"}, {down, "2 down"}, {loading, "2 loading"}, {nil, "4"}, {nil, "4"}} {
		state = c.state
		ready, states := r.judge(t.Context())
		got := strings.TrimSpace(fmt.Sprint(states["redis"].Since.Minute(), " ", states["redis"].Error))
		if ready != (c.state == nil) || got != c.want {
			t.Errorf("question %d: ready %t, %q; want %q", i, ready, got, c.want)
		}
		now = now.Add(time.Minute)
	}
}

func TestReadinessDoesNotDependOnWhetherTheClientWaits(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r := newReadiness([]readinessCheck{{"redis", func(ctx context.Context) error { return ctx.Err() }}}, time.Now)
	if ready, states := r.judge(ctx); !ready {
		t.Errorf("%+v; want ready", states)
	}
}

func TestTheAdminListenerIsOnlyRead(t *testing.T) {
	admin := newAdmin(newReadiness(nil, time.Now), json.RawMessage("{}"), newMetrics().handler())
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/openapi.json"} {
		for method, want := range map[string]int{http.MethodGet: http.StatusOK, http.MethodPost: http.StatusMethodNotAllowed} {
			w := httptest.NewRecorder()
			admin.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
			if w.Code != want {
				t.Errorf("%s %s = %d; want %d", method, path, w.Code, want)
			}
		}
	}
}

// What comes from elsewhere is a text or an error.
func TestEveryLoggerTamesWhatOthersWrote(t *testing.T) {
	hostile := "\x1b\x7f\u009b\u202e" + strings.Repeat("A", maxLogText)
	for name, c := range map[string]struct {
		log  func(io.Writer) *slog.Logger
		want string
	}{
		"json":  {func(w io.Writer) *slog.Logger { return newLogger(w, slog.LevelInfo, "json") }, `"%s":"\u001b` + "\ufffd\ufffd\ufffd%s (truncated)\""},
		"text":  {func(w io.Writer) *slog.Logger { return newLogger(w, slog.LevelInfo, "text") }, `%s="\x1b` + "\ufffd\ufffd\ufffd%s (truncated)\""},
		"audit": {newAuditLogger, `"%s":"\u001b` + "\ufffd\ufffd\ufffd%s (truncated)\""},
	} {
		for key, value := range map[string]any{"text": hostile, "error": errors.New(hostile), "msg": nil} {
			var out output
			record := slog.NewRecord(time.Now(), slog.LevelInfo, "m", 0)
			record.AddAttrs(slog.Any(key, value))
			if key == "msg" { // net/http writes of what it was sent
				record = slog.NewRecord(time.Now(), slog.LevelInfo, hostile, 0)
			}
			if err := c.log(&out).Handler().Handle(t.Context(), record); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf(c.want, key, strings.Repeat("A", maxLogText-len("\x1b\x7f\u009b\u202e")))
			if got := out.String(); !strings.Contains(got, want) || len(got) > len(want)+100 {
				t.Errorf("%s: %.200q, %d bytes; want %.60q", name, got, len(got), want)
			}
		}
	}
}

func TestTheLoggerKeepsItsLevelAndTheOrigin(t *testing.T) {
	for format, want := range map[logFormat]string{"json": `"address":"192.0.2.7","request_id":"7"`, "text": "address=192.0.2.7 request_id=7\n"} {
		var out output
		log := newLogger(&out, slog.LevelWarn, format).With("a", 1)
		ctx := newOrigin(t.Context(), "192.0.2.7", "7")
		log.InfoContext(ctx, "quiet")
		log.WarnContext(ctx, "loud")
		if text := out.String(); strings.Contains(text, "quiet") || !strings.Contains(text, "loud") || !strings.Contains(text, want) {
			t.Errorf("%s: %s; want the warning alone, with %s", format, text, want)
		}
	}
}
