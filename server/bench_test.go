package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"quiva.ai/mfa/store"
)

// BenchmarkHandler is a whole request but for its connection and Redis. The recorder's
// share is some ten allocations.
func BenchmarkHandler(b *testing.B) {
	s, err := loadSettings(testEnviron(nil), nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	p := &process{stderr: io.Discard, now: time.Now}
	watch, log := newObserver(nil, p.now), newLogger(io.Discard, slog.LevelInfo, s.LogFormat)
	backend := observedBackend{store.NewMemory(p.now), watch}
	pending := store.NewPending(backend, s.SealKeys, time.Duration(s.PendingTTL), p.now)
	handler, err := p.newAPI(s, store.NewAPIKeys(backend, p.now), pending, nil, watch, log)
	if err != nil {
		b.Fatal(err)
	}
	token := newToken(b, goodClaims("ada", nil))
	for _, c := range []struct {
		name   string
		header http.Header
		status int
	}{
		{"answered", bearer(token), http.StatusOK},
		{"bad signature", bearer(token[:len(token)-6] + "AAAAAA"), http.StatusUnauthorized},
		{"no credential", http.Header{}, http.StatusUnauthorized},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodPost, generatePath, http.NoBody)
			r.Header = c.header
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				if w.Code != c.status {
					b.Fatalf("%d %s; want %d", w.Code, w.Body, c.status)
				}
			}
		})
	}
}
