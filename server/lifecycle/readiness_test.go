package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	sound    = Check{"sound", func(context.Context) error { return nil }}
	broken   = Check{"broken", func(context.Context) error { return errors.New("down\u009b") }}
	outdated = Check{"outdated", func(context.Context) error { return fmt.Errorf("%w", Warning("old")) }}
)

func TestAdmin_AnswersOnlyGet(t *testing.T) {
	now := func() time.Time { return time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC) }
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") })
	const isJSON = "application/json"
	for _, row := range []struct {
		path        string
		checks      []Check
		status      int
		contentType string
		body        string
	}{
		{"/livez", []Check{broken}, 200, isJSON, `{"live":true}`},
		{"/readyz", nil, 200, isJSON, `{}`},
		{"/readyz", []Check{sound}, 200, isJSON, `{"sound":{"status":"ok","since":"2026-11-23T01:02:03Z"}}`},
		{"/readyz", []Check{broken, sound}, 503, isJSON,
			`{"broken":{"status":"failing","since":"2026-11-23T01:02:03Z","error":"down` + "\ufffd" + `"},"sound":{"status":"ok","since":"2026-11-23T01:02:03Z"}}`},
		{"/readyz", []Check{outdated, sound}, 200, isJSON,
			`{"outdated":{"status":"warning","since":"2026-11-23T01:02:03Z","error":"old"},"sound":{"status":"ok","since":"2026-11-23T01:02:03Z"}}`},
		{"/metrics", nil, 200, "text/plain; charset=utf-8", "metrics"},
		{"/openapi.json", nil, 200, isJSON, `{"openapi":"3.1.0"}`},
		{"/other", nil, 404, "text/plain; charset=utf-8", "404 page not found"},
	} {
		admin := NewAdmin(NewReadiness(row.checks, now), json.RawMessage(`{"openapi":"3.1.0"}`), metrics)
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, row.path, http.NoBody))
		if body := strings.TrimSpace(w.Body.String()); w.Code != row.status || body != row.body || w.Result().Header.Get("Content-Type") != row.contentType {
			t.Errorf("GET %s = %d %s %s; want %d %s %s", row.path, w.Code, w.Result().Header.Get("Content-Type"), body, row.status, row.contentType, row.body)
		}
		w = httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, row.path, http.NoBody))
		if row.status != 404 && w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s = %d; want 405", row.path, w.Code)
		}
	}
}

func TestReadiness_KeepsTimeOfUnchangedStatus(t *testing.T) {
	start := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	now := start
	var state error
	r := NewReadiness([]Check{{"redis", func(context.Context) error { return state }}}, func() time.Time { return now })
	down, loading := errors.New("down"), errors.New("loading")
	for i, row := range []struct {
		state error
		want  checkState
	}{
		{nil, checkState{"ok", start, ""}},
		{nil, checkState{"ok", start, ""}},
		{down, checkState{"failing", start.Add(2 * time.Minute), "down"}},
		{loading, checkState{"failing", start.Add(2 * time.Minute), "loading"}},
		{nil, checkState{"ok", start.Add(4 * time.Minute), ""}},
		{nil, checkState{"ok", start.Add(4 * time.Minute), ""}},
	} {
		state = row.state
		ready, states := r.run(t.Context())
		if ready != (row.state == nil) || states["redis"] != row.want {
			t.Errorf("minute %d: ready %t, %+v; want %+v", i, ready, states["redis"], row.want)
		}
		if value := r.Value("redis"); (value == 1) != ready {
			t.Errorf("minute %d: value %v; want 1 while ready, else 0", i, value)
		}
		now = now.Add(time.Minute)
	}
}

// Otherwise the metric would be old where nothing asks /readyz. A warning is not a failure.
func TestAdmin_MetricsRunTheChecks(t *testing.T) {
	ready := NewReadiness([]Check{sound, broken, outdated}, time.Now)
	values := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, ready.Value("sound"), ready.Value("broken"), ready.Value("outdated"))
	})
	w := httptest.NewRecorder()
	NewAdmin(ready, nil, values).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	if got := w.Body.String(); got != "1 0 1" {
		t.Errorf("sound, broken and outdated have the values %s; want 1 0 1", got)
	}
}

func TestReadiness_BoundsAllChecksTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		r := NewReadiness([]Check{{"first", hangs}, {"second", hangs}}, time.Now)
		start := time.Now()
		if ready, _ := r.run(t.Context()); ready || time.Since(start) != 500*time.Millisecond {
			t.Errorf("ready %t after %v; want false after 500ms", ready, time.Since(start))
		}
	})
}

func TestReadiness_IgnoresThatClientLeft(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r := NewReadiness([]Check{{"redis", func(ctx context.Context) error { return ctx.Err() }}}, time.Now)
	if ready, states := r.run(ctx); !ready {
		t.Errorf("%+v; want ready", states)
	}
}
