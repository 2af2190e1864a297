package gate

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Verdicts; tcx and clsact share the numbers (linux/bpf.h, linux/pkt_cls.h).
const (
	verdictNext = -1 // TCX_NEXT, TC_ACT_UNSPEC: the filters behind us decide
	verdictDrop = 2  // TCX_DROP, TC_ACT_SHOT
)

const (
	etherARP  = 0x0806
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8

	protoVRRP     = 112
	vrrpAdvertV2  = 0x21 // version<<4 | type 1
	vrrpAdvertV3  = 0x31
	vrrpFirstAddr = 8
	// vrrpLook is how many addresses of an advert are looked at. Over IPv6 the
	// first is a link-local one (RFC 9568, section 5.2.9) and need be no VIP.
	vrrpLook = 4
)

// direction is a variant of the program.
type direction int

const (
	ingress direction = iota
	egress
)

func (d direction) String() string {
	if d == ingress {
		return "in"
	}
	return "out"
}

func (d direction) attachType() ebpf.AttachType {
	if d == ingress {
		return ebpf.AttachTCXIngress
	}
	return ebpf.AttachTCXEgress
}

// progName is how the kernel, bpftool and tc show the program; it is also how
// a later process recognises an attachment as ours.
func progName(d direction) string { return "lbc_gate_" + d.String() }

// instructions writes the program for one direction over m.
func instructions(d direction, m *mapSet, mark uint32) asm.Instructions {
	c := &code{dir: d, maps: m, mark: mark}
	c.protocol()
	c.arp()
	c.ipv4()
	c.ipv6()
	c.decide()
	c.label("pass")
	c.add(asm.Mov.Imm(asm.R0, verdictNext), asm.Return())
	return c.Instructions
}

// protocol finds the network header: where the kernel put it, or behind at most
// two VLAN tags that are still in the frame (the outer one usually is not: the
// kernel moves it beside the packet before any filter runs).
func (c *code) protocol() {
	c.add(
		asm.Mov.Reg(rCtx, asm.R1),
		asm.Mov.Imm(rOff, 0),
		asm.Mov.Imm(rBase, startNet),
		asm.LoadMem(rWhat, rCtx, skbProtocol, asm.Word),
		asm.HostTo(asm.BE, rWhat, asm.Half),
	)
	for depth, at := range []int32{16, 20} { // ethertypes behind the first and second tag
		next := fmt.Sprintf("tag%d", depth)
		c.add(
			asm.JEq.Imm(rWhat, etherVLAN, next),
			asm.JEq.Imm(rWhat, etherQinQ, next),
		)
		c.jump("untagged")
		c.label(next)
		c.loadAt(startMAC, at, hdrAt, 2, "pass")
		c.half(rWhat, hdrAt)
		c.add(asm.Mov.Imm(rOff, at+2), asm.Mov.Imm(rBase, startMAC))
	}
	c.label("untagged")
	c.add(
		asm.JEq.Imm(rWhat, etherARP, "arp"),
		asm.JEq.Imm(rWhat, etherIPv4, "ipv4"),
		asm.JEq.Imm(rWhat, etherIPv6, "ipv6"),
	)
	c.jump("pass")
}

// arp picks the address that an ARP packet asks for (in) or speaks for (out).
// Addresses sit behind hardware addresses of the length that the packet gives.
func (c *code) arp() {
	c.label("arp")
	c.load(0, bufAt, 8, "pass")
	c.half(asm.R1, bufAt+2)
	c.add(asm.JNE.Imm(asm.R1, etherIPv4, "pass"))
	c.octet(bufAt + 5)
	c.add(
		asm.JNE.Imm(asm.R1, 4, "pass"),
		asm.LoadMem(rWhat, asm.RFP, bufAt+4, asm.Byte), // hardware address length
		asm.Add.Reg(rOff, rWhat),
	)
	c.mapped(keyAt)
	c.load(8, keyAt+12, 4, "pass") // sender
	if c.dir == ingress {
		c.copy(hdrAt, keyAt+12, 4)
		c.add(asm.Add.Reg(rOff, rWhat))
		c.load(12, keyAt+12, 4, "pass") // target
		c.add(
			asm.LoadMem(asm.R1, asm.RFP, keyAt+12, asm.Word),
			asm.LoadMem(asm.R2, asm.RFP, hdrAt, asm.Word),
			asm.JEq.Reg(asm.R1, asm.R2, "pass"), // gratuitous
		)
		c.what(countNeighbourIn)
	} else {
		c.what(countNeighbourOut)
	}
	c.jump("vip")
}

// ipv4 picks the destination (in) or the source (out). Every fragment carries
// both, so fragments need no state.
func (c *code) ipv4() {
	c.label("ipv4")
	c.load(0, bufAt, 20, "pass")
	c.octet(bufAt)
	c.add(
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 4, "pass"),
	)
	c.mapped(keyAt)
	if c.dir == ingress {
		c.copy(keyAt+12, bufAt+16, 4)
		c.what(countIPIn)
		c.jump("vip")
		return
	}
	c.copy(keyAt+12, bufAt+12, 4)
	c.what(countIPOut)
	c.octet(bufAt + 9)
	c.add(asm.JNE.Imm(asm.R1, protoVRRP, "vip"))
	c.what(countVRRPOut)
	c.half(asm.R1, bufAt+6)
	c.add(
		asm.And.Imm(asm.R1, 0x1fff),
		asm.JNE.Imm(asm.R1, 0, "vip"), // a later fragment has no VRRP header
	)
	c.octet(bufAt)
	c.add(
		asm.And.Imm(asm.R1, 0x0f),
		asm.LSh.Imm(asm.R1, 2), // header length with options
		asm.Add.Reg(rOff, asm.R1),
	)
	c.mapped(key2At)
	c.advert("v4", 4, "vip")
}

// advert looks at the advert at rOff, whose addresses are size bytes long. It
// goes to "found" when one that it speaks for is a VIP, to "pass" for a
// farewell (priority 0), to short when it ends too soon, and to "vip", the check
// of the source, for all else.
func (c *code) advert(name string, size int16, short string) {
	c.load(0, hdrAt, 4, short)
	c.octet(hdrAt)
	if size == 4 {
		c.add(asm.JEq.Imm(asm.R1, vrrpAdvertV2, name))
	}
	c.add(asm.JNE.Imm(asm.R1, vrrpAdvertV3, "vip"))
	c.label(name)
	c.octet(hdrAt + 2)
	c.add(asm.JEq.Imm(asm.R1, 0, "pass")) // priority 0
	for i := range int32(vrrpLook) {
		c.octet(hdrAt + 3)
		c.add(asm.JLE.Imm(asm.R1, i, "vip")) // lists no more
		c.load(vrrpFirstAddr+i*int32(size), key2At+16-size, int32(size), short)
		c.lookup(c.maps.vips, key2At)
		c.add(asm.JNE.Imm(asm.R0, 0, "found"))
	}
	c.jump("vip")
}

// load puts one variant of the program into the kernel.
func load(d direction, m *mapSet, mark uint32) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         progName(d),
		Type:         ebpf.SchedCLS,
		Instructions: instructions(d, m, mark),
		License:      "Apache-2.0",
	})
	if err != nil {
		return nil, explain(fmt.Errorf("load the gate's program (%s): %w", d, err))
	}
	return p, nil
}
