package lease

import (
	"slices"

	"lbcluster/fsm"
)

// handed remembers the last handover to this member, so that its copies start
// nothing new.
type handed struct {
	from  identity
	seq   uint64
	until int64 // copies count until then: the voters' reserve is over
}

// yieldNow starts a planned handover when it is time: from here on it is a way
// out like any other (R8), and the Release names who is next.
func (h *Holder) yieldNow(now int64, c *candidacy) bool {
	if now < h.yieldDue(c) {
		return false
	}
	to, why := c.yield.To, c.yield.Why
	c.hint, c.yield = to, nil
	h.giveUp(now, c, "handed over to "+string(to)+because(why))
	return true
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// yieldDue is when a held router may be handed over; forever: it stays. A
// tenure lasts a while, so that nothing goes to and fro by itself.
func (h *Holder) yieldDue(c *candidacy) int64 {
	if c.phase != holding || c.yield == nil || c.yield.To == h.self {
		return forever
	}
	if c.yield.AtOnce {
		return c.began
	}
	return c.began + int64(h.p.tenure())
}

// passOn makes the Release of a handover name the next holder, who hears it
// too, voter or not; and this member stands again only once the next one had
// its chance.
func (h *Holder) passOn(now int64, c *candidacy) {
	if c.hint == "" {
		return
	}
	r := h.releases[c.id]
	r.hint = c.hint
	if !slices.Contains(r.left, c.hint) {
		r.left = append(slices.Clone(r.left), c.hint)
	}
	c.backoff = max(c.backoff, now+int64(h.p.reserve())+int64(h.p.Round))
}

// offered takes a Release that hands a router to this member: it asks at once,
// without probe and stagger. Safe whoever sends it, for it is an Ask like any
// other; a refusal only says that a voter has not heard the Release yet.
func (h *Holder) offered(now int64, m Message) {
	c := h.routers[m.Router]
	if c == nil || m.Hint != h.self || m.From == h.self {
		return
	}
	if who := (identity{m.From, m.Boot}); c.handed.from != who || c.handed.seq < m.Seq {
		c.handed = handed{who, m.Seq, now + int64(h.p.reserve())}
	}
	if c.phase != waiting && c.phase != probing || now >= c.handed.until || !h.mayProbe(c) {
		return
	}
	c.poll, c.phase = nil, asking
	h.startRound(now, c, int64(h.p.Acquire), c.want)
	c.round.eager, c.round.repeatAt = true, now+int64(h.p.Round)/4
}

// ready reports whether a member said a moment ago that it could hold the
// router at once.
func (l *loop) ready(id fsm.MemberID, router uint64) bool {
	t := l.told[id]
	if t == nil || t.behind {
		return false
	}
	u, ok := t.units[router]
	return ok && u.Ready && l.clocks.Boot()-u.at < hearingRenews*int64(l.d.cfg.Params.Renew)
}

// yields tells the holder which handovers are possible now; anew: also what it
// was told before, for a router may have gone and come back.
func (l *loop) yields(anew bool) {
	for _, r := range l.want.Routers {
		var y Yield
		if r.Yield != nil && l.ready(r.Yield.To, r.ID) {
			y = *r.Yield
		}
		if l.yielding[r.ID] != y || anew && y.To != "" {
			l.yielding[r.ID] = y
			l.queue = append(l.queue, Yielding{r.ID, y})
		}
	}
	for id := range l.yielding {
		if !slices.ContainsFunc(l.want.Routers, func(r Router) bool { return r.ID == id }) {
			delete(l.yielding, id)
		}
	}
}

// heirs tells the holder who is ready to take each router, should it be given up
// now: because the process ends, or because this member became unfit.
func (l *loop) heirs() {
	for _, r := range l.want.Routers {
		i := slices.IndexFunc(r.Next, func(id fsm.MemberID) bool { return l.ready(id, r.ID) })
		var to fsm.MemberID
		if i >= 0 {
			to = r.Next[i]
		}
		l.queue = append(l.queue, Heir{r.ID, to})
	}
}
