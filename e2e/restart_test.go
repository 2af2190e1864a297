package e2e

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// The owner's daemon ends and begins again, in each of the ways there are.
func TestDaemonRestarts(t *testing.T) {
	lab.Need(t)
	e := open(site.Up(t, 3))
	t.Run("it is reloaded", func(t *testing.T) { e.daemonReloads(t) })
	t.Run("it is killed and started again at once", func(t *testing.T) { e.daemonStartsAtOnce(t) })
	t.Run("it is killed and fenced", func(t *testing.T) { e.daemonIsFenced(t) })
	e.wantNoOverlap(t)
}

// A reload executes the program again in the same process: the owner stays, and
// no client notices.
func (e *eyes) daemonReloads(t *testing.T) {
	owner := e.AwaitOwner()
	d := e.Daemons[owner]
	pid, from := d.Pid(), probe.Now()
	if err := d.Reload(); err != nil {
		t.Fatal(err)
	}
	e.await("the daemon runs again", 10*time.Second, func() bool {
		return strings.Contains(d.Output(), "executing itself again") && strings.Count(d.Output(), "lbcluster is running") == 2
	})
	e.wantUndisturbed(t, owner, from, pause(3*time.Second))
	e.AwaitCalm()
	e.wantOwnerAlone(t, owner)
	if e.Daemons[owner].Pid() != pid {
		t.Error("it is another process")
	}
	if out, status := e.Command(owner, "fence"); status != 0 || !strings.Contains(out, "nothing to fence") {
		t.Errorf("fence beside the daemon: exit status %d, %s", status, out)
	}
}

// Killed without a fence and started again while its lease still runs, the owner
// adopts what it held: it stays the owner, IPVS is as it was, and no client
// notices. Where the start takes longer than the rest of the lease another
// director may take over; then only safety is wanted, and the times are told.
func (e *eyes) daemonStartsAtOnce(t *testing.T) {
	owner := e.AwaitOwner()
	e.await("connections through "+owner.Name, 5*time.Second, func() bool { return strings.Contains(stats(e, owner), "172.25.88.2:80") })
	rules, from := e.Rules(owner), probe.Now()
	e.Daemons[owner].Kill()
	d := e.Start(owner)
	answers := probe.Now().Sub(from)
	e.AwaitCalm()
	to := pause(2 * time.Second)
	if log := d.Output(); !strings.Contains(log, `msg="lease acquired"`) || strings.Contains(log, "the process before this one ended") {
		t.Logf("not adopted: %s was killed %v before its daemon answered again, which started in these steps:\n%s", owner.Name, answers, log)
		return // who owns it, and that nobody else did meanwhile, the probes say at the end
	}
	t.Logf("adopted; the daemon answered %v after the kill", answers)
	e.wantUndisturbed(t, owner, from, to)
	e.wantOwnerAlone(t, owner)
	if now := e.Rules(owner); now != rules {
		t.Errorf("the IPVS table changed from\n%sto\n%s", rules, now)
	}
	if log := d.Output(); strings.Contains(log, `ipvsadm="`) { // an entry made anew loses its counters
		t.Errorf("operations on a table that was as it should be:\n%s", log)
	}
}

// What systemd runs behind a killed daemon gives its VIPs up at once.
func (e *eyes) daemonIsFenced(t *testing.T) {
	old := e.AwaitOwner()
	from := probe.Now()
	if err := e.Daemons[old].KillWithStopPost(); err != nil {
		t.Errorf("the unit's ExecStopPost: %v", err)
	}
	delete(e.Daemons, old)
	if old.HasAddress(site.VIP) {
		t.Errorf("%s still has the address after lbcluster fence", old.Name)
	}
	next := e.AwaitSuccessor(old)
	e.wantHandover(t, next, from, pause(2*time.Second))
	out, status := e.Command(next, "why", "VI_1")
	t.Logf("why: %s", out)
	if status != 0 || !strings.Contains(out, "was killed or failed") && !strings.Contains(out, "does not answer now either") {
		t.Errorf("why: exit status %d", status)
	}
	e.Start(old)
	e.AwaitCalm()
	out, _ = e.Command(next, "why", "VI_1")
	t.Logf("why, when the old owner runs again: %s", out)
	if !strings.Contains(out, "VI_1 moved from "+old.Name+" to "+next.Name) || !strings.Contains(out, "was killed or failed") {
		t.Errorf("why does not name the cause:\n%s", out)
	}
}
