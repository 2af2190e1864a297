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
	s := site.Up(t, 3)
	// 200 new connections a second.
	e := &eyes{Site: s, http: s.ProbeHTTPFor(s.Client, site.Target, 5*time.Millisecond, patience), arp: s.ProbeARP(s.Watcher, site.VIP, 5*time.Millisecond)}
	t.Run("a router is moved", func(t *testing.T) { e.movedUnderLoad(t) })
	t.Run("its director is drained, and made fit again", func(t *testing.T) { e.directorIsDrained(t) })
	t.Run("its cable is pulled: what was moved there stays away", func(t *testing.T) { e.movedAndLost(t) })
	t.Run("two of three lose power", func(t *testing.T) { e.forced(t) })
	e.wantNoOverlap(t)
}

// ordered runs a command that must succeed.
func (e *eyes) ordered(t *testing.T, args ...string) {
	t.Helper()
	if out, status := e.Command(e.Dirs[0], args...); status != 0 {
		t.Fatalf("lbcluster %s: status %d: %s", strings.Join(args, " "), status, out)
	}
}

// calm is how late a prober may be in a trial that counts: while the machine
// stands still, requests end late or never, whatever the product does.
const calm = 50 * time.Millisecond

// movedUnderLoad moves the VIP again and again; in trials without stalls no
// connection may fail, but those that are under way when the VIP moves.
func (e *eyes) movedUnderLoad(t *testing.T) {
	e.AwaitCalm()
	counted := 0
	for trial := range 4 {
		old := e.AwaitOwner()
		next := e.Others(old)[trial%2]
		time.Sleep(time.Second)
		from := probe.Now()
		out, status := e.Command(next, "router", "move", "VI_1", next.Name)
		if status != 0 {
			t.Fatalf("move: exit status %d: %s", status, out)
		}
		to := pause(settled)
		sum, late := probe.Summarise(e.http.Records(), from, to), e.worst(from, to)
		t.Logf("%s: %d answers, %d failures, longest gap %v; the machine was late by %v",
			strings.TrimSpace(out), sum.OK, sum.Failed, sum.Outage.Length().Round(time.Millisecond), late)
		e.wantOnly(t, next, e.took(next, from), to)
		if trial == 0 {
			e.wantWhy(t, old, old, next, "an operator moved it")
		}
		if late > calm {
			continue
		}
		counted++
		under := e.underWay(next, from, to)
		if sum.Failed > under || under > 3 || sum.OK < 200 {
			t.Errorf("of 200 connections a second %d failed in a planned handover, %d of them under way: %v", sum.Failed, under, sum.ByResult)
		}
	}
	t.Logf("%d trials without a stall", counted)
}

// underWay counts the connections that were reset because they were under way
// while the VIP moved: the new owner's IPVS does not know them. It has moved when
// nobody else is heard with it any more; a keepalived that is MASTER is for a moment.
func (e *eyes) underWay(next *lab.Host, from, to probe.Time) (n int) {
	begins := e.took(next, from)
	ends := begins
	for _, r := range e.arp.Records() {
		if r.Kind != probe.Asked && r.MAC != probe.ToMAC(next.MAC) && r.At > ends && r.At <= to {
			ends = r.At
		}
	}
	for _, r := range e.http.Records() {
		if r.Result == probe.Reset && r.End >= from && r.End <= to && r.Start <= ends && r.End >= begins.Add(-calm) {
			n++
		}
	}
	return n
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
