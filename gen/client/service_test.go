package client_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"github.com/pquerna/otp/totp"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/gen/client"
	"quiva.ai/mfa/server/api"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/server/telemetry"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/storetest"
)

// service is the real API on a store in memory, for the examples.
type service struct {
	*httptest.Server
	clock   *storetest.Clock
	key     string      // a service key
	failing atomic.Bool // the store

	memory      *store.Memory
	apiKeys     *store.APIKeys
	serviceKeys *store.APIKeys
	keyID       string
}

func startService() *service {
	s := &service{clock: storetest.NewClock(), key: auth.NewServiceKey()}
	s.memory = store.NewMemory(s.clock.Now)
	backend := failingBackend{s.memory, &s.failing}
	s.apiKeys, s.serviceKeys = store.NewAPIKeys(backend, s.clock.Now), store.NewServiceKeys(backend, s.clock.Now)
	s.keyID = must(s.serviceKeys.CreateForService(context.Background(), s.key, "gateway", time.Hour)).ID
	observer := telemetry.NewObserver(nil, s.clock.Now)
	discard := slog.New(slog.DiscardHandler)
	s.Server = httptest.NewServer(must(api.New(api.Config{
		Document:      must(gen.GetSpec()),
		Authenticator: must(auth.New(auth.Config{Keys: s, KeyTime: time.Second, Now: s.clock.Now})),
		Operations:    s.operations(backend, observer),
		MaxInFlight:   1,
		Observer:      observer,
		Now:           s.clock.Now,
		Log:           discard,
		AuditLog:      discard,
	})))
	return s
}

func (s *service) operations(backend store.Backend, observer *telemetry.Observer) *mfa.Operations {
	keyring := new(store.Keyring)
	if err := keyring.UnmarshalText([]byte(storetest.NewSealKey("k1"))); err != nil {
		panic(err)
	}
	id := must(store.InitStore(context.Background(), backend, keyring, false))
	return mfa.New(mfa.Config{
		Issuer:     "quiva.ai",
		Pending:    store.NewPending(backend, keyring, time.Minute, s.clock.Now),
		PendingTTL: time.Minute,
		Factors: store.NewFactors(store.FactorsConfig{
			Backend: backend, Keyring: keyring, Identity: store.NewIdentity(backend, id), Now: s.clock.Now,
			SwapLost: func() {}, Unreadable: func() {}, Written: func() {},
		}),
		Metrics: observer.Metrics,
		Now:     s.clock.Now,
	})
}

// FindAPIKey implements auth.KeyFinder.
func (s *service) FindAPIKey(ctx context.Context, key string) (auth.Principal, error) {
	return find(ctx, s.apiKeys, key)
}

// FindServiceKey implements auth.KeyFinder.
func (s *service) FindServiceKey(ctx context.Context, key string) (auth.Principal, error) {
	return find(ctx, s.serviceKeys, key)
}

func find(ctx context.Context, keys *store.APIKeys, key string) (auth.Principal, error) {
	record, err := keys.Find(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return auth.Principal{}, auth.ErrUnknownKey
	}
	return auth.Principal{Account: record.Account, Label: record.Email, KeyID: record.ID}, err
}

func (s *service) revokeKey() {
	if err := s.serviceKeys.Revoke(context.Background(), s.keyID); err != nil {
		panic(err)
	}
}

// enrol gives the account a factor. The app shows a new code at once.
func (s *service) enrol(account string) (authenticator, []string) {
	ctx, key := context.Background(), auth.NewAPIKey()
	must(s.apiKeys.Create(ctx, key, account, account+"@example.com", time.Hour))
	mfa := must(client.NewClientWithResponses(s.URL, client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("X-Api-Key", key)
		return nil
	})))
	app := authenticator{must(mfa.GenerateTOTPKeyWithResponse(ctx)).JSON200.Data.Secret, s.clock}
	confirmed := must(mfa.ConfirmTOTPRegistrationWithResponse(ctx, client.ConfirmTOTPRegistrationJSONRequestBody{Code: app.code(), Secret: app.secret}))
	s.clock.Advance(30 * time.Second)
	return app, confirmed.JSON200.Data.RecoveryCodes
}

// authenticator is a person's app.
type authenticator struct {
	secret string
	clock  *storetest.Clock
}

func (a authenticator) code() string { return a.codeAt(a.clock.Now()) }

func (a authenticator) codeAt(at time.Time) string { return must(totp.GenerateCode(a.secret, at)) }

// wrongCode returns a code that is not accepted now.
func (a authenticator) wrongCode() string {
	now := a.clock.Now()
	for _, code := range []string{"000000", "111111", "222222", "333333"} {
		if code != a.codeAt(now.Add(-30*time.Second)) && code != a.codeAt(now) && code != a.codeAt(now.Add(30*time.Second)) {
			return code
		}
	}
	panic("four codes in three time steps")
}

// failingBackend is a store in memory that can fail.
type failingBackend struct {
	*store.Memory
	failing *atomic.Bool
}

// Get implements store.Backend. A request begins with it: it looks the key up.
func (b failingBackend) Get(ctx context.Context, key string) ([]byte, error) {
	if b.failing.Load() {
		return nil, store.ErrUnavailable
	}
	return b.Memory.Get(ctx, key)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
