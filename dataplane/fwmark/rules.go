package fwmark

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rule marks the packets to an address, or to a network, of one protocol and of
// some or all ports.
type Rule struct {
	Mark     uint32
	To       netip.Prefix
	Protocol uint8 // an IP protocol whose header begins with two ports
	// FromPort to ToPort are the destination ports; both 0: all.
	FromPort, ToPort uint16
}

// String is the rule as nft would show it.
func (r Rule) String() string {
	family := "ip"
	if r.To.Addr().Is6() {
		family = "ip6"
	}
	to := r.To.String()
	if r.To.IsSingleIP() {
		to = r.To.Addr().String()
	}
	s := fmt.Sprintf("%s daddr %s meta l4proto %s", family, to, protocol(r.Protocol))
	switch {
	case r.FromPort == 0 && r.ToPort == 0:
	case r.FromPort == r.ToPort:
		s += fmt.Sprintf(" th dport %d", r.FromPort)
	default:
		s += fmt.Sprintf(" th dport %d-%d", r.FromPort, r.ToPort)
	}
	return s + fmt.Sprintf(" meta mark set 0x%08x", r.Mark)
}

func protocol(p uint8) string {
	switch p {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return fmt.Sprint(p)
}

// reg is the register that the expressions pass their value in.
const reg = 1

func equal(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data} }

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func port(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// exprs is r in the kernel's terms.
func (r Rule) exprs() []expr.Any {
	return append(r.matches(), &expr.Counter{},
		&expr.Immediate{Register: reg, Data: native(r.Mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg})
}

// hold drops what r is for, if it asks for a new connection: of TCP, SYN without
// ACK; all of UDP. Of other protocols nobody knows.
func (r Rule) hold() []expr.Any {
	const flags, syn, ack = 13, 0x02, 0x10
	out := r.matches()
	switch r.Protocol {
	case unix.IPPROTO_TCP:
		out = append(out,
			payload(expr.PayloadBaseTransportHeader, flags, 1),
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
			equal([]byte{syn}))
	case unix.IPPROTO_UDP:
	default:
		return append(out, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept})
	}
	return append(out, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
}

// hush drops the message "port unreachable" about a packet that r is for: ICMP
// (RFC 792) type 3 code 3, ICMPv6 (RFC 4443) type 1 code 4, which carry the packet
// behind 8 bytes of their own. One with IPv4 options or IPv6 extension headers is
// not looked at. Of other protocols than TCP and UDP nobody knows whether a client
// asks again.
func (r Rule) hush() []expr.Any {
	const inside, inTransport = 8, expr.PayloadBaseTransportHeader
	icmp, unreachable := byte(unix.IPPROTO_ICMP), []byte{3, 3}
	version, protocol, to, dport := []byte{0x45}, uint32(9), uint32(16), uint32(22)
	if r.To.Addr().Is6() {
		icmp, unreachable = unix.IPPROTO_ICMPV6, []byte{1, 4}
		version, protocol, to, dport = nil, 6, 24, 42
	}
	out := append(r.family(), transport(icmp)...)
	out = append(out, payload(inTransport, 0, 2), equal(unreachable))
	if version != nil {
		out = append(out, payload(inTransport, inside, 1), equal(version))
	}
	out = append(out, r.destination(inTransport, inside+to)...)
	out = append(out, payload(inTransport, inside+protocol, 1), equal([]byte{r.Protocol}))
	out = append(out, r.ports(inTransport, inside+dport)...)
	verdict := expr.VerdictDrop
	if r.Protocol != unix.IPPROTO_TCP && r.Protocol != unix.IPPROTO_UDP {
		verdict = expr.VerdictAccept
	}
	return append(out, &expr.Counter{}, &expr.Verdict{Kind: verdict})
}

// matches are what r is for. The offsets are those of the destination in the IPv4
// and the IPv6 header, and of the destination port behind them.
func (r Rule) matches() []expr.Any {
	to := uint32(16)
	if r.To.Addr().Is6() {
		to = 24
	}
	out := append(r.family(), r.destination(expr.PayloadBaseNetworkHeader, to)...)
	out = append(out, transport(r.Protocol)...)
	return append(out, r.ports(expr.PayloadBaseTransportHeader, 2)...)
}

func payload(base expr.PayloadBase, offset, size uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: base, Offset: offset, Len: size}
}

func transport(protocol byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, equal([]byte{protocol})}
}

func (r Rule) family() []expr.Any {
	family := byte(unix.NFPROTO_IPV4)
	if r.To.Addr().Is6() {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg}, equal([]byte{family})}
}

// destination matches the address at offset.
func (r Rule) destination(base expr.PayloadBase, offset uint32) []expr.Any {
	bits := r.To.Addr().BitLen()
	size := uint32(bits / 8)
	out := []expr.Any{payload(base, offset, size)}
	if !r.To.IsSingleIP() {
		out = append(out, &expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: size, Mask: net.CIDRMask(r.To.Bits(), bits), Xor: make([]byte, size),
		})
	}
	return append(out, equal(r.To.Masked().Addr().AsSlice()))
}

// ports matches the port at offset.
func (r Rule) ports(base expr.PayloadBase, offset uint32) []expr.Any {
	switch {
	case r.FromPort == 0 && r.ToPort == 0:
		return nil
	case r.FromPort == r.ToPort:
		return []expr.Any{payload(base, offset, 2), equal(port(r.FromPort))}
	}
	return []expr.Any{
		payload(base, offset, 2),
		&expr.Cmp{Op: expr.CmpOpGte, Register: reg, Data: port(r.FromPort)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: reg, Data: port(r.ToPort)},
	}
}

// spare lets packets that have the mark go on as they are.
func spare(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg}, equal(native(mark)),
		&expr.Verdict{Kind: expr.VerdictReturn},
	}
}

// same reports whether two rules do the same, whatever they have counted.
func same(a, b []expr.Any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		_, counts := a[i].(*expr.Counter)
		if _, too := b[i].(*expr.Counter); counts && too {
			continue
		}
		x, errX := expr.Marshal(byte(nftables.TableFamilyINet), a[i])
		y, errY := expr.Marshal(byte(nftables.TableFamilyINet), b[i])
		if errX != nil || errY != nil || !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}
