package gate

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf/asm"
)

// Next headers of IPv6 (IANA protocol numbers).
const (
	nextHopByHop    = 0
	nextRouting     = 43
	nextFragment    = 44
	nextAuth        = 51
	nextICMP        = 58
	nextDestination = 60
)

// Neighbour discovery (RFC 4861).
const (
	ndFirst         = 133 // router solicitation
	ndSolicitation  = 135
	ndAdvertisement = 136
	ndLast          = 137 // redirect
	ndTarget        = 8   // offset of the target address
	// onLink is the hop limit that neighbour discovery and VRRP must have, or
	// every receiver discards them: no router has forwarded them.
	onLink = 255
)

// maxHeaders is how many extension headers are followed.
const maxHeaders = 6

// obscure is a key that stands for packets that may hide neighbour discovery or
// an advert. It is in the map, without a slot and so always closed, while there
// is an IPv6 VIP. No packet comes from or goes to that address.
var obscure = netip.AddrFrom16([16]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})

// ipv6 picks the destination (in) or the source (out), or what a neighbour
// discovery packet or an advert inside speaks of, if that is a VIP. Only
// packets with the hop limit of those are looked into.
func (c *code) ipv6() {
	c.label("ipv6")
	c.load(0, bufAt, 40, "pass")
	c.octet(bufAt)
	c.add(
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 6, "pass"),
	)
	if c.dir == ingress {
		c.copy(keyAt, bufAt+24, 16)
		c.what(countIPIn)
	} else {
		c.copy(keyAt, bufAt+8, 16)
		c.what(countIPOut)
	}
	c.octet(bufAt + 7)
	c.add(
		asm.JNE.Imm(asm.R1, onLink, "vip"),
		asm.Add.Imm(rOff, 40),
		asm.LoadMem(asm.R1, asm.RFP, bufAt+6, asm.Byte),
		asm.StoreMem(asm.RFP, nextAt, asm.R1, asm.Word),
	)
	for i := range maxHeaders {
		c.header(i)
	}
	c.label(fmt.Sprintf("header%d", maxHeaders))
	c.add(asm.LoadMem(asm.R1, asm.RFP, nextAt, asm.Word))
	c.upper()
	for _, n := range []int32{nextHopByHop, nextRouting, nextFragment, nextAuth, nextDestination} {
		c.add(asm.JEq.Imm(asm.R1, n, "obscure"))
	}
	c.jump("vip")
	c.neighbour()
	if c.dir == egress {
		c.label("vrrp6")
		c.what(countVRRPOut)
		c.advert("v6", 16, "obscure")
	}
	c.obscured()
}

// upper goes where the packet's payload, whose number is in R1, is looked at.
func (c *code) upper() {
	c.add(asm.JEq.Imm(asm.R1, nextICMP, "icmp6"))
	if c.dir == egress {
		c.add(asm.JEq.Imm(asm.R1, protoVRRP, "vrrp6"))
	}
}

// header follows the i-th extension header.
func (c *code) header(i int) {
	name := func(what string) string { return fmt.Sprintf("%s%d", what, i) }
	next := fmt.Sprintf("header%d", i+1)
	c.label(name("header"))
	c.add(asm.LoadMem(asm.R1, asm.RFP, nextAt, asm.Word))
	c.upper()
	c.add(
		asm.JEq.Imm(asm.R1, nextHopByHop, name("options")),
		asm.JEq.Imm(asm.R1, nextRouting, name("options")),
		asm.JEq.Imm(asm.R1, nextDestination, name("options")),
		asm.JEq.Imm(asm.R1, nextAuth, name("auth")),
		asm.JNE.Imm(asm.R1, nextFragment, "vip"),
	)

	c.load(0, hdrAt, 8, "obscure")
	c.half(asm.R1, hdrAt+2)
	c.add(
		asm.And.Imm(asm.R1, 0xfff8),
		asm.JNE.Imm(asm.R1, 0, "vip"), // a later fragment: what it continues was dropped if need be
		asm.Mov.Imm(asm.R1, 8),
	)
	c.jump(name("skip"))

	for _, one := range []struct {
		name         string
		least, shift int32 // length = (least + the length octet) << shift
	}{{"options", 1, 3}, {"auth", 2, 2}} { // RFC 8200, section 4.3; RFC 4302, section 2.2
		c.label(name(one.name))
		c.load(0, hdrAt, 2, "obscure")
		c.octet(hdrAt + 1)
		c.add(asm.Add.Imm(asm.R1, one.least), asm.LSh.Imm(asm.R1, one.shift))
		c.jump(name("skip"))
	}
	c.add(asm.Add.Reg(rOff, asm.R1).WithSymbol(name("skip")))
	c.octet(hdrAt)
	c.add(asm.StoreMem(asm.RFP, nextAt, asm.R1, asm.Word))
	c.jump(next)
}

// neighbour looks at ICMPv6: for the address that a solicitation asks for (in)
// or that an advertisement speaks for (out).
func (c *code) neighbour() {
	speaks, counters := int32(ndSolicitation), int32(countNeighbourIn)
	if c.dir == egress {
		speaks, counters = ndAdvertisement, countNeighbourOut
	}
	c.label("icmp6")
	c.load(0, hdrAt, 1, "obscure")
	c.octet(hdrAt)
	c.add(
		asm.JLT.Imm(asm.R1, ndFirst, "vip"),
		asm.JGT.Imm(asm.R1, ndLast, "vip"),
	)
	c.what(counters)
	c.add(asm.JNE.Imm(asm.R1, speaks, "vip"))
	c.load(ndTarget, key2At, 16, "obscure")
	c.lookup(c.maps.vips, key2At)
	c.add(asm.JNE.Imm(asm.R0, 0, "found"))
	c.jump("vip")
}

// obscured drops, if there are IPv6 VIPs at all, what could not be followed.
func (c *code) obscured() {
	c.label("obscure")
	c.add(
		asm.Mov.Imm(asm.R1, -1),
		asm.StoreMem(asm.RFP, keyAt, asm.R1, asm.DWord),
		asm.StoreMem(asm.RFP, keyAt+8, asm.R1, asm.DWord),
	)
	if c.dir == ingress {
		c.what(countNeighbourIn)
	} else {
		c.what(countNeighbourOut)
	}
	c.jump("vip")
}
