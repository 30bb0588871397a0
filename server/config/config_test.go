package config

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

const (
	testSecret  = "0123456789abcdef0123456789abcdef"
	testSealKey = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
)

// secretVariables are the settings that a command line must not show.
var secretVariables = []string{"MFA_REDIS_URL", "MFA_SEAL_KEYS", "MFA_JWT_SECRET"}

func TestSettings_DeclareSoundTags(t *testing.T) {
	variable := regexp.MustCompile(`^MFA_[A-Z_]+$`)
	seen := map[string]bool{}
	for _, s := range declared() {
		if !variable.MatchString(s.variable) || seen[s.variable] || s.help == "" {
			t.Errorf("%s: want a variable of its own, and help", s.variable)
		}
		seen[s.variable] = true
		if s.secret != slices.Contains(secretVariables, s.variable) || s.secret && s.fallback != "" {
			t.Errorf("%s: secret %t, default %q; want secret only for %q, and no default then", s.variable, s.secret, s.fallback, secretVariables)
		}
		field := reflect.TypeFor[Settings]().Field(s.index).Type
		if ranged := field.Name() == "Duration" || field.Kind() == reflect.Int; !ranged {
			continue
		}
		least, most := s.tag.Get("min"), s.tag.Get("max")
		if s.fallback == "" || !strings.Contains(s.help, least+" to "+most) {
			t.Errorf("%s: default %q, help %q; want a default, and the range %s to %s", s.variable, s.fallback, s.help, least, most)
		}
	}
}

// The handbook's table has each setting once, in the order of the declaration.
func TestSettings_AreListedInTheHandbook(t *testing.T) {
	page, err := os.ReadFile("../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile("(?m)^\\| `MFA_.*$").FindAllString(string(page), -1)
	var want []string
	for _, s := range declared() {
		fallback := s.fallback
		if fallback != "" {
			fallback = "`" + fallback + "`"
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s |", s.variable, fallback, s.help))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("server/deploy/README.md differs from the declaration (-want +got):\n%s", diff)
	}
}

func TestSettings_NeverPrintASecret(t *testing.T) {
	s, err := Load([]string{"MFA_JWT_SECRET=" + testSecret, "MFA_SEAL_KEYS=" + testSealKey, "MFA_REDIS_URL=redis://u:" + testSecret + "@h"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("settings", "settings", s, "secret", s.JWTSecret)
	slog.New(slog.NewTextHandler(&log, nil)).Info("settings", "settings", s, "secret", s.JWTSecret)
	printed := fmt.Sprintf("%v %+v %#v %s %s %x %d %q\n%s\n%s", s, s, s, s.JWTSecret, encoded, s.JWTSecret, s.JWTSecret, s.JWTSecret, encoded, log.String())
	for name, form := range map[string]string{
		"text":   testSecret,
		"base64": base64.StdEncoding.EncodeToString([]byte(testSecret)),
		"hex":    hex.EncodeToString([]byte(testSecret)),
		"bytes":  "48 49 50 51 52",
		"%#v":    "0x30, 0x31, 0x32",
	} {
		if strings.Contains(printed, form) {
			t.Errorf("settings print a secret as %s: %s", name, printed)
		}
	}
	if strings.Count(printed, "HMAC secret (hidden)") < 10 {
		t.Errorf("settings do not print the placeholder of the secret: %s", printed)
	}
}

func TestSettings_LevelIsTheLogLevel(t *testing.T) {
	for text, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		s, err := Load([]string{"MFA_LOG_LEVEL=" + text}, nil, nil)
		if err != nil || s.Level() != want {
			t.Errorf("level of %s: %v, %v; want %v", text, s.Level(), err, want)
		}
	}
}

func TestSettings_ChangedNamesOnlySettingsThatNeedARestart(t *testing.T) {
	load := func(environ ...string) *Settings {
		t.Helper()
		s, err := Load(environ, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := load("MFA_REDIS_URL=redis://h", "MFA_SEAL_KEYS="+testSealKey, "MFA_LOG_LEVEL=info", "MFA_JWT_SECRET="+testSecret, "MFA_JWT_ISSUER=x")
	after := load("MFA_REDIS_URL=redis://h", "MFA_SEAL_KEYS=k2"+testSealKey[2:], "MFA_LOG_LEVEL=warn", "MFA_JWT_SECRET="+testSecret+"0", "MFA_MAX_IN_FLIGHT=7")
	if diff := cmp.Diff([]string{"MFA_JWT_ISSUER", "MFA_JWT_SECRET", "MFA_MAX_IN_FLIGHT"}, after.Changed(before)); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	if changed := before.Changed(before); changed != nil {
		t.Errorf("the same settings have changed: %q", changed)
	}
	if changed := load("MFA_ISSUER=quiva.ai").Changed(load()); changed != nil {
		t.Errorf("a default that is written out has changed: %q", changed)
	}
}

// flags returns the flags of a command line.
func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	AddFlags(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return set
}

func TestAddFlags_GivesEachSettingAFlagUnlessItIsSecret(t *testing.T) {
	set := flags(t)
	if flag := set.Lookup("pending-ttl"); flag == nil || flag.DefValue != "10m" {
		t.Errorf("--pending-ttl is %+v; want a flag with the default 10m", flag)
	}
	for _, s := range declared() {
		if flag := set.Lookup(s.flag()); flag == nil != s.secret || flag != nil && flag.Usage != s.help {
			t.Errorf("%s: flag %+v; want one with the help, unless secret (%t)", s.variable, flag, s.secret)
		}
	}
}

func TestHelp_ListsEachSettingInOneLine(t *testing.T) {
	help := Help()
	if !strings.Contains(help, "NAME_FILE") {
		t.Errorf("help does not tell of NAME_FILE:\n%s", help)
	}
	for _, s := range declared() {
		line := regexp.MustCompile(`(?m)^  ` + s.variable + ` +` + regexp.QuoteMeta(s.fallback) + ` +` + regexp.QuoteMeta(s.help) + `$`)
		if len(line.FindAllString(help, -1)) != 1 {
			t.Errorf("help has no line for %s:\n%s", s.variable, help)
		}
	}
}

// write writes a file and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
