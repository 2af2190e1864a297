package gate

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Offsets in __sk_buff (linux/bpf.h), and what bpf_skb_load_bytes_relative
// counts from.
const (
	skbMark     = 8
	skbProtocol = 16

	startMAC = 0 // BPF_HDR_START_MAC
	startNet = 1 // BPF_HDR_START_NET
)

// Registers with one meaning all through the program.
const (
	rCtx  = asm.R6 // the packet
	rOff  = asm.R7 // offset of the header at hand; later deadline, then verdict
	rBase = asm.R8 // what rOff counts from; later the time
	rWhat = asm.R9 // the ethertype; later which counters to use
)

// Stack slots, as offsets from the frame pointer.
const (
	keyAt  = -16 // 16 bytes: the address to look up
	key2At = -32 // 16 bytes: another address, asked for or listed inside
	slotAt = -40 // 8 bytes: the VIP's value in the map (vipValue)
	macAt  = -48 // source MAC in a zeroed u64
	bothAt = -64 // two zeroed u64: what is compared with each other
	bufAt  = -104
	hdrAt  = -112 // 8 bytes: an extension header, the start of an advert
	nextAt = -120 // 4 bytes: the header that comes next
)

// code collects instructions.
type code struct {
	asm.Instructions
	dir  direction
	maps *mapSet
	mark uint32 // 0: no VIP is local
}

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

// loadAt is load at a fixed offset from a header.
func (c *code) loadAt(start, off int32, stack int16, n int32, fail string) {
	c.add(asm.Mov.Imm(asm.R2, off), asm.Mov.Imm(asm.R5, start))
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

// copy copies 4 or 16 bytes on the stack.
func (c *code) copy(to, from int16, n int16) {
	for at := int16(0); at < n; at += 4 {
		c.add(asm.LoadMem(asm.R1, asm.RFP, from+at, asm.Word), asm.StoreMem(asm.RFP, to+at, asm.R1, asm.Word))
	}
}

// zero clears eight bytes on the stack.
func (c *code) zero(stack int16) {
	c.add(asm.Mov.Imm(asm.R1, 0), asm.StoreMem(asm.RFP, stack, asm.R1, asm.DWord))
}

// mapped makes the key at stack an IPv4 address in its IPv6 form,
// ::ffff:0.0.0.0, but for the last four bytes.
func (c *code) mapped(stack int16) {
	c.zero(stack)
	c.add(
		asm.Mov.Imm(asm.R1, int32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))),
		asm.StoreMem(asm.RFP, stack+8, asm.R1, asm.Word),
	)
}

// half leaves the big-endian 16 bits at stack in reg.
func (c *code) half(reg asm.Register, stack int16) {
	c.add(asm.LoadMem(reg, asm.RFP, stack, asm.Half), asm.HostTo(asm.BE, reg, asm.Half))
}

// octet leaves the byte at stack in R1.
func (c *code) octet(stack int16) {
	c.add(asm.LoadMem(asm.R1, asm.RFP, stack, asm.Byte))
}

func (c *code) jump(to string) { c.add(asm.Ja.Label(to)) }

// what says which counters the packet belongs to, from here on.
func (c *code) what(counters int32) { c.add(asm.Mov.Imm(rWhat, counters)) }
