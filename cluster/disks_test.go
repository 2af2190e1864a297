package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// flaky is a real store over a disk that is full, or hangs, on demand.
type flaky struct {
	rawStore
	full *atomic.Bool
	hang *atomic.Pointer[chan struct{}]
}

func (f flaky) fault() error {
	if ch := f.hang.Load(); ch != nil {
		<-*ch
	}
	if f.full.Load() {
		return syscall.ENOSPC
	}
	return nil
}

func (f flaky) StoreLogs(l []*raft.Log) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.rawStore.StoreLogs(l)
}

func (f flaky) SetUint64(k []byte, v uint64) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.rawStore.SetUint64(k, v)
}

func (f flaky) Set(k, v []byte) error {
	if err := f.fault(); err != nil {
		return err
	}
	return f.rawStore.Set(k, v)
}

// badDisks puts a switchable disk below a member; it is started anew.
func (m *machineUnderTest) badDisks() (full *atomic.Bool, hang *atomic.Pointer[chan struct{}]) {
	m.stop()
	full, hang = new(atomic.Bool), new(atomic.Pointer[chan struct{}])
	m.open = func(f folder, create bool) (rawStore, error) {
		raw, err := openStore(f, create)
		if err != nil {
			return nil, err
		}
		return flaky{raw, full, hang}, nil
	}
	m.start()
	return full, hang
}

// write proposes until the cluster takes it: leaders change meanwhile.
func write(t *testing.T, on *machineUnderTest, profile string) fsm.Revision {
	t.Helper()
	var rev fsm.Revision
	eventually(t, "a write on "+on.cfg.Name, func() bool {
		res, err := on.node.Propose(within10(t), settle(profile))
		rev = res.Revision
		return err == nil
	})
	return rev
}

// The leader's disk fills up: another one leads, nothing acknowledged is lost,
// the process lives, and when there is space again it is a full member again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	all := three(t)
	bad := all[0]
	full, _ := bad.badDisks()
	awaitVoters(t, all, 3)
	eventually(t, "the member with the bad disk leads", func() bool { return lead(all, bad) })
	acked := write(t, all[1], "fast")

	full.Store(true)
	rev := write(t, all[1], "robust")
	if rev <= acked {
		t.Errorf("revision %d after %d", rev, acked)
	}
	if st := bad.node.Status(); st.State == "Leader" || st.Disk.AppendErrors == 0 || !strings.Contains(st.Trouble, "no space left") {
		t.Errorf("status with a full disk: state %s, disk %+v, trouble %q", st.State, st.Disk, st.Trouble)
	}
	// It still takes writes for others, and answers.
	if _, err := bad.node.Propose(within10(t), settle("default")); err != nil {
		t.Errorf("a write on the member with the full disk: %v", err)
	}
	if _, err := all[1].node.Ask(within10(t), mustID(bad), "name"); err != nil {
		t.Errorf("it does not answer: %v", err)
	}
	full.Store(false)
	last := write(t, all[2], "fast")
	if err := bad.node.WaitRevision(within10(t), last); err != nil {
		t.Errorf("with space again: %v", err)
	}
	if st := bad.node.Status(); st.Disk.Reopened == 0 {
		t.Error("the store was not opened again")
	}
}

// lead makes m the leader if it is not yet.
func lead(all []*machineUnderTest, m *machineUnderTest) bool {
	for _, o := range all {
		s := o.node.session
		if s == nil {
			continue
		}
		inst, err := s.leading()
		if err != nil {
			continue
		}
		if o == m {
			return true
		}
		id := mustID(m)
		within(time.Second, inst.raft.LeadershipTransferToServer(raft.ServerID(id), serverAddress(id, m.cfg.Addr)).Error)
	}
	return false
}

// The leader's disk hangs. Raft alone would stay leader for ever.
func TestHangingDisk(t *testing.T) {
	t.Parallel()
	all := three(t)
	bad := all[0]
	bad.cfg.Timing.Write = 500 * time.Millisecond
	_, hang := bad.badDisks()
	awaitVoters(t, all, 3)
	eventually(t, "the member with the bad disk leads", func() bool { return lead(all, bad) })
	write(t, all[1], "fast")

	answer := make(chan struct{})
	hang.Store(&answer)
	write(t, all[1], "robust")
	if st := bad.node.Status(); st.State == "Leader" || st.Disk.AppendTimeouts == 0 {
		t.Errorf("status with a hanging disk: state %s, disk %+v", st.State, st.Disk)
	}
	hang.Store(nil)
	close(answer)
	last := write(t, all[2], "default")
	if err := bad.node.WaitRevision(within10(t), last); err != nil {
		t.Errorf("when the disk answers again: %v", err)
	}
}

// A member stops even while its disk hangs.
func TestStopWithHangingDisk(t *testing.T) {
	t.Parallel()
	a, _ := found(t, "a")
	_, hang := a.badDisks()
	write(t, a, "fast")
	answer := make(chan struct{})
	hang.Store(&answer)
	defer close(answer)
	go a.node.Propose(within10(t), settle("robust"))
	eventually(t, "the write hangs", func() bool {
		inst, err := a.node.session.instance()
		return err == nil && inst.raft.LastIndex() > 0
	})
	began := time.Now()
	a.stop()
	if d := time.Since(began); d > 12*time.Second {
		t.Errorf("stopping took %v", d)
	}
}

// A command that this version cannot read stops the machine, not the process.
func TestUnknownCommandHalts(t *testing.T) {
	t.Parallel()
	all := three(t)
	leader := leaderOf(t, all)
	inst, err := leader.node.session.leading()
	if err != nil {
		t.Fatal(err)
	}
	before := leader.node.Table()
	o := applied(inst.raft.Apply([]byte(`{"v":99,"teleport":{}}`), time.Second))
	if !errors.Is(o.err, ErrHalted) {
		t.Errorf("applying an unknown command: %v", o.err)
	}
	for _, m := range all {
		eventually(t, "everybody halts", func() bool { return m.node.Status().Halted != "" })
		if st := m.node.Status(); !strings.Contains(st.Halted, "upgrade it") || !strings.Contains(st.Halted, "entry") {
			t.Errorf("status: %q", st.Halted)
		}
		if _, err := m.node.session.inst.machine.Snapshot(); !errors.Is(err, ErrHalted) {
			t.Errorf("a halted machine makes a snapshot: %v", err)
		}
	}
	if _, err := leader.node.Propose(within10(t), settle("fast")); !errors.Is(err, ErrHalted) && !errors.Is(err, ErrUncertain) {
		t.Errorf("a write after the halt: %v", err)
	}
	if got := leader.node.Table(); got.Revision != before.Revision {
		t.Errorf("the table went from revision %d to %d", before.Revision, got.Revision)
	}
	// Nor does a restart get past it.
	all[0].restart()
	eventually(t, "halted again after a restart", func() bool { return all[0].node.Status().Halted != "" })
}

func TestDamagedFolder(t *testing.T) {
	t.Parallel()
	a, _ := found(t, "a")
	for range 40 {
		write(t, a, "fast")
		write(t, a, "robust")
	}
	a.stop()
	db := filepath.Join(dirRaft, fileStore)
	for name, test := range map[string]struct {
		file  string
		spoil func(b []byte) []byte // nil: the file is deleted
		want  []string
	}{
		"store truncated":     {db, func(b []byte) []byte { return b[:3*os.Getpagesize()+100] }, []string{fileStore, "truncated", "join again"}},
		"store truncated low": {db, func(b []byte) []byte { return b[:5000] }, []string{fileStore, "truncated"}},
		"store cut to a page": {db, func(b []byte) []byte { return b[:100] }, []string{fileStore, "truncated"}},
		"store empty":         {db, func(b []byte) []byte { return nil }, []string{fileStore, "truncated"}},
		"store gone":          {db, nil, []string{fileStore, "join again"}},
		"store all zeros":     {db, func(b []byte) []byte { return make([]byte, len(b)) }, []string{fileStore, "no valid header"}},
		"store pages spoilt": {db, func(b []byte) []byte {
			page := os.Getpagesize()
			for i := 2 * page; i < len(b); i += 7 {
				b[i] ^= 0xA5
			}
			return b
		}, []string{fileStore, "damaged"}},
		"identity cut":     {fileIdentity, func(b []byte) []byte { return b[:20] }, []string{fileIdentity, "damaged"}},
		"identity no keys": {fileIdentity, func([]byte) []byte { return []byte(`{"id":"m1","cluster":"x"}`) }, []string{fileIdentity, "32 bytes"}},
		"CA garbage":       {fileCA, func([]byte) []byte { return []byte("x") }, []string{fileCA, "PEM"}},
		"key gone":         {fileKey, nil, []string{fileKey}},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(a.cfg.Dir)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, test.file)
		if test.spoil == nil {
			os.Remove(path)
		} else {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, test.spoil(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg := a.cfg
		cfg.Dir = dir
		_, err := New(cfg)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, word := range append(test.want, dir) {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not say %q", name, err, word)
			}
		}
	}
	// A damaged copy of the table is only a warning.
	if err := os.WriteFile(filepath.Join(a.cfg.Dir, fileTable), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	write(t, a, "fast")
}

// Compaction: the log is cut, a newcomer gets a snapshot, and the voters with
// their term come with it.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	a := &machineUnderTest{t: t, cfg: Config{Dir: t.TempDir(), Name: "a", Addr: freeAddr(t), Timing: quick}}
	a.cfg.Timing.SnapshotEvery, a.cfg.Timing.SnapshotAfter, a.cfg.Timing.Trailing = 20*time.Millisecond, 10, 1
	a.start()
	token, err := a.node.Init(within10(t), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		write(t, a, []string{"fast", "robust"}[i%2])
	}
	eventually(t, "the log is cut", func() bool {
		first, err := a.node.session.inst.store.FirstIndex()
		return err == nil && first > 20
	})
	b := newMachineUnderTest(t, "b")
	b.join(token)
	eventually(t, "the newcomer has the table and the voters", func() bool {
		committed, appended := b.node.Voters()
		want, _ := a.node.Voters()
		return b.node.Table().Revision == a.node.Table().Revision && committed.Tag == want.Tag &&
			appended.Tag == want.Tag && want.Tag.Term > 0 && slices.Equal(committed.Voters, []fsm.MemberID{"m1"})
	})
	tag, _ := a.node.Voters()
	a.restart()
	b.restart()
	eventually(t, "the voters are known after a restart", func() bool {
		committed, appended := a.node.Voters()
		return committed.Tag == tag.Tag && appended.Tag == tag.Tag
	})

	// A log whose beginning only a snapshot had is not used without it.
	a.stop()
	snaps, err := filepath.Glob(filepath.Join(a.cfg.Dir, dirRaft, "snapshots", "*", "state.bin"))
	if err != nil || len(snaps) == 0 {
		t.Fatal("no snapshots", err)
	}
	for _, s := range snaps {
		if err := os.WriteFile(s, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := New(a.cfg); err == nil || !strings.Contains(err.Error(), "no readable snapshot") {
		t.Errorf("damaged snapshots: %v", err)
	}
}

// The folder is as secret as the cluster.
func TestFolderIsPrivate(t *testing.T) {
	t.Parallel()
	a, _ := found(t, "a")
	a.stop()
	err := filepath.Walk(a.cfg.Dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && path != a.cfg.Dir && !info.IsDir() && info.Mode().Perm()&0o077 != 0 &&
			!strings.Contains(path, "snapshots") {
			err = fmt.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	// A second daemon on the same folder is refused.
	a.start()
	eventually(t, "it runs", func() bool { return a.node.Status().State == "Leader" })
	if _, err := New(a.cfg); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second daemon: %v", err)
	}
}
