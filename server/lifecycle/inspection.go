package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"quiva.ai/mfa/store"
)

const (
	inspectTimeout = 2 * time.Second // of one inspection

	// The time between two inspections is short until Redis is fit to serve. Later, Redis may
	// have been restarted with another configuration or another user.
	unfitInterval = 2 * time.Second
	fitInterval   = 30 * time.Second
)

// inspectable is a Redis.
type inspectable interface {
	Inspect(ctx context.Context) ([]store.Finding, error)
	Ready(ctx context.Context) error
}

// Inspection inspects the setup of Redis, at the start and then at intervals. It is safe for
// concurrent use.
type Inspection struct {
	redis inspectable
	log   *slog.Logger

	inspected chan struct{} // closed after the first inspection
	first     sync.Once     // closes inspected

	mu       sync.Mutex
	standing error // the fatal findings
}

// NewInspection returns an inspection of redis, which Run performs.
func NewInspection(redis inspectable, log *slog.Logger) *Inspection {
	return &Inspection{redis: redis, log: log, inspected: make(chan struct{})}
}

// Run inspects Redis until ctx is done, and logs what has changed.
func (i *Inspection) Run(ctx context.Context) {
	report := inspectionReport{log: i.log}
	for {
		findings, err := i.inspect(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := unfitInterval
		if report.add(ctx, findings, err) {
			wait = fitInterval
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// inspectionReport logs results of inspections that differ from those before.
type inspectionReport struct {
	log         *slog.Logger
	findings    []store.Finding
	fit, warned bool
}

// add logs findings that differ, and the first error unless Redis was fit to serve before:
// then requests report errors. It returns true if Redis is fit to serve.
func (r *inspectionReport) add(ctx context.Context, findings []store.Finding, err error) bool {
	if err != nil && !r.fit && !r.warned {
		r.warned = true
		r.log.WarnContext(ctx, "redis does not answer yet", "error", err)
	}
	if (err == nil || len(findings) > 0) && !slices.Equal(findings, r.findings) {
		logFindings(ctx, findings, r.log)
		r.findings = findings
	}
	unfit := slices.ContainsFunc(findings, func(f store.Finding) bool { return f.Fatal })
	sound := err == nil && !unfit
	if sound && !r.fit {
		r.log.InfoContext(ctx, "redis is fit to serve")
	}
	r.fit = sound || r.fit && !unfit
	return sound
}

// inspect inspects Redis once and keeps the result for Check.
func (i *Inspection) inspect(ctx context.Context) ([]store.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	findings, err := i.redis.Inspect(ctx)
	i.keep(findings, err)
	i.first.Do(func() { close(i.inspected) })
	return findings, err
}

// keep remembers the fatal findings that concern all requests. An inspection that failed
// proves no finding gone.
func (i *Inspection) keep(findings []store.Finding, err error) {
	var texts []string
	for _, f := range findings {
		if f.Fatal && !f.Partial {
			texts = append(texts, f.Text)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case texts != nil:
		i.standing = errors.New(strings.Join(texts, "; "))
	case err == nil:
		i.standing = nil
	}
}

// Check returns nil if Redis accepts writes and the last inspection had no fatal finding. A
// finding that only some primaries of a cluster have does not count: the service serves a
// part of the accounts. Check waits for the first inspection.
func (i *Inspection) Check(ctx context.Context) error {
	err := i.redis.Ready(ctx)
	if err = cmp.Or(i.fatal(), err); err != nil {
		return err
	}
	select {
	case <-i.inspected:
		return i.fatal()
	case <-ctx.Done():
		return errors.New("redis has not been inspected yet")
	}
}

func (i *Inspection) fatal() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.standing
}

func logFindings(ctx context.Context, findings []store.Finding, log *slog.Logger) {
	for _, finding := range findings {
		level := slog.LevelWarn
		if finding.Fatal || finding.Lossy {
			level = slog.LevelError
		}
		log.Log(ctx, level, "redis is not set up as it should be", "finding", finding.Text)
	}
}
