package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// A log of few but long entries is compacted for its length in bytes, and a member
// that was away meanwhile still catches up.
func TestLogIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	a := &machineUnderTest{t: t, cfg: Config{Dir: t.TempDir(), Name: "a", Addr: freeAddr(t), Timing: quick}}
	a.cfg.Timing.SnapshotBytes = 8 << 10
	a.start()
	token, err := a.node.Init(within10(t), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	const writes = 120 // of some hundred bytes each: 8192 would cut nothing
	for i := range writes {
		write(t, a, []string{"fast", "robust"}[i%2])
	}
	st := a.node.session.inst.store
	eventually(t, "the log is cut", func() bool {
		first, err := st.FirstIndex()
		return err == nil && first > writes/4
	})
	eventually(t, "nothing more is to be cut", func() bool { return st.grown.Load() < 8<<10 })
	if n, err := st.fitting(1<<40, 1<<40); err != nil || n > writes {
		t.Errorf("%d entries are left, %v", n, err)
	}
	b := newMachineUnderTest(t, "b")
	b.join(token)
	eventually(t, "the newcomer has the table", func() bool { return b.node.Table().Revision == a.node.Table().Revision })
	a.restart()
	eventually(t, "the table is there after a restart", func() bool { return a.node.Table().Revision == b.node.Table().Revision })
}

type inMemory struct{ *raft.InmemStore }

func (inMemory) Close() error { return nil }

func TestFitting(t *testing.T) {
	st := newStore(inMemory{raft.NewInmemStore()}, nil, time.Second, time.Second, &diskCounts{})
	if n, err := st.fitting(1000, 10); err != nil || n != 1 {
		t.Errorf("of an empty log: %d, %v", n, err)
	}
	for i := range uint64(20) {
		if err := st.raw.StoreLog(&raft.Log{Index: 7 + i, Data: make([]byte, 100-64)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		bytes      int64
		most, want uint64
	}{{1000, 100, 10}, {1099, 100, 10}, {1000, 4, 4}, {1, 100, 1}, {1 << 30, 100, 20}} {
		if n, err := st.fitting(c.bytes, c.most); err != nil || n != c.want {
			t.Errorf("in %d bytes, at most %d: %d entries, not %d (%v)", c.bytes, c.most, n, c.want, err)
		}
	}
}

// What the leader rehearsed is not applied twice, and a rehearsal that is another
// table's, or another command's, is not used.
func TestRehearsalIsUsedOnce(t *testing.T) {
	id := identityFile{ID: "m1", Cluster: "c", Name: "a", Addr: freeAddr(t), Profile: "default"}
	founding, err := id.founding(time.Now(), fsm.CommandVersion).Encode()
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	m := newMachine(&floor{}, func(*fsm.Table) { shown++ })
	m.Apply(&raft.Log{Index: 1, Data: founding})
	cmd := settle("fast")
	cmd.At, cmd.By = time.Now(), "root"
	data, err := cmd.Encode()
	if err != nil {
		t.Fatal(err)
	}
	from, _, _ := m.state()
	next, result, err := from.Apply(mustDecode(t, data))
	if err != nil {
		t.Fatal(err)
	}
	m.expect(rehearsal{data: []byte("other"), from: from, next: fsm.New(), result: result})
	if m.Apply(&raft.Log{Index: 2, Data: data}); m.table.Settings.Profile != "fast" || m.table == next {
		t.Errorf("another command's rehearsal: %+v", m.table.Settings)
	}
	m.expect(rehearsal{data: data, from: from, next: fsm.New(), result: result})
	if m.Apply(&raft.Log{Index: 3, Data: data}); m.table.Settings.Profile != "fast" {
		t.Errorf("another table's rehearsal: %+v", m.table.Settings)
	}
	m.table = from
	m.expect(rehearsal{data: data, from: from, next: next, result: result})
	if o := m.Apply(&raft.Log{Index: 4, Data: data}).(outcome); m.table != next || o.result != result {
		t.Error("the rehearsal was not used")
	}
	if m.expected.next != nil {
		t.Error("the rehearsal is kept")
	}
	if shown != 4 {
		t.Errorf("%d tables were shown", shown)
	}
}

func mustDecode(t *testing.T, data []byte) fsm.Command {
	t.Helper()
	cmd, err := fsm.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}

// Behind a change that nothing follows comes an entry that tells the others at once
// that it is committed.
func TestFollowersAreHurried(t *testing.T) {
	t.Parallel()
	all := three(t)
	leader := leaderOf(t, all)
	awaitVoters(t, all, 3)
	write(t, leader, "fast")
	inst := leader.node.session.inst
	eventually(t, "there is a barrier behind the change", func() bool {
		var l raft.Log
		return inst.store.GetLog(inst.raft.LastIndex(), &l) == nil && l.Type == raft.LogBarrier
	})
}
