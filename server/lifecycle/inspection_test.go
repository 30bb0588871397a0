package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"quiva.ai/mfa/store"
)

func TestReportFindings_RepeatsUntilNoFindingIsFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			silent  = `level=WARN msg="redis does not answer yet" error=refused` + "\n"
			finding = ` msg="redis is not set up as it should be" finding=`
			fit     = `level=INFO msg="redis is fit to serve"` + "\n"
		)
		evicts, denied := store.Finding{Text: "evicts"}, store.Finding{Text: "denied", Fatal: true}
		type result struct {
			findings []store.Finding
			err      error
			log      string // after this inspection
		}
		results := []result{
			{nil, errors.New("refused"), silent},
			{nil, errors.New("refused"), ""},
			{[]store.Finding{evicts, denied}, nil, "level=WARN" + finding + "evicts\nlevel=ERROR" + finding + "denied\n"},
			{[]store.Finding{evicts, denied}, nil, ""},
			{nil, errors.New("refused"), ""},
			{[]store.Finding{denied}, nil, "level=ERROR" + finding + "denied\n"},
			{[]store.Finding{evicts}, nil, "level=WARN" + finding + "evicts\n" + fit},
		}
		log, lines := newLog(slog.LevelInfo)
		start := time.Now()
		var inspections atomic.Int64
		inspect := func(ctx context.Context) ([]store.Finding, error) {
			if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) != 2*time.Second {
				t.Errorf("deadline in %v; want 2s", time.Until(deadline))
			}
			result := results[inspections.Add(1)-1]
			return result.findings, result.err
		}
		go ReportFindings(t.Context(), inspect, log)
		for i, want := range results {
			synctest.Wait()
			lines.wantLog(t, time.Since(start).String(), want.log)
			if n := inspections.Load(); n != int64(i+1) {
				t.Errorf("%d inspections after %v; want %d", n, time.Since(start), i+1)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		if n := inspections.Load(); n != int64(len(results)) {
			t.Errorf("%d inspections in the end; want %d", n, len(results))
		}
	})
}

func TestReportFindings_EndsSilentlyWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		log, lines := newLog(slog.LevelInfo)
		ended := false
		go func() {
			ReportFindings(ctx, func(ctx context.Context) ([]store.Finding, error) { <-ctx.Done(); return nil, ctx.Err() }, log)
			ended = true
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		lines.wantLog(t, "after the end", "")
		if !ended {
			t.Error("ReportFindings goes on")
		}
	})
}
