package lease

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"lbcluster/fsm"
)

// recalled is what a process starts with.
type recalled struct {
	file     *stateFile // nil: nothing is kept
	identity Nonce      // the holder's
	embargo  int64      // CLOCK_MONOTONIC_RAW
	seq      uint64     // rounds up to it may have been used
	seats    map[uint64]*seat
	tenures  map[uint64]tenure
	notes    []line // for the log
}

// recall opens the state file and decides what it means (R2).
func (d *Driver) recall() recalled {
	now := d.clocks.Raw()
	r := recalled{identity: NewNonce(), embargo: now + int64(d.cfg.Params.Embargo())}
	if d.cfg.FreshIdentity {
		r.embargo = now
	}
	if d.cfg.StateFile == "" {
		return r
	}
	boot := d.cfg.Boot
	if boot == (BootID{}) {
		var err error
		if boot, err = ReadBootID(); err != nil {
			return r.without(d.cfg.StateFile, err)
		}
	}
	f, s, err := openState(d.cfg.StateFile, stateOwner{boot, clusterHash(d.cfg.Cluster), d.cfg.Self})
	if f == nil {
		return r.without(d.cfg.StateFile, err)
	}
	if err == nil {
		r.identity, r.embargo, r.seq, r.seats, r.tenures = s.identity, s.embargo, s.seq, s.seats, s.tenures
	} else {
		if !d.cfg.FreshIdentity {
			last := d.cfg.LastBootID
			if mountedOver(bootIDFile) {
				last = "" // the boot id is a container's: its change says nothing of the kernel
			}
			r.embargo = embargoAt(now, d.cfg.Params, err, last, boot)
		}
		if !errors.Is(err, errNoState) {
			r.note(slog.LevelWarn, "what the lease kept in memory is not used", "file", d.cfg.StateFile, "err", err)
		}
		if err := f.begin(savedHead{stateOwner: f.head.stateOwner, embargo: r.embargo, identity: r.identity}); err != nil {
			f.close()
			return r.without(d.cfg.StateFile, err)
		}
	}
	if f.head.listen != d.cfg.Listen {
		h := f.head
		h.listen = d.cfg.Listen
		if err := f.setHead(h); err != nil {
			f.close()
			return r.without(d.cfg.StateFile, err)
		}
	}
	r.file = f
	return r
}

// embargoAt is when a voter without a usable state may grant. After a reboot,
// all that it promised is from before the kernel started, whose clock tells how
// long ago that is at least. The kernel having started is certain only if the
// last start of this member was in another boot; a file that does not check may
// be from this one.
func embargoAt(now int64, p Params, err error, last string, boot BootID) int64 {
	before, parseErr := ParseBootID(last)
	if parseErr != nil || before == boot || errors.Is(err, errTorn) {
		return now + int64(p.Embargo())
	}
	return int64(p.Embargo()) // CLOCK_MONOTONIC_RAW counts from the kernel's start
}

// without goes on without a state file, as one that forgot. The file must not
// speak to a later process of a time that it knows nothing of: if it can't be
// removed, this voter grants nothing at all.
func (r recalled) without(path string, err error) recalled {
	r.note(slog.LevelError, "the lease keeps nothing in memory for its next start", "err", err)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		r.embargo = forever
		r.note(slog.LevelError, "this member's voter grants nothing: a state file that is not up to date cannot be removed", "err", err)
	}
	return recalled{identity: NewNonce(), embargo: r.embargo, notes: r.notes}
}

func (r *recalled) note(level slog.Level, msg string, args ...any) {
	r.notes = append(r.notes, line{level, msg, args})
}

// recall hands what was kept to the holder, first of all.
func (l *loop) recall(st recalled) {
	for _, n := range st.notes {
		l.log(n.level, n.msg, n.args...)
	}
	l.kept = maps.Clone(st.tenures)
	if l.kept == nil {
		l.kept = map[uint64]tenure{}
	}
	if st.seq == 0 {
		return
	}
	for a, deadline := range l.d.cfg.Inherited {
		l.keeper.slot(a).deadline = deadline
	}
	l.before = maps.Clone(l.kept)
	l.queue = append(l.queue, resumed{st.seq, l.kept, l.d.cfg.Inherited})
}

// keepSeats writes down what the voter promised, before anybody hears of it.
func (l *loop) keepSeats() error {
	var first error
	for _, id := range l.voter.changed() {
		if err := l.state.putSeat(id, l.voter.seats[id]); err != nil && first == nil {
			first = err
			l.complain(id, "a promise cannot be written down, so it is not given", err)
		}
	}
	return first
}

// keepRound reserves the numbers that the holder used (R4), and reports
// whether that failed.
func (l *loop) keepRound() (failed bool) {
	if err := l.state.reserve(l.holder.seq); err != nil {
		l.complain(0, "a round's number cannot be written down, so nothing is asked", err)
		return true
	}
	return false
}

// keepTenure writes down what an Ask is for, before it leaves: whoever goes on
// after this process, or ends what it began, has to know.
func (l *loop) keepTenure(ask Message) bool {
	c := l.holder.routers[ask.Router]
	if l.state == nil || c == nil {
		return true
	}
	t := tenure{ask.Router, slices.Clone(ask.Addrs), slices.Clone(c.asked)}
	for _, a := range c.held {
		t.addrs = with(t.addrs, a)
	}
	if old, ok := l.kept[ask.Router]; ok && slices.Equal(old.addrs, t.addrs) && slices.Equal(old.asked, t.asked) {
		return true
	}
	if err := l.state.put(recordKey{kind: recTenure, id: ask.Router}, t.append()); err != nil {
		l.complain(ask.Router, "a round cannot be written down, so it is not asked", err)
		return false
	}
	l.kept[ask.Router] = t
	return true
}

// forgetTenures removes what is released and over.
func (l *loop) forgetTenures() {
	for id := range l.kept {
		c := l.holder.routers[id]
		if c != nil && len(c.asked) > 0 || l.holder.releases[id] != nil {
			continue
		}
		if err := l.state.put(recordKey{kind: recTenure, id: id}, nil); err == nil {
			delete(l.kept, id)
		}
	}
}

// keepPeers writes down where the members are, for a process that can't ask.
func (l *loop) keepPeers(w Want) {
	if l.state == nil {
		return
	}
	for id, addrs := range w.Peers {
		if slices.Equal(l.peers[id], addrs) {
			continue
		}
		if l.state.put(recordKey{kind: recPeer, who: id}, savedPeer{id, addrs}.append()) == nil {
			l.peers[id] = slices.Clone(addrs)
		}
	}
	for key := range maps.Clone(l.state.where) {
		if _, ok := w.Peers[key.who]; key.kind == recPeer && !ok {
			_ = l.state.put(key, nil) // a member too many costs nothing
			delete(l.peers, key.who)
		}
	}
}

// aliveEvents tells the holder of a member that counts as absent.
func (l *loop) aliveEvents(from fsm.MemberID) []Event {
	if l.holder.counted(from) {
		return []Event{Alive{from}}
	}
	return nil
}

// resumed is the first event of a holder that continues an identity: what the
// process before it may hold or have promises for, and what its gate says.
type resumed struct {
	seq       uint64 // reserved: rounds up to it may have been used
	tenures   map[uint64]tenure
	deadlines map[netip.Addr]int64
}

func (resumed) isEvent() {}

// adoptGrace bounds how long an adopted tenure is renewed although this member
// may not stand for it: while a process starts, its parts say no until they
// have looked, and the predecessor held it a moment ago. The grace ends as soon
// as nothing speaks against it for the first time.
const adoptGrace = 5 * time.Second

// spared reports whether c is held on although this member may not stand for it.
func (h *Holder) spared(c *candidacy) bool {
	return c.adopted && !c.confirmed && c.phase == holding && h.now < c.graceEnd()
}

// confirm ends the grace.
func (h *Holder) confirm(c *candidacy) {
	if c.adopted && c.phase == holding && h.bars(c) == "" && len(without(c.held, c.want)) == 0 {
		c.confirmed = true
	}
}

func (c *candidacy) graceEnd() int64 { return c.began + int64(adoptGrace) }

// resume takes over where another process of the same identity ended. What its
// gate still lets pass is held on; everything else it may have promises for is
// closed, read back and released, as if this process had asked for it (R8).
func (h *Holder) resume(now int64, e resumed) {
	h.seq = max(h.seq, e.seq)
	for _, id := range slices.Sorted(maps.Keys(e.tenures)) {
		t := e.tenures[id]
		c := &candidacy{
			id: id, rank: -1, adopted: true, phase: closing, deadline: now + int64(h.p.TTLMax), since: now, began: now,
			asked: slices.Clone(t.asked), askedUntil: now + int64(h.p.Embargo()), last: h.next(),
		}
		c.handed.until = never
		h.routers[id] = c
		h.hold(now, c, t.addrs, e.deadlines)
	}
	h.order = slices.Sorted(maps.Keys(h.routers))
}

// hold goes on with those of the addresses whose gate is open, and closes the others.
func (h *Holder) hold(now int64, c *candidacy, addrs []netip.Addr, deadlines map[netip.Addr]int64) {
	end := forever
	for _, a := range addrs {
		if until := deadlines[a]; until > now {
			c.held, end = append(c.held, a), min(end, until)
		}
	}
	c.tell, c.why = len(c.held) == 0, "the process before this one ended, and its gate is closed"
	rest := without(addrs, c.held)
	if len(addrs) == 0 {
		h.release(now, c)
		return
	}
	if len(c.held) > 0 {
		slices.SortFunc(c.held, netip.Addr.Compare)
		c.phase, c.deadline, c.goneEnd, c.rank, c.want = holding, end, now+int64(h.p.TTLMax), 0, slices.Clone(c.held)
		c.renewAt = now
		h.emit(Acquired{c.id, c.held, c.deadline})
	}
	if len(rest) > 0 {
		h.shut(now, c, rest)
	}
}

// counted reports whether a member counts as absent anywhere.
func (h *Holder) counted(id fsm.MemberID) bool {
	for _, c := range h.routers {
		if slices.Contains(c.force.absent, id) {
			return true
		}
	}
	return false
}
