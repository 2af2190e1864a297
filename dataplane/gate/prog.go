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
	etherVLAN = 0x8100
	etherQinQ = 0x88a8

	protoVRRP     = 112
	vrrpAdvertV2  = 0x21 // version<<4 | type 1
	vrrpAdvertV3  = 0x31
	vrrpFirstAddr = 8

	skbProtocol = 16 // offset of __sk_buff.protocol

	startMAC = 0 // BPF_HDR_START_MAC
	startNet = 1 // BPF_HDR_START_NET
)

// Offsets in a counter slot; see slotCounters.
const (
	countARP    = 0
	countIP     = 16
	countEgress = 32
	countMAC    = 48
	countWhen   = 56
	dropped     = 8 // added to the first three
)

// Registers with one meaning all through the program.
const (
	rCtx  = asm.R6 // the packet
	rOff  = asm.R7 // offset of the ARP or IP header; later the deadline
	rBase = asm.R8 // what rOff counts from; later the time
	rWhat = asm.R9 // the ethertype; later which counters to use
)

// Stack slots, as offsets from the frame pointer.
const (
	keyAt  = -4  // the address to look up
	tmpAt  = -8  // another address, then the slot number
	macAt  = -16 // source MAC in a zeroed u64
	bufAt  = -40 // 20 bytes: headers
	vrrpAt = -56 // 12 bytes: start of an advert
)

// code collects instructions.
type code struct{ asm.Instructions }

func (c *code) add(ins ...asm.Instruction) { c.Instructions = append(c.Instructions, ins...) }

// label marks a place to jump to, with an instruction that does nothing of use:
// R1 never carries a value across a label.
func (c *code) label(name string) {
	c.add(asm.Mov.Imm(asm.R1, 0).WithSymbol(name))
}

// load copies n bytes at rOff+off to the stack, or jumps to fail when the
// packet is too short. The helper is used instead of LD_ABS because that one
// ends the program, with a final "pass", on a short packet.
func (c *code) load(off int32, stack int16, n int32, fail string) {
	c.add(asm.Mov.Reg(asm.R2, rOff), asm.Add.Imm(asm.R2, off), asm.Mov.Reg(asm.R5, rBase))
	c.loadBytes(stack, n, fail)
}

// loadMAC is load at a fixed offset from the link-layer header.
func (c *code) loadMAC(off int32, stack int16, n int32, fail string) {
	c.add(asm.Mov.Imm(asm.R2, off), asm.Mov.Imm(asm.R5, startMAC))
	c.loadBytes(stack, n, fail)
}

func (c *code) loadBytes(stack int16, n int32, fail string) {
	c.add(
		asm.Mov.Reg(asm.R1, rCtx),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, int32(stack)),
		asm.Mov.Imm(asm.R4, n),
		asm.FnSkbLoadBytesRelative.Call(),
		asm.JNE.Imm(asm.R0, 0, fail),
	)
}

// lookup leaves a pointer to m's value for the key on the stack, or 0, in R0.
func (c *code) lookup(m *ebpf.Map, stack int16) {
	c.add(
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, int32(stack)),
		asm.FnMapLookupElem.Call(),
	)
}

// copyWord copies four bytes on the stack.
func (c *code) copyWord(to, from int16) {
	c.add(asm.LoadMem(asm.R1, asm.RFP, from, asm.Word), asm.StoreMem(asm.RFP, to, asm.R1, asm.Word))
}

// half leaves the big-endian 16 bits at stack in reg.
func (c *code) half(reg asm.Register, stack int16) {
	c.add(asm.LoadMem(reg, asm.RFP, stack, asm.Half), asm.HostTo(asm.BE, reg, asm.Half))
}

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
func instructions(d direction, m *mapSet) asm.Instructions {
	c := &code{}
	c.protocol()
	c.arp(d)
	c.ipv4(d, m)
	c.decide(d, m)
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
			asm.Ja.Label("untagged"),
		)
		c.label(next)
		c.loadMAC(at, tmpAt, 2, "pass")
		c.half(rWhat, tmpAt)
		c.add(asm.Mov.Imm(rOff, at+2), asm.Mov.Imm(rBase, startMAC))
	}
	c.label("untagged")
	c.add(
		asm.JEq.Imm(rWhat, etherARP, "arp"),
		asm.JEq.Imm(rWhat, etherIPv4, "ipv4"),
		asm.Ja.Label("pass"),
	)
}

// arp picks the address that an ARP packet asks for (in) or speaks for (out).
// Addresses sit behind hardware addresses of the length that the packet gives.
func (c *code) arp(d direction) {
	c.label("arp")
	c.load(0, bufAt, 8, "pass")
	c.half(asm.R1, bufAt+2)
	c.add(
		asm.JNE.Imm(asm.R1, etherIPv4, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, bufAt+5, asm.Byte),
		asm.JNE.Imm(asm.R1, 4, "pass"),
		asm.LoadMem(rWhat, asm.RFP, bufAt+4, asm.Byte), // hardware address length
		asm.Add.Reg(rOff, rWhat),
	)
	c.load(8, keyAt, 4, "pass") // sender
	if d == ingress {
		c.copyWord(tmpAt, keyAt)
		c.add(asm.Add.Reg(rOff, rWhat))
		c.load(12, keyAt, 4, "pass") // target
		c.add(
			asm.LoadMem(asm.R1, asm.RFP, keyAt, asm.Word),
			asm.LoadMem(asm.R2, asm.RFP, tmpAt, asm.Word),
			asm.JEq.Reg(asm.R1, asm.R2, "pass"), // gratuitous
		)
		c.add(asm.Mov.Imm(rWhat, countARP))
	} else {
		c.add(asm.Mov.Imm(rWhat, countEgress))
	}
	c.add(asm.Ja.Label("vip"))
}

// ipv4 picks the destination (in) or the source (out). Every fragment carries
// both, so fragments need no state.
func (c *code) ipv4(d direction, m *mapSet) {
	c.label("ipv4")
	c.load(0, bufAt, 20, "pass")
	c.add(
		asm.LoadMem(asm.R1, asm.RFP, bufAt, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.JNE.Imm(asm.R1, 4, "pass"),
	)
	if d == ingress {
		c.copyWord(keyAt, bufAt+16)
		c.add(asm.Mov.Imm(rWhat, countIP), asm.Ja.Label("vip"))
		return
	}
	c.copyWord(keyAt, bufAt+12)
	c.add(asm.Mov.Imm(rWhat, countEgress))
	c.vrrp(m)
}

// vrrp goes to "found" for an advert that speaks for a VIP, to "pass" for a
// farewell, and falls through to the check of the source for all else.
func (c *code) vrrp(m *mapSet) {
	c.add(
		asm.LoadMem(asm.R1, asm.RFP, bufAt+9, asm.Byte),
		asm.JNE.Imm(asm.R1, protoVRRP, "vip"),
	)
	c.half(asm.R1, bufAt+6)
	c.add(
		asm.And.Imm(asm.R1, 0x1fff),
		asm.JNE.Imm(asm.R1, 0, "vip"), // a later fragment has no VRRP header
		asm.LoadMem(asm.R1, asm.RFP, bufAt, asm.Byte),
		asm.And.Imm(asm.R1, 0x0f),
		asm.LSh.Imm(asm.R1, 2), // header length with options
		asm.Add.Reg(rOff, asm.R1),
	)
	c.load(0, vrrpAt, 4, "vip")
	c.add(
		asm.LoadMem(asm.R1, asm.RFP, vrrpAt, asm.Byte),
		asm.JEq.Imm(asm.R1, vrrpAdvertV2, "advert"),
		asm.JNE.Imm(asm.R1, vrrpAdvertV3, "vip"),
	)
	c.label("advert")
	c.add(
		asm.LoadMem(asm.R1, asm.RFP, vrrpAt+2, asm.Byte),
		asm.JEq.Imm(asm.R1, 0, "pass"), // priority 0
		asm.LoadMem(asm.R1, asm.RFP, vrrpAt+3, asm.Byte),
		asm.JEq.Imm(asm.R1, 0, "vip"), // lists nothing
	)
	c.load(vrrpFirstAddr, tmpAt, 4, "vip")
	c.lookup(m.vips, tmpAt)
	c.add(asm.JNE.Imm(asm.R0, 0, "found"))
}

// decide compares the VIP's deadline with the clock, counts and returns.
func (c *code) decide(d direction, m *mapSet) {
	c.label("vip")
	c.lookup(m.vips, keyAt)
	c.add(asm.JEq.Imm(asm.R0, 0, "pass")) // not a VIP
	c.add(
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word).WithSymbol("found"),
		asm.StoreMem(asm.RFP, tmpAt, asm.R1, asm.Word),
	)
	c.lookup(m.deadlines, tmpAt)
	c.add(
		asm.Mov.Imm(rOff, 0), // no slot: closed
		asm.JEq.Imm(asm.R0, 0, "clock"),
		asm.LoadMem(rOff, asm.R0, 0, asm.DWord),
		asm.FnKtimeGetBootNs.Call().WithSymbol("clock"),
		asm.Mov.Reg(rBase, asm.R0),
	)
	// Signed, so that no garbage with the top bit set can mean "for ever".
	c.add(
		asm.JSGT.Reg(rOff, rBase, "open"),
		asm.Mov.Imm(rOff, verdictDrop),
		asm.Add.Imm(rWhat, dropped),
		asm.Ja.Label("count"),
		asm.Mov.Imm(rOff, verdictNext).WithSymbol("open"),
	)
	c.label("count")
	c.count(d, m)
	c.add(asm.Mov.Reg(asm.R0, rOff).WithSymbol("verdict"), asm.Return())
}

// count adds one to the counter at rWhat of the slot (per CPU, so no atomics)
// and notes who sent an IP packet.
func (c *code) count(d direction, m *mapSet) {
	if d == ingress {
		c.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, macAt, asm.R1, asm.DWord))
		c.loadMAC(6, macAt, 6, "nomac") // fails where there is no link layer
		c.label("nomac")
	}
	c.lookup(m.counters, tmpAt)
	c.add(
		asm.JEq.Imm(asm.R0, 0, "verdict"),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.Add.Reg(asm.R1, rWhat),
		asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord),
		asm.Add.Imm(asm.R2, 1),
		asm.StoreMem(asm.R1, 0, asm.R2, asm.DWord),
	)
	if d == ingress {
		c.add(
			asm.JLT.Imm(rWhat, countIP, "verdict"), // ARP
			asm.LoadMem(asm.R2, asm.RFP, macAt, asm.DWord),
			asm.StoreMem(asm.R0, countMAC, asm.R2, asm.DWord),
			asm.StoreMem(asm.R0, countWhen, rBase, asm.DWord),
		)
	}
}

// load puts one variant of the program into the kernel.
func load(d direction, m *mapSet) (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         progName(d),
		Type:         ebpf.SchedCLS,
		Instructions: instructions(d, m),
		License:      "Apache-2.0",
	})
	if err != nil {
		return nil, explain(fmt.Errorf("load the gate's program (%s): %w", d, err))
	}
	return p, nil
}
