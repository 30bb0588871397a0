package lifecycle

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Reloader reloads settings and TLS files while the service runs: settings on SIGHUP, TLS files
// also when they change.
type Reloader struct {
	// Reload reads the settings again and puts the reloadable ones into force, or none. It logs the
	// result.
	Reload func(context.Context)

	Certificate *Certificate // nil without TLS
	Notifier    Notifier
	Log         *slog.Logger
}

// HandleHangups returns a channel that receives each SIGHUP. release restores the signal's
// default effect, which is to end the process.
func HandleHangups() (hangup <-chan os.Signal, release func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	return signals, func() { signal.Stop(signals) }
}

// Run reloads on each hangup until ctx is done. It ignores hangups once stop is done.
func (r *Reloader) Run(ctx, stop context.Context, hangup <-chan os.Signal) {
	ticker := time.NewTicker(certificateInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			if stop.Err() != nil {
				continue
			}
			r.Notifier.Reloading(ctx, r.Log)
			r.Reload(ctx)
			r.refreshCertificate(ctx)
			r.Notifier.Ready(ctx, r.Log)
		case <-ticker.C:
			r.refreshCertificate(ctx)
		}
	}
}

func (r *Reloader) refreshCertificate(ctx context.Context) {
	if r.Certificate != nil {
		r.Certificate.refresh(ctx)
	}
}
