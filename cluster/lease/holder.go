package lease

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"

	"lbcluster/fsm"
)

// Holder is one member's side of wanting: it stands for routers, renews what
// it won and gives it up in the safe order. It is a pure machine: events and
// the time go in, outputs come out. All times are ns of one clock of the
// caller's, the gate's clock CLOCK_BOOTTIME in the daemon (R10), read before
// Step is called, so that an Ask leaves after its t0 (R6). Not safe for
// concurrent use.
type Holder struct {
	self   fsm.MemberID
	boot   Nonce
	p      Params
	rng    *rand.Rand
	voters fsm.VoterSet // committed
	quorum quorum       // of voters and what was appended later (R14)
	fit    bool
	now    int64  // of the Step
	unfit  string // why
	named  bool   // a Wanted has come
	ending bool
	// stretched: renewals ask for TTLMax: see [Driver.Stretch].
	stretched bool
	seq       uint64 // last round or probe of any router. Invariant: never used twice with this boot (R4)

	routers  map[uint64]*candidacy
	cookies  map[fsm.MemberID]learned // of voters
	order    []uint64                 // of routers, ascending: steps are deterministic
	releases map[uint64]*releasing
	out      []Output
	stats    HolderStats
	notes    []note // for the record
	bug      holderBugs
	hasty    bool                   // tests: no first chance, so that more happens in a run
	ttlOf    func(seq uint64) int64 // tests: another ttl for this round; 0: as usual
}

// HolderStats counts what a holder did since it started.
type HolderStats struct {
	Probes, Rounds, Won, Failed uint64
	Acquired, Lost, Released    uint64
	Stale                       uint64 // answers to a round or probe that is over
	Denials                     [reasons]uint64
}

// holderBugs leaves rules out, so that tests can show what each is for.
type holderBugs struct {
	fromReceipt   bool // M03: the deadline counts from the last Grant
	countMessages bool // M08: Grants are counted, not voters
	oldGrants     bool // M09: Grants of an earlier round count
	lateGrants    bool // M11: a round lives on after its Release
	releaseFirst  bool // M12: Release before the gate is closed
	noClose       bool // M13: neither at the start nor before a Release
	oneSet        bool // R14: a majority of the latest appended configuration will do
	noForceWait   bool // a forced round does not wait for what the absent may have promised
	forceOn       bool // a forced lease goes on when an absent voter is heard
}

// phase is a candidacy's state.
type phase uint8

const (
	waiting  phase = iota // until notBefore, and until toClose is empty
	probing               // a probe is out
	asking                // the first round of a tenure is out
	holding               // the lease is ours until deadline
	closing               // the gate is being closed before a Release
	removing              // the owner is removing the addresses
)

var phaseNames = [...]string{"waiting", "probing", "asking", "holding", "closing", "removing"}

func (p phase) String() string { return phaseNames[p] }

// candidacy is a router that this member stands for, holds, or gives up.
type candidacy struct {
	id     uint64
	want   []netip.Addr
	rank   int
	unfit  string // why it cannot be used here; empty: it can
	wanted bool   // named by the last Wanted
	phase  phase

	// toClose must be read back as 0 before anything names them: addresses
	// whose gate a predecessor may have left open, and those being given up (R8).
	toClose []netip.Addr
	closeAt int64 // next try
	goneEnd int64 // when the gate of addresses no longer wanted closes by itself

	notBefore int64 // waiting: no probe before
	heard     bool  // the own voter has promised it to somebody
	backoff   int64 // no probe before, whatever the own voter says

	poll  *poll
	round *round

	held     []netip.Addr // what the gate is open for
	deadline int64
	renewAt  int64
	wideAt   int64 // no round with new addresses before

	last       uint64         // latest round
	asked      []fsm.MemberID // voters that may have promised since the last Release
	askedUntil int64          // when the last of those promises ends, by this clock

	hint     fsm.MemberID // of giving up: whom it is handed over to
	yield    *Yield       // to whom it may be handed over now
	failures int          // rounds and polls in a row that were not won
	heir     fsm.MemberID // whom giving up names, if nobody else is named
	began    int64        // when the tenure began
	handed   handed       // the last handover to us
	force    force
	adopted  bool // a predecessor won it and this process goes on with it
	// confirmed: nothing keeps this member from it any more since it was adopted.
	confirmed bool

	tell      bool   // closing: the owner has to be told
	noRelease bool   // the gate could not be read back: the promises run out instead
	why       string // of giving up
	since     int64  // removing: from
	gone      bool   // removing: the owner is done

	denied Reason // last denial, for people
	by     fsm.MemberID
	// known is who holds it, as far as this member heard, until knownUntil.
	known      fsm.MemberID
	knownUntil int64
}

// NewHolder starts a holder that wants nothing and is not fit.
func NewHolder(self fsm.MemberID, boot Nonce, p Params, rng *rand.Rand) *Holder {
	return &Holder{
		self: self, boot: boot, p: p, rng: rng, unfit: "not yet reported as fit",
		routers: map[uint64]*candidacy{}, releases: map[uint64]*releasing{}, cookies: map[fsm.MemberID]learned{},
	}
}

// Stats returns the counters.
func (h *Holder) Stats() HolderStats { return h.stats }

// Idle reports whether nothing is held or asked for, and a majority of the
// voters knows of each Release.
func (h *Holder) Idle() bool {
	for _, c := range h.routers {
		if c.phase != waiting && c.phase != probing {
			return false
		}
	}
	for _, r := range h.releases {
		if len(r.left) > r.enough {
			return false
		}
	}
	return true
}

// Step handles one event. What is overdue at now is ended first, so that an
// answer that was read late finds its round dead, whichever the caller
// delivers first. An event that is about one router touches no other: what else
// is due at now is [Holder.Next]'s to say, and a Tick's to do.
func (h *Holder) Step(now int64, ev Event) []Output {
	h.out, h.now = nil, now
	if id, one := about(ev); one {
		if c := h.routers[id]; c != nil {
			h.expire(now, c)
		}
		h.event(now, ev)
		if c := h.routers[id]; c != nil {
			h.push(now, c, 0)
		}
		h.retransmit(now)
		return h.out
	}
	for _, id := range h.order {
		h.expire(now, h.routers[id])
	}
	h.event(now, ev)
	h.advance(now)
	return h.out
}

// about is the one router that an event is about; false: it may be about more.
func about(ev Event) (uint64, bool) {
	switch e := ev.(type) {
	case Received:
		return e.Msg.Router, true
	case Heir:
		return e.Router, true
	case Yielding:
		return e.Router, true
	case GateClosed:
		return e.Router, true
	case Removed:
		return e.Router, true
	case Promised:
		return e.Router, true
	}
	return 0, false
}

func (h *Holder) event(now int64, ev Event) {
	switch e := ev.(type) {
	case Wanted:
		h.want(now, e)
	case Received:
		if e.Msg.Kind == Release {
			h.offered(now, e.Msg)
			return
		}
		h.receive(now, e.Msg)
	case Heir:
		if c := h.routers[e.Router]; c != nil {
			c.heir = e.To
		}
	case Yielding:
		if c := h.routers[e.Router]; c != nil {
			c.yield = nil
			if e.To != "" {
				c.yield = &e.Yield
			}
		}
	case resumed:
		h.resume(now, e)
	case Forced:
		h.forced(now, e)
	case Stretch:
		h.stretch(now)
	case Alive:
		h.alive(now, e.From)
	case GateClosed:
		h.closed(now, e)
	case GateFailed:
		if c := h.routers[e.Router]; c != nil {
			h.giveUp(now, c, "the gate cannot be opened")
			c.backoff = now + 5*int64(h.p.TTL) // let somebody with a gate go first
		}
	case Removed:
		if c := h.routers[e.Router]; c != nil && c.phase == removing {
			c.gone = true
		}
	case Promised:
		h.promised(now, e)
	case Fit:
		h.fit, h.unfit = e.OK, e.Reason
		h.dropUnfit(now)
	case Resign:
		h.ending = true
		h.dropUnfit(now)
	}
}

// stretch renews all that is held with the longest ttl that voters accept.
func (h *Holder) stretch(now int64) {
	h.stretched = true
	for _, id := range h.order {
		if c := h.routers[id]; c.phase == holding {
			c.round, c.renewAt = nil, now // a round that is out has the short ttl
		}
	}
}

// renewal is the ttl of a renewal.
func (h *Holder) renewal() int64 {
	if h.stretched {
		return int64(h.p.TTLMax)
	}
	return int64(h.p.TTL)
}

// dropUnfit gives up what may not be held any longer.
func (h *Holder) dropUnfit(now int64) {
	for _, id := range h.order {
		c := h.routers[id]
		h.confirm(c)
		if why := h.barred(c); why != "" {
			h.giveUp(now, c, why)
		}
	}
}

// barred says why the member may not stand for c, nor hold it; "": it may.
func (h *Holder) barred(c *candidacy) string {
	switch {
	case h.ending:
		return "the daemon stops"
	case h.spared(c):
		return ""
	}
	return h.bars(c)
}

// bars says what of this member's own situation keeps it from c.
func (h *Holder) bars(c *candidacy) string {
	switch {
	case !h.named:
		return "not yet told what is wanted"
	case !c.wanted:
		return "the router is gone"
	case len(c.want) == 0:
		return "the router has no address"
	case c.rank < 0:
		return "this member does not stand for it"
	case c.unfit != "":
		return "not fit for it: " + c.unfit
	case !h.fit:
		return "not fit: " + h.unfit
	}
	return ""
}

// want takes over a new wish: routers appear, change their addresses or go.
func (h *Holder) want(now int64, w Wanted) {
	h.voters, h.quorum, h.named = w.Committed, joint(w.Committed, w.Appended), true
	if h.bug.oneSet && len(w.Appended) > 0 {
		h.quorum.sets = h.quorum.sets[len(h.quorum.sets)-1:]
	}
	for _, c := range h.routers {
		c.wanted = false
	}
	for _, r := range w.Routers {
		c := h.routers[r.ID]
		if c == nil {
			c = &candidacy{id: r.ID, rank: r.Rank, deadline: never}
			c.handed.until, c.notBefore = never, now+h.stagger(c)+h.firstChance(c)
			h.routers[r.ID] = c
		}
		c.wanted, c.rank, c.unfit = true, r.Rank, r.Unfit
		if !h.spared(c) || len(without(c.held, r.Addrs)) == 0 {
			h.rename(now, c, r.Addrs)
		}
	}
	h.order = slices.Sorted(maps.Keys(h.routers))
	h.dropUnfit(now)
	h.forget()
}

// rename gives c new addresses. What is new is closed before it is named; what
// is gone is closed at once and named no more (R18).
func (h *Holder) rename(now int64, c *candidacy, addrs []netip.Addr) {
	addrs = slices.Clone(addrs)
	slices.SortFunc(addrs, netip.Addr.Compare)
	addrs = slices.Compact(addrs)
	fresh, old := without(without(addrs, c.want), c.held), c.want
	c.want = addrs
	if c.phase == holding {
		h.narrow(now, c)
	} else if !slices.Equal(old, addrs) && c.phase == probing {
		c.phase, c.poll = waiting, nil
	}
	if len(fresh) > 0 && !h.bug.noClose {
		h.shut(now, c, fresh)
	}
}

// narrow closes what is held but not wanted any more, and tells the owner. A
// tenure none of whose addresses is left ends.
func (h *Holder) narrow(now int64, c *candidacy) {
	gone := without(c.held, c.want)
	if len(gone) == 0 {
		return
	}
	if len(gone) == len(c.held) {
		h.giveUp(now, c, "the router has other addresses")
		return
	}
	c.held, c.round, c.renewAt, c.goneEnd = both(c.held, c.want), nil, now, now+int64(h.p.TTLMax) // no gate is armed for longer
	h.shut(now, c, gone)
	h.emit(Acquired{c.id, c.held, c.deadline})
}

// shut closes the gate of addrs and remembers to until it is read back.
func (h *Holder) shut(now int64, c *candidacy, addrs []netip.Addr) {
	for _, a := range addrs {
		c.toClose = with(c.toClose, a)
	}
	h.close(now, c)
}

// close asks for what is to be closed, and again until it was read back: soon
// while a Release waits for it, at leisure while the gate may only be late to
// learn of a new address.
func (h *Holder) close(now int64, c *candidacy) {
	if len(c.toClose) == 0 {
		return
	}
	c.closeAt = now + int64(h.p.Repeat)
	if c.phase == closing {
		c.closeAt = now + int64(h.p.Settle) + 1
	}
	h.emit(CloseGate{Router: c.id, Addrs: slices.Clone(c.toClose), Round: h.seq, Whole: c.phase != holding})
}

// closed notes which addresses were read back as 0.
func (h *Holder) closed(now int64, e GateClosed) {
	c := h.routers[e.Router]
	if c == nil || !e.OK {
		return // tried again at closeAt
	}
	c.toClose = without(c.toClose, e.Addrs)
	if c.phase == closing && len(c.toClose) == 0 {
		h.leave(now, c)
	}
	h.forget()
}

// promised hears what the own voter promised: the cheapest way to know that
// somebody else holds the router, and when to stand (rule 3.6).
func (h *Holder) promised(now int64, e Promised) {
	c := h.routers[e.Router]
	if c == nil || e.Holder == h.self && c.phase != waiting {
		return
	}
	c.known, c.knownUntil = e.Holder, now+e.Remaining
	after := now + max(0, e.Remaining) + h.stagger(c)
	switch {
	case e.Remaining > 0:
		c.heard, c.notBefore = true, after
	case c.heard: // released early
		c.heard, c.notBefore = false, min(c.notBefore, after)
	}
}

// firstChance is how much longer c waits for better candidates when the router
// is new here: they may hear of it a moment later, and whoever takes it first
// keeps it. What the own voter then promises decides when it stands.
func (h *Holder) firstChance(c *candidacy) int64 {
	if h.hasty {
		return 0
	}
	return int64(min(max(0, c.rank), 2)) * int64(h.p.TTL)
}

// stagger is how long c lets better candidates go first.
func (h *Holder) stagger(c *candidacy) int64 { return int64(max(0, c.rank)) * int64(h.p.Stagger) }

// forget drops routers that are not wanted and have nothing left to do. What
// could not be read back is closed again before it is ever named.
func (h *Holder) forget() {
	for id, c := range h.routers {
		if !c.wanted && (c.phase == waiting || c.phase == probing) {
			delete(h.routers, id)
			h.order = slices.DeleteFunc(h.order, func(x uint64) bool { return x == id })
		}
	}
}

func (h *Holder) emit(o Output) { h.out = append(h.out, o) }

func (h *Holder) send(to fsm.MemberID, m Message) {
	m.From, m.Boot, m.Tag = h.self, h.boot, cmp.Or(m.Tag, h.quorum.tag())
	h.emit(Send{Out{to, m}})
}

// Next is when the holder wants its next Step if nothing happens before; forever
// when it waits for events only.
func (h *Holder) Next() int64 {
	t := forever
	for _, c := range h.routers {
		t = min(t, h.due(c, t))
	}
	for _, r := range h.releases {
		t = min(t, r.nextAt, r.until)
	}
	return min(t, h.greetDue())
}

// due is when c wants something, if that is before another time.
func (h *Holder) due(c *candidacy, before int64) int64 {
	t := forever
	if len(c.toClose) > 0 {
		t = c.closeAt
	}
	switch c.phase {
	case waiting:
		if c.ready() < before && h.mayProbe(c) {
			t = min(t, c.ready())
		}
	case probing:
		t = min(t, c.poll.repeatAt, c.poll.end)
	case asking:
		t = min(t, c.round.repeatAt, c.round.t0+int64(h.p.Round))
	case holding:
		t = min(t, c.deadline, h.yieldDue(c))
		if len(c.force.absent) > 0 {
			t = min(t, c.force.until)
		}
		if c.round == nil && h.quorum.known() {
			t = min(t, c.renewAt)
		} else if c.round != nil {
			t = min(t, c.round.repeatAt, c.round.t0+int64(h.p.Round))
		}
	case closing:
		t = min(t, max(c.deadline, c.since))
	case removing:
		t = min(t, h.leftAt(c))
	}
	return t
}

// jitter is the random pause after a failed round: U(R/2, 2R), and more from
// the fourth failure in a row on, up to four times as much: whoever fails so
// often may fail because the machines are busy, and should not keep them so; but
// a quorum that returns must not wait for long either.
func (h *Holder) jitter(c *candidacy) int64 {
	r := int64(h.p.Round)
	pause := r/2 + h.rng.Int64N(r*3/2+1)
	c.failures++
	return pause << min(max(c.failures-patience, 0), 2)
}

// patience is how many failures in a row are taken for bad luck.
const patience = 3
