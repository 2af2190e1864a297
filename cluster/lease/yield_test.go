package lease

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
)

// ready makes every member say that it could hold router 1, or not.
func (g *group) ready(yes ...fsm.MemberID) {
	for _, m := range g.members {
		m.SetStanding(Standing{Units: []UnitStanding{{Unit: 1, Ready: slices.Contains(yes, m.id)}}})
	}
}

// yieldTo asks every member to hand router 1 over.
func (g *group) yieldTo(to fsm.MemberID) { g.yield(Yield{To: to, Why: "moved by alice"}) }

func (g *group) yield(y Yield) {
	for i, m := range g.members {
		w := g.want(i, one)
		if y.To != "" {
			w.Routers[0].Yield = &y
		}
		m.Update(w)
	}
}

func (g *group) index(m *member) int { return slices.Index(g.members, m) }

// holder waits for a member that holds router 1 and is not but.
func (g *group) holder(but *member, within time.Duration) (*member, time.Duration) {
	g.t.Helper()
	for start := time.Now(); time.Since(start) < within; {
		for _, m := range g.members {
			if m != but && m.owner.owns(1) {
				return m, time.Since(start)
			}
		}
		g.sleep(time.Millisecond)
	}
	return nil, within
}

// A planned handover waits until the next one is ready and the tenure has
// lasted a while, and then takes a few milliseconds; the third member, which is
// of a better rank, does not get in between; and nothing goes back by itself.
func TestHandover(t *testing.T) {
	for _, lose := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, 3, nil)
			g.start(one)
			first, _ := g.holder(nil, 2*time.Second)
			to := g.members[(g.index(first)+2)%3]
			g.yieldTo(to.id)
			g.sleep(10 * time.Second)
			if !first.owner.owns(1) {
				t.Fatal("handed over although nobody is ready")
			}
			if lose { // every third packet is lost
				n := 0
				g.hub.dropping(func(_, _ netip.AddrPort) bool { n++; return n%3 == 0 })
			}
			g.ready(to.id)
			for first.owner.owns(1) {
				g.sleep(time.Millisecond)
			}
			next, took := g.holder(first, time.Second)
			if next != to || !lose && took > 10*time.Millisecond || took > 150*time.Millisecond {
				t.Errorf("lose %v: held by %v after %v, want %s", lose, next, took, to.id)
			}
			g.hub.dropping(nil)
			if h := first.owner.history(); !strings.HasSuffix(h[len(h)-1], "handed over to "+string(to.id)+": moved by alice") {
				t.Errorf("history: %v", h)
			}
			g.yieldTo(first.id) // and back at once: not so fast
			g.ready(first.id, to.id)
			g.sleep(profile(t, "default").tenure() - 200*time.Millisecond)
			if !to.owner.owns(1) {
				t.Error("handed back at once")
			}
			g.sleep(time.Second)
			if !first.owner.owns(1) {
				t.Error("never handed back")
			}
			g.yield(Yield{To: to.id, AtOnce: true}) // an operator does not wait
			g.sleep(300 * time.Millisecond)
			if !to.owner.owns(1) {
				t.Error("an operator's order waits for the tenure")
			}
			g.stop()
		})
	}
}

// Whom it is handed to dies in the same moment: another takes it when the
// voters' reserve is over.
func TestHandoverToTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.start(one)
		first, _ := g.holder(nil, 2*time.Second)
		to := g.members[(g.index(first)+1)%3]
		g.sleep(5 * time.Second)
		g.ready(to.id)
		g.sleep(200 * time.Millisecond)
		dead := g.peers[to.id]
		g.hub.dropping(func(from, at netip.AddrPort) bool { return from == dead || at == dead })
		g.yieldTo(to.id)
		for first.owner.owns(1) {
			g.sleep(time.Millisecond)
		}
		next, took := g.holder(to, time.Second)
		p := profile(t, "default")
		if next == nil || took < p.reserve()-ms(2) || took > p.reserve()+4*p.Round {
			t.Errorf("held by %v after %v, reserved for %v", next, took, p.reserve())
		}
		g.stop()
	})
}

// A member that is no voter is handed a router too: it hears the Release itself.
func TestHandoverToOneThatDoesNotVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 4, nil)
		all := g.ids
		g.ids = all[:3] // m4 does not vote
		for i, m := range g.members {
			w := testWant(g.ids, all[i], g.peers, one)
			w.Routers[0].Rank = i
			m.Update(w)
			m.SetFit(true, "")
			m.start(t.Context())
		}
		first, _ := g.holder(nil, 2*time.Second)
		g.ready("m4")
		g.sleep(5 * time.Second)
		w := testWant(g.ids, first.id, g.peers, one)
		w.Routers[0].Yield = &Yield{To: "m4"}
		first.Update(w)
		for first.owner.owns(1) {
			g.sleep(time.Millisecond)
		}
		if next, took := g.holder(first, time.Second); next == nil || next.id != "m4" || took > 10*time.Millisecond {
			t.Errorf("held by %v after %v", next, took)
		}
		g.stop()
	})
}

// A Release that names somebody else, or is a copy from long ago, starts
// nothing, and neither does one to a member that does not stand.
func TestOnlyAnOfferToUsStartsARound(t *testing.T) {
	start := func() *Holder {
		h := NewHolder("m1", Nonce{1}, profile(t, "default"), testRand())
		h.Step(0, Wanted{Committed: voterSet(1, 1, "m1", "m2", "m3"), Routers: []Router{{ID: 1, Addrs: one.Addrs, Rank: 2}}})
		h.Step(0, GateClosed{1, one.Addrs, true})
		return h
	}
	offer := Message{Kind: Release, Router: 1, From: "m2", Boot: Nonce{2}, Seq: 7, Hint: "m1"}
	asks := func(h *Holder, now int64, m Message) bool {
		return slices.ContainsFunc(h.Step(now, Received{m}), func(o Output) bool {
			s, ok := o.(Send)
			return ok && s.Msg.Kind == Ask
		})
	}
	h := start()
	if asks(h, 0, offer) {
		t.Error("an unfit member asks")
	}
	h = start()
	h.Step(0, Fit{OK: true})
	if other := offer; func() bool { other.Hint = "m3"; return asks(h, 0, other) }() {
		t.Error("another's offer starts a round")
	}
	if !asks(h, 0, offer) {
		t.Error("an offer starts nothing")
	}
	reserve := int64(h.p.reserve())
	h = start()
	h.Step(0, Promised{1, "m2", 1e9})
	h.offered(0, offer) // unfit: heard, but not used
	h.Step(0, Fit{OK: true})
	if asks(h, reserve, offer) {
		t.Error("a copy that comes after the reserve starts a round")
	}
}

// Voters that have not heard the Release yet refuse; the round goes on and asks
// them again within a quarter of its time, until they have.
func TestOfferedRoundOutlivesRefusals(t *testing.T) {
	h := NewHolder("m1", Nonce{1}, profile(t, "default"), testRand())
	h.Step(0, Wanted{Committed: voterSet(1, 1, "m1", "m2", "m3"), Routers: []Router{{ID: 1, Addrs: one.Addrs, Rank: 2}}})
	h.Step(0, GateClosed{1, one.Addrs, true})
	h.Step(0, Fit{OK: true})
	h.Step(0, Received{Message{Kind: Release, Router: 1, From: "m2", Boot: Nonce{2}, Seq: 7, Hint: "m1"}})
	seq := h.routers[1].round.seq
	answer := func(k Kind, from fsm.MemberID) []Output {
		return h.Step(1, Received{Message{Kind: k, Router: 1, From: from, Seq: seq, Echo: Nonce{1}, Reason: Taken, Holder: "m2", Remaining: 1e8}})
	}
	for _, v := range h.quorum.voters() {
		answer(Deny, v)
	}
	if c := h.routers[1]; c.phase != asking || c.round == nil || c.round.seq != seq {
		t.Fatalf("the round is over: %v", c.phase)
	}
	again := 0
	for _, o := range h.Step(int64(h.p.Round)/4, Tick{}) {
		if s, ok := o.(Send); ok && s.Msg.Kind == Ask && s.Msg.Seq == seq {
			again++
		}
	}
	if again != 3 {
		t.Errorf("%d voters are asked again", again)
	}
	answer(Grant, "m2")
	answer(Grant, "m3")
	if c := h.routers[1]; c.phase != holding {
		t.Errorf("not won: %v", c.phase)
	}
}

// A daemon that ends names who is ready: that one takes over at once, whatever
// its rank, and nobody has to find out that the router is free.
func TestAStoppingHolderNamesItsHeir(t *testing.T) {
	for _, isReady := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, 3, nil)
			g.start(one)
			first, _ := g.holder(nil, 2*time.Second)
			others := []*member{g.members[(g.index(first)+1)%3], g.members[(g.index(first)+2)%3]}
			w := g.want(g.index(first), one)
			w.Routers[0].Next = []fsm.MemberID{others[0].id, others[1].id}
			first.Update(w)
			if isReady {
				g.ready(others[1].id)
			} else {
				g.ready()
			}
			g.sleep(time.Second)
			first.stop()
			next, took := g.holder(first, 2*time.Second)
			if next == nil {
				t.Fatal("nobody took over")
			}
			if isReady && (next != others[1] || took > 10*time.Millisecond) {
				t.Errorf("%s took over after %v, want the one that was ready, %s, at once", next.id, took, others[1].id)
			}
			g.stop()
		})
	}
}

// Whoever is not first in rank leaves a router that is new here to those that
// may hear of it a moment later.
func TestANewRouterGoesToItsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.start()
		late := g.members[0] // the first in rank
		for i, m := range g.members[1:] {
			m.Update(g.want(i+1, one))
		}
		g.sleep(300 * time.Millisecond)
		late.Update(g.want(0, one))
		g.sleep(300 * time.Millisecond)
		if got := g.owners(1); len(got) != 1 || got[0] != late.id {
			t.Errorf("owned by %v, want %s", got, late.id)
		}
		g.stop()
	})
}
