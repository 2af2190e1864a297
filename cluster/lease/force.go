package lease

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lbcluster/fsm"
)

// force is an operator's word, for one router, that some voters are dead: see
// [Driver.Force].
type force struct {
	absent []fsm.MemberID // empty: none is in force
	from   int64          // no round before: what the absent promised has run out by then
	until  int64
	over   string // why the last one ended, for people
}

// Force lets this member win a router while a majority of the voters is gone
// for good: those named count as absent and every other voter must grant. It
// is for an operator who has made sure that the absent are switched off.
//
// The first round waits for [Params.Embargo], by which time any promise of
// the absent has run out; with every other voter's promise no lease of others
// can exist then, but by Grants of the absent alone. Should one of them live
// after all, the first authentic packet heard of it ends the force at once and
// closes the gate; so do until, and a Force with nobody absent. The force does
// not outlive the process. It does not wait; what comes of it is in Status.
func (d *Driver) Force(unit uint64, absent []fsm.MemberID, until time.Time) {
	left := min(time.Until(until), maxForce)
	replace(d.force, Forced{unit, slices.Clone(absent), d.clocks.Boot() + int64(max(0, left))})
}

// maxForce bounds a force, as a slip of whoever gave until.
const maxForce = 24 * time.Hour

// quorumOf is whose Grants count for c now.
func (h *Holder) quorumOf(c *candidacy) quorum {
	q := h.quorum
	q.absent = c.force.absent
	return q
}

// forced takes an operator's word, or takes it back.
func (h *Holder) forced(now int64, e Forced) {
	c := h.routers[e.Router]
	if c == nil {
		return
	}
	h.unforce(now, c, "taken back")
	absent := without(e.Absent, []fsm.MemberID{h.self})
	if len(absent) == 0 || e.Until <= now {
		return
	}
	if c.phase == holding {
		c.force.over = "not needed: this member holds it"
		return
	}
	c.force = force{absent: absent, from: now + int64(h.p.Embargo()), until: e.Until}
	if h.bug.noForceWait {
		c.force.from = now
	}
	if c.phase == probing {
		c.phase, c.poll = waiting, nil
	}
}

// alive ends every force that counts a member as absent that is not.
func (h *Holder) alive(now int64, from fsm.MemberID) {
	for _, id := range h.order {
		if c := h.routers[id]; slices.Contains(c.force.absent, from) && !h.bug.forceOn {
			h.unforce(now, c, fmt.Sprintf("%s, which counted as absent, is heard", from))
		}
	}
}

// endForce ends a force that ran out.
func (h *Holder) endForce(now int64, c *candidacy) {
	if len(c.force.absent) > 0 && now >= c.force.until {
		h.unforce(now, c, "its time is over")
	}
}

// unforce ends a force and what was won by it.
func (h *Holder) unforce(now int64, c *candidacy, why string) {
	if len(c.force.absent) == 0 {
		return
	}
	c.force = force{over: why}
	h.giveUp(now, c, "the force is over: "+why)
}

// String says what is in force, for people; empty: nothing.
func (f force) String() string {
	if len(f.absent) == 0 {
		return ""
	}
	var ids []string
	for _, id := range f.absent {
		ids = append(ids, string(id))
	}
	return "without " + strings.Join(ids, ", ") + ", by an operator's word"
}
