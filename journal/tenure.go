package journal

import (
	"time"

	"lbcluster/fsm"
)

// tenure is one time that a member owned the unit.
type tenure struct {
	node fsm.MemberID
	from Event  // Acquired; zero: only the next owner says that there was one
	end  *Event // Lost, Fenced, or the next start of the process; nil: none noted
}

// over is when the tenure surely had ended as far as its owner noted; zero: it
// noted nothing.
func (t tenure) over() time.Time {
	if t.end == nil {
		return time.Time{}
	}
	return t.end.Time
}

// tenures finds the unit's, by their beginning. An Acquired while the member
// owns it already is no new one: its addresses changed, or it started again and
// adopted what it had. After somebody else's Acquired it is a new one, whatever
// became of the old.
func tenures(events []Event, unit uint64) []*tenure {
	var all []*tenure
	open := map[fsm.MemberID]*tenure{}
	for i, e := range events {
		t := open[e.Node]
		switch {
		case e.Kind == Acquired && e.Unit == unit:
			if t == nil || all[len(all)-1] != t {
				t = &tenure{node: e.Node, from: e}
				open[e.Node], all = t, append(all, t)
			}
			t.end = nil
		case t == nil:
		case e.Kind == Lost && e.Unit == unit,
			e.Kind == Fenced && (e.Unit == unit || e.Unit == 0):
			t.end = &events[i]
			delete(open, e.Node)
		case e.Kind == Started && e.Cause != AfterReload:
			// The process died; whether its successor adopts shows by an Acquired
			// before anybody else's.
			t.end = &events[i]
			if !adopted(events[i+1:], e.Node, unit) {
				delete(open, e.Node)
			}
		}
	}
	return all
}

// adopted reports whether the member that has just started is the next to
// acquire the unit.
func adopted(later []Event, node fsm.MemberID, unit uint64) bool {
	for _, e := range later {
		if e.Kind == Acquired && e.Unit == unit {
			return e.Node == node && e.Cause == Adopted
		}
	}
	return false
}

// change is a change of ownership: from one tenure to the next, either of which
// may be missing.
type change struct {
	from, to *tenure
}

// at is when the change was felt: the new owner's beginning, or the old one's
// end.
func (c change) at() time.Time {
	if c.to != nil {
		return c.to.from.Time
	}
	return c.from.over()
}

// changes lists them, oldest first: the first tenure has no predecessor, and
// the last has a change of its own once it is over.
func changes(ts []*tenure) []change {
	var all []change
	var before *tenure
	seen := map[fsm.MemberID]bool{}
	for _, t := range ts {
		// Of whom there are records there would be one of this: the new owner's table
		// was behind, which happens after short tenures.
		if p := peer(t.from); p != "" && p != t.node && !seen[p] && (before == nil || before.node != p) {
			before = &tenure{node: p} // whose record is missing
		}
		seen[t.node] = true
		all = append(all, change{before, t})
		before = t
	}
	if before != nil && before.end != nil {
		all = append(all, change{from: before})
	}
	return all
}

// nearest is the change next to at; a zero at asks for the last.
func nearest(all []change, at time.Time) (change, bool) {
	if len(all) == 0 {
		return change{}, false
	}
	best := all[len(all)-1]
	if at.IsZero() {
		return best, true
	}
	for _, c := range all {
		if c.at().Sub(at).Abs() < best.at().Sub(at).Abs() {
			best = c
		}
	}
	return best, true
}
