package ipvs

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Protocol is an IP protocol number.
type Protocol uint16

// The protocols that IPVS balances.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String is "tcp", "udp", "sctp", or the number.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("proto-%d", uint16(p))
}

// Key names a service in the kernel: an address, port and protocol, or a
// firewall mark. Keys are compared with ==.
type Key struct {
	Addr     netip.Addr
	Port     uint16
	Protocol Protocol
	// Mark, when not 0, is the firewall mark of a service that has no address;
	// V6 tells the two families of such services apart.
	Mark uint32
	V6   bool
}

// Is6 reports whether the service is of IPv6.
func (k Key) Is6() bool { return k.V6 || k.Addr.Is6() }

// Args is the key as ipvsadm takes it: "-t 172.25.88.100:80", "-f 7".
func (k Key) Args() string {
	switch {
	case k.Mark != 0 && k.V6:
		return fmt.Sprintf("-f %d -6", k.Mark)
	case k.Mark != 0:
		return fmt.Sprintf("-f %d", k.Mark)
	}
	flag := map[Protocol]string{TCP: "-t", UDP: "-u", SCTP: "--sctp-service"}[k.Protocol]
	if flag == "" {
		flag = "--" + k.Protocol.String()
	}
	return flag + " " + netip.AddrPortFrom(k.Addr, k.Port).String()
}

// String is "tcp/172.25.88.100:80" or "fwmark/7".
func (k Key) String() string {
	switch {
	case k.Mark != 0 && k.V6:
		return fmt.Sprintf("fwmark6/%d", k.Mark)
	case k.Mark != 0:
		return fmt.Sprintf("fwmark/%d", k.Mark)
	}
	return k.Protocol.String() + "/" + netip.AddrPortFrom(k.Addr, k.Port).String()
}

// Compare orders keys: by address, port, protocol, then marks.
func (k Key) Compare(o Key) int {
	return cmp.Or(
		cmp.Compare(k.Mark, o.Mark),
		k.Addr.Compare(o.Addr),
		cmp.Compare(k.Port, o.Port),
		cmp.Compare(k.Protocol, o.Protocol),
		strings.Compare(k.String(), o.String()),
	)
}

// Flags are the kernel's service flags (IP_VS_SVC_F_* in linux/ip_vs.h)
// without IP_VS_SVC_F_HASHED, which says only that the service is in the table.
type Flags uint32

const (
	Persistent Flags = 0x1  // a client stays with its server for Timeout
	OnePacket  Flags = 0x4  // UDP: schedule each packet
	Sched1     Flags = 0x8  // scheduler's own: sh and mh: fallback
	Sched2     Flags = 0x10 // sh and mh: hash the port too
	Sched3     Flags = 0x20

	hashed Flags = 0x2
)

// Service is a virtual service.
type Service struct {
	Key
	Scheduler string // a kernel scheduler's name: "rr", "wlc", ...
	Flags     Flags
	// Timeout is the persistence timeout in seconds; it means something with
	// the flag Persistent only.
	Timeout uint32
	// Mask is the length of the client netmask for persistence: 32 takes each
	// client alone (128 for IPv6).
	Mask uint8
	// Engine is the persistence engine ("sip"); "": the client's address. It means
	// something with the flag Persistent only.
	Engine string
	Dests  []Dest
}

// Method is the forwarding method of a destination (IP_VS_CONN_F_FWD_MASK).
type Method uint8

const (
	Masquerade    Method = 0
	LocalNode     Method = 1
	Tunnel        Method = 2
	DirectRouting Method = 3
)

// flag is ipvsadm's.
func (m Method) flag() string {
	return map[Method]string{Masquerade: "-m", LocalNode: "-l", Tunnel: "-i", DirectRouting: "-g"}[m]
}

// DestKey names a destination within its service.
type DestKey struct {
	Addr netip.Addr
	Port uint16
}

// String is "172.25.88.2:80".
func (k DestKey) String() string { return netip.AddrPortFrom(k.Addr, k.Port).String() }

// Compare orders by address, then port.
func (k DestKey) Compare(o DestKey) int {
	return cmp.Or(k.Addr.Compare(o.Addr), cmp.Compare(k.Port, o.Port))
}

// Dest is a destination (real server) of a service.
type Dest struct {
	DestKey
	Method Method
	Weight int // 0-65535; 0: no new connections
	// Upper and Lower bound its connections (ipvsadm -x, -y); 0: no bound.
	Upper, Lower uint32
	// Active and Inactive count its connections when listed. They are no part
	// of the configuration: see [Dest.Same].
	Active, Inactive uint32
}

// Same reports whether d and o are configured alike, whatever they carry.
func (d Dest) Same(o Dest) bool {
	d.Active, d.Inactive, o.Active, o.Inactive = 0, 0, 0, 0
	return d == o
}

// fullMask is the mask length that takes each client alone.
func (s Service) fullMask() uint8 {
	if s.Is6() {
		return 128
	}
	return 32
}

// Canonical returns s in the one form in which equal services compare equal:
// what the flags make meaningless is set to its default, destinations are a
// sorted copy.
func (s Service) Canonical() Service {
	s.Flags &^= hashed
	if s.Flags&Persistent == 0 {
		s.Timeout, s.Mask, s.Engine = 0, 0, ""
	}
	if s.Mask == 0 {
		s.Mask = s.fullMask()
	}
	byKey := func(a, b Dest) int { return a.DestKey.Compare(b.DestKey) }
	if s.Dests = slices.Clone(s.Dests); !slices.IsSortedFunc(s.Dests, byKey) {
		slices.SortStableFunc(s.Dests, byKey)
	}
	return s
}

// Same reports whether s and o are configured alike, destinations aside.
func (s Service) Same(o Service) bool {
	s.Dests, o.Dests = nil, nil
	s, o = s.Canonical(), o.Canonical()
	return s.Key == o.Key && s.Scheduler == o.Scheduler && s.Flags == o.Flags &&
		s.Timeout == o.Timeout && s.Mask == o.Mask && s.Engine == o.Engine
}

// Sort orders services by key, and their destinations.
func Sort(services []Service) {
	for i := range services {
		slices.SortFunc(services[i].Dests, func(a, b Dest) int { return a.DestKey.Compare(b.DestKey) })
	}
	slices.SortFunc(services, func(a, b Service) int { return a.Key.Compare(b.Key) })
}
