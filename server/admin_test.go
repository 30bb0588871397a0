package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestLivenessAndReadiness(t *testing.T) {
	bounded := false
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
		{"GET", "/readyz", []readinessCheck{sound}, 200, `{"sound":"ok"}`},
		{"GET", "/readyz", []readinessCheck{broken, sound}, 503, `{"broken":"down","sound":"ok"}`},
	} {
		w := httptest.NewRecorder()
		newAdmin(c.checks, nil).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, c.path, http.NoBody))
		if w.Code != c.status || strings.TrimSpace(w.Body.String()) != c.body || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s = %d %s; want %d %s", c.method, c.path, w.Code, w.Body, c.status, c.body)
		}
	}
	if !bounded {
		t.Error("a check may take for ever")
	}
}

func TestTheLoggerKeepsItsLevelAndTheOrigin(t *testing.T) {
	for format, want := range map[logFormat]string{"json": `"address":"192.0.2.7","request_id":"7"`, "text": "address=192.0.2.7 request_id=7\n"} {
		var out output
		log := newLogger(&out, slog.LevelWarn, format).With("a", 1)
		ctx := context.WithValue(t.Context(), originKey{}, origin{netip.MustParseAddr("192.0.2.7"), "7"})
		log.InfoContext(ctx, "quiet")
		log.WarnContext(ctx, "loud")
		if text := out.String(); strings.Contains(text, "quiet") || !strings.Contains(text, "loud") || !strings.Contains(text, want) {
			t.Errorf("%s: %s; want the warning alone, with %s", format, text, want)
		}
	}
}
