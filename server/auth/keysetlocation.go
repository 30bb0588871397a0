package auth

import (
	"errors"
	"net"
	"net/url"
)

// KeySetLocation is the location of a JWK set: the path of a file, or an https URL. http is
// for loopback addresses only.
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
	return errors.New("must be a file path or an https URL (http to a loopback address only): an attacker who can change the keys in transit can sign in to every account")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
