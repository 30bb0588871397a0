package main

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// trustedProxies are the networks whose X-Forwarded-For is believed. None is the
// default: a client can send the field, too.
type trustedProxies []netip.Prefix

// UnmarshalText reads CIDRs. One with bits set beyond its length is most likely a
// single address with the wrong length, and one of length 0 would trust everybody.
func (p *trustedProxies) UnmarshalText(text []byte) error {
	for part := range strings.SplitSeq(string(text), ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil || prefix != prefix.Masked() || prefix.Bits() == 0 || prefix.Addr().Is4In6() {
			return errors.New("must be networks, comma separated, such as 10.1.0.0/16,192.0.2.7/32,fd00::/8")
		}
		*p = append(*p, prefix)
	}
	return nil
}

func (p trustedProxies) contain(address netip.Addr) bool {
	return slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// clientAddress returns the address that r comes from, as far as those vouch for it
// whom we trust: a proxy appends to X-Forwarded-For whom it has the request from, so
// the walk begins at the connection and goes on, from the right, while the address
// reached is a trusted one. What is further left anybody may have written.
func (p trustedProxies) clientAddress(r *http.Request) netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := remote.Addr().Unmap().WithZone("")
	if !p.contain(address) {
		return address // whatever it says of others
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		next, err := netip.ParseAddr(strings.Trim(hop, " \t"))
		// A zone is any text at all.
		if !p.contain(address) || err != nil || next.Zone() != "" {
			break
		}
		address = next.Unmap()
	}
	return address
}
