package main

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"lbcluster/cluster/handover"
	"lbcluster/cluster/lease"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// judgePoll is how often this member looks whether a unit that it owns should
// be handed over, and whether it has something new to say of itself.
const judgePoll = 100 * time.Millisecond

// behindAfter is how long a new table may take to reach the kernel before this
// member says that it is behind.
const behindAfter = 2 * time.Second

// judges decides for the units of one member whether they are handed over.
type judges struct {
	changed chan struct{} // one slot: the yields changed

	mu     sync.Mutex
	fit    bool   // the member as a whole, as the lease was told
	unfit  string // why not
	yields map[uint64]handover.Decision
	waits  map[uint64]string
	owns   map[uint64]bool // as of the last decision

	// Of run alone:
	history map[uint64]*handover.History
	said    lease.Standing
	behind  time.Time // since when the kernel lags the table; zero: it does not
	table   *fsm.Table
	known   derived // from table
}

// derived is what decisions take from a table, and costs something to find.
type derived struct {
	nets  *handover.Networks
	blind map[uint64]map[fsm.MemberID]fsm.Blindness
}

func derive(t *fsm.Table) derived { return derived{handover.NetworksOf(t), t.Blind()} }

// from is what is derived from the table, which is mostly the one of before.
func (j *judges) from(t *fsm.Table) derived {
	if j.table != t {
		j.table, j.known = t, derive(t)
	}
	return j.known
}

func newJudges() *judges {
	return &judges{
		changed: make(chan struct{}, 1), unfit: "not reported yet",
		yields: map[uint64]handover.Decision{}, waits: map[uint64]string{}, history: map[uint64]*handover.History{},
	}
}

// setFit notes what the lease is told of the member as a whole.
func (j *judges) setFit(ok bool, why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fit, j.unfit = ok, why
}

// yield is to whom a unit should be handed over; nil: to nobody.
func (j *judges) yield(unit uint64) *handover.Decision {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if d, ok := j.yields[unit]; ok {
		return &d
	}
	return nil
}

// offer tells the lease what to hand over. A drained director stands for nothing,
// but keeps what it holds until somebody else takes it: a VIP that is served by
// the wrong director is better than none.
func (j *judges) offer(w *lease.Want, t *fsm.Table, self fsm.MemberID) {
	if j == nil {
		return
	}
	me, _ := t.Member(self)
	for i := range w.Routers {
		r := &w.Routers[i]
		if d := j.yield(r.ID); d != nil {
			r.Yield = &lease.Yield{To: d.To, Why: d.Why, AtOnce: d.Reason == handover.Moved || d.Reason == handover.Leaving}
		}
		j.mu.Lock()
		if r.Rank < 0 && me.Drained && j.owns[r.ID] && len(r.Addrs) > 0 {
			r.Rank = len(t.Members) // behind everybody
		}
		j.mu.Unlock()
	}
}

// waiting says what keeps a unit from where it should be; empty: nothing.
func (j *judges) waiting(unit uint64) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.waits[unit]
}

// judge says what this member is good for, and decides, until ctx ends.
func (m *member) judge(ctx context.Context) error {
	params := m.lease.Params()
	began := time.Now()
	for pause(ctx, judgePoll) {
		t, now := m.d.node.Table(), time.Since(began)
		own := m.standing(t)
		if !reflect.DeepEqual(own, m.judges.said) {
			m.judges.said = own
			m.lease.SetStanding(own)
		}
		st := m.lease.Status()
		owns := map[uint64]bool{}
		for _, r := range st.Routers {
			owns[r.ID] = r.Own
		}
		if m.stands.hear(t, st.Peers, owns, 3*params.Renew) {
			m.units.poke()
		}
		m.judges.decide(factsFor(now, 3*params.Renew, m.id.ID, t, m.judges.from(t), own, owns, st.Peers), m.d.note)
	}
	return nil
}

// standing is what this member says of itself.
func (m *member) standing(t *fsm.Table) lease.Standing {
	applied, whole := m.plane.Applied()
	s := lease.Standing{Behind: m.judges.lags(!whole || applied < t.Revision, time.Now()), Syncing: m.plane.Syncing() > 0}
	m.judges.mu.Lock()
	fit, unfit := m.judges.fit, m.judges.unfit
	m.judges.mu.Unlock()
	me, _ := t.Member(m.id.ID)
	for _, u := range t.Units() {
		us := lease.UnitStanding{Unit: u.ID, Ready: true}
		us.Score, us.Why = m.watch.score(u.ID)
		switch why := m.unfitFor(t, u); {
		case !fit:
			us.Ready, us.Why = false, unfit
		case why != "":
			us.Ready, us.Why = false, why
		case m.barredFor(u) != "":
			us.Ready, us.Why = false, m.barredFor(u)
		case me.Drained:
			us.Ready, us.Why = false, "it is drained"
		case !guardsUnit(t, u, m.guards):
			us.Ready, us.Why = false, "its gate does not hold the addresses yet"
		}
		m.tellStand(t, u, &us)
		s.Units = append(s.Units, us)
	}
	return s
}

// lags reports whether the kernel has been behind the table for a while.
func (j *judges) lags(now bool, at time.Time) bool {
	switch {
	case !now:
		j.behind = time.Time{}
	case j.behind.IsZero():
		j.behind = at
	}
	return now && at.Sub(j.behind) > behindAfter
}

// guardsUnit reports whether the gate holds all addresses of a unit.
func guardsUnit(t *fsm.Table, u fsm.Unit, guards func(netip.Addr) bool) bool {
	for _, id := range u.Routers {
		r, _ := t.Router(id)
		for _, a := range r.Addresses {
			if !guards(a.Prefix.Addr()) {
				return false
			}
		}
	}
	return true
}

// factsFor puts together what each unit's decision rests on.
func factsFor(now, fresh time.Duration, self fsm.MemberID, t *fsm.Table, known derived, own lease.Standing, owns map[uint64]bool, peers []lease.PeerStatus) []handover.Facts {
	lost := known.nets.Lost(hearing(self, fresh, peers))
	ours := map[uint64]lease.UnitStanding{}
	for _, u := range own.Units {
		ours[u.Unit] = u
	}
	units := t.Units()
	others := make(map[uint64]map[fsm.MemberID]handover.Report, len(units))
	for _, u := range units {
		others[u.ID] = make(map[fsm.MemberID]handover.Report, len(peers))
	}
	for _, p := range peers {
		report(others, p)
	}
	out := make([]handover.Facts, 0, len(units))
	for _, u := range units {
		f := handover.Facts{
			Now: now, Table: t, Self: self, Fresh: fresh, Unit: u, Owner: owns[u.ID],
			Own: standingOf(ours[u.ID], own.Behind, own.Syncing), Others: others[u.ID], Lost: lost[u.ID],
		}
		f.Own.Blind = known.blind[u.ID][self]
		for id, is := range known.blind[u.ID] {
			if r, said := f.Others[id]; said {
				r.Blind = is
				f.Others[id] = r
			}
		}
		out = append(out, f)
	}
	return out
}

// hearing says which member addresses a member hears: this one by its paths, the
// others as they told lately.
func hearing(self fsm.MemberID, fresh time.Duration, peers []lease.PeerStatus) func(fsm.MemberID) ([]netip.Addr, bool) {
	heard := map[fsm.MemberID][]netip.Addr{self: nil}
	for _, p := range peers {
		for _, path := range p.Paths {
			if path.Alive && path.Remote.IsValid() {
				heard[self] = append(heard[self], path.Remote.Addr())
			}
		}
		if p.Ago < 0 || p.Ago > fresh {
			continue
		}
		heard[p.ID] = nil
		for _, h := range p.Hears {
			heard[p.ID] = append(heard[p.ID], h.Addr)
		}
	}
	return func(id fsm.MemberID) ([]netip.Addr, bool) { h, ok := heard[id]; return h, ok }
}

func standingOf(u lease.UnitStanding, behind, syncing bool) handover.Standing {
	return handover.Standing{Ready: u.Ready, Behind: behind, Syncing: syncing, Score: u.Score, Why: u.Why}
}

// report adds what a peer said to what was said of each unit. A unit of which it
// does not speak it cannot hold.
func report(of map[uint64]map[fsm.MemberID]handover.Report, p lease.PeerStatus) {
	if p.Ago < 0 {
		return // it has said nothing at all
	}
	for _, said := range of {
		said[p.ID] = handover.Report{Ago: p.Ago}
	}
	for _, u := range p.Units {
		if said := of[u.Unit]; said != nil {
			said[p.ID] = handover.Report{Standing: standingOf(u.UnitStanding, p.Behind, p.Syncing), Ago: max(p.Ago, u.Ago)}
		}
	}
}

// handoverCauses are the journal's words for the reasons.
var handoverCauses = map[handover.Reason]journal.Cause{
	handover.Leaving: journal.ByDrain, handover.Moved: journal.ByMove, handover.FailBack: journal.GoHome,
	handover.Unfit: journal.ToFitter, handover.CutOff: journal.ByCutOff,
}

// handoverEntry records a decision: with who asked for it, where that was a
// person, or else with the reason in a sentence.
func handoverEntry(unit uint64, d handover.Decision, t *fsm.Table, self fsm.MemberID) journal.Entry {
	e := journal.Entry{Kind: journal.Handover, Unit: unit, Cause: handoverCauses[d.Reason], Peers: []fsm.MemberID{d.To}, Text: d.Why}
	me, _ := t.Member(self)
	switch {
	case d.Reason == handover.Moved:
		u, _ := t.Unit(unit)
		e.Text = orderedBy(t, "move", u.Name+" ")
	case d.Reason == handover.Leaving && me.Drained:
		e.Text = orderedBy(t, "member", me.Name+" ")
	case d.Reason == handover.Leaving:
		e.Cause = journal.ByStop
	}
	return e
}

// orderedBy is who was the last to change something that the history's text
// begins with; empty: the history does not go back so far.
func orderedBy(t *fsm.Table, kind, start string) string {
	for _, e := range slices.Backward(t.Events) {
		if e.Kind == kind && strings.HasPrefix(e.Text, start) {
			return e.By
		}
	}
	return ""
}

// decide takes the facts of all units, and records each new decision.
func (j *judges) decide(all []handover.Facts, note func(journal.Entry)) {
	yields, waits, owns := map[uint64]handover.Decision{}, map[uint64]string{}, map[uint64]bool{}
	history := map[uint64]*handover.History{}
	for _, f := range all {
		h := j.history[f.Unit.ID]
		if h == nil {
			h = &handover.History{}
		}
		history[f.Unit.ID], owns[f.Unit.ID] = h, f.Owner
		d := h.Decide(f)
		if d.To != "" {
			yields[f.Unit.ID] = d
		}
		if d.Waits != "" {
			waits[f.Unit.ID] = d.Waits
		}
	}
	j.history = history // of units that are no more nothing is kept
	j.mu.Lock()
	before := j.yields
	j.yields, j.waits, j.owns = yields, waits, owns
	j.mu.Unlock()
	changed := len(before) != len(yields)
	for id, d := range yields {
		if was, ok := before[id]; ok && was.To == d.To {
			continue
		}
		changed = true
		note(handoverEntry(id, d, all[0].Table, all[0].Self))
	}
	if changed {
		poke(j.changed)
	}
}
