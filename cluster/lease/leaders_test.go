package lease

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lbcluster/fsm"
)

// leaders is what leases see of Raft when nothing goes well: leaders that come and go, and
// configurations that a leader appends to its log, others copy one after the
// other, and that are committed once a majority of the latest has them. Who has
// one may hear of the commit some time after that, or never; and what a leader
// appended just before its end may be in a few logs and never be committed.
type leaders struct {
	a      *adversary
	logs   map[*node]*raftLog
	leader *node
	term   uint64
	// next is from when the leader may start a change, real ns; 0: it has not
	// committed what it has yet.
	next    int64
	changes int
}

// raftLog is the configurations in a member's log.
type raftLog struct {
	sets      []fsm.VoterSet
	committed int    // so many of them are known to be
	last      uint64 // term of the last entry, configuration or not
	term      uint64 // the latest term it has voted in or heard of
}

func newLeaders(a *adversary) *leaders {
	m := &leaders{a: a, logs: map[*node]*raftLog{}, leader: a.nodes[0], term: 1, next: a.now}
	for _, n := range a.nodes {
		m.logs[n] = &raftLog{sets: []fsm.VoterSet{n.committed}, committed: 1, last: 1, term: 1}
	}
	return m
}

func (l *raftLog) latest() fsm.VoterSet { return l.sets[len(l.sets)-1] }

// act does one random thing to the configuration.
func (m *leaders) act() {
	n := m.a.pick()
	switch x := m.a.rng.IntN(20); {
	case len(n.pending) > 0:
	case x < 4:
		m.propose()
	case x < 5:
		m.elect(n)
	case x < 14:
		m.replicate(n)
	default:
		m.learn(n)
	}
}

// propose makes the next configuration: one voter more or less, once the last
// one has been committed for longer than a promise can last (R16).
func (m *leaders) propose() {
	a, l := m.a, m.logs[m.leader]
	if m.next == 0 || a.now < m.next || m.changes > 8 || len(m.leader.pending) > 0 {
		return
	}
	voters := slices.Clone(l.latest().Voters)
	var out []fsm.MemberID
	for _, n := range a.nodes {
		if !slices.Contains(voters, n.id) {
			out = append(out, n.id)
		}
	}
	if len(voters) > 3 && (len(out) == 0 || a.rng.IntN(2) == 0) {
		i := a.rng.IntN(len(voters))
		voters = slices.Delete(voters, i, i+1)
	} else if len(out) > 0 {
		voters = append(voters, out[a.rng.IntN(len(out))])
	}
	set := fsm.VoterSet{Tag: fsm.ConfigTag{Term: m.term, Index: l.latest().Tag.Index + 1}, Voters: voters}
	a.logf("%s proposes %v: %v", m.leader.id, set.Tag, voters)
	l.sets, m.next = append(l.sets, set), 0
	m.changes++
	m.told(m.leader)
}

// elect makes a member the leader if a majority of the configuration in its
// log votes for it: those whose logs are no later.
func (m *leaders) elect(n *node) {
	l, votes := m.logs[n], []*node(nil)
	for _, id := range l.latest().Voters {
		v := m.a.node(id)
		if o := m.logs[v]; o.last < l.last || o.last == l.last && len(o.sets) <= len(l.sets) {
			votes = append(votes, v)
		}
	}
	if !slices.Contains(votes, n) || len(votes) < majority(len(l.latest().Voters)) {
		return
	}
	m.leader, m.next = n, 0
	m.term++
	for _, v := range votes {
		m.logs[v].term = m.term
	}
	l.last = m.term // its first entry
	m.a.logf("%s leads term %d with %v", n.id, m.term, l.latest().Tag)
}

// replicate copies the leader's next configuration to a member, in place of
// what the member has of a branch that died, or the leader's latest entry.
func (m *leaders) replicate(n *node) {
	own, l := m.logs[m.leader], m.logs[n]
	if n == m.leader || l.term > m.term {
		return
	}
	same := 0
	for same < min(len(own.sets), len(l.sets)) && own.sets[same].Tag == l.sets[same].Tag {
		same++
	}
	l.term = m.term
	switch {
	case same < len(own.sets):
		l.sets = append(l.sets[:same:same], own.sets[same])
		l.last = own.sets[same].Tag.Term
	default:
		l.sets, l.last = l.sets[:same:same], m.term
	}
	m.a.logf("%s has %v", n.id, l.latest().Tag)
	m.told(n)
	m.commit()
}

// commit notes that a majority has all that the leader has.
func (m *leaders) commit() {
	own, have := m.logs[m.leader], 0
	for _, id := range own.latest().Voters {
		if l := m.logs[m.a.node(id)]; l.last == m.term && l.latest().Tag == own.latest().Tag {
			have++
		}
	}
	if m.next == 0 && have >= majority(len(own.latest().Voters)) {
		own.committed = len(own.sets)
		m.next = m.a.now + int64(m.a.p.Embargo())*5/4
		m.a.logf("%v is committed", own.latest().Tag)
	}
}

// learn tells a member what of its log is committed.
func (m *leaders) learn(n *node) {
	own, l := m.logs[m.leader], m.logs[n]
	for to := min(own.committed, len(l.sets)); to > l.committed || n == m.leader && to > 0; to-- {
		if own.sets[to-1].Tag == l.sets[to-1].Tag {
			l.committed = to
			m.a.logf("%s hears that %v is committed", n.id, l.sets[to-1].Tag)
			m.told(n)
			return
		}
	}
}

// told gives a node what its log says.
func (m *leaders) told(n *node) {
	l := m.logs[n]
	n.committed, n.appended, n.between = l.sets[l.committed-1], l.latest(), nil
	if len(l.sets) > l.committed {
		n.between = slices.Clone(l.sets[l.committed : len(l.sets)-1])
	}
	n.wanted()
}

func TestNoChangeOfLeadersOpensTwoGates(t *testing.T) {
	for _, nodes := range []int{4, 5} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			t.Parallel()
			pl := memberPlan(nodes)
			pl.leaders = true
			survive(t, pl, mutation{joint: true}, 200)
			changes, terms := 0, 0
			for seed := range uint64(20) {
				a := newAdversary(seed, pl, mutation{joint: true})
				a.run(pl.steps)
				m := a.members.(*leaders)
				changes, terms = changes+m.changes, terms+int(m.term)
			}
			if changes < 40 || terms < 100 {
				t.Errorf("%d changes and %d terms in 20 runs prove little", changes, terms)
			}
		})
	}
	t.Run("addresses that move, and every kind of restart", func(t *testing.T) {
		t.Parallel()
		pl := memberPlan(5)
		pl.leaders, pl.moves, pl.lives, pl.crashes = true, true, true, 6
		survive(t, pl, mutation{joint: true}, 200)
	})
}

// Each half of the joint rule is needed: the appended configurations alone may
// be of branches that die, and have disjoint majorities; the committed one
// alone is refused by voters that have a later one in their logs.
func TestBothHalvesOfTheJointRule(t *testing.T) {
	for _, bug := range []bool{true, false} {
		s := newScript(4, mutation{joint: true, holder: holderBugs{oneSet: bug}})
		four := s.nodes[0].committed // two leaders, one after the other, each append a change that is never committed
		s.config(0, voterSet(1, 2, "m1", "m2", "m3"), four)
		s.config(3, voterSet(2, 2, "m2", "m3", "m4"), four)
		s.acquire(0, 0, 1)
		s.acquire(3, 2, 3)
		if two := len(s.bad) > 0; two != bug {
			t.Errorf("the latest alone %v: %v\n%s", bug, s.bad, strings.Join(s.trace, "\n"))
		}
	}
	for _, joint := range []bool{true, false} {
		s := newScript(4, mutation{joint: joint})
		four := s.nodes[0].committed
		for h := range 3 { // all have it, nobody has heard that it is committed
			s.config(h, voterSet(1, 2, "m1", "m2", "m3"), four)
		}
		s.acquire(0, 0, 1, 2)
		if won := s.nodes[0].gate[vip1] > s.nodes[0].bootNow(); won != joint {
			t.Errorf("joint %v: won %v\n%s", joint, won, strings.Join(s.trace, "\n"))
		}
	}
}
