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
			&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
			&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
			equal([]byte{syn}))
	case unix.IPPROTO_UDP:
	default:
		return append(out, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept})
	}
	return append(out, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
}

// matches are what r is for. The offsets are those of the destination in the IPv4
// and the IPv6 header, and of the destination port behind them.
func (r Rule) matches() []expr.Any {
	family, offset, bits := byte(unix.NFPROTO_IPV4), uint32(16), 32
	if r.To.Addr().Is6() {
		family, offset, bits = unix.NFPROTO_IPV6, 24, 128
	}
	size := uint32(bits / 8)
	out := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg}, equal([]byte{family}),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
	}
	if !r.To.IsSingleIP() {
		out = append(out, &expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: size, Mask: net.CIDRMask(r.To.Bits(), bits), Xor: make([]byte, size),
		})
	}
	out = append(out, equal(r.To.Masked().Addr().AsSlice()),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, equal([]byte{r.Protocol}))
	if r.FromPort != 0 || r.ToPort != 0 {
		out = append(out, &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
		if r.FromPort == r.ToPort {
			out = append(out, equal(port(r.FromPort)))
		} else {
			out = append(out,
				&expr.Cmp{Op: expr.CmpOpGte, Register: reg, Data: port(r.FromPort)},
				&expr.Cmp{Op: expr.CmpOpLte, Register: reg, Data: port(r.ToPort)})
		}
	}
	return out
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
