package lease

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
	"unicode/utf8"

	"lbcluster/fsm"
)

// Standing is what a member says of itself to all others: see
// [Driver.SetStanding].
type Standing struct {
	Units []UnitStanding // each unit once
	// Behind: what the cluster agreed on is not in this member's kernel yet.
	Behind bool
	// Syncing: this member has not heard of all connections of the others yet.
	Syncing bool
}

// UnitStanding is what a member says of one unit.
type UnitStanding struct {
	Unit  uint64
	Ready bool // it could hold the unit at once
	// Score adds up what its trackers are worth, as keepalived's weights: more is
	// better, 0 without trackers.
	Score int
	Why   string // why not ready, or why the score is low; at most maxWhy bytes go out
	// Adverts: it sends VRRP adverts for the unit now. Yields: it hears a VRRP peer
	// outside the cluster that is MASTER, and YieldsHigher that it is one of higher
	// priority. All are false for units without such peers.
	Adverts, Yields, YieldsHigher bool
}

// Bounds of a standing on the wire.
const (
	maxWhy   = 80
	maxHeard = 40 // addresses that one standing tells; they fit one datagram
	maxUnits = 1024
)

// Flags of a standing packet.
const (
	flagBehind = 1 << iota
	flagHeard  // the list of heard addresses is in it
	flagSyncing
)

// standingPart is one packet: a standing travels in as many as it needs, and
// each counts by itself.
type standingPart struct {
	seq     uint64 // of the standing; grows
	behind  bool
	syncing bool
	heard   []Heard // nil, but in the first part
	first   bool
	units   []UnitStanding
}

// standingBodies writes a standing as the bodies of packets, none above maxBody.
func standingBodies(seq uint64, s Standing, heard []Heard) [][]byte {
	head := func(flags byte) []byte {
		if s.Behind {
			flags |= flagBehind
		}
		if s.Syncing {
			flags |= flagSyncing
		}
		return binary.AppendUvarint([]byte{flags}, seq)
	}
	b := head(flagHeard)
	b = appendHeard(b, heard[:min(len(heard), maxHeard)])
	var out [][]byte
	for _, u := range s.Units[:min(len(s.Units), maxUnits)] {
		rec := appendUnit(nil, u)
		if len(b)+len(rec) > maxBody {
			out = append(out, b)
			b = head(0)
		}
		b = append(b, rec...)
	}
	return append(out, b)
}

func appendHeard(b []byte, heard []Heard) []byte {
	b = binary.AppendUvarint(b, uint64(len(heard)))
	for _, h := range heard {
		b = append(b, byte(len(h.Member)))
		b = append(b, h.Member...)
		raw := h.Addr.AsSlice()
		b = append(b, byte(len(raw)))
		b = append(b, raw...)
		b = binary.AppendUvarint(b, uint64(max(0, h.Ago.Milliseconds())))
	}
	return b
}

func appendUnit(b []byte, u UnitStanding) []byte {
	flags := byte(0)
	for i, on := range []bool{u.Ready, u.Adverts, u.Yields, u.YieldsHigher} {
		if on {
			flags |= 1 << i
		}
	}
	why := short(u.Why)
	b = binary.AppendUvarint(b, u.Unit)
	b = append(b, flags)
	b = binary.AppendUvarint(b, zigzag(u.Score))
	b = append(b, byte(len(why)))
	return append(b, why...)
}

// short cuts a reason to what goes out, at a whole character.
func short(why string) string {
	why = string([]rune(why)) // what is no text becomes text
	for len(why) > maxWhy {
		_, n := utf8.DecodeLastRuneInString(why)
		why = why[:len(why)-n]
	}
	return why
}

func zigzag(n int) uint64    { return uint64(n)<<1 ^ uint64(int64(n)>>63) }
func unzigzag(u uint64) int  { return int(u>>1) ^ -int(u&1) }
func inRange(score int) bool { return score >= math.MinInt32 && score <= math.MaxInt32 }

// parseStanding reads what standingBodies wrote and refuses whatever that would
// not write.
func parseStanding(b []byte) (standingPart, error) {
	d := decoder{b: b}
	flags := d.byte()
	p := standingPart{seq: d.uvarint(), behind: flags&flagBehind != 0, syncing: flags&flagSyncing != 0, first: flags&flagHeard != 0}
	if flags&^(flagBehind|flagHeard|flagSyncing) != 0 {
		d.fail(fmt.Errorf("unknown flags %x", flags))
	}
	if p.first {
		p.heard = d.heard()
	}
	for d.err == nil && len(d.b) > 0 {
		p.units = append(p.units, d.unit())
	}
	if d.err != nil {
		return standingPart{}, fmt.Errorf("standing: %w", d.err)
	}
	return p, nil
}

func (d *decoder) heard() []Heard {
	n := d.uvarint()
	if n > maxHeard {
		d.fail(fmt.Errorf("%d heard addresses", n))
		return nil
	}
	var out []Heard
	for range n {
		id := fsm.MemberID(d.id())
		a, ok := netip.AddrFromSlice(d.take(int(d.byte())))
		ago := d.uvarint()
		if !ok || ago > uint64(time.Hour.Milliseconds()) {
			d.fail(errors.New("a heard address is none, or too old"))
			return nil
		}
		out = append(out, Heard{id, a, time.Duration(ago) * time.Millisecond})
	}
	return out
}

func (d *decoder) unit() UnitStanding {
	u := UnitStanding{Unit: d.uvarint()}
	flags := d.byte()
	for i, to := range []*bool{&u.Ready, &u.Adverts, &u.Yields, &u.YieldsHigher} {
		*to = flags&(1<<i) != 0
	}
	u.Score = unzigzag(d.uvarint())
	n := int(d.byte())
	u.Why = string(d.take(min(n, len(d.b)+1))) // one too many fails
	if d.err == nil && (flags > 15 || !inRange(u.Score) || n > maxWhy || !utf8.ValidString(u.Why)) {
		d.fail(errors.New("a unit's standing is out of range"))
	}
	return u
}

// told is what a peer last told of itself.
type told struct {
	boot    Nonce
	seq     uint64
	at      int64 // CLOCK_BOOTTIME
	behind  bool
	syncing bool
	heard   []Heard
	units   map[uint64]toldUnit
}

type toldUnit struct {
	UnitStanding
	seq uint64
	at  int64
}

// keepUnits is how long a unit that a peer speaks of no more is kept, in renew
// periods.
const keepUnits = 5

// accept takes a part of a standing. An older one than what is known counts
// nothing: copies on a slow way come late.
func (t *told) accept(now int64, renew int64, boot Nonce, p standingPart) {
	if boot != t.boot {
		*t = told{boot: boot}
	}
	if p.seq < t.seq {
		return
	}
	t.seq, t.at, t.behind, t.syncing = p.seq, now, p.behind, p.syncing
	if p.first {
		t.heard = p.heard
	}
	if t.units == nil {
		t.units = map[uint64]toldUnit{}
	}
	for _, u := range p.units {
		if _, known := t.units[u.Unit]; known || len(t.units) < maxUnits {
			t.units[u.Unit] = toldUnit{u, p.seq, now}
		}
	}
	for id, u := range t.units {
		if u.at <= now-keepUnits*renew {
			delete(t.units, id)
		}
	}
}

// SetStanding replaces what this member says of itself. It reaches the others
// at once, and again each renew period. It does not wait.
func (d *Driver) SetStanding(s Standing) {
	s.Units = slices.Clone(s.Units)
	slices.SortFunc(s.Units, func(a, b UnitStanding) int {
		if a.Unit < b.Unit {
			return -1
		}
		return 1
	})
	replace(d.standing, s)
}

// tellAll sends this member's standing to every other one when it is time.
func (l *loop) tellAll(now int64) {
	if now < l.tellAt {
		return
	}
	renew := int64(l.d.cfg.Params.Renew)
	l.tellAt = now + renew
	l.standingSeq++
	// Unchanged, it goes over the relay half as often: enough to see that way live.
	everyWay := l.anew > 0 || l.standingSeq%2 == 0
	l.anew = max(l.anew-1, 0)
	for _, body := range standingBodies(l.standingSeq, l.standing, l.hear.lately(now, hearingRenews*renew)) {
		for id := range l.ways {
			l.transmit(id, packetStanding, body, !everyWay && l.byDatagram(now, id))
		}
	}
	l.lookAtWays(now, renew)
}

const (
	// hearingRenews: an address counts as heard for so many renew periods.
	hearingRenews = 3
	// deadRenews: a way is recorded as dead after so many without a packet, and as
	// back after so many with one. Longer than hearingRenews, for it wakes people.
	deadRenews = 10
)

// lookAtWays records which ways died or came back.
func (l *loop) lookAtWays(now, renew int64) {
	for _, c := range l.hear.changes(now, deadRenews*renew, hearingRenews*renew) {
		e := Entry{Kind: EntryPathBack, Peers: []fsm.MemberID{c.peer}, Cause: c.way.String()}
		switch {
		case c.up:
			e.Text = fmt.Sprintf("%s is heard over %v", c.peer, c.way)
		case l.hear.silent(c.peer, now, deadRenews*renew):
			e.Kind = EntryPathDead
			e.Text = fmt.Sprintf("nothing comes from %s over %v, nor any other way, for %v", c.peer, c.way, c.ago.Round(time.Millisecond))
		default:
			e.Kind = EntryPathDead
			e.Text = fmt.Sprintf("nothing comes from %s over %v for %v; it is heard another way", c.peer, c.way, c.ago.Round(time.Millisecond))
		}
		l.journal(e)
	}
}

// hearStanding takes what a peer says of itself.
func (l *loop) hearStanding(now int64, o opened) error {
	p, err := parseStanding(o.body)
	if err != nil {
		return errBody
	}
	t := l.told[o.from]
	if t == nil {
		t = &told{}
		l.told[o.from] = t
	}
	t.accept(now, int64(l.d.cfg.Params.Renew), o.boot, p)
	l.yields(false)
	return nil
}
