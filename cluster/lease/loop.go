package lease

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/dataplane/fence"
	"lbcluster/fsm"
)

// loop is the one goroutine that owns voter, holder, gate and keys. It touches
// no disk, takes no lock and writes no log itself (R12).
type loop struct {
	d      *Driver
	socks  *sockets
	seal   *sealer
	voter  *Voter
	holder *Holder
	keeper *keeper
	clocks Clocks
	state  *stateFile                        // nil: nothing is kept
	kept   map[uint64]tenure                 // as the state file has them
	before map[uint64]tenure                 // of the process before this one, and not lost yet
	peers  map[fsm.MemberID][]netip.AddrPort // likewise

	packets <-chan arrival
	lines   chan<- line
	ways    map[fsm.MemberID][]way // to each peer
	want    Want
	hear    hearing
	told    map[fsm.MemberID]*told

	standing    Standing // this member's
	standingSeq uint64
	tellAt      int64          // when to say it again
	anew        int            // how often yet it goes every way, for it has changed
	recorded    map[said]int64 // see journal
	margins     map[uint64]*margin

	fit     Fit // as the rest of the daemon says
	rate    *rateMonitor
	clockAt int64 // when to compare the clocks again

	queue   []Event                    // for the holder
	local   []Message                  // for the own voter
	outbox  map[fsm.MemberID][]Message // until flush
	order   []fsm.MemberID             // of the outbox
	uttered map[exchange]uint64        // the last round that was asked or granted
	terms   map[uint64]*fence.Term
	removed map[uint64]removal

	yielding          map[uint64]Yield  // as the holder was told
	said              map[uint64]string // last complaint, by router
	dropped           map[string]uint64
	sent, got, unsent uint64
}

// removal waits for an owner to remove a router's addresses.
type removal struct {
	done  <-chan struct{}
	until int64
}

func newLoop(d *Driver, socks *sockets, seal *sealer, packets <-chan arrival, lines chan<- line, st recalled) *loop {
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	l := &loop{
		d: d, socks: socks, seal: seal, clocks: d.clocks,
		voter:  newVoter(d.cfg.Self, d.boot, d.cfg.Params, st.embargo, st.seats),
		holder: NewHolder(d.cfg.Self, st.identity, d.cfg.Params, rng),
		state:  st.file,
		kept:   map[uint64]tenure{}, peers: map[fsm.MemberID][]netip.AddrPort{}, yielding: map[uint64]Yield{},
		keeper:  newKeeper(d.cfg.Gate),
		packets: packets, lines: lines,
		outbox: map[fsm.MemberID][]Message{}, uttered: map[exchange]uint64{}, terms: map[uint64]*fence.Term{},
		told: map[fsm.MemberID]*told{}, recorded: map[said]int64{}, margins: map[uint64]*margin{},
		rate: newRateMonitor(d.cfg.Params.Eps), fit: Fit{Reason: "not yet reported as fit"},
		removed: map[uint64]removal{}, dropped: map[string]uint64{}, said: map[uint64]string{},
	}
	l.recall(st)
	return l
}

// resignWait bounds how long the end of the daemon waits for Releases.
const resignWait = 150 * time.Millisecond

func (l *loop) run(ctx context.Context) error {
	runtime.LockOSThread() // the thread dies with the goroutine, and its priority with it
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20); err != nil {
		l.log(slog.LevelDebug, "lease thread keeps its priority", "err", err)
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	if left := l.voter.EmbargoLeft(l.clocks.Raw()); left > 0 {
		l.log(slog.LevelInfo, "the lease voter has forgotten its promises and grants nothing yet", "for", time.Duration(left))
	}
	l.first()
	done, end := ctx.Done(), forever
	for {
		l.settle()
		now := l.clocks.Boot()
		if done == nil && (now >= end || l.holder.Idle()) {
			l.publish(nil)
			return nil
		}
		l.tellAll(now)
		timer.Reset(time.Duration(l.wake(now, end) - now))
		select {
		case <-done:
			if errors.Is(context.Cause(ctx), ErrKeep) {
				l.publish(nil)
				return nil
			}
			done, end = nil, l.clocks.Boot()+int64(resignWait) // now is from before the wait
			l.heirs()
			l.queue = append(l.queue, Resign{})
		case p := <-l.packets:
			l.take(p)
		case p := <-l.d.relayed:
			l.take(p)
		case s := <-l.d.standing:
			l.standing, l.tellAt, l.anew = s, now, 2
		case w := <-l.d.want:
			l.adopt(w)
		case l.fit = <-l.d.fit:
			l.tellFit()
		case f := <-l.d.force:
			l.queue = append(l.queue, f)
		case <-l.d.stretch:
			l.queue = append(l.queue, Stretch{})
		case ch := <-l.d.status:
			l.publish(ch)
		case <-timer.C:
			l.queue = append(l.queue, Tick{})
		}
		l.poll()
		l.watchClock(l.clocks.Boot())
	}
}

// first takes what was wanted before the start, so that no early packet of a
// peer finds a driver that knows nobody.
func (l *loop) first() {
	select {
	case w := <-l.d.want:
		l.adopt(w)
	default:
	}
	select {
	case l.fit = <-l.d.fit:
		l.tellFit()
	default:
	}
}

// wake is when the loop has something to do if nothing comes.
func (l *loop) wake(now, end int64) int64 {
	t := min(l.holder.Next(), end, l.tellAt, now+int64(time.Second))
	if len(l.removed) > 0 {
		t = min(t, now+int64(time.Millisecond))
	}
	return max(t, now+int64(50*time.Microsecond))
}

// maxTaken bounds how many packets are taken in one go: a flood must not keep
// the loop from its timers.
const maxTaken = 64

// settle runs everything that is queued, then sends what came of it: one
// datagram a member, whatever the number of routers (rule 3.9).
func (l *loop) settle() {
	for taken := 0; ; {
		switch {
		case len(l.local) > 0:
			m := l.local[0]
			l.local = l.local[1:]
			l.vote(m)
		case len(l.queue) > 0:
			ev := l.queue[0]
			l.queue = l.queue[1:]
			l.carryOut(l.holder.Step(l.clocks.Boot(), ev))
			l.recordNotes()
		case len(l.packets) > 0 && taken < maxTaken:
			taken++
			l.take(<-l.packets)
		case len(l.d.relayed) > 0 && taken < maxTaken:
			taken++
			l.take(<-l.d.relayed)
		default:
			l.forgetTenures()
			l.flush()
			return
		}
	}
}

// take opens a packet and hands its messages on.
func (l *loop) take(a arrival) {
	l.got++
	o, err := l.seal.unseal(a.b, func(id fsm.MemberID) bool { _, ok := l.ways[id]; return ok })
	now := l.clocks.Boot()
	if err == nil || err == errReplay {
		l.hear.note(now, a, o)
	}
	if err == nil {
		l.queue = append(l.queue, l.aliveEvents(o.from)...)
		err = l.read(now, o, !a.from.IsValid())
	}
	if err != nil {
		l.dropped[err.Error()]++
	}
}

// read takes what a packet says; relayed: no datagram brought it first.
func (l *loop) read(now int64, o opened, relayed bool) error {
	if o.kind == packetStanding {
		return l.hearStanding(now, o)
	}
	ms, err := o.messages()
	if err != nil {
		return err
	}
	for _, m := range ms {
		switch m.Kind {
		case Probe, Ask, Release:
			if relayed {
				l.uttered[exchange{m.From, m.Router, Grant}] = m.Seq // answered as it came
			}
			l.vote(m)
			if m.Kind == Release && m.Hint == l.d.cfg.Self {
				l.queue = append(l.queue, Received{m})
			}
		default:
			l.queue = append(l.queue, Received{m})
		}
	}
	return nil
}

// nobody is above every configuration.
var nobody = fsm.ConfigTag{Epoch: math.MaxUint64, Term: math.MaxUint64, Index: math.MaxUint64}

// vote lets the own voter answer, and tells the holder what it promised.
func (l *loop) vote(m Message) {
	floor, known := l.d.cfg.Floor()
	if !known {
		floor = nobody
	}
	l.voter.SetFloor(floor)
	outs := l.voter.Step(l.clocks.Raw(), m)
	err := l.keepSeats()
	for _, o := range outs {
		if err != nil && o.Msg.Kind == Grant {
			o.Msg.Kind, o.Msg.Reason = Deny, Unsaved // what is not written down is not granted
		}
		l.send(o)
	}
	holder, _, left := l.voter.Promise(l.clocks.Raw(), m.Router)
	l.queue = append(l.queue, Promised{m.Router, holder, left})
}

func (l *loop) send(o Out) {
	if o.To == l.d.cfg.Self {
		switch o.Msg.Kind {
		case Probe, Ask, Release:
			l.local = append(l.local, o.Msg)
		default:
			l.queue = append(l.queue, Received{o.Msg})
		}
		return
	}
	if _, ok := l.outbox[o.To]; !ok {
		l.order = append(l.order, o.To)
	}
	l.outbox[o.To] = append(l.outbox[o.To], o.Msg)
}

// adopt takes over a new Want.
func (l *loop) adopt(w Want) {
	l.want = w
	l.reroute(w)
	l.seal.forget(func(id fsm.MemberID) bool { _, ok := w.Peers[id]; return ok })
	var routers []Router
	for _, r := range w.Routers {
		if l.d.cfg.Gate == nil || len(r.Addrs) > maxAddrs {
			r.Rank = -1
		}
		routers = append(routers, r)
	}
	l.heirs()
	l.queue = append(l.queue, Wanted{w.Committed, w.Appended, routers})
	l.yields(true)
	l.keepPeers(w)
}

// poll looks whether owners have removed what they lost.
func (l *loop) poll() {
	for id, r := range l.removed {
		select {
		case <-r.done:
			l.queue = append(l.queue, Removed{id})
			delete(l.removed, id)
		default:
			if l.clocks.Boot() >= r.until {
				l.log(slog.LevelWarn, "addresses not removed in time; releasing the lease, the gate is closed", "router", id)
				delete(l.removed, id)
			}
		}
	}
}

// carryOut does what the holder wants, in its order.
func (l *loop) carryOut(outs []Output) {
	failed := map[uint64]bool{}
	unsaved := l.keepRound()
	for _, out := range outs {
		switch o := out.(type) {
		case Send:
			if m := o.Msg; m.Kind == Ask || m.Kind == Probe {
				if unsaved || m.Kind == Ask && !l.keepTenure(m) {
					continue // as good as lost on the way
				}
			}
			l.send(o.Out)
		case Arm:
			if err := l.keeper.arm(o); err != nil {
				failed[o.Router] = true
				l.complain(o.Router, "the gate cannot be opened", err)
				l.queue = append(l.queue, GateFailed{o.Router})
			} else if t := l.terms[o.Router]; t != nil {
				t.Extend(o.Deadline)
				l.margins[o.Router].renew(l.clocks.Boot(), o.Deadline)
			}
		case Acquired:
			if !failed[o.Router] {
				l.acquired(o)
			}
		case CloseGate:
			l.closeGate(o)
		case Lost:
			l.lost(o)
		}
	}
}

// acquired starts a term, or replaces one whose addresses changed.
func (l *loop) acquired(o Acquired) {
	old := l.terms[o.Router]
	t := fence.NewTerm(o.Router, o.Addrs, o.Deadline, fence.Clock(l.clocks.Boot))
	l.terms[o.Router] = t
	delete(l.removed, o.Router)
	l.d.cfg.Owner.Acquired(t.Permit())
	if old != nil {
		old.End()
	}
	l.log(slog.LevelInfo, "lease acquired", "router", o.Router, "addresses", o.Addrs)
	if old == nil {
		l.margins[o.Router] = &margin{}
		l.margins[o.Router].acquire(o.Deadline)
		l.journal(Entry{Unit: o.Router, Kind: EntryAcquired, Text: "this member holds it now"})
	}
}

// closeGate ends the term, so that nobody here speaks any more, then closes
// the kernel's gate.
func (l *loop) closeGate(o CloseGate) {
	if t := l.terms[o.Router]; t != nil && o.Whole {
		t.End()
	}
	began := l.clocks.Boot()
	var err error
	if l.keeper.gate != nil {
		err = l.keeper.close(o)
	}
	l.recordClosing(o, began, err)
	if err != nil {
		l.complain(o.Router, "the gate does not read back as closed", err)
	} else {
		delete(l.said, o.Router)
	}
	l.queue = append(l.queue, GateClosed{o.Router, o.Addrs, err == nil})
}

// lost tells the owner, if it was ever told the opposite.
func (l *loop) lost(o Lost) {
	t := l.terms[o.Router]
	_, inherited := l.before[o.Router] // its addresses may be there yet
	delete(l.before, o.Router)
	if t == nil && (!inherited || l.d.cfg.Owner == nil) {
		l.queue = append(l.queue, Removed{o.Router})
		return
	}
	if t != nil {
		t.End()
	}
	delete(l.terms, o.Router)
	why := o.Why
	if o.NobodyNext {
		why += NobodyNext
	}
	l.log(slog.LevelInfo, "lease lost", "router", o.Router, "why", why)
	delete(l.margins, o.Router)
	l.journal(Entry{Unit: o.Router, Kind: EntryLost, Cause: o.Why, Text: "this member does not hold it any more: " + why})
	done := l.d.cfg.Owner.Lost(o.Router, why)
	if done == nil {
		l.queue = append(l.queue, Removed{o.Router})
		return
	}
	l.removed[o.Router] = removal{done, l.clocks.Boot() + int64(l.d.cfg.Params.RemoveWait)}
}

// complain logs an error of a router's gate once, not at each try.
func (l *loop) complain(router uint64, what string, err error) {
	if text := what + err.Error(); l.said[router] != text {
		l.said[router] = text
		l.log(slog.LevelError, what, "router", router, "err", err)
	}
}

// log hands a line to the writer, or drops it.
func (l *loop) log(level slog.Level, msg string, args ...any) {
	select {
	case l.lines <- line{level, msg, args}:
	default:
		l.d.quiet.Add(1)
	}
}

// flush packs and sends the outbox.
func (l *loop) flush() {
	now := l.clocks.Boot()
	for _, to := range l.order {
		ms := l.outbox[to]
		for len(ms) > 0 {
			n := batch(ms)
			spare := l.routine(to, ms[:n]) && l.byDatagram(now, to)
			l.transmit(to, packetMessages, appendBody(nil, ms[0].Tag, ms[0].Boot, ms[0].Echo, ms[:n]), spare)
			ms = ms[n:]
		}
	}
	clear(l.outbox)
	l.order = l.order[:0]
}

// batch is how many of ms go into one datagram: as many as share its head and fit.
func batch(ms []Message) int {
	size := 0
	for i, m := range ms {
		size += len(appendRecord(nil, m))
		if i > 0 && (size > maxBody || m.Tag != ms[0].Tag || m.Boot != ms[0].Boot || m.Echo != ms[0].Echo) {
			return i
		}
	}
	return len(ms)
}

// transmit seals a packet and sends it; spareRelay: datagrams will do.
func (l *loop) transmit(to fsm.MemberID, kind byte, body []byte, spareRelay bool) {
	if _, ok := l.ways[to]; !ok {
		l.unsent++
		return
	}
	p, err := l.seal.sealAs(kind, to, body)
	if err != nil || !l.spread(to, p, spareRelay) {
		l.unsent++ // as good as lost on the way
		return
	}
	l.sent++
}
