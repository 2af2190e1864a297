package lease

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"lbcluster/fsm"
)

// The simulator drives the real Voter, Holder and keeper of every node over a
// virtual network and clocks, and checks the invariants after each step:
//
//	I1 at any time at most one open gate an address (R18: whatever the router)
//	I2 a gate's deadline <= t0 + ttl(1-eps) of the round that set it
//	I3 no round up to a released one opens a gate
//	I4 a promise is shortened by a matching Release only
//	I5 no Grant while embargoed, above TTLMax or below the floor
//	I6 (boot, seq) is never used for two different Asks
//	I7 when a Release leaves, the gate reads 0
//	I8 a gate opens after Grants of a majority of the frozen configuration, by voter
//
// Three schedulers use it: an adversary that does anything in any order
// (random_test.go), an event queue with delays (live_test.go), and a search
// through everything that can happen in a few steps (explore_test.go).

// simParams leave as little slack as safety allows. The round is far longer
// than Validate allows: only availability may depend on that.
func simParams() Params {
	return Params{
		TTL: ms(240), TTLMax: ms(300), Acquire: ms(240), Renew: ms(50), Round: ms(150), Repeat: ms(30),
		Stagger: ms(8), Eps: 0.10, RemoveWait: ms(20), Settle: ms(1),
	}
}

// mutation leaves out rules, or asks the harness to misbehave where the code
// leaves no such choice.
type mutation struct {
	voter     voterBugs
	holder    holderBugs
	noOrder   bool // keeper M15
	asyncArm  bool // gate writes happen in a thread of their own, late (not a bug: R7 covers it)
	relative  bool // M05: the gate is armed for a span from when it is written
	keepVoter bool // each restart finds the state file: promises, identity, tenures (not a bug: R2)
	halfVoter bool // promises are written to it after the Grant has left
	sameBoot  bool // a restart keeps the nonce and goes on counting (not a bug: R4 allows it)
	seqBack   bool // M10: and counts from 1 again
	noEps     bool // M04

	// Files, boots and guards: see lifeMutants.
	kernelEmbargo, trustTorn, trustForeign, freshTwice, noReserve bool
	liveMap, fenceEarly, embargoNoGuard, noGuard, longPauses      bool

	joint, requesterAppended, floorCommitted, noSpacing, twoAtOnce bool // membership
}

type packet struct {
	to  fsm.MemberID
	msg Message
}

type askKey struct {
	boot Nonce
	seq  uint64
}

// asked is what the harness remembers of a round: the truth to check against.
type asked struct {
	t0, ttl int64
	text    string
	voters  quorum
	granted map[fsm.MemberID]bool
}

type world struct {
	p      Params
	mut    mutation
	rng    *rand.Rand
	now    int64 // real ns
	nodes  []*node
	send   func(from *node, p packet) // the scheduler's network
	rounds map[askKey]*asked
	starts uint64
	bad    []string // violations
	trace  []string // nil unless tracing
	trail  bool
	opened int // Arms carried out: a run without any proves nothing
	only1  bool
}

// node is one machine: a kernel with a gate that outlives its process, and the process.
type node struct {
	w         *world
	id        fsm.MemberID
	bootRate  float64 // of CLOCK_BOOTTIME
	rawRate   float64
	gate      map[netip.Addr]int64
	boot      Nonce
	embargo   int64 // of the real voter: raw ns
	voter     *Voter
	holder    *Holder
	keeper    *keeper
	pending   []Output // not yet carried out
	arms      []Arm    // mutation.asyncArm
	armAt     []int64
	events    []Event // for the holder, from carrying out
	stepNow   int64
	released  map[uint64]uint64 // router: seq
	routers   map[uint64][]netip.Addr
	owns      map[uint64]bool // as the owner was told
	acquired  int
	removal   func(router uint64) // nil: removed at once
	frozen    bool
	committed fsm.VoterSet
	appended  fsm.VoterSet
	between   []fsm.VoterSet // appended and later than committed, but the last

	file     *memory // in memory: nil: there is none
	bootID   BootID
	lastBoot string // as the data folder remembers it
	epoch    int64  // real time of the kernel's start
	zombies  []zombie
	// Pauses of the machine: what its clocks lost by earlier ones, and the present one.
	lost, pausedAt, pauseFor, pauseAgain int64
}

func newWorld(seed uint64, n int, p Params, mut mutation) *world {
	w := &world{p: p, mut: mut, rng: rand.New(rand.NewPCG(seed, 1)), now: 1e12, rounds: map[askKey]*asked{}}
	if mut.noEps {
		w.p.Eps = 0
	}
	w.send = func(*node, packet) {}
	var ids []fsm.MemberID
	for i := range n {
		ids = append(ids, fsm.MemberID(fmt.Sprintf("m%d", i+1)))
	}
	set := fsm.VoterSet{Tag: fsm.ConfigTag{Term: 1, Index: 1}, Voters: ids}
	for _, id := range ids {
		nd := &node{w: w, id: id, bootID: BootID{2, id[1]}, bootRate: 1, rawRate: 1, gate: map[netip.Addr]int64{}, committed: set, appended: set,
			routers: map[uint64][]netip.Addr{}}
		w.nodes = append(w.nodes, nd)
		nd.start(true)
	}
	return w
}

func (w *world) node(id fsm.MemberID) *node {
	i := slices.IndexFunc(w.nodes, func(n *node) bool { return n.id == id })
	return w.nodes[i]
}

func (w *world) logf(format string, args ...any) {
	if w.trail {
		w.trace = append(w.trace, fmt.Sprintf("%9.3fms ", float64(w.now-1e12)/1e6)+fmt.Sprintf(format, args...))
	}
}

func (w *world) violate(rule, format string, args ...any) {
	if w.only1 && rule != "I1" {
		return
	}
	text := rule + ": " + fmt.Sprintf(format, args...)
	w.logf("VIOLATION %s", text)
	w.bad = append(w.bad, text)
}

// nanos since kernel boot, by the node's clocks.
func (n *node) bootNow() int64 { return int64(float64(n.up()) * n.bootRate) }
func (n *node) rawNow() int64  { return int64(float64(n.up()) * n.rawRate) }
func (n *node) up() int64      { return n.w.now - n.epoch - n.lost - n.pausedFor() }

// start begins a process: a new member's, or one that knows what mutation
// lets it know of the last one.
func (n *node) start(fresh bool) {
	switch {
	case fresh:
		n.file = nil
		n.begin(newMember)
	case n.w.mut.keepVoter || n.w.mut.halfVoter:
		n.begin(foundFile)
	default:
		n.file = nil
		n.begin(lostFile)
	}
}

// begin begins a process on what is in the file.
func (n *node) begin(how restart) {
	w, old := n.w, n.holder
	st := n.recall(how)
	keep := (w.mut.sameBoot || w.mut.seqBack) && old != nil
	if keep {
		st.identity = n.boot
	}
	if st.identity != n.boot {
		n.released = map[uint64]uint64{}
	}
	n.boot, n.embargo = st.identity, st.embargo
	if w.mut.embargoNoGuard && how != newMember {
		n.embargo += int64(w.p.Guard) // as it should be
	}
	n.voter = newVoter(n.id, n.boot, w.p, st.embargo, st.seats)
	n.voter.bug = w.mut.voter
	if w.mut.noGuard {
		n.voter.p.Guard = 0
	}
	n.voter.SetFloor(n.floor())
	n.holder = NewHolder(n.id, n.boot, w.p, rand.New(rand.NewPCG(w.starts, 2)))
	n.holder.bug, n.holder.hasty = w.mut.holder, true
	if old != nil {
		n.holder.ttlOf = old.ttlOf
	}
	if keep && !w.mut.seqBack {
		n.holder.seq = old.seq + 1000
	}
	n.keeper = newKeeper(n)
	n.keeper.bug.noOrder = w.mut.noOrder
	n.pending, n.events, n.arms, n.armAt, n.owns = nil, nil, nil, nil, map[uint64]bool{}
	if st.seq > 0 {
		n.adopt(st)
	}
	n.step(Fit{OK: true})
	n.wanted()
}

// adopt goes on with what the process before this one held, or gives it back.
func (n *node) adopt(st recalled) {
	var inherited map[netip.Addr]int64
	if n.w.rng.IntN(2) == 0 {
		inherited = maps.Clone(n.gate)
	}
	for a, until := range inherited {
		n.keeper.slot(a).deadline = until
	}
	n.step(resumed{st.seq, st.tenures, inherited})
}

func (n *node) floor() fsm.ConfigTag {
	if n.w.mut.floorCommitted {
		return n.committed.Tag
	}
	return n.appended.Tag
}

// later are the configurations after the committed one, when members ask by
// the joint rule.
func (n *node) later() []fsm.VoterSet {
	if !n.w.mut.joint {
		return nil
	}
	return append(slices.Clone(n.between), n.appended)
}

// wanted tells the holder what the node knows now.
func (n *node) wanted() {
	set := n.committed
	if n.w.mut.requesterAppended {
		set = n.appended
	}
	var rs []Router
	for _, id := range sortedKeys(n.routers) {
		rs = append(rs, Router{ID: id, Addrs: n.routers[id], Rank: slices.Index(n.w.nodes, n)})
	}
	n.voter.SetFloor(n.floor())
	n.step(Wanted{set, n.later(), rs})
}

// Arm and Close are the node's kernel.
func (n *node) Arm(a netip.Addr, deadline int64) error {
	n.gate[a] = deadline
	n.w.check1(a)
	return nil
}

func (n *node) Close(addrs []netip.Addr) error {
	for _, a := range addrs {
		n.gate[a] = 0
	}
	return nil
}

func (w *world) check1(a netip.Addr) {
	var open []string
	for _, n := range w.nodes {
		if n.gate[a] > n.bootNow() && !n.paused() {
			open = append(open, string(n.id))
		}
	}
	if len(open) > 1 {
		w.violate("I1", "the gates of %s are open for %v", strings.Join(open, " and "), a)
	}
}

// step feeds the holder one event. What it wants done stays pending: the
// process may stop for any time before each of them.
func (n *node) step(ev Event) {
	n.stepNow = n.bootNow()
	n.w.logf("%s %s", n.id, showEvent(ev))
	n.pending = append(n.pending, n.holder.Step(n.stepNow, ev)...)
	n.keepRounds()
}

// carry carries out the first pending output.
func (n *node) carry() {
	out := n.pending[0]
	n.pending = n.pending[1:]
	n.w.logf("%s   %s", n.id, showOutput(out))
	switch o := out.(type) {
	case Send:
		n.sent(o)
	case Arm:
		if n.w.mut.asyncArm {
			n.arms, n.armAt = append(n.arms, o), append(n.armAt, n.stepNow)
		} else {
			n.arm(o, n.stepNow)
		}
	case CloseGate:
		if err := n.keeper.close(o); err == nil {
			n.events = append(n.events, GateClosed{o.Router, o.Addrs, true})
		}
	case Acquired:
		n.owns[o.Router] = true
		n.acquired++
	case Lost:
		n.owns[o.Router] = false
		if n.removal != nil {
			n.removal(o.Router)
		} else {
			n.events = append(n.events, Removed{o.Router})
		}
	}
}

func (n *node) sent(o Send) {
	w := n.w
	switch o.Msg.Kind {
	case Ask:
		n.keepTenure(o.Msg)
		k, text := askKey{n.boot, o.Msg.Seq}, fmt.Sprint(o.Msg.Router, o.Msg.TTL, o.Msg.Addrs, o.Msg.Tag)
		r := w.rounds[k]
		if r == nil {
			r = &asked{t0: n.stepNow, ttl: o.Msg.TTL, text: text, voters: n.holder.quorum, granted: map[fsm.MemberID]bool{}}
			if c := n.holder.routers[o.Msg.Router]; c != nil && c.round != nil && c.round.seq == o.Msg.Seq {
				r.t0, r.voters = c.round.t0, c.round.voters
			}
			w.rounds[k] = r
		}
		if r.text != text {
			w.violate("I6", "%s asks %q and %q with one (boot, seq)", n.id, r.text, text)
		}
	case Release:
		for _, a := range n.routers[o.Msg.Router] {
			if n.gate[a] != 0 {
				w.violate("I7", "%s releases %d while the gate of %v reads %d", n.id, o.Msg.Router, a, n.gate[a])
			}
		}
		n.released[o.Msg.Router] = max(n.released[o.Msg.Router], o.Msg.Seq)
	}
	w.send(n, packet{o.To, o.Msg})
}

// arm lets the keeper write, then checks what it wrote.
func (n *node) arm(o Arm, decided int64) {
	w := n.w
	if w.mut.relative {
		o.Deadline += n.bootNow() - decided
	}
	before := maps.Clone(n.gate)
	n.keeper.arm(o)
	w.opened++
	r := w.rounds[askKey{n.boot, o.Round}]
	for _, a := range o.Addrs {
		if n.gate[a] == before[a] {
			continue
		}
		if r == nil || n.gate[a] > r.t0+w.p.usable(r.ttl) {
			w.violate("I2", "%s arms %v for longer than its round allows", n.id, a)
		}
		if o.Round <= n.released[o.Router] {
			w.violate("I3", "%s arms %v by round %d after the Release of %d", n.id, a, o.Round, n.released[o.Router])
		}
	}
	if r != nil && !slices.Equal(o.Addrs, nil) {
		votes := slices.Collect(maps.Keys(r.granted))
		if !r.voters.won(votes) {
			w.violate("I8", "%s arms after Grants of %v of %v", n.id, votes, r.voters)
		}
	}
}

// deliver hands a message to the process: to its voter or its holder.
func (n *node) deliver(m Message) {
	switch m.Kind {
	case Probe, Ask, Release:
		n.vote(m)
		if m.Kind == Release && m.Hint == n.id {
			n.step(Received{m})
		}
	default:
		n.step(Received{m})
	}
}

func (n *node) vote(m Message) {
	w, raw := n.w, n.rawNow()
	w.logf("%s voter: %s", n.id, showMessage(m))
	var was seat
	if s := n.voter.seats[m.Router]; s != nil {
		was = *s
	}
	outs := n.voter.Step(raw, m)
	n.keepSeats()
	now := n.voter.seats[m.Router]
	if who := (identity{m.From, m.Boot}); now != nil && raw < was.until && (now.until < was.until || now.to != was.to) {
		if m.Kind != Release || who != was.to || m.Seq < was.seq {
			w.violate("I4", "%s shortens its promise to %v by %s", n.id, was.to, showMessage(m))
		}
	}
	if now != nil && raw < was.until && now.to == was.to && now.seq < was.seq {
		w.violate("I4", "%s takes its promise back from round %d to %d by %s", n.id, was.seq, now.seq, showMessage(m))
	}
	for _, o := range outs {
		w.logf("%s   -> %s: %s", n.id, o.To, showMessage(o.Msg))
		if o.Msg.Kind == Grant {
			if raw < n.embargo || m.TTL > int64(w.p.TTLMax) || m.Tag.Less(n.appended.Tag) {
				w.violate("I5", "%s grants %s", n.id, showMessage(m))
			}
			if r := w.rounds[askKey{m.Boot, m.Seq}]; r != nil {
				r.granted[n.id] = true
			}
		}
		w.send(n, packet{o.To, o.Msg})
	}
	holder, _, left := n.voter.Promise(raw, m.Router)
	n.events = append(n.events, Promised{m.Router, holder, left})
}

// settle carries out everything, with no time in between.
func (n *node) settle() {
	for len(n.pending) > 0 || len(n.events) > 0 || len(n.arms) > 0 {
		switch {
		case len(n.pending) > 0:
			n.carry()
		case len(n.arms) > 0:
			n.lateArm()
		default:
			ev := n.events[0]
			n.events = n.events[1:]
			n.step(ev)
		}
	}
}

func (n *node) lateArm() {
	o, at := n.arms[0], n.armAt[0]
	n.arms, n.armAt = n.arms[1:], n.armAt[1:]
	n.arm(o, at)
}

func showMessage(m Message) string {
	s := fmt.Sprintf("%v r%d seq=%d from %s.%x", m.Kind, m.Router, m.Seq, m.From, m.Boot[0])
	switch m.Kind {
	case Ask:
		s += fmt.Sprintf(" ttl=%dms %v", m.TTL/1e6, m.Addrs)
	case Deny, ProbeReply:
		s += fmt.Sprintf(" %v", m.Reason)
		if m.Remaining > 0 {
			s += fmt.Sprintf(" %s %dms", m.Holder, m.Remaining/1e6)
		}
	}
	return s
}

func showEvent(ev Event) string {
	if r, ok := ev.(Received); ok {
		return showMessage(r.Msg)
	}
	return strings.TrimPrefix(fmt.Sprintf("%T%+v", ev, ev), "lease.")
}

func showOutput(out Output) string {
	if s, ok := out.(Send); ok {
		return "-> " + string(s.To) + ": " + showMessage(s.Msg)
	}
	return strings.TrimPrefix(fmt.Sprintf("%T%+v", out, out), "lease.")
}
