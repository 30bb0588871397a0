package auth

import (
	"context"
	"time"
)

const (
	// unknownKeyInterval is the least time between two refreshes that unknown kids cause, in
	// the whole process: anyone can send unknown kids.
	unknownKeyInterval = 30 * time.Second

	// unknownKeyWait is the longest wait of AwaitedKey.Wait.
	unknownKeyWait = 150 * time.Millisecond
)

// AwaitedKey is the error for a token with an unknown kid during a refresh of the JWK set: the
// new set may have the token's key.
type AwaitedKey struct{ refreshed <-chan struct{} }

// Error implements error.
func (*AwaitedKey) Error() string { return "the JWK set is being refreshed for an unknown kid" }

// Wait waits for the refresh, at most 150 ms and at most until ctx is done. The caller then
// authenticates the same request once more, with the returned context: it keeps Authenticate
// from returning another AwaitedKey.
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

// find returns the one key for tokens with this kid and alg. The error is ErrKeysUnavailable,
// or an AwaitedKey if the kid may be newer than the set.
func (s *KeySet) find(ctx context.Context, kid, alg string) (key verificationKey, ok bool, err error) {
	keys := s.keys.Load()
	if keys == nil {
		return verificationKey{}, false, ErrKeysUnavailable
	}
	if key, ok = selectKey(*keys, kid, alg); ok || kid == "" || ctx.Value(waitedKey{}) != nil {
		return key, ok, nil
	}
	if refreshed := s.requestRefresh(); refreshed != nil {
		return verificationKey{}, false, &AwaitedKey{refreshed}
	}
	return verificationKey{}, false, nil
}

// requestRefresh returns a channel that the next refresh closes. It returns nil if none is
// under way and the last one was less than 30 s ago.
func (s *KeySet) requestRefresh() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refreshed != nil {
		return s.refreshed
	}
	if !s.limit.AllowN(s.now(), 1) {
		return nil
	}
	s.refreshed = make(chan struct{})
	s.Refresh()
	return s.refreshed
}
