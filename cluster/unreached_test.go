package cluster

import (
	"errors"
	"testing"

	"lbcluster/fsm"
)

// A member that reaches the others, while they do not reach it (a firewall, a
// wrong address), hears from no leader. It can still leave.
func TestLeaveOfAMemberThatIsNotReached(t *testing.T) {
	t.Parallel()
	a, token := found(t, "a")
	b := newMachineUnderTest(t, "b")
	tok, err := parseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	j, err := b.node.beginJoin(hashSecret(tok.Secret))
	if err != nil {
		t.Fatal(err)
	}
	own := b.node.cfg.Addr
	b.node.cfg.Addr = freeAddr(t) // where the others look for it in vain
	answer, err := enrolAt(within10(t), []string{a.cfg.Addr.String()}, tok, j, enrolRequest{Name: b.cfg.Name, Role: fsm.Director, Addr: b.node.cfg.Addr, Reads: b.node.reads})
	b.node.cfg.Addr = own
	if err != nil {
		t.Fatal(err)
	}
	if err := b.node.adopt(answer, j, fsm.Director); err != nil {
		t.Fatal(err)
	}
	if err := b.node.Leave(within10(t)); err != nil {
		t.Errorf("Leave: %v", err)
	}
	eventually(t, "the table forgets it", func() bool { return len(a.node.Table().Members) == 1 })
}

// A writer may have seen a revision that the leader's own table reaches only in
// a moment: the log decides then, not the leader's haste.
func TestRehearsalBehindTheWriter(t *testing.T) {
	t.Parallel()
	a, _ := found(t, "a")
	write(t, a, "fast")
	s := a.node.session
	inst, err := s.leading()
	if err != nil {
		t.Fatal(err)
	}
	cmd := settle("robust")
	cmd.IfRevision = a.node.Table().Revision + 1
	data, err := cmd.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.rehearse(inst, "m1", data); err != nil {
		t.Errorf("the rehearsal refuses it: %v", err)
	}
	if _, err := a.node.Propose(within10(t), cmd); !errors.Is(err, fsm.ErrConflict) {
		t.Errorf("a revision that never was: %v", err)
	}
}
