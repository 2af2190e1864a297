package gate

import (
	"github.com/cilium/ebpf/asm"
)

// Offsets in a counter slot; see slotCounters.
const (
	countNeighbourIn = 16 * iota
	countIPIn
	countMemberIn
	countNeighbourOut
	countIPOut
	countVRRPOut
	countPassedBy  // who sent the last IP packet that passed, and when
	countDroppedBy // and the last one that did not
)

// dropped is added to the first six.
const dropped = 8

// decide looks the address up that was picked, compares the VIP's deadline with
// the clock, counts and returns.
func (c *code) decide() {
	c.label("vip")
	c.lookup(c.maps.vips, keyAt)
	c.add(asm.JEq.Imm(asm.R0, 0, "pass")) // not a VIP
	c.add(
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord).WithSymbol("found"),
		asm.StoreMem(asm.RFP, slotAt, asm.R1, asm.DWord),
	)
	if c.mark != 0 {
		c.local()
	}
	c.label("deadline")
	c.lookup(c.maps.deadlines, slotAt)
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
	)
	c.jump("count")
	c.label("open")
	c.add(asm.Mov.Imm(rOff, verdictNext))
	c.count()
	c.add(asm.Mov.Reg(asm.R0, rOff).WithSymbol("verdict"), asm.Return())
}

// local lets pass, whatever the deadline says, what a VIP that is served on this
// host needs while another member owns it: packets that a member forwarded come
// in, with the mark; replies go out. Neighbour discovery and adverts are never
// excepted.
func (c *code) local() {
	flags := func(otherwise string) {
		c.add(
			asm.LoadMem(asm.R1, asm.RFP, slotAt+4, asm.Word),
			asm.JEq.Imm(asm.R1, 0, otherwise),
		)
	}
	if c.dir == egress {
		c.add(asm.JNE.Imm(rWhat, countIPOut, "deadline"))
		flags("deadline")
		c.jump("open")
		return
	}
	c.add(asm.JNE.Imm(rWhat, countIPIn, "deadline"))
	flags("stranger")
	c.member()
	c.add(asm.Mov.Imm(asm.R1, int32(c.mark)), asm.StoreMem(rCtx, skbMark, asm.R1, asm.Word))
	c.what(countMemberIn)
	c.jump("open")
	// Nobody but the gate says of a packet to a VIP that a member sent it.
	c.label("stranger")
	c.add(
		asm.LoadMem(asm.R1, rCtx, skbMark, asm.Word),
		asm.JNE.Imm32(asm.R1, int32(c.mark), "deadline"),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(rCtx, skbMark, asm.R1, asm.Word),
	)
}

// member goes to "stranger" unless the frame's source is a member's MAC. On an
// interface without a link layer the two headers are the same bytes, which are
// no MAC, whatever a sender makes of them.
func (c *code) member() {
	c.zero(bothAt)
	c.zero(bothAt + 8)
	c.loadAt(startMAC, 0, bothAt, 6, "stranger")
	c.loadAt(startNet, 0, bothAt+8, 6, "stranger")
	c.add(
		asm.LoadMem(asm.R1, asm.RFP, bothAt, asm.DWord),
		asm.LoadMem(asm.R2, asm.RFP, bothAt+8, asm.DWord),
		asm.JEq.Reg(asm.R1, asm.R2, "stranger"),
	)
	c.zero(macAt)
	c.loadAt(startMAC, 6, macAt, 6, "stranger")
	c.lookup(c.maps.members, macAt)
	c.add(asm.JEq.Imm(asm.R0, 0, "stranger"))
}

// count adds one to the counter at rWhat of the slot (per CPU, so no atomics)
// and notes who sent an IP packet that came in.
func (c *code) count() {
	c.label("count")
	if c.dir == ingress {
		c.zero(macAt)
		c.loadAt(startMAC, 6, macAt, 6, "nomac") // fails where there is no link layer
		c.label("nomac")
	}
	c.lookup(c.maps.counters, slotAt)
	c.add(
		asm.JEq.Imm(asm.R0, 0, "verdict"),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.Add.Reg(asm.R1, rWhat),
		asm.JEq.Imm(rOff, verdictNext, "add"),
		asm.Add.Imm(asm.R1, dropped),
		asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord).WithSymbol("add"),
		asm.Add.Imm(asm.R2, 1),
		asm.StoreMem(asm.R1, 0, asm.R2, asm.DWord),
	)
	if c.dir == ingress {
		c.add(
			asm.JNE.Imm(rWhat, countIPIn, "verdict"),
			asm.Add.Imm(asm.R0, countPassedBy),
			asm.JEq.Imm(rOff, verdictNext, "note"),
			asm.Add.Imm(asm.R0, countDroppedBy-countPassedBy),
			asm.LoadMem(asm.R2, asm.RFP, macAt, asm.DWord).WithSymbol("note"),
			asm.StoreMem(asm.R0, 0, asm.R2, asm.DWord),
			asm.StoreMem(asm.R0, 8, rBase, asm.DWord),
		)
	}
}
