package cluster

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk that can be read and not written (full, or mounted read-only after an
// error) is no damage: to tell the operator to throw the store away would cost
// what the disk still has.
func TestReadOnlyDiskIsNoDamage(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a file immutable")
	}
	a := &machineUnderTest{t: t, cfg: newConfig(t, "a")}
	a.cfg.Timing.SnapshotEvery, a.cfg.Timing.SnapshotAfter, a.cfg.Timing.Trailing = 20*time.Millisecond, 10, 1
	a.start()
	if _, err := a.node.Init(within10(t), "", 0); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		write(t, a, []string{"fast", "robust"}[i%2])
	}
	eventually(t, "the log is cut", func() bool {
		first, err := a.node.session.inst.store.FirstIndex()
		return err == nil && first > 20
	})
	a.stop()
	thaw := immutable(t, a.cfg.Dir)
	_, err := New(a.cfg)
	thaw()
	if err != nil {
		t.Errorf("a disk that takes no writes: %v", err)
	}
	if _, err := New(a.cfg); err != nil {
		t.Errorf("with a disk that takes writes again: %v", err)
	}
}

func newConfig(t *testing.T, name string) Config {
	return Config{Dir: t.TempDir(), Name: name, Addr: freeAddr(t), Timing: quick}
}

// immutable mounts dir over itself, read-only, until the returned function is called.
func immutable(t *testing.T, dir string) func() {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Skip("cannot mount here: ", err)
	}
	done := false
	thaw := func() {
		if !done {
			done = true
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(thaw)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return thaw
}
