package main

import (
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"quiva.ai/mfa/server/auth"
	"quiva.ai/mfa/server/mfa"
	"quiva.ai/mfa/store"
	"quiva.ai/mfa/store/smallfile"
)

// settings is every setting there is. The tags are the whole of it: the variable
// (env), its default, and its help; the flag is derived from the variable, unless
// the setting is secret. What is marked reload can change while the service runs. Each
// type reads and judges its own value, with an error
// that does not repeat the value.
type settings struct {
	Listen      listenAddress        `env:"MFA_LISTEN" default:":8080" help:"address of the API"`
	AdminListen listenAddress        `env:"MFA_ADMIN_LISTEN" default:"127.0.0.1:9090" help:"address of /livez, /readyz, /metrics and /openapi.json, never on the API's"`
	RedisURL    *store.RedisURL      `env:"MFA_REDIS_URL" secret:"true" help:"Redis 7.0 or newer: redis://, rediss:// (TLS), unix://, redis+cluster://. Required"`
	SealKeys    *store.Keyring       `env:"MFA_SEAL_KEYS" secret:"true" reload:"true" help:"id:base64 of 32 bytes, comma separated; the first seals, all open. Required"`
	Issuer      mfa.Issuer           `env:"MFA_ISSUER" default:"quiva.ai" help:"service name in the authenticator app; no colon"`
	PendingTTL  pendingTTL           `env:"MFA_PENDING_TTL" default:"10m" help:"how long a key stays pending: 1m to 24h"`
	JWTIssuer   string               `env:"MFA_JWT_ISSUER" help:"expected iss of bearer tokens. Required for bearer tokens"`
	JWTAudience string               `env:"MFA_JWT_AUDIENCE" help:"expected aud of bearer tokens. Required for bearer tokens"`
	JWTSecret   hmacSecret           `env:"MFA_JWT_SECRET" secret:"true" help:"HS256 key of bearer tokens, taken as it stands (not as base64), 32 bytes at least"`
	JWTKeySet   *auth.KeySetLocation `env:"MFA_JWT_JWKS" help:"JWK set of bearer tokens, a file or an https URL: RS256, PS256, ES256, ES384, EdDSA"`
	JWTRefresh  keySetInterval       `env:"MFA_JWT_JWKS_REFRESH" default:"5m" help:"how often the JWK set is read again, 1s to 1h: a key that left it stops working"`
	JWTLeeway   leeway               `env:"MFA_JWT_LEEWAY" default:"30s" help:"clock skew allowed in bearer tokens: 0s to 5m"`
	MaxInFlight maxInFlight          `env:"MFA_MAX_IN_FLIGHT" default:"256" help:"requests in flight, 1 to 65536; those beyond get a 503 at once"`
	MaxConns    maxConnections       `env:"MFA_MAX_CONNECTIONS" default:"16384" help:"connections open to the API, 1 to 1000000; those beyond are closed at once"`
	TLSCert     tlsFile              `env:"MFA_TLS_CERT" help:"PEM file with the certificate of the API and its chain: serve TLS"`
	TLSKey      tlsFile              `env:"MFA_TLS_KEY" help:"PEM file with its private key"`
	Drain       drainTime            `env:"MFA_DRAIN" default:"5s" help:"how long requests are still taken after SIGTERM, while /readyz turns them away: 0s to 5m"`
	StopTimeout stopTimeout          `env:"MFA_STOP_TIMEOUT" default:"12s" help:"how long requests in flight may then take to finish: 6s to 5m"`
	Proxies     trustedProxies       `env:"MFA_TRUSTED_PROXIES" help:"networks of the gateway, comma separated, whose X-Forwarded-For is believed"`
	LogLevel    logLevel             `env:"MFA_LOG_LEVEL" default:"info" reload:"true" help:"debug, info, warn or error"`
	LogFormat   logFormat            `env:"MFA_LOG_FORMAT" default:"json" help:"json or text"`

	// digests are those of the values, by variable: what the fields are made into cannot
	// always be compared.
	digests map[string][sha256.Size]byte
}

// setting is the declaration of one field of settings.
type setting struct {
	index    int
	variable string
	fallback string
	help     string
	secret   bool
	reload   bool
}

// declared returns the settings in the order of their declaration.
func declared() []setting {
	var all []setting
	for i, field := range reflect.VisibleFields(reflect.TypeFor[settings]()) {
		if !field.IsExported() {
			continue
		}
		all = append(all, setting{
			index:    i,
			variable: field.Tag.Get("env"),
			fallback: field.Tag.Get("default"),
			help:     field.Tag.Get("help"),
			secret:   field.Tag.Get("secret") == "true",
			reload:   field.Tag.Get("reload") == "true",
		})
	}
	return all
}

// flag is the setting's name on the command line: MFA_JWT_ISSUER is jwt-issuer.
func (s setting) flag() string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.variable, "MFA_"), "_", "-"))
}

// addFlags declares a flag for every setting that is not secret. Secrets would
// be seen in the process list and kept in shell histories.
func addFlags(flags *pflag.FlagSet) {
	for _, s := range declared() {
		if !s.secret {
			flags.String(s.flag(), s.fallback, s.help)
		}
	}
}

// settingsHelp lists the variables for a command's help.
func settingsHelp() string {
	var b strings.Builder
	b.WriteString("Settings are read from these variables; NAME_FILE names a file that holds the value of NAME.\n\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range declared() {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", s.variable, s.fallback, s.help)
	}
	_ = table.Flush() // a strings.Builder takes everything
	return b.String()
}

// faults are all that is wrong with the settings, each a variable's name and what
// it should be.
type faults []string

func (f faults) Error() string { return "settings:\n  " + strings.Join(f, "\n  ") }

// Unwrap makes faulty settings a usage error.
func (f faults) Unwrap() error { return errUsage }

// and adds further faults, without those of settings that are at fault already: what
// was not understood must not be called missing as well.
func (f faults) and(further faults) faults {
	all := slices.Clone(f)
	for _, fault := range further {
		names, _, _ := strings.Cut(fault, ": ")
		if !slices.ContainsFunc(f, func(known string) bool {
			name, _, _ := strings.Cut(known, ": ")
			return slices.Contains(strings.Fields(names), strings.TrimSuffix(name, "_FILE"))
		}) {
			all = append(all, fault)
		}
	}
	return all
}

// loadSettings reads the settings: a flag that was given goes before a variable,
// a variable before extra, extra before the declared default. With faults it returns
// the settings that have none.
func loadSettings(environ []string, flags *pflag.FlagSet, extra map[string]string) (settings, error) {
	values, wrong := variables(environ)
	loaded := settings{digests: map[string][sha256.Size]byte{}}
	for _, s := range declared() {
		value, set := values[s.variable]
		if flags != nil && flags.Changed(s.flag()) {
			value, set = flags.Lookup(s.flag()).Value.String(), true
			if value == "" {
				wrong = append(wrong, "--"+s.flag()+": is empty")
				continue
			}
		}
		if !set {
			value, set = extra[s.variable]
		}
		if !set {
			value = s.fallback
		}
		if value == "" {
			continue
		}
		loaded.digests[s.variable] = sha256.Sum256([]byte(value))
		if err := assign(reflect.ValueOf(&loaded).Elem().Field(s.index), value); err != nil {
			wrong = append(wrong, s.variable+": "+err.Error())
		}
	}
	if len(wrong) > 0 {
		return loaded, wrong
	}
	return loaded, nil
}

// assign lets the field read its value.
func assign(field reflect.Value, value string) error {
	if field.Kind() == reflect.String && field.Type().PkgPath() == "" {
		field.SetString(value)
		return nil
	}
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
		field = field.Elem()
	}
	reader, ok := reflect.TypeAssert[encoding.TextUnmarshaler](field.Addr())
	if !ok {
		return fmt.Errorf("has the type %s, which reads no text", field.Type())
	}
	return reader.UnmarshalText([]byte(value))
}

// serviceLink matches what Kubernetes puts into every container near a Service that is
// called mfa, or mfa-something. MFA_PORT with a mere number is none, but a misspelling.
var serviceLink = regexp.MustCompile(`^MFA_([A-Z0-9_]+_)?(SERVICE_HOST=|SERVICE_PORT(_[A-Z0-9_]+)?=|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=|PORT=[a-z]+://)`)

// variables returns the values of the MFA_ variables and of the files that
// MFA_…_FILE variables name. An empty variable counts as unset, but an empty file or
// an empty secret is a fault: somebody meant to give one. So is an unknown variable,
// most likely a known one misspelt.
func variables(environ []string) (map[string]string, faults) {
	values := map[string]string{}
	var wrong faults
	known := declared()
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "MFA_") || serviceLink.MatchString(variable) {
			continue
		}
		base, isFile := strings.CutSuffix(name, "_FILE")
		i := slices.IndexFunc(known, func(s setting) bool { return s.variable == base })
		if i < 0 {
			wrong = append(wrong, name+": there is no such setting")
			continue
		}
		if value == "" && !isFile && !known[i].secret {
			continue
		}
		if _, dup := values[base]; dup {
			wrong = append(wrong, base+": is set twice, as variable and as file")
			continue
		}
		if isFile {
			content, err := smallfile.Read(value)
			if err != nil {
				wrong = append(wrong, fmt.Sprintf("%s: %v", name, err))
				continue
			}
			if strings.HasPrefix(string(content), "\ufeff") {
				wrong = append(wrong, name+": begins with a byte order mark")
				continue
			}
			value = strings.TrimRight(string(content), "\r\n")
		}
		if value == "" {
			wrong = append(wrong, name+": is empty")
			continue
		}
		values[base] = value
	}
	return values, wrong
}

// checkServe returns what serve needs beyond what each setting says for itself.
func (s settings) checkServe(dev bool) faults {
	var wrong faults
	if s.RedisURL == nil && !dev {
		wrong = append(wrong, "MFA_REDIS_URL: is required (mfa serve --dev does without)")
	}
	if s.SealKeys == nil {
		wrong = append(wrong, "MFA_SEAL_KEYS: is required")
	}
	tokens := s.JWTSecret != nil || s.JWTKeySet != nil
	if tokens && s.JWTIssuer == "" {
		wrong = append(wrong, "MFA_JWT_ISSUER: is required with MFA_JWT_SECRET or MFA_JWT_JWKS")
	}
	if tokens && s.JWTAudience == "" {
		wrong = append(wrong, "MFA_JWT_AUDIENCE: is required with MFA_JWT_SECRET or MFA_JWT_JWKS")
	}
	if !tokens && s.JWTIssuer+s.JWTAudience != "" {
		wrong = append(wrong, "MFA_JWT_SECRET or MFA_JWT_JWKS: is required with MFA_JWT_ISSUER and MFA_JWT_AUDIENCE")
	}
	if s.Listen.clashes(s.AdminListen) {
		wrong = append(wrong, "MFA_LISTEN and MFA_ADMIN_LISTEN: are the same address")
	}
	return append(wrong, s.checkTLS()...)
}

// listenAddress is a host, or nothing for all addresses, and a port; 0 is any that is free.
type listenAddress string

func (a *listenAddress) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	if _, numeric := strconv.ParseUint(port, 10, 16); err != nil || numeric != nil || strings.ContainsAny(host, " /") {
		return errors.New("must be host:port, or :port for all addresses")
	}
	*a = listenAddress(text)
	return nil
}

// clashes tells whether the two cannot both be listened on, for what can be seen of that
// without looking up names.
func (a listenAddress) clashes(b listenAddress) bool {
	host, port, err := net.SplitHostPort(string(a))
	otherHost, otherPort, otherErr := net.SplitHostPort(string(b))
	if err != nil || otherErr != nil || port != otherPort || port == "0" {
		return false
	}
	everywhere := []string{"", "0.0.0.0", "::"}
	return host == otherHost || slices.Contains(everywhere, host) || slices.Contains(everywhere, otherHost)
}

type pendingTTL time.Duration

func (d *pendingTTL) UnmarshalText(text []byte) error {
	return readDuration((*time.Duration)(d), text, time.Minute, 24*time.Hour)
}

type leeway time.Duration

func (d *leeway) UnmarshalText(text []byte) error {
	return readDuration((*time.Duration)(d), text, 0, 5*time.Minute)
}

type keySetInterval time.Duration

func (d *keySetInterval) UnmarshalText(text []byte) error {
	return readDuration((*time.Duration)(d), text, time.Second, time.Hour)
}

type drainTime time.Duration

func (d *drainTime) UnmarshalText(text []byte) error {
	return readDuration((*time.Duration)(d), text, 0, 5*time.Minute)
}

// stopTimeout is longer than the 5 s for which net/http awaits the first request of a
// connection, which may be nobody's.
type stopTimeout time.Duration

func (d *stopTimeout) UnmarshalText(text []byte) error {
	return readDuration((*time.Duration)(d), text, 6*time.Second, 5*time.Minute)
}

func readDuration(into *time.Duration, text []byte, least, most time.Duration) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < least || d > most {
		return fmt.Errorf("must be a duration from %v to %v, such as 90s", least, most)
	}
	*into = d
	return nil
}

type maxInFlight int

func (m *maxInFlight) UnmarshalText(text []byte) error {
	return readNumber((*int)(m), text, 1<<16)
}

type maxConnections int

func (m *maxConnections) UnmarshalText(text []byte) error {
	return readNumber((*int)(m), text, 1_000_000)
}

func readNumber(into *int, text []byte, most int) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > most {
		return fmt.Errorf("must be a number from 1 to %d", most)
	}
	*into = n
	return nil
}

// hmacSecret is the raw key: the bytes of the text.
type hmacSecret []byte

func (s *hmacSecret) UnmarshalText(text []byte) error {
	if len(text) < auth.MinHMACSecret {
		return fmt.Errorf("must have at least %d bytes", auth.MinHMACSecret)
	}
	*s = slices.Clone(text)
	return nil
}

// Format hides the key from every fmt verb.
func (hmacSecret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "HMAC secret (hidden)") }

// MarshalText hides the key from encoders, log/slog's among them.
//
//nolint:unparam // The error belongs to encoding.TextMarshaler.
func (hmacSecret) MarshalText() ([]byte, error) { return []byte("HMAC secret (hidden)"), nil }

type logLevel struct{ slog.Level }

func (l *logLevel) UnmarshalText(text []byte) error {
	err := l.Level.UnmarshalText(text)
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, strings.ToLower(string(text))) {
		return errors.New("must be debug, info, warn or error")
	}
	return err
}

type logFormat string

func (f *logFormat) UnmarshalText(text []byte) error {
	if *f = logFormat(text); *f != "json" && *f != "text" {
		return errors.New("must be json or text")
	}
	return nil
}
