package e2e

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// Daemons freeze, restart and die in numbers, one is started twice, and the
// wall clock jumps.
func TestDaemonsAndClocks(t *testing.T) {
	lab.Need(t)
	e := open(site.Up(t, 3))
	end := e.judged(t)
	t.Run("the owner and another are frozen", func(t *testing.T) {
		owner := e.AwaitOwner()
		e.twoFreeze(t, owner, e.Others(owner)[0])
	})
	t.Run("all but the owner are frozen", func(t *testing.T) { e.twoFreeze(t, e.Others(e.AwaitOwner())...) })
	t.Run("a second daemon on the owner", func(t *testing.T) { e.startedTwice(t) })
	t.Run("all are restarted in turn", func(t *testing.T) { e.rollingRestart(t) })
	t.Run("all are killed at once", func(t *testing.T) { e.allAreKilled(t) })
	end()
	t.Run("the wall clock jumps", func(t *testing.T) { e.clockJumps(t) })
	e.wantNoOverlap(t)
}

// Without a majority it is dark, whoever is left; and one director serves as
// soon as there is one again.
func (e *eyes) twoFreeze(t *testing.T, frozen ...*lab.Host) {
	e.AwaitCalm()
	for _, h := range frozen {
		if err := e.Daemons[h].Freeze(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * time.Second) // longer than a lease
	dark := probe.Now()
	to := pause(3 * time.Second)
	if m := e.macs(dark, to); len(m) > 0 {
		t.Errorf("without a majority %v answered for the VIP or announced it", m)
	}
	if sum := probe.Summarise(e.http.Records(), dark, to); sum.OK > 0 {
		t.Errorf("without a majority %d requests were answered", sum.OK)
	}
	for _, h := range frozen {
		if err := e.Daemons[h].Thaw(); err != nil {
			t.Fatal(err)
		}
	}
	thawed := probe.Now()
	e.AwaitCalm()
	owner := e.AwaitOwner()
	back := probe.Now()
	e.wantUndisturbed(t, owner, back, pause(time.Second))
	e.wantOwnerAlone(t, owner)
	e.wantNoOverlap(t)
	if n := len(e.tenants(thawed, probe.Now())); n > 2 {
		t.Errorf("the VIP changed its director %d times after the thaw", n-1)
	}
}

// The second is refused with a reason, and the first does not feel it.
func (e *eyes) startedTwice(t *testing.T) {
	owner, from := e.AwaitOwner(), probe.Now()
	second := owner.StartDirector()
	select {
	case <-second.Done():
	case <-time.After(15 * time.Second):
		second.Kill()
		t.Error("it runs on")
	}
	if err := second.Wait(); err == nil || !strings.Contains(second.Output(), "another lbcluster daemon runs on this machine") {
		t.Errorf("the second daemon ended with %v and said:\n%s", err, second.Output())
	}
	t.Logf("it said: %s", lastLines(second.Output(), 2))
	e.wantUndisturbed(t, owner, from, pause(2*time.Second))
	e.wantOwnerAlone(t, owner)
	if out, status := e.Command(owner, "status"); status != 0 {
		t.Errorf("the first daemon's socket is gone: %s", out)
	}
}

// As an upgrade by package does it: stop, what the unit runs afterwards, start.
func (e *eyes) rollingRestart(t *testing.T) {
	from := probe.Now()
	for _, h := range e.Dirs {
		if err := e.Daemons[h].Stop(); err != nil {
			t.Error(err)
		}
		delete(e.Daemons, h)
		e.Start(h)
		e.AwaitVoter(h)
		e.AwaitCalm()
	}
	owner := e.AwaitOwner()
	to := probe.Now()
	sum, late := probe.Summarise(e.http.Records(), from, to), e.worst(from, to)
	t.Logf("%d requests answered, %d not, longest without an answer %v; the VIP's directors in turn: %v; the machine was late by %v",
		sum.OK, sum.Failed, sum.Outage.Length().Round(time.Millisecond), e.tenants(from, to), late)
	// Each is handed over while both sides are ready.
	if sum.Failed > 25 && late <= stood {
		t.Errorf("%d requests, one each 20 ms, failed while the daemons were restarted in turn: %v", sum.Failed, sum.ByResult)
	}
	e.wantUndisturbed(t, owner, to, pause(time.Second))
	e.wantOwnerAlone(t, owner)
}

// A cold start finds what was acknowledged, and one owner.
func (e *eyes) allAreKilled(t *testing.T) {
	e.Dirs[0].MustRun("lbcluster", "server", "weight", "172.25.88.3:80", "77")
	for _, h := range e.Dirs {
		if err := e.Daemons[h].SignalAll(unix.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	for _, h := range e.Dirs {
		_ = e.Daemons[h].Wait()
		delete(e.Daemons, h)
	}
	time.Sleep(1500 * time.Millisecond) // longer than a lease
	dark := probe.Now()
	if m := e.macs(dark, pause(2*time.Second)); len(m) > 0 {
		t.Errorf("all daemons are dead, and %v answered for the VIP or announced it", m)
	}
	from := probe.Now()
	for _, h := range e.Dirs {
		e.Start(h)
	}
	owner := e.AwaitOwner()
	e.AwaitTables(func(rules string) bool { return strings.Contains(rules, "-r 172.25.88.3:80 -g -w 77\n") })
	e.AwaitCalm()
	if n := len(e.tenants(from, probe.Now())); n > 1 {
		t.Errorf("the VIP had %d directors in turn after the cold start", n)
	}
	back := probe.Now()
	e.wantUndisturbed(t, owner, back, pause(time.Second))
	e.wantOwnerAlone(t, owner)
}

// Nothing that matters reads the wall clock; the judges do not either.
func (e *eyes) clockJumps(t *testing.T) {
	e.AwaitCalm()
	owner := e.AwaitOwner()
	for _, by := range []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour} {
		from := probe.Now()
		if err := stepClock(by); err != nil {
			t.Fatal(err)
		}
		e.wantUndisturbed(t, owner, from, pause(4*time.Second))
		e.wantOwnerAlone(t, owner)
		if out, status := e.Command(owner, "server", "weight", "172.25.88.3:80", "78"); status != 0 {
			t.Errorf("a write after the clock went by %v: exit status %d: %s", by, status, out)
		}
	}
	e.AwaitCalm()
}

func stepClock(by time.Duration) error {
	ts := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &ts)
}
