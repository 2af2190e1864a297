package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Time is CLOCK_MONOTONIC in nanoseconds: comparable between all processes of a
// lab, and nowhere else.
type Time int64

// Now reads the clock.
func Now() Time {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return Time(ts.Nano())
}

// Sub returns t-u.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Add returns t+d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Result is how one request ended.
type Result uint8

// The results of a request.
const (
	OK          Result = iota // status 200 and a body
	TimedOut                  // no complete answer within the time-out
	Refused                   // ECONNREFUSED
	Reset                     // ECONNRESET, at any stage
	Unreachable               // no route, or no ARP answer for long
	BadAnswer                 // something else than status 200 with a body
	OtherError
)

// String names the result.
func (r Result) String() string {
	names := [...]string{"ok", "timed out", "refused", "reset", "unreachable", "bad answer", "other error"}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("result %d", uint8(r))
}

// HTTP is one request.
type HTTP struct {
	Planned Time   // when its tick was due
	Start   Time   // when it started; Start-Planned is the prober's own lateness
	End     Time   // when it was over, one way or the other
	Result  Result // OK or why not
	Server  string // the first line of the body, at most 20 bytes: who answered
}

const (
	httpSize   = 48
	serverSize = 20
)

func (h *HTTP) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Planned))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Start))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.End))
	b = append(b, byte(h.Result), 0, 0, 0)
	var name [serverSize]byte
	copy(name[:], h.Server)
	return append(b, name[:]...)
}

// ParseHTTP reads what the HTTP prober wrote. A last, incomplete record is
// left out.
func ParseHTTP(b []byte) []HTTP {
	recs := make([]HTTP, 0, len(b)/httpSize)
	for ; len(b) >= httpSize; b = b[httpSize:] {
		recs = append(recs, HTTP{
			Planned: Time(binary.LittleEndian.Uint64(b)),
			Start:   Time(binary.LittleEndian.Uint64(b[8:])),
			End:     Time(binary.LittleEndian.Uint64(b[16:])),
			Result:  Result(b[24]),
			Server:  string(bytes.TrimRight(b[28:httpSize], "\x00")),
		})
	}
	return recs
}

// Kind says what an ARP record is.
type Kind uint8

// The kinds of ARP records.
const (
	Asked      Kind = iota // the prober sent a request
	Answered               // a unicast answer to the prober
	Gratuitous             // an announcement: sender and target address are the VIP
	Claimed                // any other ARP packet with the VIP as the sender
)

// MAC is an Ethernet address that can be compared.
type MAC [6]byte

// String writes it with colons.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// ToMAC converts a net.HardwareAddr of six bytes.
func ToMAC(a net.HardwareAddr) MAC { return MAC(a) }

// ARP is one event at the ARP prober.
type ARP struct {
	At   Time
	Kind Kind
	Op   uint8  // 1 request, 2 reply; of a received packet
	MAC  MAC    // the sender's hardware address, of a received packet
	Seq  uint32 // number of the latest request that was sent
	Late time.Duration
}

const arpSize = 32

func (a *ARP) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(a.At))
	b = append(b, byte(a.Kind), a.Op)
	b = append(b, a.MAC[:]...)
	b = binary.LittleEndian.AppendUint32(b, a.Seq)
	b = append(b, 0, 0, 0, 0)
	return binary.LittleEndian.AppendUint64(b, uint64(a.Late))
}

// ParseARP reads what the ARP prober and the stall recorder wrote.
func ParseARP(b []byte) []ARP {
	recs := make([]ARP, 0, len(b)/arpSize)
	for ; len(b) >= arpSize; b = b[arpSize:] {
		recs = append(recs, ARP{
			At:   Time(binary.LittleEndian.Uint64(b)),
			Kind: Kind(b[8]),
			Op:   b[9],
			MAC:  MAC(b[10:16]),
			Seq:  binary.LittleEndian.Uint32(b[16:]),
			Late: time.Duration(binary.LittleEndian.Uint64(b[24:])),
		})
	}
	return recs
}
