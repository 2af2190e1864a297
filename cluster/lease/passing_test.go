package lease

import (
	"testing"
	"time"

	"lbcluster/fsm"
)

// handOver has the holder hand router 1 over to a node, past the shortest tenure.
func (l *live) handOver(from, to *node) {
	from.holder.routers[1].began = never
	from.step(Yielding{1, Yield{To: to.id, Why: "test"}})
	l.work(from)
}

// passing is a cluster whose m1 holds, and is to hand over to m3: m2 stands
// before m3.
func passing(t *testing.T, seed uint64) (l *live, from, to *node) {
	t.Helper()
	l = newLive(seed, 3, profile(t, "default")).begin()
	from = l.owned(t, time.Second)
	l.run(t, time.Second)
	if to = l.nodes[2]; to == from {
		to = l.nodes[1]
	}
	return l, from, to
}

// Whatever goes wrong in a handover, one gate is open at most, and somebody
// holds the router again within a bound.
func TestHandoverWhateverGoesWrong(t *testing.T) {
	p := profile(t, "default")
	for _, c := range []struct {
		name   string
		spoil  func(l *live, to *node)
		within time.Duration
		toIt   bool // and it is the one that was named
	}{
		{"nothing", func(*live, *node) {}, ms(30), true},
		{"every fifth message is lost", func(l *live, _ *node) { l.loss = 0.2 }, p.TTL, false},
		{"all Releases are lost", func(l *live, _ *node) {
			l.drop = func(m Message) bool { return m.Kind == Release }
		}, p.TTL + 4*p.Round, false},
		{"the voters hear no Release, the next one does", func(l *live, to *node) {
			send := l.send
			l.send = func(n *node, p packet) {
				if p.msg.Kind != Release || p.to == to.id && n != to {
					send(n, p)
				}
			}
		}, p.TTL + 4*p.Round, false},
		{"the next one dies", func(l *live, to *node) { l.kill(to) }, p.reserve() + 5*p.Round, false},
		{"the next one is not fit any more", func(l *live, to *node) {
			to.step(Fit{Reason: "test"})
			l.work(to)
		}, p.reserve() + 5*p.Round, false},
		{"the next one stands still for a while", func(l *live, to *node) {
			l.freeze(to)
			l.at(int64(2*p.reserve()), func() { l.thaw(to) })
		}, p.reserve() + 5*p.Round, false},
	} {
		for seed := range uint64(20) {
			l, from, to := passing(t, seed)
			c.spoil(l, to)
			l.handOver(from, to)
			took := l.until(t, 2*p.TTL, func() bool { return l.owner() != nil && l.owner() != from || l.owner() == from && from.acquired > 1 })
			if took < 0 || took > c.within || c.toIt && l.owner() != to {
				t.Errorf("%s, seed %d: took %v, within %v", c.name, seed, took, c.within)
			}
		}
	}
}

// Two handovers in a row, and then copies of every Release that was ever sent:
// the router stays where it is, and no hint of an earlier handover moves it.
func TestOldHintsMoveNothing(t *testing.T) {
	for seed := range uint64(20) {
		l, first, second := passing(t, seed)
		third := l.nodes[1]
		if third == first || third == second {
			third = l.nodes[0]
		}
		var releases []packet
		send := l.send
		l.send = func(n *node, p packet) {
			if p.msg.Kind == Release {
				releases = append(releases, p)
			}
			send(n, p)
		}
		l.handOver(first, second)
		l.run(t, 300*time.Millisecond)
		if l.owner() != second {
			t.Fatalf("seed %d: the first handover failed", seed)
		}
		l.handOver(second, third)
		l.run(t, 300*time.Millisecond)
		if l.owner() != third {
			t.Fatalf("seed %d: the second handover failed", seed)
		}
		won := third.acquired
		for range 20 {
			for _, p := range releases {
				l.arrive(l.node(p.to), p.msg)
			}
			l.run(t, 100*time.Millisecond)
		}
		if l.owner() != third || third.acquired != won {
			t.Errorf("seed %d: copies of old Releases moved it", seed)
		}
	}
}

// The reserve of a handover is for availability alone. As long as a promise it
// would keep a router from everybody when the next holder dies; and a copy of
// the Release would keep it for as long again each time, if it counted anew.
func TestReserveIsShortAndOnce(t *testing.T) {
	p := profile(t, "default")
	for name, bug := range map[string]voterBugs{"": {}, "as a promise": {longReserve: true}, "anew with each copy": {oldHint: true}} {
		v := NewVoter("m1", Nonce{1}, p, 0, true)
		v.bug = bug
		release := Message{Kind: Release, Router: 1, From: "m2", Boot: Nonce{2}, Seq: 7, Hint: "m3"}
		probe := Message{Kind: Probe, Router: 1, From: "m1", Boot: Nonce{1}, Seq: 1, Addrs: one.Addrs}
		free := int64(-1)
		for now := int64(0); now < int64(p.TTL) && free < 0; now += 10e6 {
			v.Step(now, release)
			if v.Step(now, probe)[0].Msg.Reason == Free {
				free = now
			}
		}
		if soon := free == int64(p.reserve()); soon != (name == "") {
			t.Errorf("reserve %q: free after %d ns", name, free)
		}
		if r := v.Step(5e6, Message{Kind: Probe, Router: 1, From: "m3", Boot: Nonce{3}, Seq: 1})[0].Msg.Reason; r != Free {
			t.Errorf("reserve %q: m3, who was named: %v", name, r)
		}
	}
}

// A forced lease beside voters that are off, in any order of events and with
// restarts: the operator told the truth, so one gate is open at most, also when
// those that were off come back and are heard.
func TestForceWithTheTruth(t *testing.T) {
	p := profile(t, "default")
	for seed := range uint64(40) {
		l, from, _ := passing(t, seed)
		var last *node
		for _, n := range l.nodes {
			if n != from && (last == nil || l.rng.IntN(2) == 0) {
				last = n
			}
		}
		l.run(t, time.Duration(l.rng.Int64N(1e9)))
		var absent []fsm.MemberID
		for _, n := range l.nodes {
			if n != last {
				l.kill(n)
				absent = append(absent, n.id)
			}
		}
		last.step(Forced{1, absent, last.bootNow() + 3600e9})
		l.work(last)
		took := l.until(t, 10*time.Second, func() bool { return l.owner() == last })
		if took < 0 || took > p.Embargo()+10*p.Round {
			t.Fatalf("seed %d: held after %v", seed, took)
		}
		l.run(t, 5*time.Second)
		if l.owner() != last {
			t.Fatalf("seed %d: not held on", seed)
		}
		for _, n := range l.nodes { // they are switched on again
			if n != last {
				delete(l.dead, n)
				n.again(rebooted)
				l.work(n)
				l.at(l.rng.Int64N(1e9), func() { // the first packet of it
					last.step(Alive{n.id})
					l.work(last)
				})
			}
		}
		l.run(t, 5*time.Second)
		if l.owner() == nil {
			t.Errorf("seed %d: nobody holds it once all are back", seed)
		}
	}
}

// What happens if the operator errs: a member that counts as absent lives, and
// holds, but cannot be heard. Two gates are open then, from the end of the wait
// until the force ends or the first packet gets through, and no longer.
func TestForceWithALie(t *testing.T) {
	for _, heals := range []bool{true, false} {
		l, from, _ := passing(t, 1)
		last := l.nodes[2]
		if last == from {
			last = l.nodes[1]
		}
		l.cut = func(a, b fsm.MemberID) bool { return a != b && (a == last.id || b == last.id) }
		var absent []fsm.MemberID
		for _, n := range l.nodes {
			if n != last {
				absent = append(absent, n.id)
			}
		}
		until := 10 * time.Second
		last.step(Forced{1, absent, last.bootNow() + int64(until)})
		l.work(last)
		open := func(n *node) bool { return n.gate[vip1] > n.bootNow() }
		wait := l.p.Embargo()
		l.run(t, wait-time.Millisecond)
		if open(last) {
			t.Error("it did not wait for what the absent may have promised")
		}
		for range 1000 {
			l.run1(1e6)
		}
		if !open(from) || !open(last) {
			t.Error("the expected overlap is not there: this test shows nothing")
		}
		if heals {
			last.step(Alive{from.id})
			l.work(last)
		} else {
			for range int64(until-wait)/1e6 - 998 {
				l.run1(1e6)
			}
		}
		if !open(from) || open(last) {
			t.Errorf("heard %v: the overlap goes on", heals)
		}
	}
}
