package lease

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// restart is how a process of a node begins.
type restart int

const (
	newMember    restart = iota // a fresh identity: it never voted
	lostFile                    // its state file is gone, within the same boot
	foundFile                   // the file is as the last process left it
	tornFile                    // a write was cut
	rebooted                    // the machine started anew: memory, gate and file are gone
	rebootedOver                // likewise, but a file of the last boot is there
	fenced                      // foundFile, after the unit's stop job released for the dead
	restarts
)

var restartNames = [...]string{"as a new member", "without its file", "with its file", "with a torn file",
	"after a reboot", "after a reboot, with an old file", "with its file, after a fence"}

func (r restart) String() string { return restartNames[r] }

// memory is a state file: the records that the code writes, slot by slot.
type memory struct {
	head []byte
	recs map[recordKey][]byte
	seq  uint64 // of head
}

func (m *memory) read(owner stateOwner) (saved, error) {
	s := saved{seats: map[uint64]*seat{}, tenures: map[uint64]tenure{}, where: map[recordKey]int{}}
	if m == nil {
		return s, errNoState
	}
	b, err := openSlot(m.head)
	if err != nil {
		return s, err
	}
	if s.savedHead, err = parseHead(b); err != nil {
		return s, err
	}
	for _, r := range m.recs {
		if b, err = openSlot(r); err == nil {
			err = s.add(1, b)
		}
		if err != nil {
			return s, err
		}
	}
	if s.stateOwner != owner {
		return s, errForeign
	}
	return s, nil
}

func mustSeal(payload []byte) []byte {
	b, err := sealSlot(payload)
	if err != nil {
		panic(err)
	}
	return b
}

func (m *memory) setHead(h savedHead) { m.head, m.seq = mustSeal(h.append()), h.seq }

// tear spoils one slot, as a write that was cut does.
func (m *memory) tear(rng *rand.Rand) {
	slots := [][]byte{m.head}
	for _, r := range m.recs {
		slots = append(slots, r)
	}
	slices.SortFunc(slots, slices.Compare)
	b := slots[rng.IntN(len(slots))]
	b[slotHead+rng.IntN(len(b)-slotHead)] ^= 1
}

func (n *node) owner() stateOwner { return stateOwner{boot: n.bootID, self: n.id} }

// keepSeats is loop.keepSeats: what the voter promised is in the file before
// the Grant leaves.
func (n *node) keepSeats() {
	for _, id := range n.voter.changed() {
		key := recordKey{kind: recSeat, id: id}
		switch s := n.voter.seats[id]; {
		case s == nil:
			delete(n.file.recs, key)
		case n.w.mut.halfVoter && n.w.rng.IntN(2) == 0: // it was to be written a moment later
		default:
			n.file.recs[key] = mustSeal(appendSeat(id, s))
		}
	}
}

// keepRounds is loop.keepRound and loop.forgetTenures.
func (n *node) keepRounds() {
	if seq := n.holder.seq; seq > n.file.seq {
		n.file.setHead(savedHead{stateOwner: n.owner(), embargo: n.embargo, identity: n.boot, seq: seq + seqStep})
	}
	for key := range n.file.recs {
		c := n.holder.routers[key.id]
		if key.kind == recTenure && (c == nil || len(c.asked) == 0) && n.holder.releases[key.id] == nil {
			delete(n.file.recs, key)
		}
	}
}

// keepTenure is loop.keepTenure, before an Ask leaves.
func (n *node) keepTenure(ask Message) {
	if c := n.holder.routers[ask.Router]; c != nil {
		t := tenure{ask.Router, slices.Clone(ask.Addrs), c.asked}
		for _, a := range c.held {
			t.addrs = with(t.addrs, a)
		}
		n.file.recs[recordKey{kind: recTenure, id: ask.Router}] = mustSeal(t.append())
	}
}

// recall is Driver.recall.
func (n *node) recall(how restart) recalled {
	w, now := n.w, n.rawNow()
	w.starts++
	p := w.p
	if w.mut.embargoNoGuard {
		p.Guard = 0
	}
	r := recalled{identity: Nonce{byte(w.starts), byte(w.starts >> 8), n.id[1]}}
	s, err := n.file.read(n.owner())
	if err == errForeign && w.mut.trustForeign || err != nil && n.file != nil && w.mut.trustTorn {
		err = nil
	}
	last := n.lastBoot
	if w.mut.kernelEmbargo {
		last = BootID{1}.String()
	}
	switch {
	case err == nil:
		r.identity, r.embargo, r.seq, r.seats, r.tenures = s.identity, s.embargo, s.seq, s.seats, s.tenures
		if w.mut.noReserve {
			r.seq = max(s.seq, seqStep) - seqStep
		}
	case how == newMember || w.mut.freshTwice:
		r.embargo = now
	default:
		r.embargo = embargoAt(now, p, err, last, n.bootID)
	}
	if n.lastBoot = n.bootID.String(); err != nil {
		n.file = &memory{recs: map[recordKey][]byte{}}
		n.file.setHead(savedHead{stateOwner: n.owner(), embargo: r.embargo, identity: r.identity})
	}
	return r
}

// reboot starts the node's kernel anew: its clocks, its memory and its gate.
func (n *node) reboot() {
	n.epoch, n.lost, n.gate = n.w.now, 0, map[netip.Addr]int64{}
	n.w.starts++
	n.bootID = BootID{2, byte(n.w.starts), byte(n.w.starts >> 8)}
}

// fence is what the unit's stop job does for a dead process: see ReleaseDead.
func (n *node) fence() {
	s, err := n.file.read(n.owner())
	if err != nil {
		return
	}
	if !n.w.mut.fenceEarly {
		_ = n.Close(slices.Collect(maps.Keys(n.gate)))
	}
	v := newVoter(n.id, Nonce{}, Params{}, s.embargo, s.seats)
	for _, id := range sortedKeys(s.tenures) {
		m := Message{Kind: Release, Router: id, From: n.id, Boot: s.identity, Seq: s.seq}
		v.Step(n.rawNow(), m)
		for _, to := range without(s.tenures[id].asked, []fsm.MemberID{n.id}) {
			n.w.send(n, packet{to, m})
			n.w.send(n, packet{to, m})
		}
		n.released[id] = max(n.released[id], s.seq)
	}
	for _, id := range v.changed() {
		n.file.recs[recordKey{kind: recSeat, id: id}] = mustSeal(appendSeat(id, v.seats[id]))
	}
}

// zombie is a process that another one has replaced, but that still writes
// the gate: to a map of its own, which no link uses any more.
type zombie struct {
	keeper *keeper
	arms   []Arm
}

// deadMap takes writes that no packet ever meets.
type deadMap struct{}

func (deadMap) Arm(netip.Addr, int64) error { return nil }
func (deadMap) Close([]netip.Addr) error    { return nil }

// replaced keeps of a process what it may still write.
func (n *node) replaced() {
	z := zombie{keeper: n.keeper, arms: n.arms}
	for _, o := range n.pending {
		if arm, ok := o.(Arm); ok {
			z.arms = append(z.arms, arm)
		}
	}
	if !n.w.mut.liveMap {
		z.keeper.gate = deadMap{}
	}
	n.zombies = append(n.zombies, z)
}

// thaw lets the processes that were replaced go on.
func (n *node) thaw() {
	for _, z := range n.zombies {
		for _, o := range z.arms {
			n.w.logf("%s a replaced process: %s", n.id, showOutput(o))
			_ = z.keeper.arm(o)
		}
	}
	n.zombies = nil
}

// again ends a process and begins another.
func (n *node) again(how restart) {
	n.w.logf("%s ends and begins %v", n.id, how)
	n.replaced()
	switch how {
	case lostFile:
		n.file = nil
	case tornFile:
		n.file.tear(n.w.rng)
	case rebooted:
		n.file = nil
		n.zombies = nil
		n.reboot()
	case rebootedOver:
		n.zombies = nil
		n.reboot()
	case fenced:
		n.fence()
	}
	n.begin(how)
}

// pause stops a machine's clocks, and with them all that it does, for d.
func (n *node) pause(d int64) { n.pausedAt, n.pauseFor = n.w.now, d }

// pausedFor is how long the machine's present pause lasts so far.
func (n *node) pausedFor() int64 {
	if n.pauseFor == 0 {
		return 0
	}
	return min(n.w.now-n.pausedAt, n.pauseFor)
}

// paused reports whether the machine stands still; its gate passes nothing then.
func (n *node) paused() bool { return n.pauseFor > 0 && n.w.now < n.pausedAt+n.pauseFor }

// resumed ends a pause that is over.
func (n *node) resumePaused() {
	if n.pauseFor > 0 && !n.paused() {
		n.lost += n.pauseFor
		n.pauseFor = 0
		n.pauseAgain = n.w.now + 2*int64(n.w.p.Embargo())
	}
}

func lifePlan(crashes int) plan {
	return plan{nodes: 3, steps: 1500, crashes: crashes, lives: true}
}

// Whatever becomes of processes, machines, clocks and files, one gate is open.
func TestNoLifeOpensTwoGates(t *testing.T) {
	drift, guard, both := lifePlan(10), plan{nodes: 3, steps: 1500, guard: ms(200), ttls: 1}, lifePlan(10)
	drift.drift = 0.05
	both.guard, both.yields, both.moves, both.steps = ms(200), true, true, 2000
	for _, c := range []struct {
		name string
		plan plan
	}{
		{"processes and machines", lifePlan(10)},
		{"clocks off by 5 %", drift},
		{"machines that pause", guard},
		{"all of it, handovers, and addresses that move", both},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			survive(t, c.plan, mutation{}, 400)
		})
	}
}

var lifeMutants = []struct {
	name string
	plan plan
	mut  mutation
}{
	{"promises written down after the Grant (R2)", lifePlan(10), mutation{halfVoter: true}},
	{"embargo from the kernel's start although the file was lost since (R2)", lifePlan(10), mutation{kernelEmbargo: true}},
	{"what still checks in a torn file counts (R2)", lifePlan(10), mutation{trustTorn: true}},
	{"a fresh identity is fresh at each start (R2)", lifePlan(10), mutation{freshTwice: true}},
	{"reserved numbers are used again (R4)", lifePlan(10), mutation{noReserve: true}},
	{"the stop job releases before the gate is closed (R8)", lifePlan(10), mutation{fenceEarly: true}},
	{"promises without the guard (R11)", plan{nodes: 3, steps: 1500, guard: ms(200), ttls: 1}, mutation{noGuard: true}},
	{"pauses of twice the guard: the documented overlap (R11)", plan{nodes: 3, steps: 1500, guard: ms(100), ttls: 1}, mutation{longPauses: true}},
}

func TestLifeMutantsAreCaught(t *testing.T) {
	for _, c := range lifeMutants {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			caught(t, c.plan, c.mut, 2000, true)
		})
	}
}

// A file of another boot is worth nothing: its times are of another clock, and
// who believed them would keep a router for somebody for as long as the
// machine had been up before.
func TestAFileOfAnotherBootIsForgotten(t *testing.T) {
	for _, bug := range []bool{true, false} {
		s := newScript(3, mutation{trustForeign: bug})
		s.acquire(0, 0, 1)
		n := s.nodes[1]
		n.again(rebootedOver)
		n.settle()
		s.now += int64(time.Minute)
		if _, _, left := n.voter.Promise(n.rawNow(), 1); (left > 0) != bug {
			t.Errorf("believed %v: promised for %d ns more", bug, left)
		}
	}
}

// A holder's machine pauses for as long as the guard, a voter forgets what it
// promised in the same moment: only an embargo with the guard is long enough.
func TestEmbargoCoversAPause(t *testing.T) {
	for _, bug := range []bool{true, false} {
		p := simParams()
		p.Guard = ms(200)
		s := newScriptOf(3, p, mutation{embargoNoGuard: bug})
		s.acquire(0, 0, 1)
		s.nodes[0].pause(int64(p.Guard))
		s.nodes[1].again(lostFile)
		s.nodes[1].settle()
		s.now += int64(p.TTLMax) + 1
		s.nodes[0].resumePaused()
		s.acquire(2, 1, 2)
		if two := len(s.bad) > 0; two != bug {
			t.Errorf("embargo without the guard %v: %v\n%s", bug, s.bad, strings.Join(s.trace, "\n"))
		}
	}
}

// A process is stopped between a majority and the gate; another one goes on in
// its place, finds the gate closed and releases; then the first one writes.
func TestReplacedProcessWritesADeadMap(t *testing.T) {
	for _, bug := range []bool{true, false} {
		s := newScript(3, mutation{liveMap: bug})
		s.ask(0)
		s.vote(0, 0, 1)
		n := s.nodes[0]
		n.deliver(s.last(Grant, 0, 0))
		n.settle()
		n.deliver(s.last(Grant, 1, 0)) // won: the Arm is pending
		n.again(foundFile)
		n.settle()
		s.now += int64(s.p.Settle)
		n.step(Tick{})
		n.settle()
		s.nodes[1].deliver(s.last(Release, 0, 1))
		s.nodes[1].settle()
		s.acquire(2, 1, 2)
		n.thaw()
		if two := len(s.bad) > 0; two != bug {
			t.Errorf("in use %v: %v\n%s", bug, s.bad, strings.Join(s.trace, "\n"))
		}
		if s.nodes[2].gate[vip1] <= s.nodes[2].bootNow() {
			t.Error("m3 was to hold it by then")
		}
	}
}
