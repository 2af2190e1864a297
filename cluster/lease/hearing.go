package lease

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"lbcluster/fsm"
)

// hearing remembers when each peer was last heard on each way. Members tell
// each other of themselves once a renew period on every way, so silence means
// that a way is dead.
type hearing struct {
	ways map[fsm.MemberID]map[way]*heard
}

// heard is what came on one way.
type heard struct {
	at   int64 // CLOCK_BOOTTIME; never: nothing came
	boot Nonce
	top  uint64 // highest counter that came this way with this boot
	from int64  // it was heard without a gap since
	dead bool   // as last reported
}

// peers takes over which ways there are, and keeps what is known of those that
// stay.
func (h *hearing) peers(ways map[fsm.MemberID][]way, relay bool) {
	next := make(map[fsm.MemberID]map[way]*heard, len(ways))
	for id, ws := range ways {
		next[id] = map[way]*heard{}
		if relay {
			ws = append(slices.Clone(ws), way{})
		}
		for _, w := range ws {
			if next[id][w] = h.ways[id][w]; next[id][w] == nil {
				next[id][w] = &heard{at: never}
			}
		}
	}
	h.ways = next
}

// note credits a way with an authentic packet. A copy of a packet that came
// another way first counts here too, for this way works; but only if it is
// later than all that came this way, so that a recorded packet, sent again,
// keeps no dead way alive.
func (h *hearing) note(now int64, a arrival, o opened) {
	k := h.ways[o.from][way{a.local, a.from}]
	if k == nil {
		return
	}
	if k.boot != o.boot {
		k.boot, k.top = o.boot, 0
	}
	if o.counter > k.top {
		k.top, k.at = o.counter, now
	}
}

// change is a way that died or came back.
type change struct {
	peer fsm.MemberID
	way  way
	up   bool
	ago  time.Duration // since it was last heard
}

// changes reports, once each, which ways died (silent for limit) and which came
// back (heard for as long without a gap). A way on which nothing ever came has
// not died.
func (h *hearing) changes(now, limit, gap int64) []change {
	var out []change
	for id, ws := range h.ways {
		for w, k := range ws {
			if k.at == never {
				continue
			}
			if k.at <= now-gap {
				k.from = now
			}
			if dead := k.at <= now-limit; dead != k.dead && (dead || k.from <= now-limit) {
				k.dead = dead
				out = append(out, change{id, w, !dead, time.Duration(now - k.at)})
			}
		}
	}
	slices.SortFunc(out, func(a, b change) int {
		if a.peer != b.peer {
			return compareText(a.peer, b.peer)
		}
		return a.way.to.Compare(b.way.to)
	})
	return out
}

func compareText(a, b fsm.MemberID) int {
	if a < b {
		return -1
	}
	return 1
}

// silent reports whether nothing came from a peer on any way for limit.
func (h *hearing) silent(id fsm.MemberID, now, limit int64) bool {
	for _, k := range h.ways[id] {
		if k.at > now-limit {
			return false
		}
	}
	return true
}

// byDatagram reports whether a datagram of a peer came within limit.
func (h *hearing) byDatagram(id fsm.MemberID, now, limit int64) bool {
	for w, k := range h.ways[id] {
		if w.to.IsValid() && k.at > now-limit {
			return true
		}
	}
	return false
}

// lately lists the addresses of peers that were heard within limit, the latest
// first.
func (h *hearing) lately(now, limit int64) []Heard {
	var out []Heard
	for id, ws := range h.ways {
		for w, k := range ws {
			if w.to.IsValid() && k.at > now-limit {
				out = append(out, Heard{Member: id, Addr: w.to.Addr(), Ago: time.Duration(now - k.at)})
			}
		}
	}
	slices.SortFunc(out, func(a, b Heard) int {
		switch {
		case a.Ago != b.Ago:
			return int(min(max(a.Ago-b.Ago, -1), 1))
		case a.Member != b.Member:
			return compareText(a.Member, b.Member)
		}
		return a.Addr.Compare(b.Addr)
	})
	return out
}

// String says which way it is, for people.
func (w way) String() string {
	if !w.to.IsValid() {
		return "the members' TLS connection"
	}
	return fmt.Sprintf("UDP %v to %v", w.local, w.to.Addr())
}

// Heard is an address of a member from which a packet came lately.
type Heard struct {
	Member fsm.MemberID
	Addr   netip.Addr
	Ago    time.Duration
}
