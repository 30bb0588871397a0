package api

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"quiva.ai/mfa/server/telemetry"
)

// BenchmarkHandler is a whole request but for its connection and Redis. The recorder makes
// some ten of the allocations.
func BenchmarkHandler(b *testing.B) {
	a := newTestAPI(b, func(c *Config) {
		c.Log = telemetry.NewLogger(io.Discard, slog.LevelInfo, "json")
		c.AuditLog = c.Log
	})
	token := newToken(b, "ada", nil)
	for _, row := range []struct {
		name   string
		header http.Header
		status int
	}{
		{"issued", bearer(token), http.StatusOK},
		{"bad signature", bearer(token[:len(token)-6] + "AAAAAA"), http.StatusUnauthorized},
		{"no credential", http.Header{}, http.StatusUnauthorized},
	} {
		b.Run(row.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodPost, generatePath, http.NoBody)
			r.Header = row.header
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				a.handler.ServeHTTP(w, r)
				if w.Code != row.status {
					b.Fatalf("%d %s; want %d", w.Code, w.Body, row.status)
				}
			}
		})
	}
}
