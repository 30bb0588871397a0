package config

import (
	"slices"
	"testing"
)

// Types of other packages have their tests there.
func TestLoad_AcceptsOnlyValuesOfTheSetting(t *testing.T) {
	const address = "must be host:port, or :port for all addresses"
	for variable, c := range map[string]struct {
		accepted, refused []string
		fault             string
	}{
		"MFA_LISTEN":           {[]string{":0", "127.0.0.1:65535", "[::1]:80", "localhost:80"}, []string{"127.0.0.1", ":", ":65536", ":http", "::1:80", "a b:80", "http://h:80", ":-1"}, address},
		"MFA_ADMIN_LISTEN":     {[]string{":9090"}, []string{"9090"}, address},
		"MFA_PENDING_TTL":      {[]string{"1m", "24h", "90s"}, []string{"59s", "24h1s", "10", "-1m"}, "must be a duration from 1m to 24h, such as 90s"},
		"MFA_JWT_JWKS_REFRESH": {[]string{"1s", "1h"}, []string{"999ms", "1h1s"}, "must be a duration from 1s to 1h, such as 90s"},
		"MFA_JWT_LEEWAY":       {[]string{"0", "0s", "5m"}, []string{"-1s", "5m1s"}, "must be a duration from 0s to 5m, such as 90s"},
		"MFA_IDLE_TIMEOUT":     {[]string{"1s", "24h", "1h5m"}, []string{"999ms", "24h1s", "0", "620"}, "must be a duration from 1s to 24h, such as 90s"},
		"MFA_DRAIN":            {[]string{"0s", "5m"}, []string{"-1s", "5m1s"}, "must be a duration from 0s to 5m, such as 90s"},
		"MFA_STOP_TIMEOUT":     {[]string{"6s", "5m"}, []string{"5.9s", "5m1s"}, "must be a duration from 6s to 5m, such as 90s"},
		"MFA_MAX_IN_FLIGHT":    {[]string{"1", "65536"}, []string{"0", "65537", "1e3", "0x10"}, "must be a number from 1 to 65536"},
		"MFA_MAX_CONNECTIONS":  {[]string{"1", "1000000"}, []string{"0", "1000001"}, "must be a number from 1 to 1000000"},
		"MFA_LOG_LEVEL":        {[]string{"debug", "ERROR"}, []string{"warn+3", "debug,info"}, "must be debug, info, warn or error"},
		"MFA_LOG_FORMAT":       {[]string{"json", "TEXT"}, []string{"yaml"}, "must be json or text"},
		"MFA_JWT_SECRET":       {[]string{testSecret}, []string{testSecret[1:]}, "must have at least 32 bytes"},
	} {
		for _, value := range c.accepted {
			if _, err := Load([]string{variable + "=" + value}, nil, nil); err != nil {
				t.Errorf("%s=%q: %v", variable, value, err)
			}
		}
		for _, value := range c.refused {
			s, err := Load([]string{variable + "=" + value}, nil, nil)
			wantFaults(t, err, variable+": "+c.fault)
			if s != nil {
				t.Errorf("%s=%q: settings beside a fault", variable, value)
			}
		}
	}
}

func TestAddress_ClashesOnTheSamePortOfTheSameHost(t *testing.T) {
	for addresses, want := range map[[2]Address]bool{
		{"127.0.0.1:80", "127.0.0.1:80"}: true,
		{":80", "127.0.0.1:80"}:          true,
		{"127.0.0.1:80", "[::]:80"}:      true,
		{"0.0.0.0:80", "h:80"}:           true,
		{"127.0.0.1:80", "127.0.0.1:81"}: false,
		{"127.0.0.1:80", "127.0.0.2:80"}: false,
		{":0", ":0"}:                     false,
		{"", ""}:                         false, // both faulty
	} {
		for range 2 {
			if got := addresses[0].clashes(addresses[1]); got != want {
				t.Errorf("%q clash: %t; want %t", addresses, got, want)
			}
			slices.Reverse(addresses[:])
		}
	}
}
