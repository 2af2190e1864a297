package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// localAddr is an address of this machine.
type localAddr struct {
	iface  string
	prefix netip.Prefix
}

// resolveAddr reads "IP" or "IP:port"; empty takes the machine's only address.
func resolveAddr(s string, have []localAddr) (netip.AddrPort, error) {
	if s == "" {
		addr, err := onlyAddr(have)
		return netip.AddrPortFrom(addr, defaultPort), err
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q is neither an IP address nor IP:port", s)
		}
		ap = netip.AddrPortFrom(addr, defaultPort)
	}
	if ap.Port() == 0 || ap.Port() == 65535 {
		return netip.AddrPort{}, fmt.Errorf("port %d can't be used (gossip takes the port after it)", ap.Port())
	}
	if ap.Addr().IsUnspecified() || ap.Addr().IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("%s is no address that others can reach", ap.Addr())
	}
	return ap, nil
}

// onlyAddr is the one global IPv4 address among have. Single-host prefixes are
// left out: a VIP that an earlier process left behind is one.
func onlyAddr(have []localAddr) (netip.Addr, error) {
	var found []localAddr
	for _, a := range have {
		ip := a.prefix.Addr()
		if ip.Is4() && ip.IsGlobalUnicast() && !a.prefix.IsSingleIP() {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		return netip.Addr{}, errors.New("this machine has no global IPv4 address yet; give the one that the other members reach with --addr, or as addr: in " + defaultConfig)
	case 1:
		return found[0].prefix.Addr(), nil
	}
	var names []string
	for _, a := range found {
		names = append(names, fmt.Sprintf("%s (%s)", a.prefix.Addr(), a.iface))
	}
	return netip.Addr{}, fmt.Errorf("this machine has several addresses: %s; say which one the other members reach with --addr, or as addr: in %s",
		strings.Join(names, ", "), defaultConfig)
}

// localAddrs lists the addresses of interfaces that are up, but for loopback.
func localAddrs() ([]localAddr, error) {
	have, err := hostAddrs()
	var out []localAddr
	for _, h := range have {
		out = append(out, localAddr{h.iface, h.prefix})
	}
	return out, err
}
