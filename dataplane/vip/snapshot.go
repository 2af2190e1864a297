package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Link is a network interface.
type Link struct {
	Index    int
	Name     string
	MAC      net.HardwareAddr
	Loopback bool
	Up       bool // set up by the administrator (IFF_UP)
	Carrier  bool // the lower layer is up, too (IFF_LOWER_UP)
	MACVLAN  bool
	Base     int // index of the interface below; 0: none
}

// Addr is an address on an interface.
type Addr struct {
	Index  int          // of the interface
	Prefix netip.Prefix // the address with its prefix length, not masked
	Label  string
	// Tentative: of IPv6, still looked for duplicates, or found to be one: not usable.
	Tentative bool
}

// Snapshot is what a host's interfaces were at one time.
type Snapshot struct {
	Links []Link
	Addrs []Addr
}

// Link returns the interface with the index.
func (s Snapshot) Link(index int) (Link, bool) {
	i := slices.IndexFunc(s.Links, func(l Link) bool { return l.Index == index })
	if i < 0 {
		return Link{}, false
	}
	return s.Links[i], true
}

// Named returns the interface with the name.
func (s Snapshot) Named(name string) (Link, bool) {
	i := slices.IndexFunc(s.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return s.Links[i], true
}

// Has reports whether exactly this prefix is on the interface.
func (s Snapshot) Has(index int, prefix netip.Prefix) bool {
	return slices.ContainsFunc(s.Addrs, func(a Addr) bool { return a.Index == index && a.Prefix == prefix })
}

// Where lists the places an address is found at, whatever the prefix length.
func (s Snapshot) Where(addr netip.Addr) []Addr {
	var out []Addr
	for _, a := range s.Addrs {
		if a.Prefix.Addr() == addr {
			out = append(out, a)
		}
	}
	return out
}

// LinkLocal is the interface's IPv6 link-local address (RFC 4291 section
// 2.5.6), which VRRP for IPv6 needs as its source; or why there is none to use.
func (s Snapshot) LinkLocal(index int) (netip.Addr, error) {
	l, _ := s.Link(index)
	tentative := false
	for _, a := range s.Addrs {
		if a.Index != index || !a.Prefix.Addr().Is6() || !a.Prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		if !a.Tentative {
			return a.Prefix.Addr(), nil
		}
		tentative = true
	}
	if tentative {
		return netip.Addr{}, fmt.Errorf("%w: that of %s is still being checked for duplicates", ErrNoLinkLocal, l.Name)
	}
	return netip.Addr{}, fmt.Errorf("%w: %s has none (is IPv6 switched off there?)", ErrNoLinkLocal, l.Name)
}

// ErrNoLinkLocal: an interface cannot speak VRRP for IPv6.
var ErrNoLinkLocal = errors.New("IPv6 needs a link-local address on the interface")

var (
	// ErrNoInterface: no interface is in the VIP's network and none was named.
	ErrNoInterface = errors.New("no interface")
	// ErrAmbiguous: several are, and the named one is not among them.
	ErrAmbiguous = errors.New("several interfaces")
)

// Choose picks the interface for a VIP: the one whose network holds it. Among
// several the configured one, else the one with the longest prefix; the
// configured one also where no network holds the VIP. Addresses in skip (the
// cluster's VIPs) name no network, nor do single-address prefixes, nor lo.
func Choose(vip netip.Addr, configured string, s Snapshot, skip map[netip.Addr]bool) (Link, error) {
	found := holders(vip, s, skip)
	named, exists := s.Named(configured)
	switch {
	case len(found) == 0 && exists:
		return named, nil
	case len(found) == 0:
		return Link{}, fmt.Errorf("%w for %s: no interface has an address in its network%s", ErrNoInterface, vip, nor(configured))
	case found[configured] > 0:
		return named, nil
	}
	names := longest(found)
	if len(names) > 1 {
		return Link{}, fmt.Errorf("%w for %s: the networks of %s hold it%s: name one", ErrAmbiguous, vip, strings.Join(names, ", "), nor(configured))
	}
	l, _ := s.Named(names[0])
	return l, nil
}

func nor(configured string) string {
	if configured == "" {
		return ""
	}
	return fmt.Sprintf(", and the configured %s is not one of this host's", configured)
}

// holders maps the names of interfaces whose network holds the VIP to the
// longest such prefix.
func holders(vip netip.Addr, s Snapshot, skip map[netip.Addr]bool) map[string]int {
	found := map[string]int{}
	for _, a := range s.Addrs {
		l, ok := s.Link(a.Index)
		if !ok || l.Loopback || a.Prefix.IsSingleIP() || a.Prefix.Addr() == vip || skip[a.Prefix.Addr()] || !a.Prefix.Masked().Contains(vip) {
			continue
		}
		found[l.Name] = max(found[l.Name], a.Prefix.Bits())
	}
	return found
}

func longest(found map[string]int) []string {
	best := 0
	var names []string
	for name, bits := range found {
		if bits > best {
			best, names = bits, nil
		}
		if bits == best {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
