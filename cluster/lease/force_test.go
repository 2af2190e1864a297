package lease

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
)

// Two of three voters are gone for good: an operator's word lets the last one
// hold, but only after what the others may have promised has run out.
func TestForceWithoutAMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.start(one)
		g.sleep(time.Second)
		last := g.members[2]
		for _, m := range g.members[:2] {
			m.stop()
			<-m.done
		}
		g.sleep(10 * time.Second)
		if last.owner.owns(1) {
			t.Fatal("one of three holds")
		}
		last.Force(1, []fsm.MemberID{"m1", "m2"}, time.Now().Add(time.Minute))
		p := profile(t, "default")
		g.sleep(p.Embargo() - ms(2))
		if s := last.Status(); last.owner.owns(1) || s.Routers[0].Forced != "without m1, m2, by an operator's word" {
			t.Errorf("before the wait is over: %+v", s.Routers[0])
		}
		g.sleep(200 * time.Millisecond)
		if !last.owner.owns(1) {
			t.Fatalf("not held: %+v", last.Status().Routers)
		}
		g.sleep(30 * time.Second)
		if h := last.owner.history(); len(h) == 0 || !last.owner.owns(1) {
			t.Errorf("not held on: %v", h)
		}
		g.sleep(time.Minute)
		h := last.owner.history()
		if last.owner.owns(1) || last.gate.open(vip1, g.clock()) || !strings.HasSuffix(h[len(h)-1], "its time is over") {
			t.Errorf("after its time: %v", h)
		}
		last.stop()
		<-last.done
	})
}

// One of the absent is heard: it ends at once, gate first.
func TestForceEndsWhenAnAbsentIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.start(one)
		m3 := g.peers["m3"]
		g.hub.dropping(func(from, to netip.AddrPort) bool { return (from == m3) != (to == m3) })
		g.sleep(2 * time.Second)
		last := g.members[2]
		if last.owner.owns(1) {
			t.Skip("m3 was faster than the cut")
		}
		g.hub.dropping(nil)
		last.Force(1, []fsm.MemberID{"m1", "m2"}, time.Now().Add(time.Hour))
		g.sleep(10 * time.Second)
		if s := last.Status(); last.owner.owns(1) || s.Routers[0].Forced != "" || !strings.Contains(s.Routers[0].ForceOver, "is heard") {
			t.Errorf("%+v", s.Routers[0])
		}
		g.stop()
	})
}

// forceScript lets m3 win by force while m1 holds by the votes of m1 and m2.
func forceScript(s *script) {
	s.acquire(0, 0, 1)
	n := s.nodes[2]
	n.step(Forced{1, []fsm.MemberID{"m1", "m2"}, n.bootNow() + 60e9})
	n.settle()
	c := n.holder.routers[1]
	c.backoff, c.notBefore = 0, 0
	n.step(Tick{})
	n.settle()
	if c.poll == nil {
		return // it waits
	}
	cookie := n.voter.cookies.of(identity{n.id, n.boot})
	n.step(Received{Message{Kind: ProbeReply, Router: 1, From: "m3", Seq: c.poll.id, Echo: n.boot, Cookie: cookie}})
	n.settle()
	s.vote(2, 2)
	s.answer(2, 2)
}

// Without the wait before the first forced round two gates open; with it, and
// once the other lease has run out, one does.
func TestForceWaitsForWhatTheAbsentPromised(t *testing.T) {
	for _, bug := range []bool{true, false} {
		s := newScript(3, mutation{holder: holderBugs{noForceWait: bug}})
		forceScript(s)
		if two := len(s.bad) > 0; two != bug {
			t.Errorf("without the wait %v: %v\n%s", bug, s.bad, strings.Join(s.trace, "\n"))
		}
	}
}

// An absent voter that is heard closes the gate before anything else.
func TestHeardAbsentClosesTheGate(t *testing.T) {
	for _, bug := range []bool{true, false} {
		s := newScript(3, mutation{holder: holderBugs{forceOn: bug, noForceWait: true}})
		forceScript2 := func() {
			n := s.nodes[2]
			n.step(Forced{1, []fsm.MemberID{"m1", "m2"}, n.bootNow() + 60e9})
			s.ask(2)
			s.vote(2, 2)
			s.answer(2, 2)
			if n.gate[vip1] <= n.bootNow() {
				t.Fatalf("not won by force:\n%s", strings.Join(s.trace, "\n"))
			}
			n.step(Alive{"m1"})
			n.settle()
			s.acquire(0, 0, 1)
		}
		forceScript2()
		if two := len(s.bad) > 0; two != bug {
			t.Errorf("goes on %v: %v\n%s", bug, s.bad, strings.Join(s.trace, "\n"))
		}
	}
}

// All that are not named must grant: half of them is not enough.
func TestForceWantsAllOthers(t *testing.T) {
	q := joint(voterSet(1, 1, "m1", "m2", "m3", "m4", "m5"), nil)
	q.absent = []fsm.MemberID{"m1", "m2", "m3"}
	for votes, won := range map[string]bool{"m4": false, "m5": false, "m4 m5": true, "m1 m2 m3": false} {
		if got := q.won(ids(strings.ReplaceAll(votes, " ", ","))); got != won {
			t.Errorf("%s: %v", votes, got)
		}
	}
	if !q.lost(ids("m4")) || q.lost(ids("m1")) {
		t.Error("it is lost when any other voter refuses, and not before")
	}
	q.absent = append(q.absent, "m4", "m5")
	if q.won(nil) {
		t.Error("a quorum of nobody")
	}
}

// The joint quorum: a majority in each set, and only what is later counts.
func TestJointQuorum(t *testing.T) {
	old, next := voterSet(1, 5, "m1", "m2", "m3"), voterSet(1, 6, "m2", "m3", "m4", "m5")
	q := joint(old, []fsm.VoterSet{voterSet(1, 4, "m9"), old, next, {Tag: fsm.ConfigTag{Term: 9}}})
	if len(q.sets) != 2 || q.tag() != next.Tag || len(q.voters()) != 5 {
		t.Fatalf("%+v", q)
	}
	for votes, won := range map[string]bool{
		"m1,m2": false, "m2,m3": false, "m2,m3,m4": true, "m1,m2,m4,m5": true, "m3,m4,m5": false, "m1,m2,m3": false,
	} {
		if got := q.won(ids(votes)); got != won {
			t.Errorf("%s: %v", votes, got)
		}
	}
	for denied, lost := range map[string]bool{"m1": false, "m1,m2": true, "m4": false, "m4,m5": true} {
		if got := q.lost(ids(denied)); got != lost {
			t.Errorf("%s refused: %v", denied, got)
		}
	}
	if (quorum{}).won(ids("m1")) || joint(fsm.VoterSet{}, nil).won(ids("m1")) {
		t.Error("won without a configuration")
	}
}
