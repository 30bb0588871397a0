package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

// reloader changes, while the service runs, what can change: the sealing keys, the log
// level, the JWK set and the TLS files on SIGHUP, and the last also when they change.
// Each is swapped as a whole, and none if a setting is at fault.
type reloader struct {
	load        func() (settings, error)
	started     settings // what the service was started with
	level       *slog.LevelVar
	pending     *store.Pending
	keySet      *auth.KeySet // nil without MFA_JWT_JWKS
	certificate *certificate // nil without TLS
	watch       *observer
	notify      func(ctx context.Context, log *slog.Logger, state string)
	log         *slog.Logger
}

// hangups returns the channel of SIGHUP, and what gives the signal back its effect, which
// is to end the process. Only serve asks for it, so that other commands end with their
// terminal, as does serve --dev.
func hangups(dev bool) (hangup chan os.Signal, release func()) {
	if dev {
		return nil, func() {}
	}
	hangup = make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	return hangup, func() { signal.Stop(hangup) }
}

// run reloads until ctx is done; from stop on, hangups are passed over.
func (r *reloader) run(ctx, stop context.Context, hangup <-chan os.Signal) {
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
			r.notify(ctx, r.log, reloading())
			r.reload(ctx)
			r.notify(ctx, r.log, "READY=1")
		case <-ticker.C:
			if r.certificate != nil {
				r.certificate.refresh(ctx)
			}
		}
	}
}

func (r *reloader) reload(ctx context.Context) {
	s, err := r.load()
	if err != nil {
		r.log.ErrorContext(ctx, "settings were not reloaded; the old ones stay", "error", err.Error())
		return
	}
	if changed := s.changedSince(r.started); changed != nil {
		r.log.WarnContext(ctx, "some settings have changed that need a restart", "settings", changed)
	}
	r.log.InfoContext(ctx, "settings were reloaded")
	r.pending.SetKeyring(s.SealKeys)
	r.watch.useKeyring(s.SealKeys, r.watch.now())
	r.level.Set(s.LogLevel.Level)
	if r.keySet != nil {
		r.keySet.Refresh() // what is wrong with the set it logs itself
	}
	if r.certificate != nil {
		r.certificate.refresh(ctx)
	}
}

// changedSince names the settings that differ and cannot be reloaded.
func (s settings) changedSince(before settings) []string {
	var changed []string
	for _, d := range declared() {
		if !d.reload && s.digests[d.variable] != before.digests[d.variable] {
			changed = append(changed, d.variable)
		}
	}
	return changed
}
