package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"net/netip"

	"lbcluster/fsm"
)

// The state file is an array of slots of one size. The first is the head, each
// other one is empty or holds one record: a voter's seat, a tenure of the
// holder, or the addresses of a member. A slot is
//
//	checksum   8 bytes: CRC-64 (ECMA) of what follows
//	length     4 bytes, big endian; 0: empty, and then the checksum is 0 too
//	payload    its first byte says what it is
//
// A slot is written in place. A process killed in the middle leaves one that
// does not check, and then nothing in the file counts: the voter waits out its
// embargo, as if there were no file.
const (
	slotSize  = 8192 // the largest seat fits: 256 addresses, 16 remembered processes
	slotHead  = 12
	slotCount = 1 + 2*maxSeats + maxPeers
	stateSize = slotCount * slotSize
	maxPeers  = 64 // members whose addresses are kept

	stateMagic = "lbcluster lease state 1\n"
)

// Kinds of records.
const (
	recHead   = 'H'
	recSeat   = 'S'
	recTenure = 'T'
	recPeer   = 'P'
)

var (
	errNoState = errors.New("there is no state") // the file is new
	errForeign = errors.New("the state is of another boot, member or cluster")
	errTorn    = errors.New("the state does not check")
)

// BootID is the kernel's name of one boot: /proc/sys/kernel/random/boot_id.
type BootID [16]byte

// stateOwner is whose a state file is.
type stateOwner struct {
	boot    BootID
	cluster [8]byte // start of the SHA-256 of its id
	self    fsm.MemberID
}

// savedHead is the head of the file.
type savedHead struct {
	stateOwner
	embargo int64 // CLOCK_MONOTONIC_RAW: the voter grants nothing before
	// identity is the holder's nonce, and seq is reserved: no round or probe
	// above it was ever used with it (R4).
	identity Nonce
	seq      uint64
	listen   netip.AddrPort // this member's address
}

// tenure is a router that the holder may hold, or have promises for.
type tenure struct {
	router uint64
	addrs  []netip.Addr   // named by a round that was not released
	asked  []fsm.MemberID // voters that may have promised
}

// savedPeer is where a member was last.
type savedPeer struct {
	id    fsm.MemberID
	addrs []netip.AddrPort
}

// saved is a whole file.
type saved struct {
	savedHead
	seats   map[uint64]*seat
	tenures map[uint64]tenure
	peers   []savedPeer
	where   map[recordKey]int // slots in use
}

// recordKey names a record: its kind, and the router or member it is about.
type recordKey struct {
	kind byte
	id   uint64
	who  fsm.MemberID
}

var crcTable = crc64.MakeTable(crc64.ECMA)

// sealSlot makes a slot of a payload.
func sealSlot(payload []byte) ([]byte, error) {
	if len(payload) > slotSize-slotHead {
		return nil, fmt.Errorf("a record of %d bytes does not fit the state file", len(payload))
	}
	b := make([]byte, 8, slotHead+len(payload))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	binary.BigEndian.PutUint64(b, crc64.Checksum(b[8:], crcTable))
	return b, nil
}

// openSlot returns the payload of a slot; nil: it is empty.
func openSlot(b []byte) ([]byte, error) {
	sum, n := binary.BigEndian.Uint64(b), int(binary.BigEndian.Uint32(b[8:]))
	if sum == 0 && n == 0 {
		return nil, nil
	}
	if n == 0 || n > len(b)-slotHead || crc64.Checksum(b[8:slotHead+n], crcTable) != sum {
		return nil, errTorn
	}
	return b[slotHead : slotHead+n], nil
}

// decodeState reads a whole file that must be owner's.
func decodeState(b []byte, owner stateOwner) (saved, error) {
	if len(b) == 0 {
		return saved{}, errNoState
	}
	if len(b) != stateSize {
		return saved{}, fmt.Errorf("%w: it has %d bytes, not %d", errTorn, len(b), stateSize)
	}
	head, err := openSlot(b[:slotSize])
	if err != nil {
		return saved{}, err
	}
	if head == nil {
		return saved{}, errNoState
	}
	s := saved{seats: map[uint64]*seat{}, tenures: map[uint64]tenure{}, where: map[recordKey]int{}}
	if s.savedHead, err = parseHead(head); err != nil {
		return saved{}, err
	}
	if s.stateOwner != owner {
		return saved{}, errForeign
	}
	for i := 1; i < slotCount; i++ {
		payload, err := openSlot(b[i*slotSize : (i+1)*slotSize])
		if err == nil && payload != nil {
			err = s.add(i, payload)
		}
		if err != nil {
			return saved{}, fmt.Errorf("slot %d: %w", i, err)
		}
	}
	return s, nil
}

// add reads one record.
func (s *saved) add(slot int, payload []byte) error {
	d := decoder{b: payload[1:]}
	var key recordKey
	switch payload[0] {
	case recSeat:
		id, seat := d.seat()
		key = recordKey{kind: recSeat, id: id}
		s.seats[id] = seat
	case recTenure:
		t := d.tenure()
		key = recordKey{kind: recTenure, id: t.router}
		s.tenures[t.router] = t
	case recPeer:
		p := d.peer()
		key = recordKey{kind: recPeer, who: p.id}
		s.peers = append(s.peers, p)
	default:
		return fmt.Errorf("%w: unknown record %d", errTorn, payload[0])
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail(errors.New("more than a record"))
	}
	if _, twice := s.where[key]; twice {
		d.fail(errors.New("a record twice"))
	}
	if d.err != nil {
		return fmt.Errorf("%w: %w", errTorn, d.err)
	}
	s.where[key] = slot
	return nil
}

func appendTime(b []byte, t int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(t)) }

func (h savedHead) append() []byte {
	b := append([]byte{recHead}, stateMagic...)
	b = append(b, h.boot[:]...)
	b = append(b, h.cluster[:]...)
	b = appendID(b, h.self)
	b = appendTime(b, h.embargo)
	b = append(b, h.identity[:]...)
	b = binary.BigEndian.AppendUint64(b, h.seq)
	return appendAddrPort(b, h.listen)
}

func parseHead(b []byte) (h savedHead, err error) {
	d := decoder{b: b}
	if d.byte() != recHead || string(d.take(len(stateMagic))) != stateMagic {
		return h, fmt.Errorf("%w: it is not of this version", errTorn)
	}
	copy(h.boot[:], d.take(16))
	copy(h.cluster[:], d.take(8))
	h.self, h.embargo, h.identity, h.seq = fsm.MemberID(d.id()), int64(d.fixed()), d.nonce(), d.fixed()
	h.listen = d.addrPort()
	if d.err != nil || len(d.b) > 0 {
		return h, fmt.Errorf("%w: its head is cut", errTorn)
	}
	return h, nil
}

func appendSeat(router uint64, s *seat) []byte {
	b := binary.AppendUvarint([]byte{recSeat}, router)
	b = append(appendID(b, s.to.node), s.to.boot[:]...)
	b = binary.AppendUvarint(b, s.seq)
	b = appendTime(b, s.until)
	b = binary.AppendUvarint(b, uint64(len(s.addrs)))
	for _, c := range s.addrs {
		b = appendTime(appendAddr(b, c.addr), c.until)
	}
	b = binary.AppendUvarint(b, uint64(len(s.last)))
	for _, l := range s.last {
		b = append(appendID(b, l.who.node), l.who.boot[:]...)
		b = binary.AppendUvarint(b, l.seq)
	}
	return b
}

// seat reads a seat. A reserve is not kept: it is for availability only.
func (d *decoder) seat() (router uint64, s *seat) {
	router = d.uvarint()
	s = &seat{reservedUntil: never}
	s.to = identity{fsm.MemberID(d.id()), d.nonce()}
	s.seq, s.until = d.uvarint(), int64(d.fixed())
	for range d.count(2 * maxAddrs) {
		s.addrs = append(s.addrs, claim{d.addr(), int64(d.fixed())})
	}
	for range d.count(maxLast) {
		who := identity{fsm.MemberID(d.id()), d.nonce()}
		s.last = append(s.last, lastRound{who, d.uvarint()})
	}
	return router, s
}

func (t tenure) append() []byte {
	b := binary.AppendUvarint([]byte{recTenure}, t.router)
	b = appendAddrs(b, t.addrs)
	b = binary.AppendUvarint(b, uint64(len(t.asked)))
	for _, id := range t.asked {
		b = appendID(b, id)
	}
	return b
}

func (d *decoder) tenure() tenure {
	t := tenure{router: d.uvarint(), addrs: d.addrs()}
	for range d.count(maxPeers) {
		t.asked = append(t.asked, fsm.MemberID(d.id()))
	}
	return t
}

func (p savedPeer) append() []byte {
	b := appendID([]byte{recPeer}, p.id)
	b = binary.AppendUvarint(b, uint64(len(p.addrs)))
	for _, a := range p.addrs {
		b = appendAddrPort(b, a)
	}
	return b
}

func (d *decoder) peer() savedPeer {
	p := savedPeer{id: fsm.MemberID(d.id())}
	for range d.count(maxAddrs) {
		p.addrs = append(p.addrs, d.addrPort())
	}
	return p
}
