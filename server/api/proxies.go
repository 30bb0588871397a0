package api

import (
	"errors"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// TrustedProxies are the networks whose X-Forwarded-For is trusted. The default is none:
// clients can send the field too.
type TrustedProxies []netip.Prefix

// UnmarshalText reads networks in CIDR notation, comma separated. A network with bits set
// beyond its length is most likely an address with the wrong length. Length 0 would trust
// every client.
func (p *TrustedProxies) UnmarshalText(text []byte) error {
	var networks TrustedProxies
	for part := range strings.SplitSeq(string(text), ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil || prefix != prefix.Masked() || prefix.Bits() == 0 || prefix.Addr().Is4In6() {
			return errors.New("must be networks, comma separated, such as 10.1.0.0/16,192.0.2.7/32,fd00::/8")
		}
		networks = append(networks, prefix)
	}
	*p = networks
	return nil
}

func (p TrustedProxies) contain(address netip.Addr) bool {
	return slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// clientAddress returns the address that r comes from. Each proxy appends the address of its
// own client to X-Forwarded-For. So the walk begins at the connection and goes on, from the
// right, while the address reached is a trusted proxy. A client may have written the rest.
func (p TrustedProxies) clientAddress(r *http.Request) netip.Addr {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	address := remote.Addr().Unmap().WithZone("")
	if !p.contain(address) {
		return address
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		next, err := parseHop(hop)
		if !p.contain(address) || err != nil {
			break
		}
		address = next
	}
	return address
}

// wellFormedZone matches an IPv6 zone (RFC 6874, section 2). netip accepts any text.
var wellFormedZone = regexp.MustCompile(`^[0-9A-Za-z._~%-]*$`)

// parseHop returns the address in an entry of X-Forwarded-For. The entry may have a port, as
// Azure's Application Gateway writes it, and IPv6 may then stand in brackets. Quotes are those of
// RFC 7239, section 4. The zone is dropped: it means something to the proxy alone.
func parseHop(hop string) (netip.Addr, error) {
	hop = strings.Trim(hop, " \t")
	if inner, quoted := strings.CutPrefix(hop, `"`); quoted && strings.HasSuffix(inner, `"`) {
		hop = inner[:len(inner)-1]
	}
	address, err := netip.ParseAddr(hop)
	if err != nil {
		if strings.HasSuffix(hop, "]") {
			hop += ":0"
		}
		var withPort netip.AddrPort
		withPort, err = netip.ParseAddrPort(hop)
		address = withPort.Addr()
	}
	if err == nil && !wellFormedZone.MatchString(address.Zone()) {
		err = errors.New("malformed zone")
	}
	return address.Unmap().WithZone(""), err
}
