package lease

import (
	"net/netip"
	"slices"

	"lbcluster/fsm"
)

// releasing is a Release that not all voters have acknowledged.
type releasing struct {
	seq    uint64
	left   []fsm.MemberID
	hint   fsm.MemberID // whom the router is handed over to; it hears of it too
	enough int          // so many may be left for the next holder to get its majority
	nextAt int64
	until  int64 // the promises have run out by then
}

// giveUp starts the way out: gate closed and read back -> owner told -> its
// addresses removed, 20 ms at most -> Release (R8). What is not asked for or
// held only stops waiting.
func (h *Holder) giveUp(now int64, c *candidacy, why string) {
	switch c.phase {
	case probing:
		c.phase, c.poll = waiting, nil
	case asking, holding:
		c.tell, c.why = c.phase == holding, why
		if c.tell && c.wanted && c.hint == "" {
			c.hint = c.heir
		}
		addrs := c.held
		if c.round != nil {
			addrs = append(slices.Clone(addrs), without(c.round.addrs, addrs)...)
		}
		if c.phase == asking {
			c.deadline = never
		}
		c.backoff = now + h.jitter(c)
		c.phase, c.since = closing, now+int64(h.p.Settle)
		if !h.bug.lateGrants {
			c.round = nil
		}
		h.part(now, c, addrs)
	}
}

// part closes the gate; what follows waits for the read-back.
func (h *Holder) part(now int64, c *candidacy, addrs []netip.Addr) {
	if h.bug.noClose {
		h.leave(now, c)
		return
	}
	if h.bug.releaseFirst {
		h.releases[c.id] = &releasing{seq: c.last, left: slices.Clone(c.asked), nextAt: now, until: c.askedUntil}
		h.retransmit(now)
	}
	h.shut(now, c, addrs)
}

// leave follows the gate's read-back.
func (h *Holder) leave(now int64, c *candidacy) {
	c.held = nil
	if !c.tell {
		h.release(now, c)
		return
	}
	h.stats.Lost++
	c.phase, c.since, c.gone = removing, now, false
	h.emit(Lost{c.id, c.why, c.wanted && c.hint == "" && h.barred(c) != ""})
}

// leftAt is when the owner is not waited for any longer.
func (h *Holder) leftAt(c *candidacy) int64 {
	if c.gone {
		return c.since + int64(h.p.Settle) // packets in flight on other CPUs
	}
	return c.since + int64(h.p.RemoveWait)
}

// release frees the voters that may have promised.
func (h *Holder) release(now int64, c *candidacy) {
	c.phase = waiting
	if !c.noRelease && len(c.asked) > 0 {
		h.stats.Released++
		h.releases[c.id] = &releasing{seq: c.last, left: c.asked, enough: len(c.asked) - majority(len(c.asked)), nextAt: now, until: c.askedUntil}
		h.passOn(now, c)
	}
	c.asked, c.askedUntil, c.noRelease, c.tell, c.deadline = nil, 0, false, false, never
	c.hint, c.adopted, c.confirmed = "", false, false
}

// retransmit repeats each Release until acknowledged, or void.
func (h *Holder) retransmit(now int64) {
	for _, id := range sortedKeys(h.releases) {
		r := h.releases[id]
		if now >= r.until || len(r.left) == 0 {
			delete(h.releases, id)
			continue
		}
		if now < r.nextAt {
			continue
		}
		r.nextAt = now + int64(h.p.Repeat)
		if r.hint != "" {
			r.nextAt = now + int64(h.p.Round)/4
		}
		for _, v := range r.left {
			h.send(v, Message{Kind: Release, Router: id, Seq: r.seq, Hint: r.hint})
		}
	}
}

func (h *Holder) acked(m Message) {
	r := h.releases[m.Router]
	if r == nil || r.seq != m.Seq || m.Echo != h.boot {
		h.stats.Stale++
		return
	}
	r.left = without(r.left, []fsm.MemberID{m.From})
	if len(r.left) == 0 {
		delete(h.releases, m.Router)
	}
}
