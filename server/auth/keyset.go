package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// unknownKeyInterval is the least time between two refreshes that tokens with
	// an unknown kid ask for, in the whole process: strangers can invent kids.
	unknownKeyInterval = 30 * time.Second

	// unknownKeyWait is the longest that an AwaitedKey is waited for.
	unknownKeyWait = 150 * time.Millisecond

	// retryInterval is the longest time until the next attempt after one that failed.
	retryInterval = 3 * time.Second

	fetchTimeout = 5 * time.Second
	maxKeySet    = 1 << 20 // bytes
)

// ErrKeysUnavailable says that no JWK set was ever loaded: whether a token is valid
// cannot be told.
var ErrKeysUnavailable = errors.New("no JWK set was loaded yet")

// KeySetLocation is where a JWK set is: the path of a file, or an https URL (http
// to a loopback address only).
type KeySetLocation struct {
	path string
	url  string
}

// UnmarshalText reads a location.
func (l *KeySetLocation) UnmarshalText(text []byte) error {
	location := string(text)
	u, err := url.Parse(location)
	switch {
	case err != nil:
		return errors.New("must be a file path or an https URL")
	case u.Scheme == "" && u.Host == "":
		*l = KeySetLocation{path: location}
		return nil
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return errors.New("must be a file path or an https URL without user and fragment")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		*l = KeySetLocation{url: location}
		return nil
	}
	return errors.New("must be a file path or an https URL (http to a loopback address only): whoever can change the keys on their way can sign in as anybody")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// KeySet is a JWK set that is kept up to date. Each refresh replaces it as a whole,
// so a key that has left the set stops working; one that fails leaves the last good
// set in place. It is safe for concurrent use.
type KeySet struct {
	location KeySetLocation
	interval time.Duration
	now      func() time.Time
	log      *slog.Logger
	client   *http.Client

	keys   atomic.Pointer[[]verificationKey] // nil until the first set is there
	loaded atomic.Pointer[time.Time]         // when keys was; nil until then
	limit  *rate.Limiter                     // for refreshes that tokens ask for

	mu     sync.Mutex
	wanted chan struct{} // tells Run to refresh
	asked  chan struct{} // closed by the refresh that a token asked for; nil if none did
}

// NewKeySet returns the set at location, still without keys: Run loads and then
// refreshes it, every interval and when an unknown key is asked for.
func NewKeySet(location KeySetLocation, interval time.Duration, now func() time.Time, log *slog.Logger) *KeySet {
	return &KeySet{
		location: location,
		interval: interval,
		now:      now,
		log:      log,
		client: &http.Client{
			Timeout:   fetchTimeout,
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
			// A redirect could lead away from https and from the issuer.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		limit:  rate.NewLimiter(rate.Every(unknownKeyInterval), 1),
		wanted: make(chan struct{}, 1),
	}
}

// Check returns ErrKeysUnavailable until there is a set to judge tokens by.
func (s *KeySet) Check(context.Context) error {
	if s.keys.Load() == nil {
		return ErrKeysUnavailable
	}
	return nil
}

// Loaded returns when the set was last read, or the zero time if it never was.
func (s *KeySet) Loaded() time.Time {
	if loaded := s.loaded.Load(); loaded != nil {
		return *loaded
	}
	return time.Time{}
}

// Run keeps the set up to date until ctx is done.
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

// Refresh has Run read the set at once.
func (s *KeySet) Refresh() {
	select {
	case s.wanted <- struct{}{}:
	default: // it is about to
	}
}

// refresh loads the set and lets those go who have asked for it. If nobody had when it
// began, who asks meanwhile may need a newer set than this one will be, and gets the next.
func (s *KeySet) refresh(ctx context.Context) (refreshed bool) {
	asked := s.begin()
	keys, err := s.load(ctx)
	if err == nil && len(keys) == 0 {
		// Keys may leave until none is left. But a set that never had one is a mistake.
		s.log.ErrorContext(ctx, "JWK set has no key that can verify a token")
		err = s.Check(ctx)
	}
	switch {
	case err == nil:
		now := s.now()
		s.keys.Store(&keys)
		s.loaded.Store(&now)
	case ctx.Err() != nil: // the end
	case s.Check(ctx) == nil:
		s.log.WarnContext(ctx, "JWK set was not refreshed; the last good one stays", "error", err.Error())
	default:
		s.log.ErrorContext(ctx, "JWK set was not read: none of its tokens can be judged", "error", err.Error())
	}
	if asked != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		close(asked)
		s.asked = nil
	}
	return err == nil
}

// begin returns the channel of those whom this refresh is for.
func (s *KeySet) begin() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.wanted: // Run may have been woken by its timer instead
	default:
	}
	return s.asked
}

func (s *KeySet) load(ctx context.Context) ([]verificationKey, error) {
	text, err := s.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("read JWK set: %w", err)
	}
	if len(text) > maxKeySet {
		return nil, fmt.Errorf("read JWK set: more than %d bytes", maxKeySet)
	}
	return parseKeySet(text)
}

// read returns the set's text, or one byte more than it may have.
func (s *KeySet) read(ctx context.Context) ([]byte, error) {
	if s.location.path != "" {
		return readRegularFile(s.location.path)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.location.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := s.client.Do(request)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return nil, failed.Err // without the URL, whose query may be a secret
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

// readRegularFile does not wait for the writer of a pipe, which nothing could interrupt.
func readRegularFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxKeySet+1))
}

// AwaitedKey is the error for a token whose kid is unknown, while a newer JWK set is read
// that may have its key.
type AwaitedKey struct{ refreshed <-chan struct{} }

// Error tells nothing of the token.
func (*AwaitedKey) Error() string { return "the JWK set with the token's key may be under way" }

// Wait waits until that set is there, 150 ms at most. With the context that it returns, in
// which nothing is waited for a second time, the same request is to be authenticated again.
func (a *AwaitedKey) Wait(ctx context.Context) context.Context {
	limit := time.NewTimer(unknownKeyWait)
	defer limit.Stop()
	select {
	case <-a.refreshed:
	case <-limit.C:
	case <-ctx.Done():
	}
	return context.WithValue(ctx, waitedKey{}, true)
}

type waitedKey struct{}

// find returns the one key that a token with this kid and alg can be verified with. The
// error is ErrKeysUnavailable or, if its kid may be newer than the set, an AwaitedKey.
func (s *KeySet) find(ctx context.Context, kid, alg string) (key verificationKey, ok bool, err error) {
	if err := s.Check(ctx); err != nil {
		return verificationKey{}, false, err
	}
	if key, ok = s.lookUp(kid, alg); ok || kid == "" || ctx.Value(waitedKey{}) != nil {
		return key, ok, nil
	}
	if refreshed := s.ask(); refreshed != nil {
		return verificationKey{}, false, &AwaitedKey{refreshed}
	}
	return verificationKey{}, false, nil
}

// lookUp demands that exactly one key fits: the one with the token's kid, or, for a
// token without kid, the only one for its algorithm.
func (s *KeySet) lookUp(kid, alg string) (found verificationKey, ok bool) {
	for _, key := range *s.keys.Load() {
		if key.method.Alg() != alg || kid != "" && key.id != kid {
			continue
		}
		if ok {
			return verificationKey{}, false
		}
		found, ok = key, true
	}
	return found, ok
}

// ask returns a channel that is closed at the end of a refresh, or nil if none is
// under way and none may be asked for yet.
func (s *KeySet) ask() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked != nil {
		return s.asked
	}
	if !s.limit.AllowN(s.now(), 1) {
		return nil
	}
	s.asked = make(chan struct{})
	s.Refresh()
	return s.asked
}
