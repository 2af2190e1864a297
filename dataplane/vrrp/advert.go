package vrrp

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
)

const (
	protocol   = 112 // IP protocol number of VRRP
	typeAdvert = 1   // the only packet type (RFC 9568 section 5.2.2)
	headerLen  = 8
	authLen    = 8 // after the addresses, always, in version 2 (RFC 3768 section 5.3.10)
	maxTTL     = 255
)

// Where adverts go (RFC 9568 sections 5.1.1.2 and 5.1.2.2).
var (
	Group  = netip.AddrFrom4([4]byte{224, 0, 0, 18})
	Group6 = netip.MustParseAddr("ff02::12")
)

// Authentication types of version 2 (RFC 2338 section 5.3.6; RFC 3768 keeps the
// field).
const (
	AuthNone = 0
	AuthPass = 1
	AuthAH   = 2 // a separate IP header; never sent, and never equal to ours
)

// Advert is one VRRP advertisement.
type Advert struct {
	Version  uint8 // 2 or 3
	VRID     uint8 // 1-255
	Priority uint8 // 0: the sender stops; 255: it owns the addresses
	// Interval between adverts: in version 2 whole seconds 1s-255s, in version 3
	// multiples of 10ms up to 40.95s. Parse also yields 0, which is a mistake of
	// the sender.
	Interval time.Duration
	AuthType uint8        // version 2 only
	AuthPass string       // version 2 with AuthPass: at most 8 bytes, trailing zeros cut
	Addrs    []netip.Addr // all of one family; of IPv6 in version 3 only
	// PlainChecksum: the version 3 checksum leaves out the pseudo-header, as
	// Cisco and Juniper do for IPv4 and keepalived with v3_checksum_as_v2.
	PlainChecksum bool
}

// Marshal writes the payload of a packet from src to dst, which are of the
// family of the addresses, or says which field cannot be written.
func (a Advert) Marshal(src, dst netip.Addr) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("write an advert for VRID %d: %w", a.VRID, err)
	}
	if src.Is6() != dst.Is6() || len(a.Addrs) > 0 && src.Is6() != a.is6() {
		return nil, fmt.Errorf("write an advert for VRID %d from %s to %s: not the family of its addresses", a.VRID, src, dst)
	}
	b := make([]byte, headerLen, headerLen+16*len(a.Addrs)+authLen)
	b[0] = a.Version<<4 | typeAdvert
	b[1], b[2], b[3] = a.VRID, a.Priority, byte(len(a.Addrs))
	for _, ip := range a.Addrs {
		b = append(b, ip.AsSlice()...)
	}
	if a.Version == 2 {
		b[4] = a.AuthType
		b[5] = byte(a.Interval / time.Second)
		var auth [authLen]byte
		copy(auth[:], a.AuthPass)
		b = append(b, auth[:]...)
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(a.Interval/centisecond))
	}
	var pseudo uint32
	if a.Version == 3 && !a.PlainChecksum {
		pseudo = pseudoHeader(src, dst, len(b))
	}
	binary.BigEndian.PutUint16(b[6:], checksum(b, pseudo))
	return b, nil
}

const centisecond = 10 * time.Millisecond

// check reports what the wire has no place for.
func (a Advert) check() error {
	switch {
	case a.VRID == 0:
		return fmt.Errorf("VRID 0")
	case len(a.Addrs) > math.MaxUint8:
		return fmt.Errorf("%d addresses, at most 255 fit", len(a.Addrs))
	case len(a.AuthPass) > authLen:
		return fmt.Errorf("password of %d bytes, at most 8 fit", len(a.AuthPass))
	}
	for _, ip := range a.Addrs {
		if ip.Is6() != a.is6() || ip.Is4In6() || ip.Zone() != "" {
			return fmt.Errorf("address %s: an advert is of IPv4 or of IPv6, not both", ip)
		}
	}
	return a.checkVersion()
}

// is6 reports whether the advert is of IPv6.
func (a Advert) is6() bool { return len(a.Addrs) > 0 && a.Addrs[0].Is6() }

func (a Advert) checkVersion() error {
	switch a.Version {
	case 2:
		if a.is6() {
			return fmt.Errorf("version 2 knows IPv4 only; IPv6 takes version 3")
		}
		if a.Interval%time.Second != 0 || a.Interval < time.Second || a.Interval > 255*time.Second {
			return fmt.Errorf("interval %v; version 2 takes whole seconds from 1s to 255s", a.Interval)
		}
		if a.AuthType > AuthPass {
			return fmt.Errorf("authentication type %d is not written", a.AuthType)
		}
		if a.AuthPass != "" && a.AuthType != AuthPass {
			return fmt.Errorf("a password without type PASS")
		}
	case 3:
		if a.PlainChecksum && a.is6() {
			return fmt.Errorf("the checksum of IPv6 always covers the pseudo-header")
		}
		if a.Interval%centisecond != 0 || a.Interval < centisecond || a.Interval > 4095*centisecond {
			return fmt.Errorf("interval %v; version 3 takes multiples of 10ms up to 40.95s", a.Interval)
		}
		if a.AuthType != AuthNone || a.AuthPass != "" {
			return fmt.Errorf("version 3 has no authentication")
		}
	default:
		return fmt.Errorf("version %d; want 2 or 3", a.Version)
	}
	return nil
}

// Skew is how long a BACKUP of the advert's priority waits after a priority-0
// advert: the Skew_Time of RFC 3768 section 6.1 and RFC 9568 section 6.1, with
// the advert's own interval in version 3.
func (a Advert) Skew() time.Duration {
	if a.Version == 2 {
		return time.Duration(256-int(a.Priority)) * time.Second / 256
	}
	return time.Duration(256-int(a.Priority)) * a.Interval / 256
}

// Parse reads the payload of a packet of protocol 112, IPv6 if dst is. What it
// refuses no speaker of either version may accept; see Expect for the rest. An
// advert that is refused for its checksum or TTL is returned too, for the record.
func Parse(payload []byte, src, dst netip.Addr, ttl int) (Advert, *Reject) {
	if src.Is6() != dst.Is6() || !dst.IsValid() {
		return Advert{}, reject(RejectFamily, "from %s to %s: two families", src, dst)
	}
	a, r := parseHeader(payload, dst.Is6())
	if r != nil {
		return a, r
	}
	// RFC 9568 section 7.1: MUST verify that the TTL is 255. Unicast (keepalived's
	// own) crosses routers and is exempt.
	if dst.IsMulticast() && ttl != maxTTL {
		return a, reject(RejectTTL, "TTL %d, want 255: it may have crossed a router", ttl)
	}
	rest := payload[headerLen:]
	for range payload[3] {
		ip, _ := netip.AddrFromSlice(rest[:dst.BitLen()/8])
		a.Addrs = append(a.Addrs, ip)
		rest = rest[dst.BitLen()/8:]
	}
	if a.Version == 2 {
		a.Interval = time.Duration(payload[5]) * time.Second
		a.AuthType = payload[4]
		if a.AuthType == AuthPass {
			a.AuthPass = strings.TrimRight(string(rest), "\x00")
		}
		return a, verify(payload, 0)
	}
	a.Interval = time.Duration(binary.BigEndian.Uint16(payload[4:])&0x0fff) * centisecond
	r = verify(payload, pseudoHeader(src, dst, len(payload)))
	if r != nil && dst.Is4() && verify(payload, 0) == nil {
		a.PlainChecksum, r = true, nil
	}
	return a, r
}

// parseHeader checks what must hold before anything else can be read.
func parseHeader(b []byte, v6 bool) (Advert, *Reject) {
	if len(b) < headerLen {
		return Advert{}, reject(RejectLength, "%d bytes, a header has 8", len(b))
	}
	a := Advert{Version: b[0] >> 4, VRID: b[1], Priority: b[2]}
	want := headerLen + 4*int(b[3])
	if v6 {
		want = headerLen + 16*int(b[3])
	}
	switch {
	case a.Version == 2 && !v6:
		want += authLen
	case a.Version == 2:
		return a, reject(RejectVersion, "version 2 over IPv6, which has version 3 only")
	case a.Version == 3:
	default:
		return a, reject(RejectVersion, "version %d, want 2 or 3", a.Version)
	}
	if t := b[0] & 0x0f; t != typeAdvert {
		return a, reject(RejectType, "type %d, want 1", t)
	}
	if a.VRID == 0 {
		return a, reject(RejectVRID, "VRID 0")
	}
	if len(b) != want {
		return a, reject(RejectLength, "%d bytes, want %d for %d addresses in version %d", len(b), want, b[3], a.Version)
	}
	return a, nil
}

// verify checks the checksum of a packet, which sums up to 0 with it.
func verify(b []byte, pseudo uint32) *Reject {
	if checksum(b, pseudo) != 0 {
		return reject(RejectChecksum, "checksum %#04x is wrong", binary.BigEndian.Uint16(b[6:]))
	}
	return nil
}

// checksum is the internet checksum (RFC 1071) of b and a sum to start with.
func checksum(b []byte, sum uint32) uint16 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pseudoHeader sums the pseudo-header: source, destination, protocol, length.
// For IPv6 it is that of RFC 8200 section 8.1; for IPv4, as RFC 5798 was read,
// the same of its addresses. Zero bytes and the width of fields add nothing.
func pseudoHeader(src, dst netip.Addr, n int) uint32 {
	sum := uint32(protocol) + uint32(n)
	for _, a := range []netip.Addr{src, dst} {
		for b := a.AsSlice(); len(b) > 1; b = b[2:] {
			sum += uint32(b[0])<<8 | uint32(b[1])
		}
	}
	return sum
}
