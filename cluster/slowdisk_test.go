package cluster

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lbcluster/fsm"
)

// While the disk hangs under its notes, a member cuts off whom the table has
// removed, and it still stops.
func TestHangingNotes(t *testing.T) {
	t.Parallel()
	all := three(t)
	leader := leaderOf(t, all)
	rest := slices.DeleteFunc(slices.Clone(all), func(m *machineUnderTest) bool { return m == leader })
	bad, out := rest[0], rest[1]
	s := bad.node.session
	s.floor.disk.Lock() // as a write of the configurations that hangs does
	answer := sync.OnceFunc(s.floor.disk.Unlock)
	t.Cleanup(answer)
	select {
	case s.floor.dirty <- struct{}{}:
	default:
	}
	time.Sleep(300 * time.Millisecond)
	without, _, err := bad.node.Table().Apply(fsm.Command{At: time.Now(), Remove: &fsm.Remove{ID: mustID(out)}})
	if err != nil {
		t.Fatal(err)
	}
	bad.node.board.publish(without)
	eventually(t, "its connections are cut", func() bool {
		s.mux.mu.Lock()
		defer s.mux.mu.Unlock()
		for c := range s.mux.conns {
			if c.peer == mustID(out) && !c.removed {
				return false
			}
		}
		return true
	})
	began := time.Now()
	stopped := make(chan struct{})
	go func() { bad.stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Errorf("it did not stop in %v", time.Since(began))
	}
}

// A follower that cannot write down its vote says so, and does not gather the
// connections of a leader that tries again and again.
func TestFullDiskAtAnElection(t *testing.T) {
	t.Parallel()
	all := three(t)
	bad := all[0]
	bad.cfg.Timing.Write = 500 * time.Millisecond
	full, _ := bad.badDisks()
	awaitVoters(t, all, 3)
	eventually(t, "another one leads", func() bool { return lead(all, all[1]) })
	write(t, all[1], "fast")
	full.Store(true)
	next := 2 // on a busy machine it leads already, and nobody has a vote to write down
	eventually(t, "it says what is wrong, when another one leads", func() bool {
		if lead(all, all[next]) {
			next = 3 - next
		}
		return strings.Contains(bad.node.Status().Trouble, "no space left")
	})
	full.Store(false)
	if err := bad.node.WaitRevision(within10(t), write(t, all[1], "robust")); err != nil {
		t.Errorf("with space again: %v", err)
	}
}
