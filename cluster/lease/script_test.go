package lease

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// script drives the simulator by hand, for counterexamples that a random
// search meets too rarely.
type script struct {
	*world
	soup []packet
}

func newScript(nodes int, mut mutation) *script { return newScriptOf(nodes, simParams(), mut) }

func newScriptOf(nodes int, p Params, mut mutation) *script {
	s := &script{world: newWorld(1, nodes, p, mut)}
	s.only1, s.trail = true, true
	s.send = func(_ *node, p packet) { s.soup = append(s.soup, p) }
	for _, n := range s.nodes {
		n.routers[1] = []netip.Addr{vip1}
		n.wanted()
		n.settle()
	}
	return s
}

// last is the latest message of a kind from one node to another.
func (s *script) last(k Kind, from, to int) Message {
	for i := len(s.soup) - 1; i >= 0; i-- {
		if p := s.soup[i]; p.msg.Kind == k && p.msg.From == s.nodes[from].id && p.to == s.nodes[to].id {
			return p.msg
		}
	}
	panic("no such message: " + k.String())
}

// ask makes a node send an Ask, past its probe.
func (s *script) ask(h int) {
	n := s.nodes[h]
	c := n.holder.routers[1]
	c.backoff, c.notBefore = 0, 0
	for _, v := range s.nodes { // cookies were learned long ago
		n.holder.cookies[v.id] = learned{v.voter.cookies.of(identity{n.id, n.boot}), n.bootNow()}
	}
	n.step(Tick{})
	n.settle()
	for c.phase == probing {
		for _, v := range c.poll.voters.voters() {
			if c.poll != nil {
				cookie := s.node(v).voter.cookies.of(identity{n.id, n.boot})
				n.step(Received{Message{Kind: ProbeReply, Router: 1, From: v, Seq: c.poll.id, Echo: n.boot, Cookie: cookie}})
			}
		}
		n.settle()
	}
}

// vote delivers h's latest Ask to voters; answer takes their answers to h.
func (s *script) vote(h int, voters ...int) {
	for _, v := range voters {
		s.nodes[v].deliver(s.last(Ask, h, v))
		s.nodes[v].settle()
	}
}

func (s *script) answer(h int, voters ...int) {
	for _, v := range voters {
		for i := len(s.soup) - 1; i >= 0; i-- {
			p := s.soup[i]
			if p.msg.From == s.nodes[v].id && p.to == s.nodes[h].id && (p.msg.Kind == Grant || p.msg.Kind == Deny) {
				s.nodes[h].deliver(p.msg)
				s.nodes[h].settle()
				break
			}
		}
	}
}

// acquire is a whole round.
func (s *script) acquire(h int, voters ...int) {
	s.ask(h)
	s.vote(h, voters...)
	s.answer(h, voters...)
}

// config tells a node what it has appended and what it knows as committed.
func (s *script) config(h int, appended, committed fsm.VoterSet) {
	n := s.nodes[h]
	n.appended, n.committed = appended, committed
	n.wanted()
	n.settle()
}

// A recorded Ask, of this process or an earlier one, plants no promise at a
// voter that forgot it; without cookies it does, again and again.
func TestRecordedAskPlantsNothing(t *testing.T) {
	for _, bug := range []bool{true, false} {
		s := newScript(3, mutation{voter: voterBugs{noCookie: bug}})
		s.ask(0)
		recorded := s.last(Ask, 0, 1)
		s.now += int64(time.Second)
		s.nodes[1].start(false) // it forgets
		s.now += int64(s.p.Embargo())
		s.nodes[1].deliver(recorded)
		s.nodes[1].settle()
		if _, _, left := s.nodes[1].voter.Promise(s.nodes[1].rawNow(), 1); (left > 0) != bug {
			t.Errorf("without cookies %v: promised for %d ns more", bug, left)
		}
		if bug {
			continue
		}
		if d := s.last(Deny, 1, 0); d.Reason != NoCookie || d.Cookie == 0 || d.Cookie == recorded.Cookie {
			t.Errorf("answered %+v", d)
		}
	}
}

// A voter that started anew costs a renewal one more round trip, not the round.
func TestNewCookieWithinARound(t *testing.T) {
	s := newScript(3, mutation{})
	s.acquire(0, 0, 1)
	s.nodes[1].start(true) // as one that remembers all but its cookies
	s.nodes[1].settle()
	s.vote(0, 1)
	deny := s.last(Deny, 1, 0)
	h := s.nodes[0].holder
	round, sent := h.routers[1].round.seq, len(s.soup)
	s.nodes[0].deliver(deny)
	s.nodes[0].deliver(deny) // a copy does not make it ask again
	s.nodes[0].settle()
	if again := s.last(Ask, 0, 1); len(s.soup) != sent+1 || again.Seq != round || again.Cookie != deny.Cookie {
		t.Fatalf("%d new messages, last Ask %+v", len(s.soup)-sent, again)
	}
	s.vote(0, 1, 0)
	s.answer(0, 1, 0)
	if h.routers[1].round != nil || h.Stats().Failed > 0 {
		t.Errorf("the round was lost: %+v", h.Stats())
	}
}

func voterSet(term, index uint64, ids ...fsm.MemberID) fsm.VoterSet {
	return fsm.VoterSet{Tag: fsm.ConfigTag{Term: term, Index: index}, Voters: ids}
}

var (
	five  = voterSet(1, 1, "m1", "m2", "m3", "m4", "m5")
	no5   = voterSet(1, 2, "m1", "m2", "m3", "m4")
	no5n4 = voterSet(1, 3, "m1", "m2", "m3")
)

var scripts = []struct {
	name  string
	nodes int
	mut   mutation
	play  func(s *script)
}{
	{"M03 validity counted from the Grant's arrival (R6)", 3, mutation{holder: holderBugs{fromReceipt: true}}, func(s *script) {
		s.ask(0)
		s.vote(0, 0, 1)
		s.now += 100e6
		s.answer(0, 0, 1)
		s.now += 145e6 // the promises are over
		s.acquire(1, 1, 2)
	}},
	{"M07 an Ask of an earlier round counts (R1)", 3, mutation{voter: voterBugs{noAskSeq: true}}, func(s *script) {
		s.ask(0)
		oldAsk := s.last(Ask, 0, 1)
		s.now += 151e6
		s.nodes[0].step(Tick{}) // the round has failed
		s.nodes[0].settle()
		oldRelease := s.last(Release, 0, 1)
		s.acquire(0, 0, 1)
		s.nodes[1].deliver(oldAsk)
		s.nodes[1].deliver(oldRelease)
		s.nodes[1].settle()
		s.acquire(2, 1, 2)
	}},
	{"M12 Release before the gate is closed (R8)", 3, mutation{holder: holderBugs{releaseFirst: true}}, func(s *script) {
		s.acquire(0, 0, 1)
		s.nodes[0].step(Fit{Reason: "script"})
		for len(s.nodes[0].pending) > 0 {
			if _, ok := s.nodes[0].pending[0].(CloseGate); ok {
				break // frozen here
			}
			s.nodes[0].carry()
		}
		for _, p := range s.soup {
			if p.msg.Kind == Release && p.to == "m2" {
				s.nodes[1].deliver(p.msg)
				s.nodes[1].settle()
			}
		}
		s.acquire(2, 1, 2)
	}},
	{"requester uses the appended configuration (R14)", 4, mutation{requesterAppended: true}, func(s *script) {
		four := s.nodes[0].committed // two leaders, one after the other, each append a change that is never committed
		s.config(0, voterSet(1, 2, "m1", "m2", "m3"), four)
		s.config(3, voterSet(2, 2, "m2", "m3", "m4"), four)
		s.acquire(0, 0, 1)
		s.acquire(3, 2, 3)
	}},
	{"voters answer old configurations (R15)", 5, mutation{voter: voterBugs{noFloor: true}}, twoChanges},
	{"floor is what is known committed (R15)", 5, mutation{floorCommitted: true}, twoChanges},
}

// twoChanges removes m5, then m4. m2 has both changes in its log but has heard
// of no commit, and m3 has the first. m5 does not know that it is removed.
func twoChanges(s *script) {
	s.config(0, no5n4, no5n4)
	s.config(1, no5n4, five)
	s.config(2, no5, five)
	s.acquire(4, 1, 3, 4)
	s.acquire(0, 0, 2)
}

func TestScriptedCounterexamples(t *testing.T) {
	for _, c := range scripts {
		t.Run(c.name, func(t *testing.T) {
			s := newScript(c.nodes, c.mut)
			c.play(s)
			if len(s.bad) == 0 {
				t.Errorf("the mutant opens one gate only:\n%s", strings.Join(s.trace, "\n"))
			}
			s = newScript(c.nodes, mutation{})
			c.play(s)
			if len(s.bad) > 0 {
				t.Errorf("the correct code: %v\n%s", s.bad, strings.Join(s.trace, "\n"))
			}
		})
	}
}

// The spacing of changes (R16) belongs to the leader: without it two leases
// meet although voters and holders do everything right; with it they do not.
func TestSpacingOfChanges(t *testing.T) {
	for _, wait := range []int64{0, int64(simParams().TTLMax) * 5 / 4} {
		s := newScript(5, mutation{})
		s.acquire(4, 2, 3, 4)
		for _, n := range []int{0, 1, 3} {
			s.config(n, no5, no5)
		}
		s.now += wait
		if wait > 0 { // m5 tries to renew with what it knows: m4 refuses
			s.nodes[4].step(Tick{})
			s.nodes[4].settle()
			s.acquire(4, 2, 3, 4)
		}
		for _, n := range []int{0, 1} {
			s.config(n, no5n4, no5n4)
		}
		s.acquire(0, 0, 1)
		if two := len(s.bad) > 0; two != (wait == 0) {
			t.Errorf("wait %d ms: two gates open: %v\n%s", wait/1e6, two, strings.Join(s.trace, "\n"))
		}
		if s.nodes[0].gate[vip1] <= s.nodes[0].bootNow() {
			t.Errorf("wait %d ms: the new configuration's lease was not won", wait/1e6)
		}
	}
}
