package e2e

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// A VIP goes where an operator wants it, in one short step, and stays there.
func TestHandovers(t *testing.T) {
	lab.Need(t)
	e := open(site.Up(t, 3))
	t.Run("a router is moved", func(t *testing.T) { e.routerIsMoved(t) })
	t.Run("its director is drained, and made fit again", func(t *testing.T) { e.directorIsDrained(t) })
	t.Run("its cable is pulled: what was moved there stays away", func(t *testing.T) { e.movedAndLost(t) })
	e.wantNoOverlap(t)
}

// ordered runs a command that must succeed.
func (e *eyes) ordered(t *testing.T, args ...string) {
	t.Helper()
	if out, status := e.Command(e.Dirs[0], args...); status != 0 {
		t.Fatalf("lbcluster %s: status %d: %s", strings.Join(args, " "), status, out)
	}
}

func (e *eyes) routerIsMoved(t *testing.T) {
	e.AwaitCalm()
	old := e.AwaitOwner()
	next := e.Others(old)[1]
	time.Sleep(6 * time.Second) // a new owner keeps it for a while
	from := probe.Now()
	e.ordered(t, "router", "move", "VI_1", next.Name)
	to := pause(3 * time.Second)
	e.wantHandover(t, next, from, to)
	// Without the order of a planned handover it would be dark for a whole lease.
	if sum := probe.Summarise(e.http.Records(), from, to); sum.Failed > 25 {
		t.Errorf("%d requests, one each 20 ms, failed during a planned handover: %v", sum.Failed, sum.ByResult)
	}
	e.wantOwnerAlone(t, next)
}

func (e *eyes) directorIsDrained(t *testing.T) {
	old := e.AwaitOwner()
	time.Sleep(6 * time.Second)
	from := probe.Now()
	e.ordered(t, "director", "drain", old.Name)
	next := e.AwaitSuccessor(old)
	e.wantHandover(t, next, from, pause(3*time.Second))
	back := probe.Now()
	e.ordered(t, "director", "fit", old.Name)
	e.wantUndisturbed(t, next, back, pause(8*time.Second)) // fail-back is manual
	e.wantOwnerAlone(t, next)
}

func (e *eyes) movedAndLost(t *testing.T) {
	first := e.AwaitOwner()
	moved := e.Others(first)[0]
	time.Sleep(6 * time.Second)
	e.ordered(t, "router", "move", "VI_1", moved.Name)
	e.await(moved.Name+" owns it", 10*time.Second, func() bool { return e.AwaitOwner() == moved })
	time.Sleep(6 * time.Second)
	moved.CutLink()
	next := e.AwaitSuccessor(moved)
	back := probe.Now()
	moved.RestoreLink()
	e.AwaitCalm()
	e.wantUndisturbed(t, next, back, pause(12*time.Second))
	e.wantOwnerAlone(t, next)
}
