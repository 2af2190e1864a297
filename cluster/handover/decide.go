package handover

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"lbcluster/fsm"
)

const (
	// Dwell is how long a director must have been fit enough before a unit goes
	// to it because it is fitter, and how long an owner keeps what it has just got.
	Dwell = 5 * time.Second
	// Grace is how long the owner's own fitness may be down before that counts:
	// each new table is behind for a moment.
	Grace = time.Second
)

// Reason is why a unit is handed over.
type Reason string

// Reasons, the first that holds counts.
const (
	None     Reason = ""
	Leaving  Reason = "leaving"   // drained, leaving or not standing any more
	Moved    Reason = "moved"     // by an operator
	CutOff   Reason = "cut off"   // the network of the VIP is dead for the owner
	Unfit    Reason = "fitness"   // another director is fitter
	FailBack Reason = "fail-back" // home again
)

// Decision says whether to hand over; To empty: stay.
type Decision struct {
	To     fsm.MemberID
	Reason Reason
	Why    string // a sentence for people
	// Waits says what keeps the unit from where it should be; empty: nothing.
	Waits string
}

// History is what a member remembers of one unit. The zero value knows nothing.
// Not safe for concurrent use.
type History struct {
	own    window // of the own quality, Grace long
	others map[fsm.MemberID]*peer
	owned  time.Duration // when Self got it
	owner  bool
	cut    int           // decisions in a row in which Self was cut off
	blind  bool          // Self is
	since  time.Duration // then
}

type peer struct {
	window
	well time.Duration // fit to hold the unit since; negative: it is not
}

// confirm is in how many decisions in a row the owner must be cut off.
const confirm = 2

// Decide takes the facts of this moment, and says whether Self, if it is the
// owner, should hand the unit over. Calling it also while Self is not the owner
// tells a new owner what the others were like before.
func (h *History) Decide(f Facts) Decision {
	f.Own.Blind = h.lasts(f.Now, f.Own.Blind)
	h.observe(f)
	if !f.Owner {
		return Decision{}
	}
	j := &judge{Facts: f, h: h}
	for _, r := range f.Table.Order(f.Unit.ID) {
		if r != f.Self && j.takes(r) {
			j.ready = append(j.ready, r)
		}
	}
	return cmp.Or(j.leaving(), j.moved(), j.cutOffHere(), j.fitness(), j.failBack(), Decision{Waits: j.waits})
}

// lasts is how blind Self is, once that cannot be because the others have not looked
// yet: a rack of servers that dies is no reason to move a VIP. The others it judges by
// what they see now: nothing is handed to one that is about to find them dead too.
func (h *History) lasts(now time.Duration, b fsm.Blindness) fsm.Blindness {
	if is := b.Why != ""; is != h.blind {
		h.blind, h.since = is, now
	}
	if now-h.since < b.Wait.D() {
		return fsm.Blindness{}
	}
	return b
}

// observe keeps the windows.
func (h *History) observe(f Facts) {
	if f.Owner && !h.owner {
		h.owned = f.Now
	}
	h.owner = f.Owner
	h.own.add(f.Now, f.Own.quality(), Grace)
	if h.others == nil {
		h.others = map[fsm.MemberID]*peer{}
	}
	for _, m := range f.Table.Members {
		if m.ID == f.Self {
			continue
		}
		p := h.others[m.ID]
		if p == nil {
			p = &peer{well: -1}
			h.others[m.ID] = p
		}
		q := unknown
		if r, ok := f.fresh(m.ID); ok && !f.Lost[m.ID] {
			q = r.quality()
		}
		p.add(f.Now, q, Dwell)
		switch {
		case !q.well:
			p.well = -1
		case p.well < 0:
			p.well = f.Now
		}
	}
	for id := range h.others {
		if _, ok := f.Table.Member(id); !ok {
			delete(h.others, id)
		}
	}
	h.cut++
	if !f.Owner || !f.Lost[f.Self] {
		h.cut = 0
	}
}

// judge is one decision.
type judge struct {
	Facts
	h     *History
	ready []fsm.MemberID // directors that take the unit, in the table's order
	waits string
}

// takes reports whether a director can hold the unit now.
func (j *judge) takes(id fsm.MemberID) bool {
	r, ok := j.fresh(id)
	m, known := j.Table.Member(id)
	return ok && known && r.Ready && !m.Drained && m.Role == fsm.Director && m.State == fsm.Present && !j.Lost[id]
}

// fittest is the first of the best among those that take the unit.
func (j *judge) fittest(of func(fsm.MemberID) quality) fsm.MemberID { return j.fittestOf(j.ready, of) }

func (j *judge) fittestOf(all []fsm.MemberID, of func(fsm.MemberID) quality) (best fsm.MemberID) {
	for _, id := range all {
		if best == "" || of(id).compare(of(best)) > 0 {
			best = id
		}
	}
	return best
}

// knowing are those that take the unit and know its connections. What is planned
// waits for one: in a few seconds each director has heard of them all.
func (j *judge) knowing() []fsm.MemberID {
	return slices.DeleteFunc(slices.Clone(j.ready), func(id fsm.MemberID) bool { return j.Others[id].Syncing })
}

// unheard is said of one that is not among them.
const unheard = "has not heard of all its connections yet"

// present is what a director is like now, lasting what it was at worst lately.
func (j *judge) present(id fsm.MemberID) quality { return j.Others[id].quality() }
func (j *judge) lasting(id fsm.MemberID) quality { return j.h.others[id].worst(j.Now, Dwell) }

// dwelt reports whether this member had the unit for long enough to judge.
func (j *judge) dwelt() bool { return j.Now-j.h.owned >= Dwell }

func (j *judge) leaving() Decision {
	me, ok := j.Table.Member(j.Self)
	var what string
	switch {
	case ok && me.Drained:
		what = "is drained"
	case ok && me.State == fsm.Leaving:
		what = "leaves the cluster"
	case !slices.Contains(j.Table.Order(j.Unit.ID), j.Self):
		what = "does not stand for it any more"
	default:
		return Decision{}
	}
	what = j.name(j.Self) + " " + what
	to := j.fittest(j.present)
	if to == "" {
		return Decision{Waits: what + ", but no other director is ready"}
	}
	if knowing := j.fittestOf(j.knowing(), j.present); knowing != "" {
		to = knowing
	} else {
		return Decision{Waits: fmt.Sprintf("%s, but %s %s", what, j.name(to), unheard)}
	}
	return Decision{To: to, Reason: Leaving, Why: what}
}

func (j *judge) moved() Decision {
	to, ok := j.Table.Asked(j.Unit.ID)
	if !ok || to == j.Self {
		return Decision{}
	}
	if why := j.refuses(to); why != "" {
		j.waits = fmt.Sprintf("an operator moved it to %s, but %s", j.name(to), why)
		return Decision{}
	}
	return Decision{To: to, Reason: Moved, Why: "an operator moved it to " + j.name(to)}
}

// refuses says why a director that should have the unit does not get it; empty:
// it does. One that is less fit would hand it back.
func (j *judge) refuses(id fsm.MemberID) string {
	r, ok := j.fresh(id)
	switch {
	case !ok:
		return "nothing was heard from it lately"
	case !r.Ready:
		return "it is not ready" + because(r.Why)
	case !slices.Contains(j.ready, id):
		return "it cannot hold it"
	case r.quality().compare(j.h.own.best()) < 0:
		return "it is less fit" + because(cmp.Or(r.Blind.Why, r.Why))
	case j.lasting(id).compare(j.h.own.best()) < 0:
		return fmt.Sprintf("it has been as fit for less than %v", Dwell)
	case r.Syncing:
		return "it " + unheard
	}
	return ""
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func (j *judge) cutOffHere() Decision {
	if j.h.cut < confirm {
		return Decision{}
	}
	what := fmt.Sprintf("%s neither hears nor is heard on the network of the VIP, on which others hear each other", j.name(j.Self))
	to := j.fittest(j.present)
	if to == "" {
		j.waits = what + "; no other director is ready"
		return Decision{}
	}
	return Decision{To: to, Reason: CutOff, Why: what}
}

func (j *judge) fitness() Decision {
	own := j.h.own.best()
	to := j.fittest(j.lasting)
	if to == "" || !j.dwelt() || j.lasting(to).compare(own) <= 0 {
		if j.Own.Blind.Why != "" && !own.well {
			j.waits = cmp.Or(j.waits, fmt.Sprintf("%s has a bad view: %s; no other director is fitter", j.name(j.Self), j.Own.Blind.Why))
		}
		return Decision{}
	}
	d := Decision{To: to, Reason: Unfit}
	switch q := j.present(to); {
	case !own.ready:
		d.Why = fmt.Sprintf("%s is not ready for it%s", j.name(j.Self), because(j.Own.Why))
	case !own.well && j.Own.Blind.Why != "":
		d.Why = fmt.Sprintf("%s has a worse view of the real servers than %s: %s", j.name(j.Self), j.name(to), j.Own.Blind.Why)
	case !own.well:
		d.Why = fmt.Sprintf("%s is behind what the cluster agreed on, %s is not", j.name(j.Self), j.name(to))
	default:
		d.Why = fmt.Sprintf("%s has the score %d%s; %s has %d", j.name(j.Self), own.score, because(j.Own.Why), j.name(to), q.score)
	}
	return d
}

func (j *judge) failBack() Decision {
	auto, after := j.Table.Settings.FailsBack()
	place, _ := j.Table.Place(j.Unit.ID)
	home := j.Table.Home(j.Unit.ID)
	if !auto || place.Moved != "" || home == "" || home == j.Self {
		return Decision{}
	}
	if why := j.refuses(home); why != "" {
		j.waits = cmp.Or(j.waits, fmt.Sprintf("its home is %s, but %s", j.name(home), why))
		return Decision{}
	}
	p := j.h.others[home]
	if p.well < 0 || j.Now-p.well < after || !j.dwelt() {
		j.waits = cmp.Or(j.waits, fmt.Sprintf("its home %s gets it when it has been well for %v", j.name(home), after))
		return Decision{}
	}
	return Decision{To: home, Reason: FailBack, Why: fmt.Sprintf("its home %s has been well for %v", j.name(home), after)}
}

func (j *judge) name(id fsm.MemberID) string {
	if m, ok := j.Table.Member(id); ok {
		return m.Name
	}
	return string(id)
}
