package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// latestIndex is the index of the newest configuration by Raft's own account. It
// has no function for it, but names it when a change was bound to another.
func latestIndex(t *testing.T, r *raft.Raft) uint64 {
	t.Helper()
	err := r.RemoveServer("nobody", 1<<40, time.Second).Error()
	var index uint64
	if err == nil || !strings.Contains(err.Error(), "latest is") {
		t.Fatalf("Raft says %v", err)
	}
	_, text, _ := strings.Cut(err.Error(), "latest is ")
	if _, err := fmt.Sscanf(text, "%d", &index); err != nil {
		t.Fatal(err)
	}
	return index
}

// leads returns the running Raft and steward of a machine that leads.
func leads(m *machineUnderTest) (*instance, *steward, bool) {
	m.node.mu.Lock()
	s := m.node.session
	m.node.mu.Unlock()
	if s == nil {
		return nil, nil, false
	}
	inst, err := s.leading()
	return inst, s.steward, err == nil && s.steward.settled(inst.raft.CurrentTerm())
}

// The floor's index is the one that Raft binds changes to: from the log, and,
// after a restart, from a snapshot alone.
func TestChangesAreBoundToTheConfiguration(t *testing.T) {
	t.Parallel()
	a := &machineUnderTest{t: t, cfg: Config{Dir: t.TempDir(), Name: "a", Addr: freeAddr(t), Timing: quick}}
	a.cfg.Timing.SnapshotEvery, a.cfg.Timing.SnapshotAfter, a.cfg.Timing.Trailing = 20*time.Millisecond, 10, 1
	a.start()
	token, err := a.node.Init(within10(t), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	same := func(when string) {
		t.Helper()
		eventually(t, "it leads "+when, func() bool { _, _, ok := leads(a); return ok })
		inst, _, _ := leads(a)
		_, appended := a.node.Voters()
		if index := latestIndex(t, inst.raft); index != appended.Tag.Index || index == 0 {
			t.Errorf("%s: Raft's newest configuration is at %d, the floor's at %d", when, index, appended.Tag.Index)
		}
	}
	same("at first")
	b := newMachineUnderTest(t, "b")
	b.join(token)
	eventually(t, "b is present", func() bool {
		m, ok := a.node.Table().MemberByName("b")
		return ok && m.State == fsm.Present
	})
	same("after a change")
	for i := range 40 {
		write(t, a, []string{"fast", "robust"}[i%2])
	}
	_, appended := a.node.Voters()
	eventually(t, "the configuration has left the log", func() bool {
		first, err := a.node.session.inst.store.FirstIndex()
		return err == nil && first > appended.Tag.Index
	})
	same("after a snapshot")
	a.restart()
	same("after a restart from a snapshot")
	for i := range 20 {
		write(t, a, []string{"fast", "robust"}[i%2])
	}
	same("with more behind the snapshot")
}

// A steward that looked, stalled, and acts when somebody else has changed the
// configuration meanwhile is refused, although it leads (again).
func TestAStalledStewardIsRefused(t *testing.T) {
	t.Parallel()
	a := newMachineUnderTest(t, "a")
	if _, err := a.node.Init(within10(t), "", 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it leads and has settled", func() bool {
		_, _, ok := leads(a)
		return ok && a.node.Table().Cluster != ""
	})
	inst, w, _ := leads(a)
	v := w.look(inst, a.node.Table())
	v.Members = append(v.Members, fsm.Member{ID: "m8", Addr: a.cfg.Addr}, fsm.Member{ID: "m9", Addr: a.cfg.Addr})
	// The steward that runs takes m8 out again, since the table does not have it.
	if err := w.do(context.Background(), inst, v, change{Kind: addNonvoter, ID: "m8"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []change{{Kind: addNonvoter, ID: "m9"}, {Kind: promote, ID: "m8"}, {Kind: demote, ID: "m8"}, {Kind: dropServer, ID: "m8"}} {
		if err := w.do(context.Background(), inst, v, c); err == nil || !strings.Contains(err.Error(), "configuration changed since") {
			t.Errorf("%s %s from an old view: %v", c.Kind, c.ID, err)
		}
	}
}

// A new leadership counts the pause afresh, and knows of no change that an
// earlier one of the same member saw.
func TestANewLeadershipWaitsAfresh(t *testing.T) {
	t.Parallel()
	all := three(t)
	leader := func() *machineUnderTest {
		for _, m := range all {
			if _, _, ok := leads(m); ok {
				return m
			}
		}
		return nil
	}
	eventually(t, "somebody leads", func() bool { return leader() != nil })
	was := leader()
	at := time.Now()
	inst, _, _ := leads(was)
	if err := inst.raft.LeadershipTransfer().Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another leads", func() bool { l := leader(); return l != nil && l != was })
	next := leader()
	inst, w, ok := leads(next)
	if !ok {
		t.Skip("leadership moved on")
	}
	v := w.look(inst, next.node.Table())
	if v.Settled.Before(at) {
		t.Errorf("the new leader counts from %v, before it led", v.Settled)
	}
	if !v.Changed.IsZero() && v.Changed.Before(at) {
		t.Errorf("the new leader counts from a change at %v, before it led", v.Changed)
	}
	v.Now = v.Settled.Add(v.Spacing - time.Millisecond)
	if c := v.spaced(change{Kind: demote, ID: "m1"}); c.Kind != noChange || c.Wait <= 0 {
		t.Errorf("a millisecond early it does %+v", c)
	}
}

func TestLaterConfigurations(t *testing.T) {
	path := filepath.Join(t.TempDir(), fileFloor)
	f, err := openFloor(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	conf := func(term, index uint64, ids ...string) *raft.Log {
		var c raft.Configuration
		for _, id := range ids {
			c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
		}
		return &raft.Log{Type: raft.LogConfiguration, Term: term, Index: index, Data: raft.EncodeConfiguration(c)}
	}
	if err := f.appending([]*raft.Log{conf(1, 1, "m1")}); err != nil {
		t.Fatal(err)
	}
	f.commit(1, raft.DecodeConfiguration(conf(1, 1, "m1").Data))
	if got := f.later(); len(got) != 0 {
		t.Errorf("nothing is later than the newest, got %v", got)
	}
	if err := f.appending([]*raft.Log{conf(1, 5, "m1", "m2"), conf(2, 9, "m1", "m2", "m3")}); err != nil {
		t.Fatal(err)
	}
	want := []fsm.VoterSet{
		{Tag: fsm.ConfigTag{Term: 1, Index: 5}, Voters: []fsm.MemberID{"m1", "m2"}},
		{Tag: fsm.ConfigTag{Term: 2, Index: 9}, Voters: []fsm.MemberID{"m1", "m2", "m3"}},
	}
	equal := func(a, b fsm.VoterSet) bool { return a.Tag == b.Tag && slices.Equal(a.Voters, b.Voters) }
	if got := f.later(); !slices.EqualFunc(got, want, equal) {
		t.Errorf("got %v, want %v", got, want)
	}
	f.commit(5, raft.DecodeConfiguration(conf(1, 5, "m1", "m2").Data))
	if got := f.later(); !slices.EqualFunc(got, want[1:], equal) {
		t.Errorf("after the commit of 5: %v", got)
	}
	if err := f.truncated(9); err != nil {
		t.Fatal(err)
	}
	if got := f.later(); len(got) != 0 {
		t.Errorf("after truncation: %v", got)
	}

	// A snapshot's configuration is on disk at once.
	if err := f.restored(fsm.VoterSet{Tag: fsm.ConfigTag{Term: 3, Index: 20}, Voters: []fsm.MemberID{"m4"}}, 25); err != nil {
		t.Fatal(err)
	}
	again, err := openFloor(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if tag, known := again.tag(); !known || tag != (fsm.ConfigTag{Term: 3, Index: 20}) {
		t.Errorf("after a crash the floor is %v", tag)
	}
}
