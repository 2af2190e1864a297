package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// badDisk is a store in memory whose operations fail or hang on demand.
type badDisk struct {
	*raft.InmemStore
	fail   func(op string) error // nil: nothing fails
	closed bool
}

func (d *badDisk) do(op string) error {
	if d.fail == nil {
		return nil
	}
	return d.fail(op)
}

func (d *badDisk) StoreLogs(l []*raft.Log) error {
	if err := d.do("append"); err != nil {
		return err
	}
	return d.InmemStore.StoreLogs(l)
}

func (d *badDisk) DeleteRange(a, b uint64) error {
	if err := d.do("delete"); err != nil {
		return err
	}
	return d.InmemStore.DeleteRange(a, b)
}

func (d *badDisk) GetLog(i uint64, l *raft.Log) error {
	if err := d.do("get"); err != nil {
		return err
	}
	return d.InmemStore.GetLog(i, l)
}

func (d *badDisk) SetUint64(k []byte, v uint64) error {
	if err := d.do("set"); err != nil {
		return err
	}
	return d.InmemStore.SetUint64(k, v)
}

func (d *badDisk) Close() error { d.closed = true; return nil }

func newTestStore(t *testing.T) (*store, *badDisk) {
	t.Helper()
	disk := &badDisk{InmemStore: raft.NewInmemStore()}
	fl, err := openFloor(filepath.Join(t.TempDir(), fileFloor), 0)
	if err != nil {
		t.Fatal(err)
	}
	st := newStore(disk, fl, 3*time.Second, time.Second, &diskCounts{})
	st.parking.Store(true)
	return st, disk
}

// entries makes log entries from to, all of a term.
func entries(term, from, to uint64) []*raft.Log {
	var out []*raft.Log
	for i := from; i <= to; i++ {
		out = append(out, &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: []byte("x")})
	}
	return out
}

// configuration makes a configuration entry with these voters.
func configuration(term, index uint64, voters ...raft.ServerID) *raft.Log {
	var c raft.Configuration
	for _, id := range voters {
		c.Servers = append(c.Servers, raft.Server{ID: id, Address: raft.ServerAddress(id), Suffrage: raft.Voter})
	}
	return &raft.Log{Index: index, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)}
}

func TestStoreAppendFails(t *testing.T) {
	st, disk := newTestStore(t)
	if err := st.StoreLogs(entries(1, 1, 2)); err != nil {
		t.Fatal(err)
	}
	disk.fail = func(string) error { return syscall.ENOSPC }
	if err := st.StoreLogs(entries(1, 3, 3)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("append on a full disk: %v", err)
	}
	select {
	case <-st.failed:
	default:
		t.Error("the store has not failed")
	}
	// Space is back, but nobody knows what the failed append left behind.
	disk.fail = nil
	if err := st.StoreLogs(entries(1, 3, 3)); !errors.Is(err, errStoreFailed) {
		t.Errorf("append after a failure: %v", err)
	}
	if err := st.DeleteRange(1, 1); !errors.Is(err, errStoreFailed) {
		t.Errorf("delete after a failure: %v", err)
	}
	if last, _ := disk.LastIndex(); last != 2 {
		t.Errorf("last entry %d, want 2", last)
	}
	if c := st.counts.status(); c.AppendErrors != 1 || !strings.Contains(c.LastError, syscall.ENOSPC.Error()) {
		t.Errorf("%d append errors counted, the last %q", c.AppendErrors, c.LastError)
	}
}

func TestStoreAppendHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, disk := newTestStore(t)
		release := make(chan struct{})
		disk.fail = func(string) error { <-release; return nil }
		logs := entries(1, 1, 1)
		began := time.Now()
		if err := st.StoreLogs(logs); err == nil {
			t.Fatal("a hanging append succeeded")
		}
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("gave up after %v, want the limit of 3s", d)
		}
		// Raft may change its entry now; the late write must not see that.
		logs[0].Data = []byte("changed")
		if err := st.StoreLogs(entries(1, 2, 2)); !errors.Is(err, errStoreFailed) {
			t.Errorf("append behind a hanging one: %v", err)
		}
		// The store closes only when the late write is over.
		closed := make(chan error)
		go func() { closed <- st.close() }()
		synctest.Wait()
		if disk.closed {
			t.Error("closed under a write")
		}
		close(release)
		if err := <-closed; err != nil || !disk.closed {
			t.Errorf("close: %v, %v", err, disk.closed)
		}
		var l raft.Log
		if err := disk.InmemStore.GetLog(1, &l); err != nil || string(l.Data) != "x" {
			t.Errorf("the late write left %q, %v", l.Data, err)
		}
		if n := st.counts.status().AppendTimeouts; n != 1 {
			t.Errorf("%d time-outs counted", n)
		}
	})
}

func TestStoreParks(t *testing.T) {
	ops := map[string]func(*store) error{
		"SetUint64": func(st *store) error { return st.SetUint64([]byte("k"), 7) },
		"GetLog":    func(st *store) error { return st.GetLog(1, new(raft.Log)) },
	}
	for name, op := range ops {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, disk := newTestStore(t)
				if err := st.StoreLogs(entries(1, 1, 1)); err != nil {
					t.Fatal(err)
				}
				left := 3
				disk.fail = func(string) error {
					if left == 0 {
						return nil
					}
					left--
					return syscall.EIO
				}
				began := time.Now()
				if err := op(st); err != nil {
					t.Errorf("it gave up: %v", err)
				}
				if d := time.Since(began); d != 3*time.Second {
					t.Errorf("it took %v, want three pauses of 1s", d)
				}
				if got := st.counts.status(); got.Retries != 3 || got.Waiting != 0 {
					t.Errorf("counted %+v", got)
				}
				// While Raft is made, errors come back.
				left = 1
				st.parking.Store(false)
				if err := op(st); !errors.Is(err, syscall.EIO) {
					t.Errorf("not parking: %v", err)
				}
			})
		})
	}
}

func TestStoreMissingEntryIsAnAnswer(t *testing.T) {
	st, _ := newTestStore(t)
	if err := st.GetLog(9, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("error %v", err)
	}
}

// A goroutine that waits for the disk ends with the store, without an answer.
func TestStoreEndsParkedGoroutines(t *testing.T) {
	for name, hangs := range map[string]bool{"fails": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st, disk := newTestStore(t)
				hang := make(chan struct{})
				disk.fail = func(string) error {
					if hangs {
						<-hang
					}
					return syscall.ENOSPC
				}
				ended, answered := make(chan struct{}), false
				go func() {
					defer close(ended)
					st.SetUint64([]byte("CurrentTerm"), 2)
					answered = true
				}()
				time.Sleep(time.Minute)
				st.end()
				<-ended
				close(hang)
				if answered {
					t.Error("Raft got an answer and would panic or go on")
				}
				if n := st.counts.status().Waiting; n != 0 {
					t.Errorf("%d operations counted as waiting", n)
				}
			})
		})
	}
}

func tags(sets ...fsm.VoterSet) []uint64 {
	var out []uint64
	for _, s := range sets {
		out = append(out, s.Tag.Term, s.Tag.Index)
	}
	return out
}

func TestFloor(t *testing.T) {
	st, disk := newTestStore(t)
	check := func(when string, want ...uint64) {
		t.Helper()
		committed, appended := st.floor.sets()
		if got := tags(committed, appended); !slices.Equal(got, want) {
			t.Errorf("%s: committed and appended (term, index) %v, want %v", when, got, want)
		}
	}
	store := func(logs ...*raft.Log) {
		t.Helper()
		if err := st.StoreLogs(logs); err != nil {
			t.Fatal(err)
		}
	}
	check("empty", 0, 0, 0, 0)
	store(configuration(1, 1, "m1"))
	check("appended, not committed", 0, 0, 1, 1)
	st.floor.commit(1, raft.DecodeConfiguration(configuration(1, 1, "m1").Data))
	check("committed", 1, 1, 1, 1)

	// Noted before it is written: the write fails, the floor is up.
	seen := uint64(0)
	disk.fail = func(op string) error {
		_, appended := st.floor.sets()
		seen = appended.Tag.Index
		return nil
	}
	store(append(entries(2, 2, 4), configuration(2, 5, "m1", "m2"))...)
	if seen != 5 {
		t.Errorf("while it was written the floor was at entry %d, want 5", seen)
	}
	disk.fail = nil
	check("second appended", 1, 1, 2, 5)

	// Compaction keeps what it cuts away; truncation does not.
	if err := st.DeleteRange(1, 2); err != nil {
		t.Fatal(err)
	}
	check("compacted", 1, 1, 2, 5)
	if err := st.DeleteRange(4, 5); err != nil {
		t.Fatal(err)
	}
	check("truncated", 1, 1, 1, 1)

	// A higher term at a lower index is newer.
	store(configuration(4, 4, "m1", "m3"))
	check("other branch", 1, 1, 4, 4)
	st.floor.commit(4, raft.DecodeConfiguration(configuration(4, 4, "m1", "m3").Data))
	check("other branch committed", 4, 4, 4, 4)
	if committed, _ := st.floor.sets(); !slices.Equal(committed.Voters, []fsm.MemberID{"m1", "m3"}) {
		t.Errorf("voters %v", committed.Voters)
	}
	// Raft starts again and applies the log from the snapshot on.
	st.floor.commit(1, raft.DecodeConfiguration(configuration(1, 1, "m1").Data))
	check("replayed", 4, 4, 4, 4)
}

func TestFloorAfterRestart(t *testing.T) {
	st, disk := newTestStore(t)
	logs := []*raft.Log{configuration(1, 1, "m1"), {Index: 2, Term: 1}, configuration(1, 3, "m1", "m2")}
	if err := st.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	// Noted, but the disk did not take it before the machine died.
	disk.fail = func(string) error { return syscall.EIO }
	if err := st.StoreLogs([]*raft.Log{configuration(9, 4, "m9")}); err == nil {
		t.Fatal("the append succeeded")
	}
	disk.fail = nil
	reopen := func(want ...uint64) *floor {
		t.Helper()
		fl, err := openFloor(st.floor.path, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := fl.reconcile(disk); err != nil {
			t.Fatal(err)
		}
		committed, appended := fl.sets()
		if got := tags(committed, appended); !slices.Equal(got, want) {
			t.Errorf("after a restart: %v, want %v", got, want)
		}
		return fl
	}
	reopen(0, 0, 1, 3)
	// Entries that were compacted away are known from the notes alone.
	if err := disk.InmemStore.DeleteRange(1, 3); err != nil {
		t.Fatal(err)
	}
	if err := disk.InmemStore.StoreLogs(entries(1, 4, 5)); err != nil {
		t.Fatal(err)
	}
	fl := reopen(0, 0, 1, 3)
	// A snapshot brings its own, and settles all that was before it.
	if err := fl.restored(fsm.VoterSet{Tag: fsm.ConfigTag{Term: 1, Index: 2}, Voters: []fsm.MemberID{"m1"}}, 5); err != nil {
		t.Fatal(err)
	}
	committed, appended := fl.sets()
	if got := tags(committed, appended); !slices.Equal(got, []uint64{1, 2, 1, 2}) {
		t.Errorf("after a snapshot: %v", got)
	}
}

// Without notes the floor is not known before the log has been read: a voter
// that took it for empty would answer members that were removed long ago.
func TestFloorWithoutNotesIsNotKnown(t *testing.T) {
	st, disk := newTestStore(t)
	if err := st.StoreLogs([]*raft.Log{configuration(3, 7, "m1", "m2")}); err != nil {
		t.Fatal(err)
	}
	want := fsm.ConfigTag{Term: 3, Index: 7}
	fl, err := openFloor(st.floor.path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if tag, known := fl.tag(); tag != want || !known {
		t.Errorf("with notes, before the disk has answered: %v, %v", tag, known)
	}
	if err := os.Remove(st.floor.path); err != nil {
		t.Fatal(err)
	}
	if fl, err = openFloor(st.floor.path, 0); err != nil {
		t.Fatal(err)
	}
	if tag, known := fl.tag(); known {
		t.Errorf("without notes the floor is said to be %v", tag)
	}
	if err := fl.reconcile(disk); err != nil {
		t.Fatal(err)
	}
	fl.complete()
	if tag, known := fl.tag(); tag != want || !known {
		t.Errorf("from the log: %v, %v", tag, known)
	}
}

// Leases ask for the voters all the time; a disk must not make them wait, and
// the floor is up before the disk has answered.
func TestFloorWaitsForNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, _ := newTestStore(t)
		release := make(chan struct{})
		st.floor.write = func(string, []byte) error { <-release; return nil }
		done := make(chan error)
		go func() { done <- st.StoreLogs([]*raft.Log{configuration(1, 1, "m1")}) }()
		synctest.Wait()
		st.floor.commit(1, raft.Configuration{}) // Raft's own goroutine
		if _, appended := st.floor.sets(); appended.Tag.Index != 1 {
			t.Errorf("the floor is at entry %d", appended.Tag.Index)
		}
		if last, _ := st.LastIndex(); last != 0 {
			t.Error("the entry was written before the note")
		}
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
