package lease

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// adversary is the random scheduler: any message sent may be delivered never,
// once or often, at any later time and in any order; any process may stop at
// any instruction for any time, or start anew; clocks run at any rate within
// what eps covers; and probes may lie, since they are hints that no promise
// may depend on.
type adversary struct {
	*world
	soup    []packet
	crashes int
	lies    bool // probes always say free
	moves   int  // of an address from router to router
	moved   bool
	yields  bool
	lives   bool
	handed  int                // handovers begun
	members interface{ act() } // of Raft
	// focus is the node that things go well for at the moment; frozen does not
	// run at all. Both change now and then.
	focus, frozen *node
}

// plan chooses what an adversary may do.
type plan struct {
	nodes, steps, crashes int
	moves                 bool          // addresses wander between routers
	ttls                  int64         // rounds have any ttl up to so many TTLMax; 0: the usual
	members               bool          // configurations change
	yields                bool          // routers are handed over
	leaders               bool          // configurations change, and leaders
	lives                 bool          // processes begin in every way there is: see restart
	guard                 time.Duration // machines pause, for up to as long
	drift                 float64
}

func newAdversary(seed uint64, pl plan, mut mutation) *adversary {
	p := simParams()
	p.Guard = pl.guard
	a := &adversary{world: newWorld(seed, pl.nodes, p, mut), crashes: pl.crashes, yields: pl.yields, lives: pl.lives}
	a.lies = a.rng.IntN(3) > 0
	a.p.Round = ms(20 + a.rng.IntN(150))
	if pl.moves {
		a.moves = 6
	}
	a.send = func(_ *node, p packet) {
		if p.msg.Kind == ProbeReply && a.lies {
			p.msg.Reason, p.msg.Remaining = Free, 0
		}
		a.soup = append(a.soup, p)
		if len(a.soup) > 400 {
			i := a.rng.IntN(len(a.soup) / 2)
			a.soup = append(a.soup[:i], a.soup[i+1:]...)
		}
	}
	for _, n := range a.nodes {
		n.bootRate = 1 + pl.drift*(2*a.rng.Float64()-1)
		n.rawRate = 1 + pl.drift*(2*a.rng.Float64()-1)
		if pl.ttls > 0 {
			rng, p := a.rng, a.p
			n.holder.ttlOf = func(uint64) int64 { return rng.Int64N(int64(p.TTLMax) * pl.ttls) }
		}
		n.start(true)
		n.routers[1] = []netip.Addr{vip1}
		if pl.moves {
			n.routers[2] = []netip.Addr{vip2}
		}
		n.wanted()
	}
	switch {
	case pl.leaders:
		a.members = newLeaders(a)
	case pl.members:
		a.members = newMembership(a)
	}
	return a
}

// act does one random thing.
func (a *adversary) act() {
	a.pauses()
	if a.rng.IntN(60) == 0 {
		a.focus, a.frozen = a.pick(), nil
		if a.rng.IntN(2) == 0 {
			a.frozen = a.pick()
		}
	}
	if a.members != nil && a.rng.IntN(12) == 0 {
		a.members.act()
	}
	n := a.pick()
	if a.rng.IntN(2) == 0 && a.focus != nil {
		n = a.focus
	}
	if n == a.frozen {
		n = a.pick()
	}
	if n.paused() {
		a.pass()
		return
	}
	switch x := a.rng.IntN(100); {
	case x < 46:
		a.deliverOne()
	case x < 72:
		a.proceed(n)
	case x < 82:
		if len(n.pending) == 0 && len(n.events) == 0 {
			n.step(Tick{})
		}
	case x < 92:
		a.pass()
	case x < 93:
		for _, c := range n.holder.routers { // impatience: pauses are for liveness only
			c.backoff, c.notBefore = 0, 0
		}
	case x < 94:
		if !n.holder.fit || a.rng.IntN(2) == 0 {
			a.toggle(n)
		}
	case x < 95 && a.crashes > 0 && a.rng.IntN(4) == 0:
		a.crash(n)
	case x < 97 && a.moves > 0 && a.rng.IntN(3) == 0:
		a.move(n)
	case x >= 98 && a.yields:
		a.yield(n)
	}
}

func (a *adversary) crash(n *node) {
	a.crashes--
	if a.lives {
		how := foundFile
		if a.rng.IntN(2) == 0 {
			how = lostFile + restart(a.rng.IntN(int(restarts-lostFile)))
		}
		n.again(how)
		return
	}
	a.logf("%s crashes and restarts", n.id)
	n.start(false)
}

// pauses ends pauses of machines that are over, and begins new ones: each up
// to the guard, and not another one before every lease of then is over.
func (a *adversary) pauses() {
	for _, n := range a.nodes {
		if len(n.zombies) > 0 && a.rng.IntN(20) == 0 {
			n.thaw()
		}
	}
	if a.p.Guard == 0 {
		return
	}
	for _, n := range a.nodes {
		n.resumePaused()
	}
	a.check1(vip1)
	if n := a.pick(); a.rng.IntN(30) == 0 && !n.paused() && a.now > n.pauseAgain {
		d := a.rng.Int64N(int64(a.p.Guard)) + 1
		if a.mut.longPauses {
			d *= 2
		}
		a.logf("%s is paused for %d ms", n.id, d/1e6)
		n.pause(d)
	}
}

func (a *adversary) pick() *node { return a.nodes[a.rng.IntN(len(a.nodes))] }

// yield asks a node to hand its router to any other.
func (a *adversary) yield(n *node) {
	c := n.holder.routers[1]
	if c == nil || c.phase != holding || len(n.pending) > 0 || len(n.events) > 0 {
		return
	}
	if to := a.pick(); to != n {
		c.began = never // impatience again
		n.step(Yielding{1, Yield{To: to.id}})
		if c.phase == closing {
			a.handed++
		}
	}
}

// proceed lets a process go on by an instruction or a few.
func (a *adversary) proceed(n *node) {
	if n == a.frozen {
		return
	}
	if len(n.pending) > 0 && a.rng.IntN(20) == 0 { // stopped in the middle, while another runs
		n.carry()
		a.frozen, a.focus = n, a.pick()
		return
	}
	if a.rng.IntN(2) == 0 && len(n.arms) == 0 {
		n.settle()
		return
	}
	switch {
	case len(n.arms) > 0 && a.rng.IntN(3) == 0:
		n.lateArm()
	case len(n.pending) > 0:
		n.carry()
	case len(n.events) > 0:
		ev := n.events[0]
		n.events = n.events[1:]
		n.step(ev)
	}
}

// deliverOne delivers a message, mostly a recent one, and may keep it for again.
func (a *adversary) deliverOne() {
	if len(a.soup) == 0 {
		return
	}
	i := a.rng.IntN(len(a.soup))
	if recent := len(a.soup) - 8; recent > 0 && a.rng.IntN(10) < 7 {
		i = recent + a.rng.IntN(8)
	}
	if a.rng.IntN(2) == 0 && a.focus != nil {
		for j := len(a.soup) - 1; j >= 0; j-- {
			if p := a.soup[j]; p.to == a.focus.id || p.msg.From == a.focus.id {
				i = j
				break
			}
		}
	}
	p := a.soup[i]
	n := a.node(p.to)
	if n.paused() || n == a.frozen && a.rng.IntN(20) > 0 {
		return
	}
	if len(n.pending) > 0 || len(n.events) > 0 {
		n.settleButArms()
	}
	if a.rng.IntN(3) > 0 {
		a.soup = append(a.soup[:i], a.soup[i+1:]...)
	}
	n.deliver(p.msg)
}

func (n *node) settleButArms() {
	for len(n.pending) > 0 || len(n.events) > 0 {
		if len(n.pending) > 0 {
			n.carry()
			continue
		}
		ev := n.events[0]
		n.events = n.events[1:]
		n.step(ev)
	}
}

// pass lets time pass: mostly a little.
func (a *adversary) pass() {
	switch a.rng.IntN(50) {
	case 0:
		a.now += a.rng.Int64N(int64(a.p.TTLMax))
	case 1, 2, 3:
		a.now += a.rng.Int64N(int64(a.p.Round) * 2)
	default:
		a.now += a.rng.Int64N(int64(4 * time.Millisecond))
	}
}

// toggle makes a node give up, or stand again.
func (a *adversary) toggle(n *node) {
	if len(n.pending) == 0 {
		n.step(Fit{OK: !n.holder.fit, Reason: "toggled"})
	}
}

// move tells a node of a table in which the first address has moved from one
// router to the other, or back; nodes hear of it one after the other.
func (a *adversary) move(n *node) {
	a.moves--
	n.settleButArms()
	a.logf("%s hears of a move", n.id)
	if len(n.routers[2]) == 1 {
		n.routers[1], n.routers[2] = []netip.Addr{vip3}, []netip.Addr{vip1, vip2}
	} else {
		n.routers[1], n.routers[2] = []netip.Addr{vip1}, []netip.Addr{vip2}
	}
	n.wanted()
}

// run acts until something is violated.
func (a *adversary) run(steps int) string {
	for range steps {
		a.act()
		if len(a.bad) > 0 {
			return a.bad[0]
		}
	}
	return ""
}

// plans are the adversary's settings that the correct code must survive.
var plans = []struct {
	name  string
	plan  plan
	mut   mutation
	seeds int
}{
	{"three nodes", plan{nodes: 3, steps: 1500, crashes: 0}, mutation{}, 600},
	{"three nodes, crashes", plan{nodes: 3, steps: 1500, crashes: 4}, mutation{}, 600},
	{"three nodes, crashes, clocks off by 5 %", plan{nodes: 3, steps: 1500, crashes: 4, drift: 0.05}, mutation{}, 600},
	{"five nodes, crashes, clocks off by 5 %", plan{nodes: 5, steps: 1500, crashes: 4, drift: 0.05}, mutation{}, 300},
	{"addresses that move", plan{nodes: 3, steps: 1500, crashes: 2, moves: true, drift: 0.05}, mutation{}, 600},
	{"rounds of any ttl", plan{nodes: 3, steps: 1500, crashes: 4, ttls: 3, drift: 0.05}, mutation{}, 600},
	{"gate writes in a late thread", plan{nodes: 3, steps: 1500, crashes: 2}, mutation{asyncArm: true}, 600},
	{"gate writes without order, but in the same thread", plan{nodes: 3, steps: 1500, crashes: 2}, mutation{noOrder: true}, 300},
	{"handovers", plan{nodes: 3, steps: 1500, crashes: 3, drift: 0.05, yields: true}, mutation{}, 400},
	{"handovers and restarts that find the state file", plan{nodes: 4, steps: 1500, crashes: 6, yields: true}, mutation{keepVoter: true}, 300},
	{"restarts that find the state file", plan{nodes: 3, steps: 1500, crashes: 8, drift: 0.05}, mutation{keepVoter: true}, 600},
	{"addresses that move and restarts that find the state file", plan{nodes: 3, steps: 1500, crashes: 8, moves: true}, mutation{keepVoter: true}, 300},
	{"restarts that keep nonce and count", plan{nodes: 3, steps: 1500, crashes: 6}, mutation{sameBoot: true}, 600},
}

func TestNoScheduleOpensTwoGates(t *testing.T) {
	for _, c := range plans {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			survive(t, c.plan, c.mut, c.seeds)
		})
	}
}

// survive runs schedules that must not violate anything.
func survive(t *testing.T, pl plan, mut mutation, seeds int) {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("LEASE_SEEDS")); err == nil {
		seeds *= n // for a long night
	}
	opened, handed := 0, 0
	for seed := range uint64(seeds) {
		a := newAdversary(seed, pl, mut)
		if bad := a.run(pl.steps); bad != "" {
			explain(t, seed, pl, mut)
			t.Fatalf("seed %d: %s", seed, bad)
		}
		opened += a.opened
		handed += a.handed
	}
	if pl.yields && handed < seeds/3 {
		t.Errorf("only %d handovers in %d runs", handed, seeds)
	}
	if opened < 3*seeds/2 {
		t.Errorf("only %d times was a gate armed in %d runs: they prove little", opened, seeds)
	}
	t.Logf("%d gate writes in %d runs", opened, seeds)
}

// caught runs schedules until a mutant is caught; only1: with two open gates.
func caught(t *testing.T, pl plan, mut mutation, seeds int, only1 bool) {
	t.Helper()
	for seed := range uint64(seeds) {
		a := newAdversary(seed, pl, mut)
		a.only1 = only1
		if bad := a.run(pl.steps); bad != "" {
			t.Logf("seed %d: %s", seed, bad)
			return
		}
	}
	t.Errorf("not caught in %d schedules", seeds)
}

// explain runs a failing seed again and logs its last steps.
func explain(t *testing.T, seed uint64, pl plan, mut mutation) {
	t.Helper()
	a := newAdversary(seed, pl, mut)
	a.trail = true
	a.run(pl.steps)
	t.Logf("last steps of seed %d:\n%s", seed, strings.Join(a.trace[max(0, len(a.trace)-80):], "\n"))
}
