package lease

import (
	"fmt"
	"slices"
	"testing"

	"lbcluster/fsm"
)

// membership is what leases see of Raft: configurations that are appended at
// one member after the other, committed once a majority of the new one has
// them, and known to be committed some time after that, or never.
type membership struct {
	a       *adversary
	configs []fsm.VoterSet
	// done is when the latest configuration was committed, real ns; 0: not yet.
	done int64
}

func newMembership(a *adversary) *membership {
	return &membership{a: a, configs: []fsm.VoterSet{a.nodes[0].committed}, done: a.now - 1e9}
}

// act does one random thing to the configuration.
func (m *membership) act() {
	n := m.a.pick()
	switch x := m.a.rng.IntN(10); {
	case x < 2:
		m.propose()
	case x < 7:
		m.append(n)
	default:
		m.learn(n)
	}
}

// propose makes the next configuration: one voter more or less, once the last
// one has been committed for longer than a promise can last (R16).
func (m *membership) propose() {
	a, last := m.a, m.configs[len(m.configs)-1]
	if m.done == 0 || !a.mut.noSpacing && a.now < m.done+int64(a.p.TTLMax)*5/4 || len(m.configs) > 8 {
		return
	}
	voters := slices.Clone(last.Voters)
	for range 1 + btoi(a.mut.twoAtOnce) {
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
	}
	set := fsm.VoterSet{Tag: last.Tag, Voters: voters}
	set.Tag.Index++
	m.configs, m.done = append(m.configs, set), 0
	a.logf("configuration %d proposed: %v", set.Tag.Index, voters)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// append lets a member of the old or the new configuration append its next one.
func (m *membership) append(n *node) {
	i := int(n.appended.Tag.Index) // configs[i-1] is the last it has
	if i >= len(m.configs) || len(n.pending) > 0 {
		return
	}
	if next := m.configs[i]; slices.Contains(next.Voters, n.id) || slices.Contains(m.configs[i-1].Voters, n.id) {
		n.appended = next
		m.between(n)
		m.a.logf("%s appends configuration %d", n.id, next.Tag.Index)
		n.wanted()
	}
	latest, have := m.configs[len(m.configs)-1], 0
	for _, id := range latest.Voters {
		if m.a.node(id).appended.Tag == latest.Tag {
			have++
		}
	}
	if m.done == 0 && have >= majority(len(latest.Voters)) {
		m.done = m.a.now
		m.a.logf("configuration %d is committed", latest.Tag.Index)
	}
}

// learn tells a member what of its log is committed.
func (m *membership) learn(n *node) {
	if len(n.pending) > 0 {
		return
	}
	last := len(m.configs)
	if m.done == 0 {
		last--
	}
	to := min(int(n.appended.Tag.Index), last)
	if to > int(n.committed.Tag.Index) {
		n.committed = m.configs[to-1]
		m.between(n)
		m.a.logf("%s hears that configuration %d is committed", n.id, to)
		n.wanted()
	}
}

// between gives a node the configurations between what it knows committed and
// the last it has appended.
func (m *membership) between(n *node) {
	n.between = nil
	for _, c := range m.configs {
		if n.committed.Tag.Less(c.Tag) && c.Tag.Less(n.appended.Tag) {
			n.between = append(n.between, c)
		}
	}
}

func memberPlan(nodes int) plan {
	return plan{nodes: nodes, steps: 2500, crashes: 1, members: true}
}

func TestNoChangeOfMembersOpensTwoGates(t *testing.T) {
	for _, nodes := range []int{4, 5} {
		for _, joint := range []bool{false, true} {
			t.Run(fmt.Sprint(nodes, " nodes, joint ", joint), func(t *testing.T) {
				t.Parallel()
				survive(t, memberPlan(nodes), mutation{joint: joint}, 300)
			})
		}
	}
}

// Without any one of the rules of membership, two disjoint majorities meet.
// Those that need a rarer coincidence are in the scripts.
func TestMembershipMutantsAreCaught(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes int
		mut   mutation
	}{
		{"voters answer old configurations (R15)", 5, mutation{voter: voterBugs{noFloor: true}}},
		{"two voters in one change (R16)", 5, mutation{twoAtOnce: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			caught(t, memberPlan(c.nodes), c.mut, 4000, true)
		})
	}
}
