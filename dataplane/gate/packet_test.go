package gate

import (
	"encoding/binary"
	"net/netip"
)

// Addresses of the tests.
var (
	vip    = netip.MustParseAddr("172.25.88.100")
	vip2   = netip.MustParseAddr("200.1.2.3") // above 127: the top bit is set
	client = netip.MustParseAddr("172.25.88.7")
	node   = netip.MustParseAddr("172.25.88.2")

	macA = [6]byte{2, 0, 0, 0, 0, 0xa}
	macB = [6]byte{2, 0, 0, 0, 0, 0xb}
	ones = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// ether builds a frame; tags are VLAN tags (type<<16 | vlan id), outermost first.
func ether(dst, src [6]byte, proto uint16, payload []byte, tags ...uint32) []byte {
	f := append(append([]byte{}, dst[:]...), src[:]...)
	for _, t := range tags {
		f = binary.BigEndian.AppendUint16(f, uint16(t>>16))
		f = binary.BigEndian.AppendUint16(f, uint16(t))
	}
	f = binary.BigEndian.AppendUint16(f, proto)
	f = append(f, payload...)
	for len(f) < 60 {
		f = append(f, 0)
	}
	return f
}

// arpPacket builds an ARP packet; op 1 asks, 2 answers.
func arpPacket(op uint16, sha [6]byte, spa netip.Addr, tha [6]byte, tpa netip.Addr) []byte {
	p := []byte{0, 1, 8, 0, 6, 4}
	p = binary.BigEndian.AppendUint16(p, op)
	p = append(append(p, sha[:]...), spa.AsSlice()...)
	return append(append(p, tha[:]...), tpa.AsSlice()...)
}

// ipPacket builds an IPv4 packet with options (a multiple of 4 bytes) and a
// fragment field.
func ipPacket(src, dst netip.Addr, proto byte, frag uint16, options, payload []byte) []byte {
	h := make([]byte, 20+len(options))
	h[0] = 4<<4 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	binary.BigEndian.PutUint16(h[6:], frag)
	h[8], h[9] = 64, proto
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	copy(h[20:], options)
	binary.BigEndian.PutUint16(h[10:], inetSum(h))
	return append(h, payload...)
}

// inetSum is the internet checksum (RFC 1071).
func inetSum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		sum += w
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// advert builds the start of a VRRP advert, enough for the gate.
func advert(version, priority byte, addrs ...netip.Addr) []byte {
	p := []byte{version<<4 | 1, 51, priority, byte(len(addrs)), 0, 1, 0, 0}
	for _, a := range addrs {
		p = append(p, a.AsSlice()...)
	}
	return append(p, make([]byte, 8)...)
}

// Addresses of the tests, IPv6.
var (
	vip6     = netip.MustParseAddr("2001:db8::100")
	other6   = netip.MustParseAddr("2001:db8::101") // the same solicited-node group as 2001:db8:1::101
	v6zero   = netip.IPv6Unspecified()
	client6  = netip.MustParseAddr("2001:db8::7")
	node6    = netip.MustParseAddr("2001:db8::2")
	link6    = netip.MustParseAddr("fe80::2")
	allNodes = netip.MustParseAddr("ff02::1")
	mcast6   = netip.MustParseAddr("ff02::12")
)

// solicited is the solicited-node group of a (RFC 4291, section 2.7.1).
func solicited(a netip.Addr) netip.Addr {
	b := netip.MustParseAddr("ff02::1:ff00:0").As16()
	from := a.As16()
	copy(b[13:], from[13:])
	return netip.AddrFrom16(b)
}

// ext is an extension header: its number and bytes, of which the first is
// overwritten with the next header's number.
type ext struct {
	number byte
	bytes  []byte
}

// ip6Packet builds an IPv6 packet with extension headers.
func ip6Packet(src, dst netip.Addr, proto, hops byte, exts []ext, payload []byte) []byte {
	var body []byte
	first := proto
	for i, e := range exts {
		next := proto
		if i+1 < len(exts) {
			next = exts[i+1].number
		}
		if i == 0 {
			first = e.number
		}
		body = append(append(body, next), e.bytes[1:]...)
	}
	body = append(body, payload...)
	p := []byte{0x60, 0, 0, 0, 0, 0, first, hops}
	binary.BigEndian.PutUint16(p[4:], uint16(len(body)))
	return append(append(append(p, src.AsSlice()...), dst.AsSlice()...), body...)
}

// nd builds a neighbour discovery message (type, target, an option with a link
// layer address), with its checksum.
func nd(src, dst netip.Addr, kind byte, target netip.Addr, option byte, mac [6]byte) []byte {
	m := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
	if option != 0 {
		m = append(append(m, option, 1), mac[:]...)
	}
	return icmp6(src, dst, m)
}

// icmp6 fills the checksum of an ICMPv6 message in.
func icmp6(src, dst netip.Addr, m []byte) []byte {
	pseudo := append(append(src.AsSlice(), dst.AsSlice()...), 0, 0, byte(len(m)>>8), byte(len(m)), 0, 0, 0, 58)
	binary.BigEndian.PutUint16(m[2:], inetSum(append(pseudo, m...)))
	return m
}

// groupMAC is where multicast to a goes (IPv6: RFC 2464, section 7).
func groupMAC(a netip.Addr) [6]byte {
	b := a.As16()
	if a.Is4() { // RFC 1112, section 6.4
		return [6]byte{1, 0, 0x5e, b[13] & 0x7f, b[14], b[15]}
	}
	return [6]byte{0x33, 0x33, b[12], b[13], b[14], b[15]}
}
