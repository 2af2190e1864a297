package cluster

import (
	"errors"
	"testing"
)

// A member that is alone cannot leave, but be abandoned; its machine can found
// or join another cluster afterwards.
func TestAbandon(t *testing.T) {
	t.Parallel()
	m, _ := found(t, "a")
	if err := m.node.Leave(within10(t)); !errors.Is(err, ErrLastMember) {
		t.Fatalf("it left: %v", err)
	}
	if err := m.node.Abandon(within10(t)); err != nil {
		t.Fatal(err)
	}
	if _, ok := m.node.Identity(); ok || m.node.Table().Cluster != "" {
		t.Error("it has an identity or a table")
	}
	if err := m.node.Abandon(within10(t)); !errors.Is(err, ErrUnenrolled) {
		t.Errorf("abandoned twice: %v", err)
	}
	if _, err := m.node.Init(within10(t), "", 0); err != nil {
		t.Errorf("it founds another one: %v", err)
	}
}

// A member of a cluster without a majority can go; the others still count it.
func TestAbandonWithoutMajority(t *testing.T) {
	t.Parallel()
	all := three(t)
	all[1].stop()
	all[2].stop()
	if err := all[0].node.Abandon(within10(t)); err != nil {
		t.Fatal(err)
	}
	if _, ok := all[0].node.Identity(); ok {
		t.Error("it has an identity")
	}
	all[1].start()
	all[2].start()
	eventually(t, "the others go on, and count it", func() bool {
		table := all[1].node.Table()
		return len(table.Members) == 3 && all[1].node.Status().Leader != ""
	})
	if err := all[1].node.RemoveMember(within10(t), "m1"); err != nil {
		t.Error(err)
	}
}
