package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"quiva.ai/mfa/store/smallfile"
)

const (
	// retryInterval is the longest time between a failed refresh and the next one.
	retryInterval = 3 * time.Second

	fetchTimeout = 5 * time.Second
	maxKeySet    = 1 << 20 // bytes; smallfile has the same limit for files
)

// ErrKeysUnavailable says that no JWK set was loaded yet, so that tokens can be neither
// accepted nor refused.
var ErrKeysUnavailable = errors.New("no JWK set was loaded yet")

// KeySet is a JWK set that is refreshed. A refresh replaces the whole set, so a key that has
// left the set stops working. A failed refresh leaves the last good set in place, and so does
// a set without a usable key: an issuer that starts is more likely than one that withdraws its
// only key. KeySet is safe for concurrent use.
type KeySet struct {
	location KeySetLocation
	interval time.Duration
	now      func() time.Time
	log      *slog.Logger
	client   *http.Client

	keys   atomic.Pointer[[]verificationKey] // nil until the first set is loaded
	loaded atomic.Pointer[time.Time]         // when keys was loaded; nil until then
	failed atomic.Pointer[string]            // why the last refresh failed; nil if it did not
	faults []keyFault                        // of the last set that was read; for refresh alone
	limit  *rate.Limiter                     // for refreshes because of unknown kids
	wanted chan struct{}                     // tells Run to refresh

	mu        sync.Mutex
	refreshed chan struct{} // closed by the refresh that an unknown kid caused; nil if none did
}

// NewKeySet returns the set at location, without keys. Run loads it, and refreshes it every
// interval and for unknown kids.
func NewKeySet(location KeySetLocation, interval time.Duration, now func() time.Time, log *slog.Logger) *KeySet {
	return &KeySet{
		location: location,
		interval: interval,
		now:      now,
		log:      log,
		client: &http.Client{
			Timeout:   fetchTimeout,
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
			// A redirect could lead to http or away from the issuer.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		limit:  rate.NewLimiter(rate.Every(unknownKeyInterval), 1),
		wanted: make(chan struct{}, 1),
	}
}

// Check returns ErrKeysUnavailable, with the reason, until a set is loaded. It is a readiness
// check.
func (s *KeySet) Check(context.Context) error {
	failed := s.failed.Load()
	switch {
	case s.keys.Load() != nil:
		return nil
	case failed != nil:
		return fmt.Errorf("%w: %s", ErrKeysUnavailable, *failed)
	}
	return ErrKeysUnavailable
}

// Warning says why the last refresh failed, if an earlier set is in use. Otherwise it is empty.
func (s *KeySet) Warning() string {
	if failed := s.failed.Load(); failed != nil && s.keys.Load() != nil {
		return keptSet + ": " + *failed
	}
	return ""
}

// Loaded returns the time of the last successful refresh, or the zero time.
func (s *KeySet) Loaded() time.Time {
	if loaded := s.loaded.Load(); loaded != nil {
		return *loaded
	}
	return time.Time{}
}

// Run refreshes the set until ctx is done.
func (s *KeySet) Run(ctx context.Context) {
	for {
		wait := s.interval
		if !s.refresh(ctx) {
			wait = min(wait, retryInterval)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wanted:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// Refresh has Run refresh the set now.
func (s *KeySet) Refresh() {
	select {
	case s.wanted <- struct{}{}:
	default: // Run has been told already
	}
}

const keptSet = "JWK set was not refreshed; the last good one stays"

// refresh loads the set and ends the waits for it. A wait that
// begins during a periodic refresh may be for a newer set: the next refresh ends it.
func (s *KeySet) refresh(ctx context.Context) (ok bool) {
	refreshed := s.begin()
	keys, err := s.load(ctx)
	switch {
	case err == nil:
		now := s.now()
		s.keys.Store(&keys)
		s.loaded.Store(&now)
		s.failed.Store(nil)
	case ctx.Err() != nil: // the service stops
	default:
		failure := err.Error()
		s.failed.Store(&failure)
		if s.keys.Load() != nil {
			s.log.WarnContext(ctx, keptSet, "error", failure)
		} else {
			s.log.ErrorContext(ctx, "JWK set was not read: its tokens cannot be verified", "error", failure)
		}
	}
	if refreshed != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(refreshed)
		s.refreshed = nil
	}
	return err == nil
}

// begin returns the channel that the refresh now beginning has to close, or nil.
func (s *KeySet) begin() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.wanted: // this refresh does what it asks for
	default:
	}
	return s.refreshed
}

func (s *KeySet) load(ctx context.Context) ([]verificationKey, error) {
	text, err := s.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("read JWK set: %w", err)
	}
	if len(text) > maxKeySet {
		return nil, fmt.Errorf("read JWK set: more than %d bytes", maxKeySet)
	}
	keys, faults, err := parseKeySet(text)
	if err == nil || errors.Is(err, errNoUsableKey) {
		s.report(ctx, faults)
	}
	return keys, err
}

// read returns the set's text. Of a text that is too long it returns more than maxKeySet.
func (s *KeySet) read(ctx context.Context) ([]byte, error) {
	if s.location.path != "" {
		return smallfile.Read(s.location.path)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.location.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := s.client.Do(request)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return nil, failed.Err // without the URL: its query may hold a secret
	}
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d; want 200", response.StatusCode)
	}
	return io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
}
