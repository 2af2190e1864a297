package handover

import (
	"net/netip"
	"slices"
	"time"

	"lbcluster/fsm"
)

// Standing is what a member says of itself for one unit.
type Standing struct {
	Ready  bool   // it could hold the unit at once
	Behind bool   // what the cluster agreed on is not in its kernel yet
	Score  int    // of the unit's trackers; more is better
	Why    string // why not ready, or why the score is low
}

// Report is what another member said, and which member addresses it heard.
type Report struct {
	Standing
	Ago   time.Duration // since it said so
	Hears []netip.Addr
}

// Facts are all that a decision rests on.
type Facts struct {
	Now   time.Duration // by any clock that only goes forward
	Table *fsm.Table
	Unit  fsm.Unit
	Self  fsm.MemberID
	Owner bool // Self holds the unit
	Own   Standing
	Hears []netip.Addr // member addresses that Self heard lately
	// Others are the reports of the other members, witnesses included.
	Others map[fsm.MemberID]Report
	// Fresh is how old a report may be; three renew periods of the lease.
	Fresh time.Duration
}

// quality is how fit a director is: more is better.
type quality struct {
	well  bool // ready, and its table is not behind
	ready bool
	score int
}

// unknown is the quality of a member that says nothing.
var unknown = quality{}

func (s Standing) quality() quality {
	if !s.Ready {
		return unknown
	}
	return quality{well: !s.Behind, ready: true, score: s.Score}
}

// compare is negative if q is worse than o.
func (q quality) compare(o quality) int {
	switch {
	case q.ready != o.ready:
		return sign(q.ready)
	case q.well != o.well:
		return sign(q.well)
	case !q.ready:
		return 0
	}
	return q.score - o.score
}

func sign(better bool) int {
	if better {
		return 1
	}
	return -1
}

func worse(a, b quality) quality {
	if a.compare(b) < 0 {
		return a
	}
	return b
}

func better(a, b quality) quality {
	if a.compare(b) < 0 {
		return b
	}
	return a
}

// fresh returns a member's report if it is recent.
func (f Facts) fresh(id fsm.MemberID) (Report, bool) {
	r, ok := f.Others[id]
	return r, ok && r.Ago <= f.Fresh
}

// hears is what a member hears, as far as it is known lately.
func (f Facts) hears(id fsm.MemberID) ([]netip.Addr, bool) {
	if id == f.Self {
		return f.Hears, true
	}
	r, ok := f.fresh(id)
	return r.Hears, ok
}

// networks are those that hold the unit's addresses: for each, which members
// are on it, with their addresses there.
func (f Facts) networks() []map[fsm.MemberID][]netip.Addr {
	var nets []map[fsm.MemberID][]netip.Addr
	for _, r := range f.Table.Routers {
		if !slices.Contains(f.Unit.Routers, r.ID) {
			continue
		}
		for _, a := range r.Addresses {
			on := map[fsm.MemberID][]netip.Addr{}
			for _, m := range f.Table.Members {
				for _, n := range m.Networks {
					if !n.Prefix.IsSingleIP() && n.Prefix.Contains(a.Prefix.Addr()) {
						on[m.ID] = append(on[m.ID], n.Prefix.Addr())
					}
				}
			}
			nets = append(nets, on)
		}
	}
	return nets
}

// cutOff reports whether a member has lost one of the unit's networks: at least
// two others are on it and hear each other there, none of those that tell hears
// the member there, and it hears none of them, or tells nothing.
func (f Facts) cutOff(id fsm.MemberID) bool {
	return slices.ContainsFunc(f.networks(), func(on map[fsm.MemberID][]netip.Addr) bool {
		return len(on[id]) > 0 && f.cutOffFrom(id, on)
	})
}

func (f Facts) cutOffFrom(id fsm.MemberID, on map[fsm.MemberID][]netip.Addr) bool {
	others := false // two of the others hear each other
	for from := range on {
		heard, known := f.hears(from)
		if !known {
			continue
		}
		for to, addrs := range on {
			switch {
			case from == to || !overlap(heard, addrs):
			case from == id || to == id:
				return false
			default:
				back, known := f.hears(to)
				others = others || known && overlap(back, on[from])
			}
		}
	}
	return others
}

func overlap(a, b []netip.Addr) bool {
	return slices.ContainsFunc(a, func(x netip.Addr) bool { return slices.Contains(b, x) })
}
