package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/api"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/config"
	"quiva.ai/mfa/server/lifecycle"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
)

// service holds the parts of a running service.
type service struct {
	*app
	settings    *config.Settings
	level       *slog.LevelVar
	log         *slog.Logger
	observer    *telemetry.Observer
	backend     store.Backend
	inspection  *lifecycle.Inspection // nil without Redis
	pending     *store.Pending
	factors     *store.Factors
	keyring     atomic.Pointer[loadedKeyring]
	keySet      *auth.KeySet           // nil without MFA_JWT_JWKS
	certificate *lifecycle.Certificate // nil without TLS
	notifier    lifecycle.Notifier
	handler     http.Handler        // of the API
	dev         *devAccess          // nil without --dev
	document    []byte              // the OpenAPI document as JSON
	api, admin  *lifecycle.Listener // nil before listen
}

// loadedKeyring is a keyring with the time when it was loaded.
type loadedKeyring struct {
	*store.Keyring
	at time.Time
}

// wire makes the service's parts from its settings. closeAll releases them.
func (a *app) wire(ctx context.Context, settings *config.Settings) (s *service, closeAll func(), err error) {
	s = &service{app: a, settings: settings, level: new(slog.LevelVar), notifier: lifecycle.NewNotifier(a.environ)}
	s.level.Set(settings.Level())
	s.log = telemetry.NewLogger(a.stderr, s.level, settings.LogFormat)
	if s.document, err = gen.GetSpecJSON(); err != nil {
		return nil, nil, fmt.Errorf("read the embedded OpenAPI document: %w", err)
	}
	if settings.TLSCert != "" {
		s.certificate, err = lifecycle.LoadCertificate(settings.TLSCert, settings.TLSKey, a.now, s.log)
		if err != nil {
			return nil, nil, err
		}
	}
	if settings.JWTKeySet != nil {
		s.keySet = auth.NewKeySet(*settings.JWTKeySet, settings.JWTRefresh, a.now, s.log)
	}
	tracer, flushTraces, err := telemetry.StartTraces(ctx, a.environ, version(), s.log)
	if err != nil {
		return nil, nil, err
	}
	s.observer = telemetry.NewObserver(tracer, a.now)
	s.backend = s.openBackend()
	closeAll = func() {
		_ = s.backend.Close() // the program ends: nothing is left to do about an error
		flushTraces()
	}
	if err := s.wireAPI(ctx); err != nil {
		closeAll()
		return nil, nil, err
	}
	return s, closeAll, nil
}

// wireAPI makes the parts that requests use: the store and the API on it.
func (s *service) wireAPI(ctx context.Context) (err error) {
	if s.settings.StoreID == "" { // with --dev only
		if s.settings.StoreID, err = devStoreID(ctx, s.backend, s.settings.SealKeys); err != nil {
			return err
		}
	}
	observed := s.observer.Backend(s.backend)
	s.pending = store.NewPending(observed, s.settings.SealKeys, s.settings.PendingTTL, s.now)
	s.factors = store.NewFactors(store.FactorsConfig{
		Backend:    observed,
		Keyring:    s.settings.SealKeys,
		Identity:   store.NewIdentity(s.backend, s.settings.StoreID),
		Now:        s.now,
		SwapLost:   s.observer.CountSwapLost,
		Unreadable: s.observer.CountUnreadable,
		Written:    s.observer.CountFactorWritten,
		Rewrite:    s.settings.Replicas > 0,
	})
	s.useKeyring(s.settings.SealKeys)
	s.handler, err = s.newAPI(observed)
	return err
}

// openBackend opens Redis, or the store in memory where --dev allows it.
func (s *service) openBackend() store.Backend {
	if s.settings.RedisURL != nil {
		redis := store.NewRedis(*s.settings.RedisURL)
		redis.RequireReplicas(s.settings.Replicas)
		s.inspection = lifecycle.NewInspection(inspectedRedis{redis, s}, s.log)
		return redis
	}
	s.log.Warn("no MFA_REDIS_URL: secrets, factors and API keys are kept in memory, for this process only, and lost when it stops")
	return store.NewMemory(s.now)
}

// inspectedRedis adds to the findings about Redis that it is another store than the pinned one.
type inspectedRedis struct {
	*store.Redis
	service *service
}

// Inspect implements lifecycle's inspection.
func (r inspectedRedis) Inspect(ctx context.Context) ([]store.Finding, error) {
	findings, err := r.Redis.Inspect(ctx)
	if identity := r.service.factors.Check(ctx); errors.Is(identity, store.ErrIdentity) {
		text := strings.TrimPrefix(identity.Error(), store.ErrUnavailable.Error()+": ")
		findings = append(findings, store.Finding{Text: text, Lossy: true})
	}
	return findings, err
}

// newAPI returns the handler of the API: authentication and operations on the observed store.
func (s *service) newAPI(observed store.Backend) (http.Handler, error) {
	document, err := gen.GetSpec()
	if err != nil {
		return nil, fmt.Errorf("read the embedded OpenAPI document: %w", err)
	}
	authenticator, err := auth.New(auth.Config{
		Keys:       keyFinder{store.NewAPIKeys(observed, s.now), store.NewServiceKeys(observed, s.now)},
		KeyTime:    api.AuthenticateTimeout,
		HMACSecret: s.settings.JWTSecret,
		KeySet:     s.keySet,
		Issuer:     s.settings.JWTIssuer,
		Audience:   s.settings.JWTAudience,
		Leeway:     s.settings.JWTLeeway,
		Now:        s.now,
	})
	if err != nil {
		return nil, err
	}
	return api.New(api.Config{
		Document:      document,
		Authenticator: authenticator,
		Operations:    s.newOperations(),
		MaxInFlight:   s.settings.MaxInFlight,
		Proxies:       s.settings.Proxies,
		Observer:      s.observer,
		Now:           s.now,
		Log:           s.log,
		AuditLog:      telemetry.NewLogger(s.stderr, slog.Level(math.MinInt), s.settings.LogFormat),
	})
}

func (s *service) newOperations() *mfa.Operations {
	return mfa.New(mfa.Config{
		Issuer:     s.settings.Issuer,
		Pending:    s.pending,
		PendingTTL: s.settings.PendingTTL,
		Factors:    s.factors,
		StepUp:     auth.StepUp{MaxAge: s.settings.StepUp, Leeway: s.settings.JWTLeeway, Now: s.now},
		Metrics:    s.observer.Metrics,
		Now:        s.now,
	})
}

// useKeyring seals and opens secrets with keyring from now on.
func (s *service) useKeyring(keyring *store.Keyring) {
	s.pending.SetKeyring(keyring)
	s.factors.SetKeyring(keyring)
	s.keyring.Store(&loadedKeyring{keyring, s.now()})
}

// adminHandler returns the handler of the admin listener. It makes a metric of each check: an
// instance that is not ready gets no requests, and then no other metric tells.
func (s *service) adminHandler(stop context.Context) http.Handler {
	checkRedis := s.backend.Ready // in memory with --dev
	if s.inspection != nil {
		checkRedis = s.inspection.Check
	}
	checks := []lifecycle.Check{
		{Name: "process", Check: lifecycle.CheckNotStopping(stop)},
		{Name: "redis", Check: checkRedis},
		{Name: "factors", Check: s.factors.Check},
	}
	if s.keySet != nil {
		checks = append(checks, lifecycle.Check{Name: "jwk_set", Check: func(ctx context.Context) error {
			if warning := s.keySet.Warning(); warning != "" {
				return lifecycle.Warning(warning)
			}
			return s.keySet.Check(ctx)
		}})
	}
	ready := lifecycle.NewReadiness(checks, s.now)
	for _, check := range checks {
		s.observer.Metrics.Gauge("mfa_ready", "1 if the check of /readyz passes, else 0.", map[string]string{"check": check.Name},
			func() float64 { return ready.Value(check.Name) })
	}
	return lifecycle.NewAdmin(ready, s.document, s.observer.Handler())
}

// registerMetrics registers the metrics of the parts' state. An age is a time here, from which
// a query computes the age.
func (s *service) registerMetrics() {
	m := s.observer.Metrics
	m.Gauge("mfa_seal_keys", "Sealing keys in MFA_SEAL_KEYS: more than one during a rotation.", nil,
		func() float64 { return float64(s.keyring.Load().Len()) })
	m.Gauge("mfa_keyring_loaded_timestamp_seconds", "When MFA_SEAL_KEYS was last read.", nil,
		func() float64 { return float64(s.keyring.Load().at.Unix()) })
	m.Gauge("mfa_connections", "Open connections to the API.", nil, func() float64 { return float64(s.api.Open()) })
	m.Counter("mfa_connections_refused_total", "Connections closed at once because MFA_MAX_CONNECTIONS others were open.",
		func() float64 { return float64(s.api.Refused()) })
	if s.keySet != nil {
		m.Gauge("mfa_jwk_set_loaded_timestamp_seconds", "When MFA_JWT_JWKS was last read; 0: never.", nil,
			func() float64 { return float64(max(s.keySet.Loaded().Unix(), 0)) })
	}
	if redis, ok := s.backend.(*store.Redis); ok {
		const name, help = "mfa_redis_pool_connections", "Open connections to Redis."
		m.Gauge(name, help, map[string]string{"state": "idle"}, func() float64 { return float64(redis.Pool().Idle) })
		m.Gauge(name, help, map[string]string{"state": "in_use"}, func() float64 { return float64(redis.Pool().InUse) })
		m.Counter("mfa_redis_pool_waits_total", "Waits for a free connection: the pool is too small, or Redis too slow.",
			func() float64 { return float64(redis.Pool().Waits) })
	}
}

// keyFinder finds API keys and service keys in the store for package auth.
type keyFinder struct{ keys, serviceKeys *store.APIKeys }

// FindAPIKey implements auth.KeyFinder.
func (f keyFinder) FindAPIKey(ctx context.Context, key string) (auth.Principal, error) {
	return find(ctx, f.keys, key)
}

// FindServiceKey implements auth.KeyFinder.
func (f keyFinder) FindServiceKey(ctx context.Context, key string) (auth.Principal, error) {
	return find(ctx, f.serviceKeys, key)
}

func find(ctx context.Context, keys *store.APIKeys, key string) (auth.Principal, error) {
	record, err := keys.Find(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return auth.Principal{}, auth.ErrUnknownKey
	}
	if err != nil {
		return auth.Principal{}, err
	}
	return auth.Principal{Account: record.Account, Label: record.Email, KeyID: record.ID}, nil
}
