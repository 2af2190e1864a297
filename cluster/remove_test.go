package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"lbcluster/fsm"
)

// Two directors have one voter between them. To remove that one would leave a
// cluster that can never commit anything again.
func TestRemoveRefusesTheOnlyVoter(t *testing.T) {
	t.Parallel()
	a, token := found(t, "a")
	b := newMachineUnderTest(t, "b")
	b.join(token)
	eventually(t, "b is present", func() bool {
		m, _ := findMember(a.node.Table().Members, mustID(b))
		return m.State == fsm.Present
	})
	awaitVoters(t, []*machineUnderTest{a, b}, 1)
	err := b.node.RemoveMember(within10(t), mustID(a))
	if !errors.Is(err, fsm.ErrInvalid) || !strings.Contains(err.Error(), "leave") {
		t.Errorf("removing the only voter: %v", err)
	}
	if _, err := b.node.Propose(within10(t), settle("fast")); err != nil {
		t.Errorf("a write afterwards: %v", err)
	}
}

// A voter that works is not removed while those that would be left are fewer
// than a majority; the dead one is.
func TestRemoveKeepsAMajority(t *testing.T) {
	t.Parallel()
	all := three(t)
	leader := leaderOf(t, all)
	rest := slices.DeleteFunc(slices.Clone(all), func(m *machineUnderTest) bool { return m == leader })
	dead, alive := rest[0], rest[1]
	dead.stop()
	eventually(t, "the dead member is silent", func() bool {
		m, _ := findMember(leader.node.Table().Members, mustID(dead))
		return m.Silent
	})
	if err := leader.node.RemoveMember(within10(t), mustID(alive)); !errors.Is(err, fsm.ErrInvalid) {
		t.Errorf("removing one of the last two of three voters: %v", err)
	}
	if err := leader.node.RemoveMember(within10(t), mustID(dead)); err != nil {
		t.Errorf("removing the dead one: %v", err)
	}
	awaitVoters(t, []*machineUnderTest{leader, alive}, 1)
	write(t, alive, "fast")
}

// A leader that is just taking over does not know yet whom the others need.
func TestRemoveWaitsForTheLeader(t *testing.T) {
	t.Parallel()
	a, _ := found(t, "a")
	s := a.node.session
	inst, err := s.leading()
	if err != nil {
		t.Fatal(err)
	}
	fresh := &session{n: s.n, id: s.id, floor: s.floor, contacts: s.contacts}
	fresh.steward = newSteward(fresh)
	for _, c := range []struct {
		cmd  fsm.Command
		want error
	}{
		{fsm.Command{Remove: &fsm.Remove{ID: "m1"}}, errNotLeader},
		{settle("fast"), nil},
	} {
		data, err := c.cmd.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := fresh.rehearse(inst, "m1", data); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.cmd, err, c.want)
		}
	}
}
