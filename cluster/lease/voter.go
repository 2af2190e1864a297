package lease

import (
	"net/netip"
	"slices"

	"lbcluster/fsm"
)

// Bounds of a voter's memory. Requests come from members only, so these stop
// mistakes, not attacks.
const (
	maxSeats = 320 // routers with a promise or remembered rounds; as many have room in the state file
	maxLast  = 16  // processes whose last round is remembered, per router
)

// Voter is one member's side of granting: per router at most one promise. It
// is a pure machine: it reads no clock and sends nothing. All times are ns of
// one clock of the caller's, CLOCK_MONOTONIC_RAW in the daemon. Not safe for
// concurrent use.
type Voter struct {
	self    fsm.MemberID
	boot    Nonce
	p       Params
	embargo int64 // nothing is granted before
	floor   fsm.ConfigTag
	seats   map[uint64]*seat
	named   map[netip.Addr][]uint64 // routers whose seat has a claim on the address (R18)
	cookies cookies
	dirty   []uint64 // routers whose seat changed since the last call of changed
	stats   VoterStats
	bug     voterBugs
}

// VoterStats counts what a voter did since it started.
type VoterStats struct {
	Grants  uint64
	Repeats uint64 // Grants sent again for a repeated Ask
	Stale   uint64 // Asks ignored because a later round was seen
	Denials [reasons]uint64
}

// voterBugs leaves rules out, so that tests can show what each is for.
type voterBugs struct {
	noEmbargo, shortEmbargo bool // M01, M01b
	noReleaseSeq            bool // M02
	noAskSeq                bool // M07
	byNode                  bool // M10b: the promise is to a node, not to a process
	shorten                 bool // M14
	anyTTL                  bool // M18
	noFloor                 bool
	noAddrs                 bool // R18
	noCookie                bool // an Ask needs no cookie
	longReserve, oldHint    bool // a handover reserves for as long as a promise; with each copy anew
}

// identity is a node and one start of its process (R4).
type identity struct {
	node fsm.MemberID
	boot Nonce
}

// seat is what a voter knows about one router.
type seat struct {
	to    identity
	seq   uint64
	until int64 // Invariant: never decreases while unexpired, but by a matching Release (R3)
	addrs []claim
	// reserved is whom a planned handover named, until reservedUntil.
	reserved      fsm.MemberID
	reservedUntil int64
	hint          lastRound // the Release that said so; its copies reserve nothing anew
	// last is the latest round seen of each process, Ask or Release, in order of use.
	last []lastRound
}

// claim is an address that a promise names. Each has its own end: an Ask that
// no longer names an address shortens nothing (R3, R18).
type claim struct {
	addr  netip.Addr
	until int64
}

type lastRound struct {
	who identity
	seq uint64
}

// NewVoter starts a voter that has forgotten everything. Unless fresh, which
// only an identity that never voted may claim, it grants nothing for
// [Params.Embargo] (R2). How one that remembers starts: see recall.
func NewVoter(self fsm.MemberID, boot Nonce, p Params, now int64, fresh bool) *Voter {
	embargo := now
	if !fresh {
		embargo += int64(p.Embargo())
	}
	return newVoter(self, boot, p, embargo, nil)
}

// newVoter starts a voter that grants nothing before embargo and knows what
// seats say, which is nothing if they are nil.
func newVoter(self fsm.MemberID, boot Nonce, p Params, embargo int64, seats map[uint64]*seat) *Voter {
	v := &Voter{
		self: self, boot: boot, p: p, embargo: embargo, seats: map[uint64]*seat{}, named: map[netip.Addr][]uint64{},
		cookies: newCookies(),
	}
	for id, s := range seats {
		v.seats[id] = s
		v.index(id, nil, s.addrs)
	}
	return v
}

// SetFloor sets the oldest configuration that is answered: the latest one in
// this member's log, committed or not (R15). It may go back when the log was
// truncated.
func (v *Voter) SetFloor(tag fsm.ConfigTag) { v.floor = tag }

// EmbargoLeft is how many ns are left before the voter grants anything.
func (v *Voter) EmbargoLeft(now int64) int64 { return max(0, v.embargo-now) }

// Stats returns the counters.
func (v *Voter) Stats() VoterStats { return v.stats }

// Promise reports to whom a router is promised at now, and for how many ns
// yet; a zero id: to nobody.
func (v *Voter) Promise(now int64, router uint64) (holder fsm.MemberID, boot Nonce, remaining int64) {
	s := v.seats[router]
	if s == nil || now >= s.until {
		return "", Nonce{}, 0
	}
	return s.to.node, s.to.boot, s.until - now
}

// Step handles one request and returns the answers. now is read after the
// request was taken from the queue (R1).
func (v *Voter) Step(now int64, m Message) []Out {
	switch m.Kind {
	case Probe:
		reason, holder, left := v.refuse(now, m)
		return v.answer(m, ProbeReply, reason, holder, left)
	case Ask:
		return v.ask(now, m)
	case Release:
		v.release(now, m)
		return v.answer(m, ReleaseAck, Free, "", 0)
	}
	return nil
}

func (v *Voter) answer(m Message, k Kind, reason Reason, holder fsm.MemberID, left int64) []Out {
	out := Message{
		Kind: k, Router: m.Router, From: v.self, Boot: v.boot, Tag: v.floor, Seq: m.Seq, Echo: m.Boot,
		Reason: reason, Holder: holder, Remaining: left,
	}
	if k == Deny || k == ProbeReply {
		out.Cookie = v.cookies.of(identity{m.From, m.Boot})
	}
	return []Out{{To: m.From, Msg: out}}
}

// refuse says why an Ask or Probe is refused now; Free: it is not (R1, R15, R18).
func (v *Voter) refuse(now int64, m Message) (Reason, fsm.MemberID, int64) {
	who := identity{m.From, m.Boot}
	if now < v.embargoEnd() {
		return Embargoed, "", v.embargoEnd() - now
	}
	if m.Kind == Ask && !v.cookies.good(who, m.Cookie) && !v.bug.noCookie {
		return NoCookie, "", 0
	}
	if m.Kind == Ask && !v.bug.anyTTL && (m.TTL <= 0 || m.TTL > int64(v.p.TTLMax)) {
		return LongTTL, "", 0
	}
	if m.Tag.Less(v.floor) && !v.bug.noFloor {
		return OldConfig, "", 0
	}
	if s := v.seats[m.Router]; s != nil && now < s.until && !v.same(s.to, who) {
		return Taken, s.to.node, s.until - now
	} else if s != nil && now < s.reservedUntil && s.reserved != m.From {
		return Reserved, s.reserved, s.reservedUntil - now
	}
	if node, left := v.claimed(now, who, m); left > 0 {
		return AddressTaken, node, left
	}
	if v.seats[m.Router] == nil && len(v.seats) >= maxSeats && !v.prune(now) {
		return TableFull, "", 0
	}
	return Free, "", 0
}

func (v *Voter) embargoEnd() int64 {
	switch {
	case v.bug.noEmbargo:
		return never
	case v.bug.shortEmbargo:
		return v.embargo - int64(v.p.Embargo())*3/4
	}
	return v.embargo
}

func (v *Voter) same(a, b identity) bool {
	return a == b || v.bug.byNode && a.node == b.node
}

// claimed looks for an address of m that another router's live promise to
// another process names, and returns the longest (R18).
func (v *Voter) claimed(now int64, who identity, m Message) (node fsm.MemberID, left int64) {
	if v.bug.noAddrs {
		return "", 0
	}
	for _, a := range m.Addrs {
		for _, id := range v.named[a] {
			s := v.seats[id]
			if id == m.Router || now >= s.until || v.same(s.to, who) {
				continue
			}
			if until := s.claimed(a); until-now > left {
				node, left = s.to.node, until-now
			}
		}
	}
	return node, left
}

// claimed is until when the seat's promise names an address.
func (s *seat) claimed(a netip.Addr) int64 {
	if i := slices.IndexFunc(s.addrs, func(c claim) bool { return c.addr == a }); i >= 0 {
		return s.addrs[i].until
	}
	return never
}

// index keeps v.named true to what a seat claims: was before, now since.
func (v *Voter) index(router uint64, was, now []claim) {
	for _, c := range was {
		v.named[c.addr] = slices.DeleteFunc(v.named[c.addr], func(id uint64) bool { return id == router })
		if len(v.named[c.addr]) == 0 {
			delete(v.named, c.addr)
		}
	}
	for _, c := range now {
		v.named[c.addr] = append(v.named[c.addr], router)
	}
}

// changed returns the routers whose seat changed since the last call: what
// has to be written down before an answer leaves (R2).
func (v *Voter) changed() []uint64 {
	d := v.dirty
	v.dirty = nil
	return d
}

// prune forgets routers without a live promise; their remembered rounds only
// kept late Asks from planting a promise that nobody uses. It reports whether
// there is room now.
func (v *Voter) prune(now int64) bool {
	for id, s := range v.seats {
		if now >= s.until {
			v.index(id, s.addrs, nil)
			delete(v.seats, id)
			v.dirty = append(v.dirty, id)
		}
	}
	return len(v.seats) < maxSeats
}

func (v *Voter) ask(now int64, m Message) []Out {
	reason, holder, left := v.refuse(now, m)
	if reason != Free {
		v.stats.Denials[reason]++
		return v.answer(m, Deny, reason, holder, left)
	}
	who := identity{m.From, m.Boot}
	s := v.seat(m.Router)
	if m.Seq <= s.lastOf(who) && !v.bug.noAskSeq {
		// The same round asks again because our Grant was lost: the Grant goes
		// out again, which is no more than a duplicate on the wire.
		if now < s.until && s.to == who && s.seq == m.Seq {
			v.stats.Repeats++
			v.dirty = append(v.dirty, m.Router) // the promise may not have been written down
			return v.answer(m, Grant, Free, "", 0)
		}
		v.stats.Stale++
		return nil
	}
	was := slices.Clone(s.addrs)
	v.promise(now, s, who, m)
	v.index(m.Router, was, s.addrs)
	v.dirty = append(v.dirty, m.Router)
	v.stats.Grants++
	return v.answer(m, Grant, Free, "", 0)
}

// promise records a Grant. A promise to the same process is only ever extended (R3).
func (v *Voter) promise(now int64, s *seat, who identity, m Message) {
	if now >= s.until || !v.same(s.to, who) {
		s.until, s.addrs = never, nil
	}
	until := now + m.TTL + int64(v.p.Guard)
	s.to, s.seq, s.reservedUntil = who, m.Seq, never
	if v.bug.shorten {
		s.until = until
	}
	s.until = max(s.until, until)
	s.addrs = slices.DeleteFunc(s.addrs, func(c claim) bool { return now >= c.until })
	for _, a := range m.Addrs {
		i := slices.IndexFunc(s.addrs, func(c claim) bool { return c.addr == a })
		if i < 0 {
			s.addrs = append(s.addrs, claim{a, until})
		} else {
			s.addrs[i].until = max(s.addrs[i].until, until)
		}
	}
	s.remember(who, m.Seq)
}

// release ends a promise of exactly this process and of no later round (R5).
func (v *Voter) release(now int64, m Message) {
	if v.seats[m.Router] == nil && len(v.seats) >= maxSeats && !v.prune(now) {
		return
	}
	who := identity{m.From, m.Boot}
	s := v.seat(m.Router)
	if v.same(s.to, who) && (m.Seq >= s.seq || v.bug.noReleaseSeq) {
		v.index(m.Router, s.addrs, nil)
		s.to, s.seq, s.until, s.addrs = identity{}, 0, never, nil
	}
	if m.Hint != "" && now >= s.until && (s.hint.who != who || s.hint.seq < m.Seq || v.bug.oldHint) {
		s.reserved, s.reservedUntil, s.hint = m.Hint, now+int64(v.p.reserve()), lastRound{who, m.Seq}
		if v.bug.longReserve {
			s.reservedUntil = now + int64(v.p.Embargo())
		}
	}
	s.remember(who, m.Seq)
	v.dirty = append(v.dirty, m.Router)
}

func (v *Voter) seat(router uint64) *seat {
	s := v.seats[router]
	if s == nil {
		s = &seat{until: never, reservedUntil: never}
		v.seats[router] = s
	}
	return s
}

func (s *seat) lastOf(who identity) uint64 {
	for _, l := range s.last {
		if l.who == who {
			return l.seq
		}
	}
	return 0
}

// remember notes the latest round of a process and forgets the process that
// was heard of longest ago, never the one that holds the promise.
func (s *seat) remember(who identity, seq uint64) {
	seq = max(seq, s.lastOf(who))
	s.last = slices.DeleteFunc(s.last, func(l lastRound) bool { return l.who == who })
	s.last = append(s.last, lastRound{who, seq})
	if len(s.last) > maxLast {
		i := 0
		if s.last[0].who == s.to {
			i = 1
		}
		s.last = slices.Delete(s.last, i, i+1)
	}
}
