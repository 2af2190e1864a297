package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/dataplane"
	"lbcluster/journal"
)

// fenceOf writes down the steps that it is asked for.
func fenceOf(steps *[]string, closeErr, removeErr error) fencer {
	did := func(s string) { *steps = append(*steps, s) }
	return fencer{
		lock:  func() (func(), error) { did("lock"); return func() { did("unlock") }, nil },
		close: func() ([]netip.Addr, error) { did("close"); return []netip.Addr{vipA}, closeErr },
		remove: func() ([]dataplane.Leftover, error) {
			did("remove")
			if removeErr != nil {
				return nil, removeErr
			}
			return []dataplane.Leftover{{Interface: "eth0", Prefix: netip.PrefixFrom(vipA, 32)}}, nil
		},
		release: func(context.Context) (int, error) { did("release"); return 2, nil },
		note:    func(e journal.Entry) error { did("note " + string(e.Kind)); return nil },
	}
}

// TestFenceOrder: the order is R8's, and a gate that is not known closed forbids
// the release; an address that stays does not, since its gate is closed.
func TestFenceOrder(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		closeErr, removeErr error
		want                string
		fails               bool
	}{
		{nil, nil, "lock close remove release note fenced unlock", false},
		{broken, nil, "lock close remove note fenced unlock", true},
		{nil, broken, "lock close remove release note fenced unlock", true},
	} {
		var steps []string
		var out strings.Builder
		err := fenceOf(&steps, c.closeErr, c.removeErr).run(t.Context(), &out)
		if got := strings.Join(steps, " "); got != c.want || (err != nil) != c.fails {
			t.Errorf("%v, %v: %s, %v", c.closeErr, c.removeErr, got, err)
		}
		if released := strings.Contains(out.String(), "Released 2 leases"); released != (c.closeErr == nil) {
			t.Errorf("said: %s", out.String())
		}
	}
}

// TestFenceLeavesTheLivingAlone: while a daemon has the lock nothing is touched.
func TestFenceLeavesTheLivingAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "daemon.lock")
	alive, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	f := fenceOf(&steps, nil, nil)
	f.lock = func() (func(), error) {
		l, err := takeLock(path)
		if err != nil {
			return nil, err
		}
		return l.release, nil
	}
	var out strings.Builder
	if err := f.run(t.Context(), &out); err != nil || len(steps) != 0 || !strings.Contains(out.String(), "nothing to fence") {
		t.Errorf("%v, %v, %s", steps, err, out.String())
	}
	alive.release()
	if err := f.run(t.Context(), &out); err != nil || len(steps) == 0 {
		t.Errorf("after its death: %v, %v", steps, err)
	}
}

// TestAwaitLock: a daemon waits for a fence, not for another daemon.
func TestAwaitLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.lock")
	fence, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, fence.release)
	l, err := awaitLock(t.Context(), path, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	if _, err := awaitLock(t.Context(), path, 30*time.Millisecond); !errors.Is(err, errAlive) {
		t.Errorf("a second daemon: %v", err)
	}
}

// TestLockSurvivesExecution: the image executed in place of the daemon has the
// lock all the time, and a child of the daemon does not.
func TestLockSurvivesExecution(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.lock")
	if os.Getenv("LBTEST_EXEC") != "" {
		l, err := awaitLock(t.Context(), os.Getenv("LBTEST_EXEC"), time.Millisecond)
		fmt.Println("\ninherited:", l != nil, err)
		return
	}
	l, err := takeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	word, undo, err := l.handOn()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestLockSurvivesExecution$", "-test.v")
	cmd.Env = append(os.Environ(), "LBTEST_EXEC="+path, lockEnv+"=3")
	cmd.ExtraFiles = []*os.File{l.f} // as fd 3, as if handed on
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "inherited: true") {
		t.Errorf("%v: %s", err, out)
	}
	if flags, err := unix.FcntlInt(l.f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 || !strings.HasPrefix(word, lockEnv+"=") {
		t.Errorf("handed on with flags %x, %v, %q", flags, err, word)
	}
	undo()
	if flags, _ := unix.FcntlInt(l.f.Fd(), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("children would keep the lock")
	}
	// A word that names some other file is not believed.
	t.Setenv(lockEnv, "1")
	if inheritedLock(path) != nil {
		t.Error("standard output was taken for the lock")
	}
	l.release()
}
