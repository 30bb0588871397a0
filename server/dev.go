package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/store"
)

// What serve --dev greets with. The account and both credentials are as real as
// any; nothing in the service knows of them.
const (
	devAccount  = "dev"
	devEmail    = "dev@example.com"
	devLifetime = 24 * time.Hour
)

// devSettings are the values of what --dev does not demand. The keys are random:
// there is no key that a production service could have by mistake.
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

// greet prints two calls that work as they stand, one with an API key and one
// with a bearer token. When ctx is done it revokes the API key.
func (p *process) greet(ctx context.Context, address net.Addr, s settings, keys *store.APIKeys) error {
	key := auth.NewAPIKey()
	record, err := keys.Create(ctx, key, devAccount, devEmail, devLifetime)
	if err != nil {
		return err
	}
	defer p.revoke(ctx, keys, record.ID)
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss":   s.JWTIssuer,
		"aud":   s.JWTAudience,
		"sub":   devAccount,
		"email": devEmail,
		"iat":   p.now().Unix(),
		"exp":   p.now().Add(devLifetime).Unix(),
	}).SignedString([]byte(s.JWTSecret))
	if err != nil {
		return fmt.Errorf("sign development token: %w", err)
	}
	const call = "  curl -i -X POST -H '%s' %s\n"
	url := localURL(s.scheme(), address.String()) + "/accounts/generate-totp-key"
	fmt.Fprintf(p.stdout, "mfa serves for development until ctrl-C. With an API key of account %q:\n\n", devAccount)
	fmt.Fprintf(p.stdout, call, "X-Api-Key: "+key, url)
	fmt.Fprintf(p.stdout, "\nor with a bearer token of the same account:\n\n")
	fmt.Fprintf(p.stdout, call, "Authorization: Bearer "+token, url)
	fmt.Fprintln(p.stdout)
	<-ctx.Done()
	return nil
}

// revoke ends the API key that greet made, in case the store is a shared Redis.
// If that does not work the key ends with its lifetime.
func (p *process) revoke(ctx context.Context, keys *store.APIKeys, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := keys.Revoke(ctx, id); err != nil {
		fmt.Fprintf(p.stderr, "mfa: development API key: %v\n", err)
	}
}

// localURL is where a client on this machine reaches what listens on address.
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
