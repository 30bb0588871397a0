package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/server/lifecycle"
	"quiva.ai/mfa/server/telemetry"
)

func (a *app) serveCommand() *cobra.Command {
	var dev bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the API",
		Long:  "Serve the API until SIGINT or SIGTERM; reload keys, TLS files and log level on SIGHUP.\n\n" + config.Help(),
		Args:  noArgs,
	}
	cmd.Flags().BoolVar(&dev, "dev", false, "for development: random keys, 127.0.0.1:8080, and without MFA_REDIS_URL a store in memory")
	config.AddFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var extra map[string]string
		if dev {
			extra = devSettings()
		}
		load := func() (*config.Settings, error) { return config.LoadServe(a.environ, cmd.Flags(), extra, dev) }
		settings, err := load()
		if err != nil {
			return err
		}
		return a.serve(cmd.Context(), settings, load, dev)
	}
	return cmd
}

// serve runs the service until stop is done, in the steps that package lifecycle describes.
// load reads the settings again.
func (a *app) serve(stop context.Context, settings *config.Settings, load func() (*config.Settings, error), dev bool) error {
	a.configureRuntime()
	hangup, release := hangups(dev) // before READY: from then on systemd may send SIGHUP
	defer release()
	// A stop during start-up is no fault: the service starts, and then stops in order.
	ctx := context.WithoutCancel(stop)
	s, closeAll, err := a.wire(ctx, settings)
	if err != nil {
		return err
	}
	defer closeAll()
	if dev {
		revoke, err := s.addDevAccess(ctx)
		if err != nil {
			return err
		}
		defer revoke()
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	if dev {
		s.addPage(s.api.Addr())
	}
	s.registerMetrics()
	if s.settings.StepUp == 0 {
		s.log.WarnContext(ctx, "MFA_STEP_UP_MAX_AGE is off: a stolen bearer token suffices to remove a factor")
	}
	s.log.InfoContext(ctx, "listening", "address", s.api.Addr().String(), "admin_address", s.admin.Addr().String(), "version", version())
	s.notifier.Ready(ctx, s.log) // before the drain and the reloader, which notify too
	err = s.run(stop, &lifecycle.Reloader{
		Reload:      func(ctx context.Context) { s.reload(ctx, load) },
		Certificate: s.certificate,
		Notifier:    s.notifier,
		Log:         s.log,
	}, hangup)
	s.log.InfoContext(ctx, "stopped")
	return err
}

// configureRuntime sets what the Go runtime has for the whole process.
func (a *app) configureRuntime() {
	// A closed stderr must not end the service: SIGPIPE would kill the process, and systemd
	// counts that as a clean exit and does not restart it.
	signal.Ignore(syscall.SIGPIPE)
	// The live heap is a few MiB: with its default, the garbage collector would run tens of
	// times a second.
	if !slices.ContainsFunc(a.environ, func(variable string) bool { return strings.HasPrefix(variable, "GOGC=") }) {
		debug.SetGCPercent(400)
	}
}

// run runs the parts of the service until stop is done or a part fails.
func (s *service) run(stop context.Context, reloader *lifecycle.Reloader, hangup <-chan os.Signal) error {
	running, ctx := errgroup.WithContext(context.WithoutCancel(stop))
	ctx, endAll := context.WithCancel(ctx)
	defer endAll()
	drained, closeAPI := context.WithCancel(ctx)
	running.Go(func() error {
		defer closeAPI()
		lifecycle.Drain(ctx, stop, s.settings.Drain, func() { s.notifier.Stopping(ctx, s.log, s.stopTime()) }, s.log)
		return nil
	})
	running.Go(func() error {
		defer endAll()
		server := lifecycle.NewServer(lifecycle.CloseConnsWhenStopping(stop, s.handler), s.certificate, s.settings.IdleTimeout, s.log)
		return lifecycle.Serve(drained, s.api, server, s.settings.StopTimeout)
	})
	running.Go(func() error {
		return lifecycle.Serve(ctx, s.admin, lifecycle.NewServer(s.adminHandler(stop), nil, s.settings.IdleTimeout, s.log), 0)
	})
	running.Go(func() error { reloader.Run(ctx, stop, hangup); return nil })
	if s.keySet != nil {
		running.Go(func() error { s.keySet.Run(ctx); return nil })
	}
	if s.inspection != nil {
		running.Go(func() error { s.inspection.Run(ctx); return nil })
	}
	if s.dev != nil {
		running.Go(func() error { s.greet(ctx, s.api.Addr()); return nil })
	}
	return running.Wait()
}

// listen opens both listeners, or neither.
func (s *service) listen(ctx context.Context) (err error) {
	s.api, err = lifecycle.Listen(ctx, string(s.settings.Listen), lifecycle.ConnectionLimit(s.settings.MaxConns, s.log))
	if err != nil {
		return fmt.Errorf("MFA_LISTEN: %w", err)
	}
	s.admin, err = lifecycle.Listen(ctx, string(s.settings.AdminListen), lifecycle.MaxAdminConnections)
	if err != nil {
		return fmt.Errorf("MFA_ADMIN_LISTEN: %w", errors.Join(err, s.api.Close()))
	}
	return nil
}

// stopTime returns the longest time that a stop may take, with five seconds to spare.
func (s *service) stopTime() time.Duration {
	return lifecycle.StopTime(s.settings.Drain, s.settings.StopTimeout) + telemetry.FlushTimeout + 5*time.Second
}

// hangups returns the channel of SIGHUP. With --dev it is nil, and SIGHUP ends the program
// together with its terminal.
func hangups(dev bool) (hangup <-chan os.Signal, release func()) {
	if dev {
		return nil, func() {}
	}
	return lifecycle.HandleHangups()
}

// reload reads the settings again and puts the reloadable ones into force. With any fault it
// changes none. The JWK set is read all the same, by its own goroutine: the operator may be
// locking out a stolen signing key.
func (s *service) reload(ctx context.Context, load func() (*config.Settings, error)) {
	if s.keySet != nil {
		s.keySet.Refresh()
	}
	settings, err := load()
	if err != nil {
		s.log.ErrorContext(ctx, "settings were not reloaded; the old ones stay", "error", err.Error())
		return
	}
	if changed := settings.Changed(s.settings); changed != nil {
		s.log.WarnContext(ctx, "some settings have changed that need a restart", "settings", changed)
	}
	s.log.InfoContext(ctx, "settings were reloaded") // first: the new level may exclude INFO
	s.useKeyring(settings.SealKeys)
	s.level.Set(settings.Level())
}
