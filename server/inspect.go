package main

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"quiva.ai/mfa/store"
)

// Redis is inspected this often until it is fit to serve, for so long each time.
const (
	inspectInterval = time.Second
	inspectTime     = 2 * time.Second
)

// reportFindings logs what an operator should know of Redis, as soon as Redis can tell,
// and until then, why it cannot. What is fatal it keeps looking at until that has been put
// right.
func reportFindings(ctx context.Context, inspect func(context.Context) ([]store.Finding, error), log *slog.Logger) {
	var reported []store.Finding
	failed := false
	for ticker := time.NewTicker(inspectInterval); ; {
		inspection, cancel := context.WithTimeout(ctx, inspectTime)
		findings, err := inspect(inspection)
		cancel()
		if err != nil && !failed && ctx.Err() == nil {
			failed = true
			log.WarnContext(ctx, "redis does not answer yet", "error", err)
		}
		if err == nil && !slices.Equal(findings, reported) {
			for _, f := range findings {
				level := slog.LevelWarn
				if f.Fatal {
					level = slog.LevelError
				}
				log.Log(ctx, level, "redis is not set up as it should be", "finding", f.Text)
			}
			reported = findings
		}
		if err == nil && !slices.ContainsFunc(findings, func(f store.Finding) bool { return f.Fatal }) {
			log.InfoContext(ctx, "redis is fit to serve")
			ticker.Stop()
			return
		}
		select {
		case <-ctx.Done():
			ticker.Stop()
			return
		case <-ticker.C:
		}
	}
}
