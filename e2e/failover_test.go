package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// Whatever happens to the owner's link or daemon, one other director takes
// over, and the old one is silent from then on.
func TestOwnerFails(t *testing.T) {
	lab.Need(t)
	e := open(site.Up(t, 3))
	t.Run("its cable is pulled", func(t *testing.T) { e.cableIsPulled(t) })
	t.Run("its switch port dies silently", func(t *testing.T) { e.portDies(t) })
	t.Run("its daemon is frozen", func(t *testing.T) { e.daemonIsFrozen(t) })
	t.Run("its daemon is killed and not started again", func(t *testing.T) { e.daemonIsKilled(t) })
	t.Run("its daemon is stopped", func(t *testing.T) { e.daemonIsStopped(t) })
	e.wantNoOverlap(t)
}

func (e *eyes) cableIsPulled(t *testing.T) {
	old, from := e.AwaitOwner(), probe.Now()
	old.CutLink()
	next := e.AwaitSuccessor(old)
	e.wantHandover(t, next, from, pause(2*time.Second))
	back := probe.Now()
	old.RestoreLink()
	e.wantWhy(t, next, old, next, "lost its link")
	e.wantUndisturbed(t, next, back, pause(3*time.Second))
	e.AwaitCalm()
	e.wantOwnerAlone(t, next)
}

// wantOwnerAlone fails the test unless the owner is that one and no other
// director has the address on an interface. It takes a machine that stood still in
// the last ten seconds as the reason for another owner.
func (e *eyes) wantOwnerAlone(t *testing.T, owner *lab.Host) {
	t.Helper()
	if now := e.AwaitOwner(); now != owner {
		e.blame(t, probe.Now().Add(-10*time.Second), probe.Now())("%s owns the VIP, want %s", now.Name, owner.Name)
		owner = now
	}
	for _, h := range e.Others(owner) {
		if h.HasAddress(site.VIP) {
			t.Errorf("%s has the address on an interface, though %s owns it", h.Name, owner.Name)
		}
	}
}

// The carrier stays, so that only the lost datagrams tell the owner.
func (e *eyes) portDies(t *testing.T) {
	old, from := e.AwaitOwner(), probe.Now()
	old.Detach()
	next := e.AwaitSuccessor(old)
	e.await(old.Name+" takes the address off by itself", 3*time.Second, func() bool { return !old.HasAddress(site.VIP) })
	e.wantHandover(t, next, from, pause(2*time.Second))
	back := probe.Now()
	old.Attach()
	e.wantUndisturbed(t, next, back, pause(3*time.Second))
	e.AwaitCalm()
	e.wantOwnerAlone(t, next)
}

func (e *eyes) daemonIsFrozen(t *testing.T) {
	old, from := e.AwaitOwner(), probe.Now()
	if err := e.Daemons[old].Freeze(); err != nil {
		t.Fatal(err)
	}
	next := e.AwaitSuccessor(old)
	time.Sleep(from.Add(5 * time.Second).Sub(probe.Now()))
	if !old.HasAddress(site.VIP) {
		t.Errorf("%s lost the address while frozen: then this test shows nothing", old.Name)
	}
	e.wantWhy(t, next, old, next, "does not answer now either")
	if err := e.Daemons[old].Thaw(); err != nil {
		t.Fatal(err)
	}
	e.await(old.Name+", thawed, takes the address off by itself", 5*time.Second, func() bool { return !old.HasAddress(site.VIP) })
	e.wantHandover(t, next, from, pause(2*time.Second))
	e.AwaitCalm()
	e.wantWhy(t, next, old, next, "stood still for")
	e.wantOwnerAlone(t, next)
}

// Nobody is left to take the address off: the kernel's gate alone keeps the
// dead owner silent, and its IPVS table stays as it was.
func (e *eyes) daemonIsKilled(t *testing.T) {
	old := e.AwaitOwner()
	time.Sleep(time.Second) // some connections through this director
	rules := e.Rules(old)
	from := probe.Now()
	e.Daemons[old].Kill()
	delete(e.Daemons, old)
	next := e.AwaitSuccessor(old)
	e.wantHandover(t, next, from, pause(3*time.Second))
	if !old.HasAddress(site.VIP) {
		t.Errorf("the address is off %s: then this test shows nothing of the gate", old.Name)
	}
	if now := e.Rules(old); now != rules {
		t.Errorf("the dead daemon's IPVS table changed from\n%sto\n%s", rules, now)
	}
	e.startsAgain(t, old, next)
	e.wantWhy(t, next, old, next, "was killed or failed")
}

// startsAgain starts a daemon that was killed: it takes the stale address off,
// leaves owner and IPVS alone.
func (e *eyes) startsAgain(t *testing.T, h, owner *lab.Host) {
	t.Helper()
	before := stats(e, h)
	from := probe.Now()
	e.Start(h)
	e.await(h.Name+", started again, takes the stale address off", 10*time.Second, func() bool { return !h.HasAddress(site.VIP) })
	e.AwaitCalm()
	e.wantUndisturbed(t, owner, from, pause(3*time.Second))
	e.wantOwnerAlone(t, owner)
	if now := stats(e, h); now != before {
		t.Errorf("the restart of %s changed the counters in IPVS, so something was made anew: before\n%safter\n%s", h.Name, before, now)
	}
}

// stats are a director's IPVS counters: an entry that is made anew loses them.
func stats(e *eyes, h *lab.Host) string {
	out, err := h.Run(context.Background(), "ipvsadm", "-Ln", "--stats", "--exact")
	if err != nil {
		e.T.Errorf("%v", err)
	}
	return out
}

func (e *eyes) daemonIsStopped(t *testing.T) {
	old := e.AwaitOwner()
	rules := e.Rules(old)
	from := probe.Now()
	if err := e.Daemons[old].Stop(); err != nil {
		t.Error(err)
	}
	delete(e.Daemons, old)
	if old.HasAddress(site.VIP) {
		t.Errorf("%s stopped and left the address on its interface", old.Name)
	}
	next := e.AwaitSuccessor(old)
	e.wantHandover(t, next, from, pause(2*time.Second))
	if now := e.Rules(old); now != rules {
		t.Errorf("stopping changed the IPVS table from\n%sto\n%s", rules, now)
	}
	e.startsAgain(t, old, next)
}

// What happens to the others' daemons is not felt; a partition between the
// directors moves the VIP to the side with the majority, and without one it is
// dark. The client and the watcher reach every director all the time.
func TestOthersFailAndNetworkParts(t *testing.T) {
	lab.Need(t)
	e := open(site.Up(t, 3))
	t.Run("the lease's datagrams are lost", func(t *testing.T) { e.datagramsAreLost(t) })
	t.Run("the others are frozen, one after the other", func(t *testing.T) { e.othersFreeze(t) })
	t.Run("the owner is cut from the other directors", func(t *testing.T) { e.ownerIsCutOff(t) })
	t.Run("all directors are cut from each other", func(t *testing.T) { e.allAreCutOff(t) })
	e.wantNoOverlap(t)
}

// membersPort matches all that goes to the members' port: leases, Raft and the rest.
const membersPort = "meta l4proto { tcp, udp } th dport 7500"

// A firewall that drops UDP between the directors is not felt: leases go over
// the members' TLS connections too. Status tells.
func (e *eyes) datagramsAreLost(t *testing.T) {
	owner, from := e.AwaitOwner(), probe.Now()
	cut := e.Partition(e.Dirs, e.Dirs, "udp dport 7500")
	to := pause(5 * time.Second)
	l, err := e.Local(owner)
	if err != nil || !strings.Contains(strings.Join(l.Warnings, "\n"), "is not heard over UDP") {
		t.Errorf("%s does not tell that UDP is lost: %q, %v", owner.Name, l.Warnings, err)
	}
	cut.Heal()
	e.wantUndisturbed(t, owner, from, to)
	e.wantOwnerAlone(t, owner)
}

// apart moves the VIP, or Raft's leader, until they are on two directors.
func (e *eyes) apart(t *testing.T) (owner, leader *lab.Host) {
	for range 8 {
		if owner, leader = e.AwaitOwner(), e.AwaitCalm(); owner != leader {
			return owner, leader
		}
		cut := e.Partition([]*lab.Host{owner}, e.Others(owner), membersPort)
		e.AwaitSuccessor(owner)
		e.await(owner.Name+" takes the address off by itself", 5*time.Second, func() bool { return !owner.HasAddress(site.VIP) })
		cut.Heal()
	}
	t.Fatalf("%s both owns and leads: then no freeze of the leader would be seen", owner.Name)
	return nil, nil
}

func (e *eyes) othersFreeze(t *testing.T) {
	owner, leader := e.apart(t)
	leads := func() string {
		l, err := e.Local(owner)
		if err != nil {
			t.Error(err)
		}
		return l.Raft.Leader
	}
	first := leads()
	for _, h := range e.Others(owner) {
		from := probe.Now()
		if err := e.Daemons[h].Freeze(); err != nil {
			t.Fatal(err)
		}
		to := pause(4 * time.Second)
		if h == leader && leads() == first {
			t.Errorf("%s leads though it is frozen: then this test shows nothing of an election", h.Name)
		}
		e.wantUndisturbed(t, owner, from, to)
		if err := e.Daemons[h].Thaw(); err != nil {
			t.Fatal(err)
		}
		e.AwaitCalm()
		e.wantUndisturbed(t, owner, from, pause(time.Second))
		e.wantOwnerAlone(t, owner)
	}
}

func (e *eyes) ownerIsCutOff(t *testing.T) {
	old, from := e.AwaitOwner(), probe.Now()
	cut := e.Partition([]*lab.Host{old}, e.Others(old), "")
	next := e.AwaitSuccessor(old)
	e.await(old.Name+" takes the address off by itself", 3*time.Second, func() bool { return !old.HasAddress(site.VIP) })
	e.wantHandover(t, next, from, pause(4*time.Second))
	back := probe.Now()
	cut.Heal()
	e.AwaitCalm()
	e.wantWhy(t, next, old, next, "cut off", "no majority of the voters renewed it")
	e.wantUndisturbed(t, next, back, pause(2*time.Second))
	e.wantOwnerAlone(t, next)
}

func (e *eyes) allAreCutOff(t *testing.T) {
	e.AwaitOwner()
	cut := e.Partition(e.Dirs, e.Dirs, "")
	e.await("nobody has the address", 5*time.Second, func() bool { return e.held() == 0 })
	dark := probe.Now()
	to := pause(3 * time.Second)
	if m := e.macs(dark, to); len(m) > 0 {
		t.Errorf("without a majority %v answered for the VIP or announced it", m)
	}
	if n := e.held(); n > 0 {
		t.Errorf("without a majority %d directors have the address", n)
	}
	cut.Heal()
	owner := e.AwaitOwner()
	back := probe.Now()
	e.AwaitCalm()
	to = pause(2 * time.Second)
	e.wantOnly(t, owner, back, to)
	if sum := probe.Summarise(e.http.Records(), back, to); sum.OK == 0 {
		t.Errorf("healed, and the client still gets no answer: %v", sum.ByResult)
	}
}

// held counts the directors with the address on an interface.
func (e *eyes) held() int {
	n := 0
	for _, h := range e.Dirs {
		if h.HasAddress(site.VIP) {
			n++
		}
	}
	return n
}
