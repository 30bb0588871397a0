package main

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

// metrics is what /metrics shows, in a registry of its own: nothing that a library
// registers for the whole process gets in. Every label has few values, all of them
// ours: operations and causes, never anything that a client sent.
type metrics struct {
	registry   *prometheus.Registry
	requests   *prometheus.HistogramVec
	overloaded prometheus.Counter
	refusals   *prometheus.CounterVec
	outcomes   *prometheus.CounterVec
	calls      *prometheus.HistogramVec
	keyring    atomic.Pointer[loadedKeyring]
}

// loadedKeyring is the keyring in use, and since when.
type loadedKeyring struct {
	*store.Keyring
	at time.Time
}

// seconds are the buckets for what takes from half a millisecond to the half second
// that callers are promised, and for what takes longer.
func seconds() []float64 {
	return []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1}
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mfa_request_duration_seconds", Buckets: seconds(),
			Help: "Requests to the API by operation (none: no such path or method) and status.",
		}, []string{"operation", "status"}),
		overloaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mfa_overloaded_total", Help: "Requests turned away because MFA_MAX_IN_FLIGHT others were in flight.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mfa_refusals_total", Help: "Requests that were not authenticated, by cause.",
		}, []string{"cause"}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mfa_generate_outcomes_total", Help: "Calls to generate a TOTP key by how they ended.",
		}, []string{"outcome"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mfa_store_duration_seconds", Buckets: seconds(),
			Help: "What requests asked of the store (Redis) by method and outcome.",
		}, []string{"method", "outcome"}),
	}
	m.registry.MustRegister(m.requests, m.overloaded, m.refusals, m.outcomes, m.calls,
		collectors.NewBuildInfoCollector(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// A counter that is there only from its first event on hides that event from rate().
	for _, outcome := range []store.Outcome{store.Created, store.Reused, store.ReplacedUnreadable, store.ReplacedExpired, outcomeUnavailable} {
		m.outcomes.WithLabelValues(string(outcome))
	}
	return m
}

// handler answers /metrics.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// useKeyring notes that keyring has been read.
func (m *metrics) useKeyring(keyring *store.Keyring, at time.Time) {
	m.keyring.Store(&loadedKeyring{keyring, at})
}

// showKeys shows how old the keys are; keySet may be nil. Prometheus wants times, from
// which a query makes ages.
func (m *metrics) showKeys(keySet *auth.KeySet) {
	m.gauge("mfa_seal_keys", "Keys of MFA_SEAL_KEYS: more than one while they are rotated.", nil,
		func() float64 { return float64(m.keyring.Load().Len()) })
	m.gauge("mfa_keyring_loaded_timestamp_seconds", "When MFA_SEAL_KEYS was last read.", nil,
		func() float64 { return float64(m.keyring.Load().at.Unix()) })
	if keySet != nil {
		m.gauge("mfa_jwk_set_loaded_timestamp_seconds", "When MFA_JWT_JWKS was last read; 0: never yet.", nil,
			func() float64 { return float64(max(keySet.Loaded().Unix(), 0)) })
	}
}

// showConnections shows the connections to the API.
func (m *metrics) showConnections(listener *boundedListener) {
	m.gauge("mfa_connections", "Connections to the API, open now.", nil, func() float64 { return float64(listener.open.Load()) })
	m.count("mfa_connections_refused_total", "Connections closed at once because MFA_MAX_CONNECTIONS others were open.",
		func() float64 { return float64(listener.refused.Load()) })
	m.gauge("mfa_large_requests_waiting", "Connections with large requests that wait for their turn to be read.", nil,
		func() float64 { return float64(listener.large.waiting.Load()) })
}

// showPool shows the connections to Redis.
func (m *metrics) showPool(redis *store.Redis) {
	const name, help = "mfa_redis_pool_connections", "Connections to Redis, open now."
	m.gauge(name, help, prometheus.Labels{"state": "idle"}, func() float64 { return float64(redis.Pool().Idle) })
	m.gauge(name, help, prometheus.Labels{"state": "in_use"}, func() float64 { return float64(redis.Pool().InUse) })
	m.count("mfa_redis_pool_waits_total", "Waits for a free connection: the pool is too small, or Redis too slow.",
		func() float64 { return float64(redis.Pool().Waits) })
}

func (m *metrics) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

func (m *metrics) count(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}
