package lease

import (
	"net/netip"
	"slices"

	"lbcluster/fsm"
)

// poll is one Probe to all voters.
type poll struct {
	id       uint64
	voters   quorum
	replies  map[fsm.MemberID]Message
	end      int64 // given up after it
	repeatAt int64
}

// round is one Ask to all voters. It ends by majority, timeout or Release, and
// is dead then: what arrives for it later counts nothing (R6).
type round struct {
	seq      uint64
	t0       int64 // read before the first Ask was handed out
	ttl      int64
	addrs    []netip.Addr
	voters   quorum         // frozen when the Ask was sent (R14)
	eager    bool           // handed over to us: a refusal only means that the Release is still on its way
	votes    []fsm.MemberID // a set: a Grant twice is one vote (R4)
	denials  []fsm.MemberID
	repeatAt int64
}

// expire ends what is overdue at now.
func (h *Holder) expire(now int64, c *candidacy) {
	if c.phase == holding && now >= c.deadline {
		h.giveUp(now, c, "the lease ran out: no majority of the voters answered in time")
		return
	}
	h.endForce(now, c)
	if c.phase == holding && c.adopted && !c.confirmed && now >= c.graceEnd() {
		if why := h.bars(c); why != "" {
			h.giveUp(now, c, why)
			return
		}
	}
	if c.poll != nil && now >= c.poll.end {
		h.endPoll(now, c)
	}
	if c.live() && now >= c.round.t0+int64(h.p.Round) {
		h.failRound(now, c)
	}
}

// live reports whether a round is out.
func (c *candidacy) live() bool {
	return c.round != nil && (c.phase == asking || c.phase == holding)
}

// advance starts and repeats what is due at now.
func (h *Holder) advance(now int64) {
	slack := int64(0)
	for _, c := range h.routers {
		if c.phase == holding && c.round == nil && now >= c.renewAt && h.quorum.known() {
			slack = int64(h.p.Renew) / 4 // renew together: one datagram a voter
		}
	}
	for _, id := range slices.Clone(h.order) {
		h.push(now, h.routers[id], slack)
	}
	h.forget()
	h.retransmit(now)
	h.greet(now)
}

func (h *Holder) push(now int64, c *candidacy, slack int64) {
	if len(c.toClose) > 0 && now >= c.closeAt {
		if c.phase == holding && now >= c.goneEnd {
			c.toClose = both(c.toClose, c.want) // the others have closed by themselves
		}
		h.close(now, c)
	}
	switch c.phase {
	case waiting:
		if now >= c.ready() && h.mayProbe(c) {
			h.startPoll(now, c)
		}
	case probing:
		h.repeatPoll(now, c)
	case asking:
		h.repeatAsk(now, c)
	case holding:
		if h.yieldNow(now, c) {
			return
		}
		if c.round == nil && now+slack >= c.renewAt && h.quorum.known() {
			h.startRound(now, c, h.renewal(), h.target(now, c))
		}
		h.repeatAsk(now, c)
	case closing:
		if now >= c.deadline && len(c.toClose) > 0 && now >= c.since {
			c.noRelease = true // never read back, but past the deadline the kernel has closed it
			h.leave(now, c)
		}
	case removing:
		if h.leftAt(c) <= now {
			h.release(now, c)
		}
	}
}

// mayProbe reports whether a waiting candidacy only waits for its time.
func (h *Holder) mayProbe(c *candidacy) bool {
	return len(c.toClose) == 0 && h.quorum.known() && h.barred(c) == "" && !h.busy(c, c.want)
}

// ready is when a waiting candidacy may probe.
func (c *candidacy) ready() int64 { return max(c.notBefore, c.backoff, c.force.from) }

// busy reports whether another router of this member still holds one of addrs:
// an address belongs to one tenure at a time.
func (h *Holder) busy(c *candidacy, addrs []netip.Addr) bool {
	for _, id := range h.order {
		o := h.routers[id]
		if o != c && (overlap(o.held, addrs) || o.round != nil && overlap(o.round.addrs, addrs)) {
			return true
		}
	}
	return false
}

// target is what a renewal names: all that is wanted, but only what is held
// while a round with new addresses has failed lately: a refusal of the new
// must not cost the old (R18).
func (h *Holder) target(now int64, c *candidacy) []netip.Addr {
	wide := without(c.want, c.toClose)
	if now < c.wideAt || h.busy(c, wide) {
		return both(c.held, c.want)
	}
	return wide
}

func (h *Holder) next() uint64 { h.seq++; return h.seq }

func (h *Holder) startPoll(now int64, c *candidacy) {
	h.stats.Probes++
	c.phase = probing
	c.poll = &poll{
		id: h.next(), voters: h.quorumOf(c), replies: map[fsm.MemberID]Message{},
		end: now + int64(h.p.Round), repeatAt: now,
	}
	h.repeatPoll(now, c)
}

func (h *Holder) repeatPoll(now int64, c *candidacy) {
	if c.poll == nil || now < c.poll.repeatAt {
		return
	}
	c.poll.repeatAt = now + int64(h.p.Repeat)
	for _, v := range c.poll.voters.voters() {
		if _, ok := c.poll.replies[v]; !ok {
			h.send(v, Message{Kind: Probe, Router: c.id, Seq: c.poll.id, Tag: c.poll.voters.tag(), Addrs: c.want})
		}
	}
}

// startRound asks all voters. The first round of a tenure has a short ttl, so
// that a lost one blocks the router for a short time only (R6).
func (h *Holder) startRound(now int64, c *candidacy, ttl int64, addrs []netip.Addr) {
	h.stats.Rounds++
	seq := h.next()
	if h.ttlOf != nil && h.ttlOf(seq) > 0 {
		ttl = h.ttlOf(seq)
	}
	c.round = &round{seq: seq, t0: now, ttl: ttl, addrs: slices.Clone(addrs), voters: h.quorumOf(c), repeatAt: now}
	c.last = seq
	for _, v := range c.round.voters.voters() {
		c.asked = with(c.asked, v)
	}
	c.askedUntil = max(c.askedUntil, now+2*ttl+int64(h.p.Guard)) // generous: only ends retransmission
	delete(h.releases, c.id)                                     // void against the new round anyway
	h.repeatAsk(now, c)
}

func (h *Holder) repeatAsk(now int64, c *candidacy) {
	r := c.round
	if !c.live() || now < r.repeatAt {
		return
	}
	r.repeatAt = now + int64(h.p.Repeat)
	if r.eager {
		r.repeatAt = now + int64(h.p.Round)/4
	}
	for _, v := range r.voters.voters() {
		if !slices.Contains(r.votes, v) && (r.eager || !slices.Contains(r.denials, v)) {
			h.ask(c, v)
		}
	}
}

// ask sends the round's Ask to one voter, with its cookie if it is known.
func (h *Holder) ask(c *candidacy, v fsm.MemberID) {
	r := c.round
	h.send(v, Message{
		Kind: Ask, Router: c.id, Seq: r.seq, Tag: r.voters.tag(), TTL: r.ttl, Cookie: h.cookies[v].value, Addrs: r.addrs,
	})
}

// receive takes an answer. It counts only if it echoes this boot and the
// number of what is out now (R4).
func (h *Holder) receive(now int64, m Message) {
	c := h.routers[m.Router]
	fresh := m.Echo == h.boot && h.learn(now, m)
	switch {
	case m.Kind == ReleaseAck:
		h.acked(m)
		return
	case c == nil || m.Echo != h.boot:
	case m.Kind == ProbeReply && c.poll != nil && c.poll.id == m.Seq && slices.Contains(c.poll.voters.voters(), m.From):
		h.polled(now, c, m)
		return
	case c.round != nil && (c.round.seq == m.Seq || h.bug.oldGrants && m.Kind == Grant) && slices.Contains(c.round.voters.voters(), m.From):
		if m.Kind == Deny && m.Reason == NoCookie {
			if fresh && c.live() && !slices.Contains(c.round.votes, m.From) {
				h.ask(c, m.From)
			}
			return
		}
		h.answered(now, c, m)
		return
	case m.Router == 0:
		return // a greeting's answer
	}
	h.stats.Stale++
}

// note keeps why a voter refused, for people.
func (h *Holder) note(now int64, c *candidacy, m Message) {
	c.denied, c.by = m.Reason, m.From
	if m.Reason == Taken {
		c.known, c.knownUntil = m.Holder, now+m.Remaining
	}
	if m.Reason < reasons {
		h.stats.Denials[m.Reason]++
	}
}

// polled counts an answer to a probe: with a majority of free voters the first
// round starts at once; without hope of one the candidate sleeps (rule 3.6).
func (h *Holder) polled(now int64, c *candidacy, m Message) {
	c.poll.replies[m.From] = m
	if m.Reason != Free {
		h.note(now, c, m)
	}
	var free, not []fsm.MemberID
	for v, r := range c.poll.replies {
		if r.Reason == Free {
			free = append(free, v)
		} else {
			not = append(not, v)
		}
	}
	switch {
	case c.poll.voters.won(free):
		c.poll, c.phase = nil, asking
		h.startRound(now, c, int64(h.p.Acquire), c.want)
	case c.poll.voters.lost(not):
		h.endPoll(now, c)
	}
}

// endPoll sleeps until the first known promise ends, and k staggers more; if
// none is known, for a random pause.
func (h *Holder) endPoll(now int64, c *candidacy) {
	left := int64(-1)
	for _, r := range c.poll.replies {
		if r.Reason != Free && r.Remaining > 0 && (left < 0 || r.Remaining < left) {
			left = r.Remaining
		}
	}
	c.phase, c.poll = waiting, nil
	if left < 0 {
		c.backoff = now + h.jitter(c)
		return
	}
	pause := max(left, int64(h.p.Stagger)/8) // not a tight loop at the very end
	c.notBefore = now + pause + h.stagger(c)
}

// answered counts a Grant or a Deny of the round that is out.
func (h *Holder) answered(now int64, c *candidacy, m Message) {
	r := c.round
	switch m.Kind {
	case Grant:
		if !slices.Contains(r.votes, m.From) || h.bug.countMessages {
			r.votes = append(r.votes, m.From)
		}
		if r.voters.won(r.votes) || h.bug.countMessages && len(r.votes) >= majority(len(r.voters.voters())) {
			h.win(now, c)
		}
	case Deny:
		h.note(now, c, m)
		h.remarkDenied(c, m)
		r.denials = with(r.denials, m.From)
		if !r.eager && r.voters.lost(r.denials) {
			h.failRound(now, c)
		}
	}
}

// win opens the gate, or keeps it open, until the deadline of the round's t0 (R7).
func (h *Holder) win(now int64, c *candidacy) {
	r := c.round
	deadline := r.t0 + h.p.usable(r.ttl)
	if h.bug.fromReceipt {
		deadline = now + h.p.usable(r.ttl)
	}
	addrs := without(both(r.addrs, c.want), c.toClose)
	if deadline <= now || len(addrs) == 0 {
		h.failRound(now, c)
		return
	}
	h.stats.Won++
	c.round, c.failures = nil, 0
	h.emit(Arm{Router: c.id, Addrs: addrs, Deadline: deadline, Round: r.seq})
	if c.phase == holding {
		h.renewed(c, r, addrs, deadline)
		return
	}
	h.stats.Acquired++
	c.phase, c.held, c.deadline, c.wideAt, c.began = holding, addrs, deadline, 0, now
	c.renewAt = now // the short first ttl is followed by a whole one at once
	c.denied = Free
	h.emit(Acquired{c.id, addrs, deadline})
}

func (h *Holder) renewed(c *candidacy, r *round, addrs []netip.Addr, deadline int64) {
	c.renewAt = r.t0 + int64(h.p.Renew)
	if slices.Equal(addrs, c.held) {
		c.deadline = max(c.deadline, deadline)
		return
	}
	// New addresses end with the round that named them, so the tenure does.
	c.held, c.deadline = addrs, deadline
	h.emit(Acquired{c.id, addrs, deadline})
}

// failRound marks the round dead first of all. A holder tries again and holds
// on until its deadline, without a Release (R13); a candidate closes the gate,
// which it never opened, and then releases (R6, R8).
func (h *Holder) failRound(now int64, c *candidacy) {
	r := c.round
	h.stats.Failed++
	h.remarkLostRound(now, c, r)
	if c.phase == holding {
		c.round = nil
		if len(without(r.addrs, c.held)) > 0 {
			c.wideAt, c.renewAt = now+4*int64(h.p.Renew), now
			return
		}
		c.renewAt = max(now, r.t0+int64(h.p.Round))
		return
	}
	h.giveUp(now, c, "")
}
