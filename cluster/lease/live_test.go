package lease

import (
	"container/heap"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"lbcluster/fsm"
)

// live is the scheduler for what must happen in time: a queue of events, a
// network with delays, losses and cuts, nodes that freeze and die.
type live struct {
	*world
	queue events
	loss  float64
	cut   func(from, to fsm.MemberID) bool
	drop  func(m Message) bool
	inbox map[*node][]Message // of frozen nodes
	dead  map[*node]bool
	seq   int
}

type event struct {
	at  int64
	seq int
	do  func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// newLive starts n nodes that all stand for router 1, in order.
func newLive(seed uint64, n int, p Params) *live {
	l := &live{world: newWorld(seed, n, p, mutation{}), inbox: map[*node][]Message{}, dead: map[*node]bool{}}
	l.cut = func(_, _ fsm.MemberID) bool { return false }
	l.drop = func(Message) bool { return false }
	l.send = l.transmit
	for _, nd := range l.nodes {
		nd.routers[1] = []netip.Addr{vip1}
	}
	return l
}

// begin lets all nodes stand at the same instant.
func (l *live) begin() *live {
	for _, nd := range l.nodes {
		nd.wanted()
		l.work(nd)
	}
	return l
}

func (l *live) at(after int64, do func()) {
	l.seq++
	heap.Push(&l.queue, event{l.now + after, l.seq, do})
}

// transmit delays by 0.1 ms and an exponential 0.2 ms, with a tail to 20 ms.
func (l *live) transmit(from *node, p packet) {
	if l.dead[from] || from.id != p.to && (l.cut(from.id, p.to) || l.rng.Float64() < l.loss) || l.drop(p.msg) {
		return
	}
	delay := int64(1e5 + l.rng.ExpFloat64()*2e5)
	if l.rng.IntN(500) == 0 {
		delay += l.rng.Int64N(20e6)
	}
	if from.id == p.to {
		delay = 1e3
	}
	l.at(delay, func() { l.arrive(l.node(p.to), p.msg) })
}

func (l *live) arrive(n *node, m Message) {
	switch {
	case l.dead[n]:
	case n.frozen:
		l.inbox[n] = append(l.inbox[n], m)
	default:
		n.deliver(m)
		l.work(n)
	}
}

// work carries out all, then wakes the node when it asked to be woken.
func (l *live) work(n *node) {
	n.settle()
	wait := int64(float64(n.holder.Next()-n.bootNow())/n.bootRate) + 1
	if n.holder.Next() == forever {
		return
	}
	h := n.holder
	l.at(max(wait, 1e3), func() {
		if !l.dead[n] && !n.frozen && n.holder == h && n.bootNow() >= h.Next() {
			n.step(Tick{})
			l.work(n)
		}
	})
}

// run lets d pass and returns what was violated.
func (l *live) run(t *testing.T, d time.Duration) {
	t.Helper()
	end := l.now + int64(d)
	for len(l.queue) > 0 && l.queue[0].at <= end {
		e := heap.Pop(&l.queue).(event)
		l.now = e.at
		e.do()
	}
	l.now = end
	if len(l.bad) > 0 {
		t.Fatalf("%v", l.bad)
	}
}

// until runs until ok, at most d, and reports how long it took; -1: not.
func (l *live) until(t *testing.T, d time.Duration, ok func() bool) time.Duration {
	t.Helper()
	start := l.now
	for l.now < start+int64(d) {
		if ok() {
			return time.Duration(l.now - start)
		}
		l.run(t, 500*time.Microsecond)
	}
	return -1
}

// owner is the node whose gate is open; nil: none.
func (l *live) owner() *node {
	for _, n := range l.nodes {
		if n.gate[vip1] > n.bootNow() {
			return n
		}
	}
	return nil
}

func (l *live) kill(n *node)   { l.dead[n] = true }
func (l *live) freeze(n *node) { n.frozen = true }

func (l *live) thaw(n *node) {
	n.frozen = false
	for _, m := range l.inbox[n] {
		l.arrive(n, m)
	}
	l.inbox[n] = nil
	n.step(Tick{})
	l.work(n)
}

func profile(t *testing.T, name string) Params {
	p, err := Profile(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// owned waits for an owner and returns it.
func (l *live) owned(t *testing.T, within time.Duration) *node {
	t.Helper()
	if took := l.until(t, within, func() bool { return l.owner() != nil }); took < 0 {
		t.Fatalf("nobody owns the router after %v", within)
	}
	return l.owner()
}

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[(len(d)-1)*p/100]
}

// Three candidates of the same rank at the same instant, at 0 and 10 % loss:
// random pauses part them.
func TestColdStartConverges(t *testing.T) {
	p := profile(t, "default")
	for _, loss := range []float64{0, 0.1} {
		var took []time.Duration
		for seed := range uint64(200) {
			l := newLive(seed, 3, p)
			l.loss = loss
			for _, n := range l.nodes {
				n.holder.p.Stagger = 0
			}
			l.begin()
			took = append(took, l.until(t, 3*time.Second, func() bool { return l.owner() != nil }))
			if took[len(took)-1] < 0 {
				t.Fatalf("seed %d: no owner after 3 s", seed)
			}
		}
		t.Logf("loss %v: p50 %v, p99 %v", loss, percentile(took, 50), percentile(took, 99))
		if limit := 5 * 2 * p.Round; percentile(took, 99) > limit {
			t.Errorf("loss %v: p99 %v above %v", loss, percentile(took, 99), limit)
		}
	}
}

// The owner's machine dies: the first of the others takes over within the
// promised time.
func TestFailoverTime(t *testing.T) {
	for _, name := range []string{"default", "fast", "robust"} {
		p := profile(t, name)
		best, worst := p.Failover()
		var took []time.Duration
		for seed := range uint64(60) {
			l := newLive(seed, 3, p).begin()
			l.owned(t, time.Second)
			l.run(t, time.Second+time.Duration(l.rng.Int64N(int64(p.Renew))))
			l.kill(l.owner())
			dead := l.owner()
			took = append(took, l.until(t, 3*p.TTL, func() bool { return l.owner() != nil && l.owner() != dead }))
		}
		t.Logf("%s: p50 %v, p99 %v, derived %v to %v", name, percentile(took, 50), percentile(took, 99), best, worst)
		if took[0] < 0 || percentile(took, 90) > worst+p.Round/2 || percentile(took, 99) > worst+4*p.Round {
			t.Errorf("%s: min %v, p90 %v, p99 %v, derived worst %v", name, took[0], percentile(took, 90), percentile(took, 99), worst)
		}
	}
}

// A holder that stands still for longer than its lease: its gate closes in the
// kernel at the deadline, another acquires, and the thawed process neither
// opens the gate again nor keeps its owner believing.
func TestFrozenHolder(t *testing.T) {
	l := newLive(1, 3, profile(t, "default")).begin()
	first := l.owned(t, time.Second)
	l.run(t, time.Second)
	l.freeze(first)
	l.until(t, time.Second, func() bool { return l.owner() == nil })
	gap := l.until(t, time.Second, func() bool { return l.owner() != nil })
	if gap < 0 || gap > 150*time.Millisecond {
		t.Errorf("gap between the gate's deadline and the next owner: %v", gap)
	}
	second := l.owner()
	l.run(t, 3*time.Second)
	l.thaw(first)
	if first.owns[1] || first.gate[vip1] > first.bootNow() {
		t.Error("the thawed process still owns the router")
	}
	l.run(t, 5*time.Second)
	if l.owner() != second {
		t.Error("the lease moved when the first owner came back")
	}
}

// A pause shorter than the tolerated stall costs nothing.
func TestToleratedStall(t *testing.T) {
	p := profile(t, "default")
	for seed := range uint64(20) {
		l := newLive(seed, 3, p).begin()
		n := l.owned(t, time.Second)
		l.run(t, time.Second)
		for range 20 {
			l.freeze(n)
			l.run(t, p.Stall()-2*time.Millisecond)
			l.thaw(n)
			l.run(t, 300*time.Millisecond)
		}
		if n.acquired != 1 || l.owner() != n {
			t.Errorf("seed %d: the holder acquired %d times", seed, n.acquired)
		}
	}
}

// The process is killed and starts again before its old deadline: the gate of
// its predecessor is closed before it says a word, and it cannot win its own
// old promise.
func TestKilledAndRestarted(t *testing.T) {
	l := newLive(1, 3, profile(t, "default")).begin()
	n := l.owned(t, time.Second)
	l.run(t, time.Second)
	n.start(false)
	n.wanted()
	if n.gate[vip1] <= n.bootNow() {
		t.Fatal("the test wants an open gate left by the predecessor")
	}
	l.work(n)
	if n.gate[vip1] != 0 {
		t.Error("the new process left its predecessor's gate open")
	}
	l.run(t, 3*time.Second)
	if l.owner() == nil || l.owner() == n && n.acquired > 2 {
		t.Error("no stable owner after the restart")
	}
}

// Every subset of links cut, one way too, in clusters of 3, 4 and 5: never two
// owners, and an owner where some candidate reaches a majority both ways.
func TestPartitions(t *testing.T) {
	for _, n := range []int{3, 4, 5} {
		runs := 60
		for seed := range uint64(runs) {
			l := newLive(seed, n, profile(t, "default"))
			blocked := map[string]bool{}
			for _, a := range l.nodes {
				for _, b := range l.nodes {
					// n=3: the seed's bits name the cut directions, all 64 of them
					i := slices.Index(l.nodes, a)*2 + (slices.Index(l.nodes, b)-slices.Index(l.nodes, a)+n)%n - 1
					if a != b && (n == 3 && seed>>i&1 == 1 || n > 3 && l.rng.IntN(3) == 0) {
						blocked[string(a.id+b.id)] = true
					}
				}
			}
			l.begin()
			l.run(t, time.Second)
			l.cut = func(a, b fsm.MemberID) bool { return blocked[string(a+b)] }
			l.run(t, 4*time.Second)
			able := false
			for _, a := range l.nodes {
				both := 1
				for _, b := range l.nodes {
					if a != b && !blocked[string(a.id+b.id)] && !blocked[string(b.id+a.id)] {
						both++
					}
				}
				able = able || both >= majority(n)
			}
			if (l.owner() != nil) != able {
				t.Errorf("n %d, cut %v: owner %v although a majority is in reach: %v", n, blocked, l.owner() != nil, able)
			}
		}
	}
}

// Only the link between two candidates is down, at 5 % loss: nothing flaps.
func TestOneLinkDownDoesNotFlap(t *testing.T) {
	l := newLive(3, 3, profile(t, "default")).begin()
	first := l.owned(t, time.Second)
	l.loss = 0.05
	other := l.nodes[1]
	if first == other {
		other = l.nodes[0]
	}
	l.cut = func(a, b fsm.MemberID) bool {
		return a == first.id && b == other.id || a == other.id && b == first.id
	}
	l.run(t, 500*l.p.TTL)
	if l.owner() != first || first.acquired != 1 {
		t.Errorf("the lease moved: first acquired %d times", first.acquired)
	}
}

// All Releases are lost: the next owner waits for the promises, no longer.
func TestLostReleases(t *testing.T) {
	p := profile(t, "default")
	l := newLive(1, 3, p).begin()
	n := l.owned(t, time.Second)
	l.run(t, time.Second)
	l.drop = func(m Message) bool { return m.Kind == Release }
	n.step(Fit{Reason: "test"})
	l.work(n)
	if l.owner() != nil {
		t.Fatal("still open after giving up")
	}
	took := l.until(t, 2*p.TTL, func() bool { return l.owner() != nil })
	if took < 0 || took > p.TTL+3*p.Round {
		t.Errorf("took %v", took)
	}
}

// A Release reaches the others: they take over in milliseconds, and if the
// owner is slow to remove its addresses, after 20 ms.
func TestPlannedLossIsQuick(t *testing.T) {
	for _, slow := range []bool{false, true} {
		l := newLive(1, 3, profile(t, "default")).begin()
		n := l.owned(t, time.Second)
		l.run(t, time.Second)
		if slow {
			n.removal = func(uint64) {}
		}
		n.step(Fit{Reason: "test"})
		l.work(n)
		took := l.until(t, time.Second, func() bool { return l.owner() != nil })
		low, high := time.Millisecond, 80*time.Millisecond
		if slow {
			low, high = 20*time.Millisecond, 100*time.Millisecond
		}
		if took < low || took > high {
			t.Errorf("slow %v: took %v", slow, took)
		}
	}
}

// Clocks off by 8 % on either side: never two owners while owners die in turn,
// and one is found each time. The wall clock does not exist here at all.
func TestClockRates(t *testing.T) {
	for i, rates := range [][2]float64{{0.92, 1}, {1.08, 1}, {1, 0.92}, {1, 1.08}, {0.95, 1.05}} {
		l := newLive(uint64(i), 3, profile(t, "default"))
		l.nodes[0].bootRate = rates[0]
		l.nodes[0].start(true)
		for _, n := range l.nodes[1:] {
			n.rawRate = rates[1]
			n.start(true)
		}
		l.begin()
		for range 10 {
			n := l.owned(t, 5*time.Second)
			l.run(t, time.Second)
			l.freeze(n)
			l.run(t, 2*time.Second)
			l.thaw(n)
		}
	}
}

// A pause that stops a virtual machine's clock is outside what no guard
// covers: with G = 0 two gates are open, with G above the pause they are not.
func TestPausedMachine(t *testing.T) {
	for _, guard := range []time.Duration{0, 500 * time.Millisecond} {
		p := profile(t, "default")
		p.Guard = guard
		l := newLive(1, 3, p).begin()
		n := l.owned(t, time.Second)
		l.run(t, time.Second)
		l.only1 = true
		l.freeze(n)
		rate, began, end := n.bootRate, n.bootNow(), l.now+400e6
		for l.now < end { // its clock stands still
			l.run1(1e6)
			n.bootRate = float64(began) / float64(l.now)
		}
		n.bootRate = rate
		stopped := l.now
		for range 1200 { // it goes on 400 ms behind, frozen: only the gate matters
			l.run1(1e6)
			n.bootRate = (float64(began) + float64(l.now-stopped)) / float64(l.now)
			l.check1(vip1)
		}
		if two := len(l.bad) > 0; two != (guard == 0) {
			t.Errorf("guard %v: two gates open: %v", guard, two)
		}
	}
}

// run1 lets ns pass and leaves violations to the caller.
func (l *live) run1(ns int64) {
	end := l.now + ns
	for len(l.queue) > 0 && l.queue[0].at <= end {
		e := heap.Pop(&l.queue).(event)
		l.now = e.at
		e.do()
	}
	l.now = end
}

// Voters restart one after the other, each with its embargo: the holder keeps
// the lease if there is time between them.
func TestRollingRestartOfVoters(t *testing.T) {
	l := newLive(1, 5, profile(t, "default")).begin()
	n := l.owned(t, time.Second)
	for _, v := range l.nodes {
		if v != n {
			v.start(false)
			v.wanted()
			l.work(v)
			l.run(t, 3500*time.Millisecond)
		}
	}
	if l.owner() != n || n.acquired != 1 {
		t.Errorf("the holder acquired %d times", n.acquired)
	}
}

// Sixty-four routers at one holder are renewed together.
func TestRoutersRenewTogether(t *testing.T) {
	l := newLive(1, 3, profile(t, "default"))
	for _, n := range l.nodes {
		for id := range uint64(64) {
			n.routers[id+1] = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(id)})}
		}
	}
	l.begin()
	l.run(t, 2*time.Second)
	for _, n := range l.nodes {
		at, held := map[int64]int{}, 0
		for _, c := range n.holder.routers {
			if c.phase == holding {
				at[c.renewAt/1e6]++
				held++
			}
		}
		if held > 16 && len(at) > held/8 {
			t.Errorf("%s renews %d routers at %s", n.id, held, fmt.Sprint(at))
		}
		t.Logf("%s renews %d routers at %d times", n.id, held, len(at))
	}
}
