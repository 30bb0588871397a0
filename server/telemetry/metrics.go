package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"quiva.ai/mfa/store"
)

// Metrics are the service's metrics. They have a registry of their own: metrics that a library
// registers for the whole process stay out. Metrics is safe for concurrent use.
type Metrics struct {
	registry   *prometheus.Registry
	requests   *prometheus.HistogramVec
	overloaded prometheus.Counter
	refusals   *prometheus.CounterVec
	generated  *prometheus.CounterVec
	confirmed  *prometheus.CounterVec
	verified   *prometheus.CounterVec
	enrolment  prometheus.Histogram
	swapsLost  prometheus.Counter
	unreadable prometheus.Counter
	written    prometheus.Counter
	storeCalls *prometheus.HistogramVec
}

// durationBuckets go from 0.5 ms to 1 s: callers get a response within 500 ms of store calls.
func durationBuckets() []float64 {
	return []float64{.0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1}
}

// NewMetrics returns metrics that are all zero.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mfa_request_duration_seconds", Buckets: durationBuckets(),
			Help: "Duration of requests to the API by operation (none: no such path or method) and status.",
		}, []string{"operation", "status"}),
		overloaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mfa_overloaded_total", Help: "Requests rejected because MFA_MAX_IN_FLIGHT others were in flight.",
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mfa_refusals_total", Help: "Requests that were not authenticated, by cause.",
		}, []string{"cause"}),
		generated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mfa_generate_outcomes_total", Help: "Calls to generate a TOTP key, by outcome.",
		}, []string{"outcome"}),
		confirmed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mfa_confirm_outcomes_total", Help: "Calls to confirm a TOTP key, by outcome.",
		}, []string{"outcome"}),
		verified: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mfa_verify_outcomes_total", Help: "Codes verified at sign-in, by outcome: the kind of code, or why it was refused.",
		}, []string{"outcome"}),
		enrolment: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mfa_enrolment_duration_seconds", Buckets: []float64{5, 10, 20, 40, 60, 120, 300, 600, 3600, 86400},
			Help: "Time from the first generate call to the confirmation of the key.",
		}),
		swapsLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mfa_factor_swaps_lost_total", Help: "Changes of a factor that another change has forestalled; they are tried again.",
		}),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mfa_factor_writes_total", Help: "Factors that were written: enrolled, changed or removed, and each code that was used or counted.",
		}),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mfa_factors_unreadable_total", Help: "Reads of a factor that no sealing key opens, or that is damaged.",
		}),
		storeCalls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mfa_store_duration_seconds", Buckets: durationBuckets(),
			Help: "Duration of requests' calls to the store (Redis) by method and outcome.",
		}, []string{"method", "outcome"}),
	}
	m.registry.MustRegister(m.requests, m.overloaded, m.refusals, m.generated, m.confirmed, m.verified, m.enrolment, m.swapsLost, m.unreadable, m.written, m.storeCalls,
		collectors.NewBuildInfoCollector(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// Make the outcomes' counters now: rate() misses the first event of a counter that
	// appears with it.
	for _, outcome := range []store.Outcome{store.Created, store.Reused, store.ReplacedUnreadable, store.ReplacedExpired, outcomeUnavailable} {
		m.generated.WithLabelValues(string(outcome))
	}
	return m
}

// AddFactorOutcomes makes the counters of the outcomes of confirm and of verify calls.
func (m *Metrics) AddFactorOutcomes(confirm, verify []string) {
	for _, outcome := range confirm {
		m.confirmed.WithLabelValues(outcome)
	}
	for _, outcome := range verify {
		m.verified.WithLabelValues(outcome)
	}
}

// AddOperation makes the operation's counters for the statuses that alerts are about.
func (m *Metrics) AddOperation(operation string) {
	for _, status := range []int{http.StatusOK, http.StatusUnauthorized, http.StatusInternalServerError, http.StatusServiceUnavailable} {
		m.requests.WithLabelValues(operation, strconv.Itoa(status))
	}
}

// Handler serves /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// CountOverload counts a request that was rejected because too many were in flight.
func (m *Metrics) CountOverload() { m.overloaded.Inc() }

// CountRefusal counts a request that was not authenticated.
func (m *Metrics) CountRefusal(cause string) { m.refusals.WithLabelValues(cause).Inc() }

// CountGenerated counts a call to generate a TOTP key: by outcome if err is nil, else by the
// kind of err.
func (m *Metrics) CountGenerated(outcome store.Outcome, err error) {
	m.generated.WithLabelValues(outcomeOf(err, outcome)).Inc()
}

// CountConfirmation counts a call to confirm a TOTP key.
func (m *Metrics) CountConfirmation(outcome string) { m.confirmed.WithLabelValues(outcome).Inc() }

// CountVerification counts a code at sign-in.
func (m *Metrics) CountVerification(outcome string) { m.verified.WithLabelValues(outcome).Inc() }

// ObserveEnrolment measures the time that a person took from the first generate call to the
// confirmation.
func (m *Metrics) ObserveEnrolment(took time.Duration) { m.enrolment.Observe(took.Seconds()) }

// CountSwapLost counts a change of a factor that another change has forestalled.
func (m *Metrics) CountSwapLost() { m.swapsLost.Inc() }

// CountFactorWritten counts a factor that was written.
func (m *Metrics) CountFactorWritten() { m.written.Inc() }

// CountUnreadable counts a read of a factor that cannot be opened.
func (m *Metrics) CountUnreadable() { m.unreadable.Inc() }

// Gauge registers a gauge that has the value of the function.
func (m *Metrics) Gauge(name, help string, labels map[string]string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

// Counter registers a counter that has the value of the function.
func (m *Metrics) Counter(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}

func (m *Metrics) observeRequest(operation string, status int, took time.Duration) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Observe(took.Seconds())
}

func (m *Metrics) observeStore(method, outcome string, took time.Duration) {
	m.storeCalls.WithLabelValues(method, outcome).Observe(took.Seconds())
}
