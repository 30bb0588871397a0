package lifecycle

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"quiva.ai/mfa/store"
)

const (
	inspectInterval = time.Second     // between two inspections of Redis
	inspectTimeout  = 2 * time.Second // of one inspection
)

// ReportFindings logs the findings of inspect on the setup of Redis, or its first error. It
// repeats the inspection every second until no finding is fatal, and logs findings again only
// if they differ.
func ReportFindings(ctx context.Context, inspect func(context.Context) ([]store.Finding, error), log *slog.Logger) {
	ticker := time.NewTicker(inspectInterval)
	defer ticker.Stop()
	var reported []store.Finding
	failed := false
	for {
		inspection, cancel := context.WithTimeout(ctx, inspectTimeout)
		findings, err := inspect(inspection)
		cancel()
		switch {
		case err != nil && !failed && ctx.Err() == nil:
			failed = true
			log.WarnContext(ctx, "redis does not answer yet", "error", err)
		case err == nil && !slices.Equal(findings, reported):
			logFindings(ctx, findings, log)
			reported = findings
		}
		if err == nil && !slices.ContainsFunc(findings, func(f store.Finding) bool { return f.Fatal }) {
			log.InfoContext(ctx, "redis is fit to serve")
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func logFindings(ctx context.Context, findings []store.Finding, log *slog.Logger) {
	for _, finding := range findings {
		level := slog.LevelWarn
		if finding.Fatal {
			level = slog.LevelError
		}
		log.Log(ctx, level, "redis is not set up as it should be", "finding", finding.Text)
	}
}
