// Package config declares the settings of the program and reads them.
//
// Settings is the one declaration: the tags of a field give its variable, its default, its
// range and its help. The flag and the NAME_FILE variable follow from the variable. A secret
// has no flag, because process lists and shell histories show flags. All faults are reported
// together, each with its variable and never with the value.
package config

import (
	"hash/maphash"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"quiva.ai/mfa/server/api"
	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/store"
)

// Settings are all settings. The tags of a field:
//
//	env      the variable
//	default  the default; without it, the setting is unset
//	secret   true: no flag
//	list     true: a comma separated list, with white space allowed between the items
//	reload   true: a new value takes effect on SIGHUP
//	min, max the range of a duration or a number
//	oneof    the values that a text may have, in any case
//	help     the meaning, for operators
//
// Fields of other types than string, int and time.Duration implement
// encoding.TextUnmarshaler. Its error must not contain the text.
type Settings struct {
	Listen      Address              `env:"MFA_LISTEN" default:":8080" help:"address of the API"`
	AdminListen Address              `env:"MFA_ADMIN_LISTEN" default:"127.0.0.1:9090" help:"address of /livez, /readyz, /metrics and /openapi.json; not the API's"`
	RedisURL    *store.RedisURL      `env:"MFA_REDIS_URL" secret:"true" help:"Redis 7.0 or newer: redis://, rediss:// (TLS), unix://, redis+cluster://, rediss+cluster://. Required"`
	SealKeys    *store.Keyring       `env:"MFA_SEAL_KEYS" secret:"true" list:"true" reload:"true" help:"sealing keys, id:base64 of 32 bytes, comma separated; the first seals, all open. Required"`
	StoreID     string               `env:"MFA_STORE_ID" help:"id of the store, as mfa store init prints it; by it the service notices that Redis has lost its data. Required"`
	Replicas    int                  `env:"MFA_REDIS_WAIT_REPLICAS" default:"0" min:"0" max:"16" help:"replicas of Redis that must have a change of a factor, 0 to 16; with fewer, the response is a 503"`
	StepUp      time.Duration        `env:"MFA_STEP_UP_MAX_AGE" default:"0s" min:"0s" max:"24h" help:"greatest age of a sign-in (auth_time) with which a person may remove, replace or switch off a factor, or issue or see recovery codes: 0s to 24h; 0s: any age"`
	Issuer      mfa.Issuer           `env:"MFA_ISSUER" default:"quiva.ai" help:"service name in the authenticator app; no colon"`
	PendingTTL  time.Duration        `env:"MFA_PENDING_TTL" default:"10m" min:"1m" max:"24h" help:"how long a TOTP key stays pending: 1m to 24h"`
	JWTIssuer   string               `env:"MFA_JWT_ISSUER" help:"iss that bearer tokens must have. Required for bearer tokens"`
	JWTAudience string               `env:"MFA_JWT_AUDIENCE" help:"aud that bearer tokens must have. Required for bearer tokens"`
	JWTSecret   HMACSecret           `env:"MFA_JWT_SECRET" secret:"true" help:"HS256 key of bearer tokens: the bytes of the text, 32 at least, not base64"`
	JWTKeySet   *auth.KeySetLocation `env:"MFA_JWT_JWKS" help:"JWK set of bearer tokens, a file or an https URL: RS256, PS256, ES256, ES384, EdDSA"`
	JWTRefresh  time.Duration        `env:"MFA_JWT_JWKS_REFRESH" default:"5m" min:"1s" max:"1h" help:"how often the JWK set is read again, 1s to 1h; a key that has left it stops working then"`
	JWTLeeway   time.Duration        `env:"MFA_JWT_LEEWAY" default:"30s" min:"0s" max:"5m" help:"clock skew allowed in bearer tokens: 0s to 5m"`
	MaxInFlight int                  `env:"MFA_MAX_IN_FLIGHT" default:"256" min:"1" max:"65536" help:"requests in flight, 1 to 65536; further requests get a 503 at once"`
	MaxConns    int                  `env:"MFA_MAX_CONNECTIONS" default:"16384" min:"1" max:"1000000" help:"open connections to the API, 1 to 1000000; further connections are closed at once"`
	IdleTimeout time.Duration        `env:"MFA_IDLE_TIMEOUT" default:"620s" min:"1s" max:"24h" help:"how long a connection may be idle, 1s to 24h: longer than the gateway keeps its idle connections"`
	TLSCert     string               `env:"MFA_TLS_CERT" help:"PEM file of the API's certificate and its chain: serve TLS"`
	TLSKey      string               `env:"MFA_TLS_KEY" help:"PEM file of its private key"`
	Drain       time.Duration        `env:"MFA_DRAIN" default:"5s" min:"0s" max:"5m" help:"how long requests are still served after SIGTERM while /readyz answers 503: 0s to 5m"`
	StopTimeout time.Duration        `env:"MFA_STOP_TIMEOUT" default:"12s" min:"6s" max:"5m" help:"how long requests in flight may then take to finish: 6s to 5m"`
	Proxies     api.TrustedProxies   `env:"MFA_TRUSTED_PROXIES" list:"true" help:"networks of the gateway, comma separated, whose X-Forwarded-For is trusted"`
	LogLevel    string               `env:"MFA_LOG_LEVEL" default:"info" reload:"true" oneof:"debug,info,warn,error" help:"debug, info, warn or error"`
	LogFormat   string               `env:"MFA_LOG_FORMAT" default:"json" oneof:"json,text" help:"json or text"`

	// fingerprints are keyed hashes of the texts, by variable. Changed compares them, because
	// some parsed values cannot be compared. Without the random seed, they tell nothing about
	// a secret.
	fingerprints map[string]uint64
}

// fingerprintSeed is random and the same in the whole process.
var fingerprintSeed = maphash.MakeSeed()

// Level returns LogLevel, which Load has checked.
func (s *Settings) Level() slog.Level {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel))
	return level
}

// Changed returns the variables whose values differ from those in before and need a restart.
func (s *Settings) Changed(before *Settings) []string {
	var changed []string
	for _, d := range declared() {
		if !d.reload && s.fingerprints[d.variable] != before.fingerprints[d.variable] {
			changed = append(changed, d.variable)
		}
	}
	return changed
}

// setting is the declaration of one field of Settings.
type setting struct {
	index    int
	variable string
	fallback string
	help     string
	secret   bool
	list     bool
	reload   bool
	tag      reflect.StructTag // min, max and oneof
}

// declared returns the settings in the order of their declaration.
func declared() []setting {
	var all []setting
	for i, field := range reflect.VisibleFields(reflect.TypeFor[Settings]()) {
		if !field.IsExported() {
			continue
		}
		all = append(all, setting{
			index:    i,
			variable: field.Tag.Get("env"),
			fallback: field.Tag.Get("default"),
			help:     field.Tag.Get("help"),
			secret:   field.Tag.Get("secret") == "true",
			list:     field.Tag.Get("list") == "true",
			reload:   field.Tag.Get("reload") == "true",
			tag:      field.Tag,
		})
	}
	return all
}

// flag returns the setting's name on the command line: jwt-issuer for MFA_JWT_ISSUER.
func (s setting) flag() string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.variable, "MFA_"), "_", "-"))
}
