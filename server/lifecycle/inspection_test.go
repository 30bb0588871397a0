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

// redisStub has one result for each inspection. The last result stays. Without results, an
// inspection hangs.
type redisStub struct {
	t           *testing.T
	results     []inspectionResult
	inspections atomic.Int64
	ready       error
}

type inspectionResult struct {
	findings []store.Finding
	err      error
	wait     time.Duration // until the next inspection
	log      string        // after this inspection
	check    string        // the error of Check, or ""
}

func (r *redisStub) Ready(context.Context) error { return r.ready }

func (r *redisStub) Inspect(ctx context.Context) ([]store.Finding, error) {
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) != 2*time.Second {
		r.t.Errorf("deadline in %v; want 2s", time.Until(deadline))
	}
	if r.results == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	result := r.results[min(int(r.inspections.Add(1)), len(r.results))-1]
	return result.findings, result.err
}

func TestInspection_RepeatsAndReportsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			silent  = `level=WARN msg="redis does not answer yet" error=refused` + "\n"
			finding = ` msg="redis is not set up as it should be" finding=`
			fit     = `level=INFO msg="redis is fit to serve"` + "\n"
			soon    = 2 * time.Second
			later   = 30 * time.Second
		)
		open, evicts := store.Finding{Text: "open"}, store.Finding{Text: "evicts", Lossy: true}
		denied, old := store.Finding{Text: "denied", Fatal: true}, store.Finding{Text: "old", Fatal: true}
		partly := store.Finding{Text: "partly", Fatal: true, Partial: true}
		refused := errors.New("refused")
		redis := &redisStub{t: t, results: []inspectionResult{
			{nil, refused, soon, silent, ""},
			{nil, refused, soon, "", ""},
			{[]store.Finding{denied, evicts, old}, nil, soon, "level=ERROR" + finding + "denied\nlevel=ERROR" + finding + "evicts\nlevel=ERROR" + finding + "old\n", "denied; old"},
			{[]store.Finding{denied, evicts, old}, nil, soon, "", "denied; old"},
			{nil, refused, soon, "", "denied; old"},
			{[]store.Finding{denied}, refused, soon, "level=ERROR" + finding + "denied\n", "denied"},
			{[]store.Finding{evicts, open}, nil, later, "level=ERROR" + finding + "evicts\nlevel=WARN" + finding + "open\n" + fit, ""},
			{[]store.Finding{evicts, open}, nil, later, "", ""},
			{nil, refused, soon, "", ""},
			{[]store.Finding{evicts, open}, nil, later, "", ""},
			{[]store.Finding{old}, nil, soon, "level=ERROR" + finding + "old\n", "old"},
			{[]store.Finding{partly}, nil, soon, "level=ERROR" + finding + "partly\n", ""},
			{nil, nil, later, fit, ""},
		}}
		log, lines := newLog(slog.LevelInfo)
		inspection := NewInspection(redis, log)
		start := time.Now()
		go inspection.Run(t.Context())
		for i, want := range redis.results {
			synctest.Wait()
			lines.wantLog(t, time.Since(start).String(), want.log)
			if n := redis.inspections.Load(); n != int64(i+1) {
				t.Errorf("%d inspections after %v; want %d", n, time.Since(start), i+1)
			}
			if got := errorText(inspection.Check(t.Context())); got != want.check {
				t.Errorf("check after %v: %q; want %q", time.Since(start), got, want.check)
			}
			time.Sleep(want.wait)
		}
	})
}

func TestInspection_CheckNeedsReadyAndTheFirstInspection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		denied := store.Finding{Text: "denied", Fatal: true}
		redis := &redisStub{t: t, ready: errors.New("down"), results: []inspectionResult{{findings: []store.Finding{denied}}, {}}}
		log, _ := newLog(slog.LevelInfo)
		inspection := NewInspection(redis, log)
		wantError := func(want string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if got := errorText(inspection.Check(ctx)); got != want {
				t.Errorf("check: %s; want %s", got, want)
			}
		}
		wantError("down")
		redis.ready = nil
		wantError("redis has not been inspected yet")
		go func() { time.Sleep(time.Second / 2); inspection.Run(t.Context()) }()
		wantError("denied") // It waits for the first inspection.
		redis.ready = errors.New("down")
		wantError("denied")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantError("down")
	})
}

func TestInspection_EndsSilentlyWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		log, lines := newLog(slog.LevelInfo)
		ended := false
		go func() {
			NewInspection(&redisStub{t: t}, log).Run(ctx)
			ended = true
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		lines.wantLog(t, "after the end", "")
		if !ended {
			t.Error("Run goes on")
		}
	})
}
