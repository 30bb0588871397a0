package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/store"
)

// Limits of a connection to the API. A request is a few hundred bytes and its
// answer takes milliseconds; whoever needs longer keeps others out.
const (
	readTimeout  = 5 * time.Second  // handshake, header, and body, but see maxBodyTime
	writeTimeout = 10 * time.Second // from the header's end; longer than the body may take, shorter than MFA_STOP_TIMEOUT
	idleTimeout  = 2 * time.Minute  // longer than a gateway keeps a connection, so that it closes first
	maxHeader    = 16 << 10         // bytes; holds the longest token twice
)

// heapFloor is added to the heap and never touched: it takes no memory itself, but lets as
// much more garbage lie. The collector runs whenever the heap has doubled: with the few MiB
// that are alive here, tens of times a second, at a fifth of all CPU. GOGC keeps its meaning.
// With a small GOMEMLIMIT there is no floor: it counts as memory in use, and would have the
// collector run all the time.
const heapFloor = 16 << 20 // bytes

func makeHeapFloor() []byte {
	if debug.SetMemoryLimit(-1) < 4*heapFloor { // -1 changes nothing
		return nil
	}
	return make([]byte, heapFloor)
}

func (p *process) serveCommand() *cobra.Command {
	var dev bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the API",
		Long:  "Serve the API until SIGINT or SIGTERM; reload keys, TLS files and log level on SIGHUP.\n\n" + settingsHelp(),
		Args:  noArgs,
	}
	cmd.Flags().BoolVar(&dev, "dev", false, "for development: random keys, 127.0.0.1:8080, and without MFA_REDIS_URL a store in memory")
	addFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var extra map[string]string
		if dev {
			extra = devSettings()
		}
		load := func() (settings, error) {
			s, err := loadSettings(p.environ, cmd.Flags(), extra)
			wrong, _ := errors.AsType[faults](err)
			if wrong = wrong.and(s.checkServe(dev)).and(judgeOTel(p.environ)); len(wrong) > 0 {
				return settings{}, wrong
			}
			return s, nil
		}
		s, err := load()
		if err != nil {
			return err
		}
		return p.serve(cmd.Context(), s, load, dev)
	}
	return cmd
}

// serve wires the service and runs it until stop is done, in the way that stop.go
// describes. load reads the settings again.
//
//nolint:funlen // All of the wiring stands in one place.
func (p *process) serve(stop context.Context, s settings, load func() (settings, error), dev bool) error {
	ended, end := context.WithCancel(context.WithoutCancel(stop))
	defer end()
	go endAnyway(ended, stop, s.longestEnd())
	// That nobody reads the log any more is no reason to end, nor would systemd start the
	// service again after it.
	signal.Ignore(syscall.SIGPIPE)
	floor := makeHeapFloor()
	defer runtime.KeepAlive(floor)
	level := new(slog.LevelVar)
	level.Set(s.LogLevel.Level)
	log := newLogger(p.stderr, level, s.LogFormat)
	hangup, release := hangups(dev)
	defer release()
	tracer, flush, err := startTracing(stop, p.environ, log)
	if err != nil {
		return err
	}
	defer flush()
	watch := newObserver(tracer, p.now)
	backend := p.openBackend(s, log)
	defer backend.Close()
	checks := []readinessCheck{{"process", staying(stop)}, {"redis", backend.Ready}}
	var keySet *auth.KeySet
	if s.JWTKeySet != nil {
		keySet = auth.NewKeySet(*s.JWTKeySet, time.Duration(s.JWTRefresh), p.now, log)
		checks = append(checks, readinessCheck{"jwk_set", keySet.Check})
	}
	watch.useKeyring(s.SealKeys, p.now())
	watch.showKeys(keySet)
	document, err := documentJSON()
	if err != nil {
		return err
	}
	observed := observedBackend{backend, watch}
	pending := store.NewPending(observed, s.SealKeys, time.Duration(s.PendingTTL), p.now)
	handler, err := p.newAPI(s, store.NewAPIKeys(observed, p.now), pending, keySet, watch, log)
	if err != nil {
		return err
	}
	tlsCert, err := s.certificate(p.now, log)
	if err != nil {
		return err
	}
	api, admin, err := listen(stop, s)
	if err != nil {
		return err
	}
	bounded := s.bound(api, tlsCert.config(), log)
	watch.showConnections(bounded)
	api, admin = bounded, newBoundedListener(admin, maxAdmin, nil, log)
	running, ctx := errgroup.WithContext(context.WithoutCancel(stop))
	ctx, endAll := context.WithCancel(ctx)
	defer endAll()
	log.InfoContext(ctx, "listening", "address", api.Addr().String(), "admin_address", admin.Addr().String(), "version", version())

	drained, closeAPI := context.WithCancel(ctx)
	running.Go(func() error {
		defer closeAPI()
		p.drain(ctx, stop.Done(), s, log)
		return nil
	})
	running.Go(func() error {
		defer endAll()
		return serveHTTP(drained, api, newServer(farewell(stop, handler), log), time.Duration(s.StopTimeout))
	})
	running.Go(func() error {
		return serveHTTP(ctx, admin, newServer(newAdmin(newReadiness(checks, p.now), document, watch.handler()), log), 0)
	})
	changing := &reloader{load: load, started: s, level: level, pending: pending, keySet: keySet, certificate: tlsCert, watch: watch, notify: p.notify, log: log}
	running.Go(func() error { changing.run(ctx, stop, hangup); return nil })
	if keySet != nil {
		running.Go(func() error { keySet.Run(ctx); return nil })
	}
	if redis, ok := backend.(*store.Redis); ok {
		watch.showPool(redis)
		running.Go(func() error { reportFindings(ctx, redis.Inspect, log); return nil })
	}
	if dev {
		running.Go(func() error { return p.greet(ctx, api.Addr(), s, store.NewAPIKeys(backend, p.now)) })
	}
	p.notify(ctx, log, "READY=1")
	err = running.Wait()
	log.InfoContext(ctx, "stopped")
	return err
}

// listen opens both listeners, or neither.
func listen(ctx context.Context, s settings) (api, admin net.Listener, err error) {
	var config net.ListenConfig
	api, err = config.Listen(ctx, "tcp", string(s.Listen))
	if err != nil {
		return nil, nil, fmt.Errorf("MFA_LISTEN: %w", err)
	}
	admin, err = config.Listen(ctx, "tcp", string(s.AdminListen))
	if err != nil {
		return nil, nil, fmt.Errorf("MFA_ADMIN_LISTEN: %w", errors.Join(err, api.Close()))
	}
	return api, admin, nil
}

// openBackend opens Redis, or without one (which only --dev allows) the memory.
func (p *process) openBackend(s settings, log *slog.Logger) store.Backend {
	if s.RedisURL != nil {
		return store.NewRedis(*s.RedisURL)
	}
	log.Warn("no MFA_REDIS_URL: secrets and API keys are kept in memory, for this process only, and lost when it stops")
	return store.NewMemory(p.now)
}

// newAPI puts the API together from its settings.
func (p *process) newAPI(s settings, keys *store.APIKeys, pending *store.Pending, keySet *auth.KeySet, watch *observer, log *slog.Logger) (http.Handler, error) {
	document, err := gen.GetSpec()
	if err != nil {
		return nil, fmt.Errorf("read the embedded OpenAPI document: %w", err)
	}
	authenticator, err := auth.New(auth.Config{
		Keys:       keyFinder{keys},
		KeyTime:    authenticateTime,
		HMACSecret: s.JWTSecret,
		KeySet:     keySet,
		Issuer:     s.JWTIssuer,
		Audience:   s.JWTAudience,
		Leeway:     time.Duration(s.JWTLeeway),
		Now:        p.now,
	})
	if err != nil {
		return nil, err
	}
	return newAPI(apiConfig{
		document:      document,
		authenticator: authenticator,
		operations:    mfa.New(mfa.Config{Issuer: s.Issuer, Pending: observedPending{watch, pending}, Now: p.now, Log: log, Audit: newAuditLogger(p.stderr)}),
		maxInFlight:   int(s.MaxInFlight),
		trusted:       s.Proxies,
		watch:         watch,
		now:           p.now,
		log:           log,
	})
}

// keyFinder is the store as auth sees it.
type keyFinder struct{ keys *store.APIKeys }

// FindAPIKey implements auth.KeyFinder.
func (f keyFinder) FindAPIKey(ctx context.Context, key string) (auth.Principal, error) {
	record, err := f.keys.Find(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return auth.Principal{}, auth.ErrUnknownKey
	}
	if err != nil {
		return auth.Principal{}, err
	}
	return auth.Principal{Account: record.Account, Label: record.Email, KeyID: record.ID}, nil
}

func newServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:        handler,
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		ConnState:      followRequests,
		// Else net/http answers OPTIONS * by itself, past everything that we do.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
