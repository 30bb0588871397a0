package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

// The account of serve --dev. The service treats its API key and its token as any others.
const (
	devAccount  = "dev"
	devEmail    = "dev@example.com"
	devLifetime = 24 * time.Hour

	devInitTimeout = 10 * time.Second
)

// devSettings returns the defaults of --dev. The keys are random: a production service cannot
// use them by mistake.
func devSettings() map[string]string {
	return map[string]string{
		"MFA_LISTEN":       "127.0.0.1:8080",
		"MFA_ADMIN_LISTEN": "127.0.0.1:0", // any free port; the log names it
		"MFA_DRAIN":        "0s",
		"MFA_SEAL_KEYS":    "dev:" + base64.StdEncoding.EncodeToString(randomKey()),
		"MFA_JWT_SECRET":   base64.RawURLEncoding.EncodeToString(randomKey()),
		"MFA_JWT_ISSUER":   "https://auth.example.com",
		"MFA_JWT_AUDIENCE": "mfa",
	}
}

func randomKey() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return key
}

// devStoreID returns the id of the store, and initializes an empty one. It leaves a store that
// --dev cannot open as it is: that may be another service's.
func devStoreID(ctx context.Context, backend store.Backend, keyring *store.Keyring) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, devInitTimeout)
	defer cancel()
	id, err := store.InitStore(ctx, backend, keyring, false)
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return "", fmt.Errorf("find out MFA_STORE_ID: %w", err)
	}
	return id, nil
}

// greet creates an API key and a bearer token and prints a curl command with each.
// It revokes the API key when ctx is done.
func (s *service) greet(ctx context.Context, address net.Addr) error {
	keys, serviceKeys := store.NewAPIKeys(s.backend, s.now), store.NewServiceKeys(s.backend, s.now)
	key, serviceKey := auth.NewAPIKey(), auth.NewServiceKey()
	record, err := keys.Create(ctx, key, devAccount, devEmail, devLifetime)
	if err != nil {
		return err
	}
	defer s.revokeDevKey(ctx, keys, record.ID)
	if record, err = serviceKeys.CreateForService(ctx, serviceKey, devAccount, devLifetime); err != nil {
		return err
	}
	defer s.revokeDevKey(ctx, serviceKeys, record.ID)
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss":       s.settings.JWTIssuer,
		"aud":       s.settings.JWTAudience,
		"sub":       devAccount,
		"email":     devEmail,
		"auth_time": s.now().Unix(),
		"iat":       s.now().Unix(),
		"exp":       s.now().Add(devLifetime).Unix(),
	}).SignedString([]byte(s.settings.JWTSecret))
	if err != nil {
		return fmt.Errorf("sign development token: %w", err)
	}
	scheme := "http"
	if s.certificate != nil {
		scheme = "https"
	}
	const call = "  curl -i -X POST -H '%s' %s\n"
	url := localURL(scheme, address.String()) + "/accounts/generate-totp-key"
	fmt.Fprintf(s.stdout, "mfa serves for development until ctrl-C. With an API key of account %q:\n\n", devAccount)
	fmt.Fprintf(s.stdout, call, "X-Api-Key: "+key, url)
	fmt.Fprintf(s.stdout, "\nor with a bearer token of the same account:\n\n")
	fmt.Fprintf(s.stdout, call, "Authorization: Bearer "+token, url)
	fmt.Fprintf(s.stdout, "\nThe gateway's sign-in verifies codes of the app with a service key:\n\n")
	fmt.Fprintf(s.stdout, "  curl -i -H '%s' --json '{\"account\":%q,\"code\":\"123456\"}' %s\n", "X-Service-Key: "+serviceKey, devAccount,
		localURL(scheme, address.String())+"/internal/verify-mfa-code")
	fmt.Fprintln(s.stdout)
	<-ctx.Done()
	return nil
}

// revokeDevKey revokes the API key of greet, because the store may be a shared Redis.
// If that fails, the API key is valid until the end of its lifetime.
func (s *service) revokeDevKey(ctx context.Context, keys *store.APIKeys, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := keys.Revoke(ctx, id); err != nil {
		fmt.Fprintf(s.stderr, "mfa: development API key: %v\n", err)
	}
}

// localURL returns the URL of a listener on address for clients on this machine.
func localURL(scheme, address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return scheme + "://" + address
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
