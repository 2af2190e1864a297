package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"lbcluster/fsm"
)

// TestRecover: of three, two are gone for good. The third serves alone with what it had;
// one that comes back is refused and can do nothing; it joins anew under another id.
func TestRecover(t *testing.T) {
	t.Parallel()
	all := three(t)
	a, b := all[0], all[1]
	res, err := a.node.Propose(within10(t), settle("fast"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if err := m.node.WaitRevision(within10(t), res.Revision); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range all {
		m.stop()
	}
	was, _, _ := EnrolledAs(a.cfg.Dir)
	s, err := ReadSurvivor(a.cfg.Dir)
	if err != nil || s.Table.Revision < res.Revision || !slices.Equal(s.Names(), []string{"b", "c"}) {
		t.Fatalf("%+v, %v", s, err)
	}
	r, err := Recover(a.cfg.Dir, "root@a", time.Now())
	if err != nil || r.Epoch != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := os.Stat(filepath.Join(r.Aside, fileIdentity)); err != nil {
		t.Errorf("the old files are not kept: %v", err)
	}
	if now, _, _ := EnrolledAs(a.cfg.Dir); string(now.LeaseKey) == string(was.LeaseKey) || now.ID != was.ID || now.Cluster != was.Cluster {
		t.Errorf("it was %+v and is %+v", was, now)
	}
	a.start()
	if _, err := a.node.Propose(within10(t), settle("robust")); err != nil {
		t.Fatalf("alone it takes no write: %v", err)
	}
	awaitVoters(t, all[:1], 1)
	committed, _ := a.node.Voters()
	if tag, ok := a.node.Floor(); !ok || tag.Epoch != 1 || committed.Tag.Epoch != 1 || !slices.Equal(committed.Voters, []fsm.MemberID{was.ID}) {
		t.Errorf("voters %+v, floor %+v", committed, tag)
	}
	if members := a.node.Table().Members; len(members) != 1 {
		t.Errorf("members: %+v", members)
	}
	for _, e := range a.node.Table().Events {
		if e.Kind == "member" && e.Revision > res.Revision && e.By != "root@a (recover, epoch 1)" && e.By != "m1" {
			t.Errorf("%+v", e)
		}
	}

	// One of the old is back. It knows nothing of it, and nobody talks to it.
	b.start()
	time.Sleep(5 * quick.Silent)
	if _, err := b.node.Propose(within10(t), settle("default")); !errors.Is(err, ErrNoLeader) {
		t.Errorf("the old member's write: %v", err)
	}
	if v, _ := b.node.Voters(); len(v.Voters) == 3 && v.Tag.Epoch != 0 {
		t.Errorf("the old member judges by %+v", v)
	}
	if table := a.node.Table(); table.Settings.Profile != "robust" || len(table.Members) != 1 {
		t.Errorf("the old member has changed it: %+v", table.Settings)
	}
	if _, err := a.node.Ask(within10(t), "m2", "name"); err == nil {
		t.Error("it asks the old member")
	}
	if _, err := b.node.Ask(within10(t), was.ID, "name"); err == nil {
		t.Error("the old member was answered")
	}

	token, err := a.node.NewToken(within10(t), time.Hour, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.node.Abandon(within10(t)); err != nil {
		t.Fatal(err)
	}
	b.join(token)
	eventually(t, "the old member is a new one", func() bool { return len(b.node.Table().Members) == 2 })
	if id := mustID(b); id != "m4" {
		t.Errorf("it is %s: ids are never given again", id)
	}
	// And all of it is there after a restart.
	a.restart()
	eventually(t, "both are back", func() bool {
		v, _ := a.node.Voters()
		return a.node.Table().Settings.Profile == "robust" && v.Tag.Epoch == 1
	})
}

// TestRecoverInterrupted: a crash at each step leaves either the old member, or one that
// the next call makes the new one.
func TestRecoverInterrupted(t *testing.T) {
	t.Parallel()
	a, _ := found(t, "a")
	if _, err := a.node.Propose(within10(t), settle("fast")); err != nil {
		t.Fatal(err)
	}
	a.stop()
	f := folder(a.cfg.Dir)
	s, err := ReadSurvivor(a.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	prepared := folder(f.path(dirRecovering))
	if err := s.prepare(prepared, "x", time.Now()); err != nil {
		t.Fatal(err)
	}
	if id, err := f.identity(); err != nil || id.Epoch != 0 {
		t.Fatalf("preparing changed the identity: %+v, %v", id, err)
	}
	if _, err := f.setAside(time.Now()); err != nil {
		t.Fatal(err)
	}
	// Half of it is moved.
	for _, name := range []string{fileCA, fileTable, dirRaft} {
		if err := os.Rename(prepared.path(name), f.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Recover(a.cfg.Dir, "root@a", time.Now())
	if err != nil || r.Epoch != 1 || r.Revision == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	a.start()
	if _, err := a.node.Propose(within10(t), settle("robust")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(string(prepared)); !errors.Is(err, os.ErrNotExist) {
		t.Error("what was prepared is still there")
	}
}

// TestRecoverRefused: what cannot be recovered is left as it is.
func TestRecoverRefused(t *testing.T) {
	t.Parallel()
	if _, err := Recover(t.TempDir(), "x", time.Now()); !errors.Is(err, ErrUnenrolled) {
		t.Error(err)
	}
	a, token := found(t, "a")
	w := newMachineUnderTest(t, "w")
	if err := w.node.Join(within10(t), "", token, fsm.Witness); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSurvivor(a.cfg.Dir); err == nil {
		t.Error("the data folder of a daemon that runs was read")
	}
	w.stop()
	if _, err := Recover(w.cfg.Dir, "x", time.Now()); !errors.Is(err, fsm.ErrInvalid) {
		t.Error(err)
	}
	a.stop()
	store := filepath.Join(a.cfg.Dir, dirRaft, fileStore)
	if err := os.Truncate(store, 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := Recover(a.cfg.Dir, "x", time.Now()); err == nil {
		t.Error("a damaged store was used")
	}
	if id, err := folder(a.cfg.Dir).identity(); err != nil || id == nil || id.Epoch != 0 {
		t.Errorf("the identity was touched: %+v, %v", id, err)
	}
}
