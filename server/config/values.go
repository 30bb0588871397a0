package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"quiva.ai/mfa/server/auth"
)

// assign reads value into field and checks it against the rules in the tag. If it returns an
// error, the field is unchanged.
func (s setting) assign(field reflect.Value, value string) error {
	switch into := field.Addr().Interface().(type) {
	case *time.Duration:
		if !readInRange(into, value, s.tag, time.ParseDuration) {
			return fmt.Errorf("must be a duration from %s to %s, such as 90s", s.tag.Get("min"), s.tag.Get("max"))
		}
		return nil
	case *int:
		if !readInRange(into, value, s.tag, strconv.Atoi) {
			return fmt.Errorf("must be a number from %s to %s", s.tag.Get("min"), s.tag.Get("max"))
		}
		return nil
	case *string:
		if allowed := s.tag.Get("oneof"); allowed != "" {
			value = strings.ToLower(value)
			if !slices.Contains(strings.Split(allowed, ","), value) {
				return errors.New("must be " + s.help)
			}
		}
		*into = value
		return nil
	case encoding.TextUnmarshaler:
		return into.UnmarshalText([]byte(value))
	}
	// The field is a pointer, which is nil while the setting is unset.
	read := reflect.New(field.Type().Elem())
	if err := read.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(value)); err != nil { //nolint:forcetypeassert // A field of another type is a fault of Settings.
		return err
	}
	field.Set(read)
	return nil
}

// readInRange reads value into the variable that into points to, if parse accepts value and
// it is between the tags min and max.
func readInRange[T cmp.Ordered](into *T, value string, tag reflect.StructTag, parse func(string) (T, error)) bool {
	least, leastErr := parse(tag.Get("min"))
	most, mostErr := parse(tag.Get("max"))
	parsed, err := parse(value)
	if errors.Join(leastErr, mostErr, err) != nil || parsed < least || parsed > most {
		return false
	}
	*into = parsed
	return true
}

// Address is a host and a port to listen on. An empty host means all addresses, and port 0
// any free port.
type Address string

// UnmarshalText reads host:port.
func (a *Address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	if _, numeric := strconv.ParseUint(port, 10, 16); err != nil || numeric != nil || strings.ContainsAny(host, " /") {
		return errors.New("must be host:port, or :port for all addresses")
	}
	*a = Address(text)
	return nil
}

// clashes tells whether two listeners on a and b would be on the same address. It looks up
// no names.
func (a Address) clashes(b Address) bool {
	host, port, err := net.SplitHostPort(string(a))
	otherHost, otherPort, otherErr := net.SplitHostPort(string(b))
	if err != nil || otherErr != nil || port != otherPort || port == "0" {
		return false
	}
	all := []string{"", "0.0.0.0", "::"}
	return host == otherHost || slices.Contains(all, host) || slices.Contains(all, otherHost)
}

// HMACSecret is an HS256 key of at least auth.MinHMACSecret bytes. It never prints itself.
type HMACSecret []byte

// UnmarshalText takes the bytes of the text as the key. It decodes no base64.
func (s *HMACSecret) UnmarshalText(text []byte) error {
	if len(text) < auth.MinHMACSecret {
		return fmt.Errorf("must have at least %d bytes", auth.MinHMACSecret)
	}
	*s = slices.Clone(text)
	return nil
}

// Format hides the key from every fmt verb.
func (HMACSecret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "HMAC secret (hidden)") }

// MarshalText hides the key from encoders, log/slog's among them.
func (HMACSecret) MarshalText() ([]byte, error) { return []byte("HMAC secret (hidden)"), nil }
