package gate

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"lbcluster/internal/nstest"
)

// prober is the client: it speaks raw frames and listens to everything, so
// that no cache helps it and no answer, from whichever MAC, escapes it.
type prober struct {
	*nstest.Tap
	to   [6]byte  // the director
	tags []uint32 // of the VLAN where the VIP is
}

const (
	soon   = 2 * time.Second       // an answer that must come
	silent = 30 * time.Millisecond // long enough for one that must not
)

// ask sends a packet and reports whether somebody else's answer, of the same
// ethertype, matches.
func (p prober) ask(to [6]byte, proto uint16, packet []byte, wait time.Duration, match func([]byte) bool) bool {
	return p.Ask(ether(to, macB, proto, packet, p.tags...), wait, func(b []byte) bool {
		for len(b) > 18 && b[12] == 0x81 && b[13] == 0 {
			b = slices.Concat(b[:12], b[16:])
		}
		return len(b) > 14 && [6]byte(b[6:12]) != macB && binary.BigEndian.Uint16(b[12:]) == proto && match(b[14:])
	})
}

// arp asks for the address.
func (p prober) arp(a netip.Addr, wait time.Duration) bool {
	return p.ask(ones, etherARP, arpPacket(1, macB, client, [6]byte{}, a), wait, func(b []byte) bool {
		return len(b) >= 28 && b[7] == 2 && slices.Equal(b[14:18], a.AsSlice())
	})
}

// ping sends an ICMP echo request straight to the director's MAC.
func (p prober) ping(a netip.Addr, wait time.Duration) bool {
	echo := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	binary.BigEndian.PutUint16(echo[2:], inetSum(echo))
	return p.ask(p.to, etherIPv4, ipPacket(client, a, 1, 0, nil, echo), wait, func(b []byte) bool {
		return len(b) >= 28 && b[9] == 1 && b[20] == 0 && slices.Equal(b[12:16], a.AsSlice())
	})
}

// solicit asks for an IPv6 address.
func (p prober) solicit(a netip.Addr, wait time.Duration) bool {
	group := solicited(a)
	message := nd(client6, group, ndSolicitation, a, 1, macB)
	return p.ask(groupMAC(group), etherIPv6, ip6Packet(client6, group, 58, onLink, nil, message), wait, func(b []byte) bool {
		return len(b) >= 64 && b[6] == 58 && b[40] == ndAdvertisement && slices.Equal(b[48:64], a.AsSlice())
	})
}

// ping6 is ping for IPv6.
func (p prober) ping6(a netip.Addr, wait time.Duration) bool {
	echo := icmp6(client6, a, []byte{128, 0, 0, 0, 0, 1, 0, 1})
	return p.ask(p.to, etherIPv6, ip6Packet(client6, a, 58, 64, nil, echo), wait, func(b []byte) bool {
		return len(b) >= 48 && b[6] == 58 && b[40] == 129 && slices.Equal(b[8:24], a.AsSlice())
	})
}

// question is a way in which a client finds an address or speaks to it.
type question struct {
	what string
	ask  func(wait time.Duration) bool
}

// asks are the questions to an address of each family. Those that make the
// client known to the director come first: on a VLAN it has no other way to
// find him, and so could not answer a ping.
func (p prober) asks(four, six netip.Addr) []question {
	return []question{
		{"ARP", func(d time.Duration) bool { return p.arp(four, d) }},
		{"neighbour discovery", func(d time.Duration) bool { return p.solicit(six, d) }},
		{"a ping", func(d time.Duration) bool { return p.ping(four, d) }},
		{"a ping to its IPv6 one", func(d time.Duration) bool { return p.ping6(six, d) }},
	}
}
