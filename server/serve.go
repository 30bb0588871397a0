package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/store"
)

// Limits of a connection to the API. A request is a few hundred bytes and its
// answer takes milliseconds; whoever needs longer keeps others out.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second // header and body
	writeTimeout      = 10 * time.Second
	idleTimeout       = 2 * time.Minute // longer than a gateway keeps a connection, so that it closes first
	maxHeader         = 16 << 10        // bytes; holds the longest token twice
	shutdownTimeout   = 10 * time.Second
)

func (p *process) serveCommand() *cobra.Command {
	var dev bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the API",
		Long:  "Serve the API until SIGINT or SIGTERM.\n\n" + settingsHelp(),
		Args:  noArgs,
	}
	cmd.Flags().BoolVar(&dev, "dev", false, "for development: random keys, 127.0.0.1:8080, and without MFA_REDIS_URL a store in memory")
	addFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var extra map[string]string
		if dev {
			extra = devSettings()
		}
		s, err := loadSettings(p.environ, cmd.Flags(), extra)
		if err == nil {
			err = s.checkServe(dev)
		}
		if err != nil {
			return err
		}
		return p.serve(cmd.Context(), s, dev)
	}
	return cmd
}

// serve wires the service and runs it until ctx is done.
func (p *process) serve(ctx context.Context, s settings, dev bool) error {
	log := newLogger(p.stderr, s.LogLevel.Level, s.LogFormat)
	backend := p.openBackend(s, log)
	defer backend.Close()
	keys := store.NewAPIKeys(backend, p.now)
	handler, err := p.newAPI(s, backend, keys, log)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("MFA_LISTEN: %w", err)
	}
	log.Info("listening", "address", listener.Addr().String(), "version", version())
	if dev {
		forget, err := p.greet(ctx, listener.Addr(), s, keys)
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		defer forget()
	}
	err = serveHTTP(ctx, listener, handler, log)
	log.Info("stopped")
	return err
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
func (p *process) newAPI(s settings, backend store.Backend, keys *store.APIKeys, log *slog.Logger) (http.Handler, error) {
	document, err := gen.GetSpec()
	if err != nil {
		return nil, fmt.Errorf("read the embedded OpenAPI document: %w", err)
	}
	authenticator, err := auth.New(auth.Config{
		Keys:       keyFinder{keys},
		HMACSecret: s.JWTSecret,
		Issuer:     s.JWTIssuer,
		Audience:   s.JWTAudience,
		Leeway:     time.Duration(s.JWTLeeway),
		Now:        p.now,
	})
	if err != nil {
		return nil, err
	}
	pending := store.NewPending(backend, s.SealKeys, time.Duration(s.PendingTTL), p.now)
	return newAPI(document, authenticator, mfa.New(s.Issuer, pending, p.now, log), p.now, log)
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
	return auth.Principal{Account: record.Account, Label: record.Email}, nil
}

// serveHTTP serves until ctx is done, then lets requests in flight finish.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	// ctx is done; what is in flight gets a time of its own.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return fmt.Errorf("stop: %w", errors.Join(err, server.Close()))
	}
	return nil
}
