package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sys/unix"

	"quiva.ai/mfa/gen"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/demo"
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

// devAccess is what --dev adds to a service: credentials of the development account, and the page
// that uses them.
type devAccess struct {
	demo.Session
	page *demo.Page // nil unless the API is on a loopback address
}

// addDevAccess creates the credentials. revoke revokes the keys, because the store may be a shared
// Redis; a key for which that fails is valid until the end of its lifetime.
func (s *service) addDevAccess(ctx context.Context) (revoke func(), err error) {
	keys, serviceKeys := store.NewAPIKeys(s.backend, s.now), store.NewServiceKeys(s.backend, s.now)
	session := demo.Session{Account: devAccount, APIKey: auth.NewAPIKey(), ServiceKey: auth.NewServiceKey()}
	if session.Token, err = s.newDevToken(); err != nil {
		return nil, err
	}
	record, err := keys.Create(ctx, session.APIKey, devAccount, devEmail, devLifetime)
	if err != nil {
		return nil, err
	}
	serviceRecord, err := serviceKeys.CreateForService(ctx, session.ServiceKey, devAccount, devLifetime)
	if err != nil {
		s.revokeDevKey(ctx, keys, record.ID)
		return nil, err
	}
	s.dev = &devAccess{Session: session}
	return func() {
		s.revokeDevKey(ctx, keys, record.ID)
		s.revokeDevKey(ctx, serviceKeys, serviceRecord.ID)
	}, nil
}

// newDevToken returns a bearer token of the development account, as its sign-in would.
func (s *service) newDevToken() (string, error) {
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
		return "", fmt.Errorf("sign development token: %w", err)
	}
	return token, nil
}

// revokeDevKey revokes a key of addDevAccess.
func (s *service) revokeDevKey(ctx context.Context, keys *store.APIKeys, id string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := keys.Revoke(ctx, id); err != nil {
		fmt.Fprintf(s.stderr, "mfa: development key: %v\n", err)
	}
}

// addPage puts the page of package demo in front of the API. On an address that others can
// reach, there is none: its responses have credentials.
func (s *service) addPage(address net.Addr) {
	if tcp, ok := address.(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		s.dev.page = demo.NewPage(s.dev.Session, s.handler)
		s.handler = s.dev.page
	}
}

// greet prints the page's URL, the QR code of the pending key, and a curl command with each
// credential.
func (s *service) greet(ctx context.Context, address net.Addr) {
	scheme := "http"
	if s.certificate != nil {
		scheme = "https"
	}
	origin := localURL(scheme, address.String())
	fmt.Fprint(s.stdout, "mfa serves for development until ctrl-C.\n\n")
	if s.dev.page != nil {
		fmt.Fprintf(s.stdout, "See the whole flow in a browser:\n\n  %s\n\n", s.dev.page.URL(origin))
	}
	s.printQRCode(ctx, origin)
	const call = "  curl -i -X POST -H '%s' %s\n"
	url := origin + "/accounts/generate-totp-key"
	fmt.Fprintf(s.stdout, "Call the API with an API key of account %q:\n\n", devAccount)
	fmt.Fprintf(s.stdout, call, "X-Api-Key: "+s.dev.APIKey, url)
	fmt.Fprintf(s.stdout, "\nor with a bearer token of the same account:\n\n")
	fmt.Fprintf(s.stdout, call, "Authorization: Bearer "+s.dev.Token, url)
	fmt.Fprintf(s.stdout, "\nThe gateway's sign-in verifies codes of the app with a service key:\n\n")
	fmt.Fprintf(s.stdout, "  curl -i -H '%s' --json '{\"account\":%q,\"code\":\"123456\"}' %s\n", "X-Service-Key: "+s.dev.ServiceKey, devAccount,
		origin+"/internal/verify-mfa-code")
	fmt.Fprintln(s.stdout)
}

// printQRCode prints the QR code of the development account's key, if stdout is a terminal with room
// for it.
func (s *service) printQRCode(ctx context.Context, origin string) {
	columns, rows := terminalSize(s.stdout)
	if columns == 0 {
		return
	}
	key, err := callAPI[gen.TOTPKey](ctx, newCaller(origin), http.MethodPost, "/accounts/generate-totp-key", http.Header{"X-Api-Key": {s.dev.APIKey}}, nil)
	if err != nil {
		return // such as with a certificate for another name
	}
	code, err := demo.NewQRCode(key.OTPAuthURL)
	if err != nil || code.Size() > columns || code.Size()/2 >= rows {
		return
	}
	fmt.Fprintf(s.stdout, "%s\nThis is the key that the page and the calls below return. An authenticator app scans it.\n\n", code.HalfBlocks())
}

// terminalSize returns the size of the terminal that w is, or 0.
func terminalSize(w io.Writer) (columns, rows int) {
	file, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
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
