package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"lbcluster/fsm"
)

// Bounds of what a datagram may hold. A sender starts another datagram at
// maxBody, so that none is fragmented on an Ethernet.
const (
	maxBody  = 1200
	maxID    = 32  // bytes of a member id
	maxAddrs = 256 // addresses of one router
)

var errTruncated = errors.New("truncated")

// appendBody appends messages of one sender: first what they share, the
// configuration tag, the sender's identity and the echoed one, then one record each.
func appendBody(b []byte, tag fsm.ConfigTag, boot, echo Nonce, ms []Message) []byte {
	b = binary.AppendUvarint(b, tag.Epoch)
	b = binary.AppendUvarint(b, tag.Term)
	b = binary.AppendUvarint(b, tag.Index)
	b = append(b, boot[:]...)
	b = append(b, echo[:]...)
	for _, m := range ms {
		b = appendRecord(b, m)
	}
	return b
}

func appendRecord(b []byte, m Message) []byte {
	b = append(b, byte(m.Kind))
	b = binary.AppendUvarint(b, m.Router)
	b = binary.AppendUvarint(b, m.Seq)
	switch m.Kind {
	case Probe:
		b = appendAddrs(b, m.Addrs)
	case Ask:
		b = binary.AppendUvarint(b, uint64(m.TTL))
		b = binary.BigEndian.AppendUint64(b, m.Cookie)
		b = appendAddrs(b, m.Addrs)
	case ProbeReply, Deny:
		b = append(b, byte(m.Reason))
		b = binary.AppendUvarint(b, uint64(max(0, m.Remaining)))
		b = binary.BigEndian.AppendUint64(b, m.Cookie)
		b = appendID(b, m.Holder)
	case Release:
		b = appendID(b, m.Hint)
	}
	return b
}

func appendID(b []byte, id fsm.MemberID) []byte {
	return append(append(b, byte(len(id))), id...)
}

func appendAddrs(b []byte, addrs []netip.Addr) []byte {
	b = binary.AppendUvarint(b, uint64(len(addrs)))
	for _, a := range addrs {
		raw := a.AsSlice()
		b = append(b, byte(len(raw)))
		b = append(b, raw...)
	}
	return b
}

// parseBody reads what appendBody wrote. From is the caller's to fill. It
// refuses whatever it would not write itself.
func parseBody(b []byte) ([]Message, error) {
	d := decoder{b: b}
	tag := fsm.ConfigTag{Epoch: d.uvarint(), Term: d.uvarint(), Index: d.uvarint()}
	boot, echo := d.nonce(), d.nonce()
	var ms []Message
	for d.err == nil && len(d.b) > 0 {
		m := d.record()
		m.Tag, m.Boot, m.Echo = tag, boot, echo
		ms = append(ms, m)
	}
	if d.err != nil {
		return nil, fmt.Errorf("lease message %d: %w", len(ms), d.err)
	}
	return ms, nil
}

// decoder reads from b; the first error sticks and everything after is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.fail(errTruncated)
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	x, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 { // cut off, too long, or not the shortest form
		d.fail(errTruncated)
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *decoder) nonce() (n Nonce) {
	copy(n[:], d.take(len(n)))
	return n
}

func (d *decoder) fixed() uint64 {
	if p := d.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) duration() int64 {
	x := d.uvarint()
	if x > 1<<62 {
		d.fail(fmt.Errorf("duration %d out of range", x))
		return 0
	}
	return int64(x)
}

func (d *decoder) record() Message {
	m := Message{Kind: Kind(d.byte()), Router: d.uvarint(), Seq: d.uvarint()}
	switch m.Kind {
	case Probe:
		m.Addrs = d.addrs()
	case Ask:
		m.TTL = d.duration()
		m.Cookie = d.fixed()
		m.Addrs = d.addrs()
	case ProbeReply, Deny:
		m.Reason = Reason(d.byte())
		m.Remaining = d.duration()
		m.Cookie = d.fixed()
		m.Holder = fsm.MemberID(d.id())
		if m.Reason >= reasons {
			d.fail(fmt.Errorf("unknown %v", m.Reason))
		}
	case Release:
		m.Hint = fsm.MemberID(d.id())
	case Grant, ReleaseAck:
	default:
		d.fail(fmt.Errorf("unknown %v", m.Kind))
	}
	return m
}

func (d *decoder) id() []byte {
	n := int(d.byte())
	if n > maxID {
		d.fail(fmt.Errorf("member id of %d bytes", n))
		return nil
	}
	return d.take(n)
}

func (d *decoder) addrs() []netip.Addr {
	n := d.uvarint()
	if n > maxAddrs {
		d.fail(fmt.Errorf("%d addresses", n))
		return nil
	}
	var out []netip.Addr
	for range n {
		a, ok := netip.AddrFromSlice(d.take(int(d.byte())))
		if !ok {
			d.fail(errors.New("an address has neither 4 nor 16 bytes"))
			return nil
		}
		out = append(out, a)
	}
	return out
}

func appendAddr(b []byte, a netip.Addr) []byte {
	raw := a.AsSlice()
	return append(append(b, byte(len(raw))), raw...)
}

func (d *decoder) addr() netip.Addr {
	a, ok := netip.AddrFromSlice(d.take(int(d.byte())))
	if !ok {
		d.fail(errors.New("an address has neither 4 nor 16 bytes"))
	}
	return a
}

// appendAddrPort writes an address that may be none, and may have a zone,
// which is not kept.
func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(b, 0)
	}
	return binary.BigEndian.AppendUint16(appendAddr(b, a.Addr()), a.Port())
}

func (d *decoder) addrPort() netip.AddrPort {
	n := int(d.byte())
	if n == 0 {
		return netip.AddrPort{}
	}
	a, ok := netip.AddrFromSlice(d.take(n))
	port := d.take(2)
	if !ok || port == nil {
		d.fail(errTruncated)
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

// count reads how many of something follow.
func (d *decoder) count(most uint64) uint64 {
	n := d.uvarint()
	if n > most {
		d.fail(fmt.Errorf("%d of something, at most %d", n, most))
		return 0
	}
	return n
}
