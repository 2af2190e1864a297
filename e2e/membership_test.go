package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// Two directors and a witness: any one of the three may fail.
func TestTwoDirectorsAndWitness(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 2)
	witness := s.AddHost("witness", "172.25.88.13/24")
	for _, h := range s.Dirs {
		s.Start(h)
	}
	s.Started(witness, witness.StartDirectorAs(nobody))
	token := tokenText.FindString(s.Dirs[0].MustRun("lbcluster", "init", "--guard", "0s"))
	s.Dirs[1].MustRun("lbcluster", "join", s.Dirs[0].Addr.String(), "--token", token)
	t.Run("a witness too far away is refused", func(t *testing.T) { witnessIsTooFar(t, s, witness, token) })
	witness.MustRun("lbcluster", "join", s.Dirs[0].Addr.String(), "--token",
		tokenText.FindString(s.Dirs[0].MustRun("lbcluster", "token")), "--witness", "--force")
	s.AwaitVoters(3)
	s.Serve()
	e := open(s)
	t.Run("the witness only votes", func(t *testing.T) { e.witnessOnlyVotes(t, witness) })
	t.Run("and needs no rights", func(t *testing.T) { witnessNeedsNoRights(t, s, witness) })
	t.Run("writes on every member", func(t *testing.T) { e.writesEverywhere(t, witness) })
	t.Run("a director is lost", func(t *testing.T) { e.directorIsLost(t) })
	t.Run("the witness is lost", func(t *testing.T) { e.witnessIsLost(t, witness) })
	t.Run("the majority is lost", func(t *testing.T) { e.majorityIsLost(t, witness) })
	e.wantNoOverlap(t)
}

func (e *eyes) witnessOnlyVotes(t *testing.T, witness *lab.Host) {
	e.wantMembers(t, witness, "dir1 director", "dir2 director", "witness witness")
	if rules := e.Rules(witness); strings.Contains(rules, "-A") || witness.HasAddress(site.VIP) {
		t.Errorf("the witness forwards: %s", rules)
	}
	out, status := e.Command(witness, "status")
	if status != 0 || !strings.Contains(out, "survives 1 more failure") {
		t.Errorf("status on the witness: exit status %d:\n%s", status, out)
	}
}

// A follower hands a write to the leader and answers when it is committed.
func (e *eyes) writesEverywhere(t *testing.T, witness *lab.Host) {
	for i, h := range append([]*lab.Host{witness}, e.Dirs...) {
		weight := []string{"21", "22", "23"}[i]
		if out, status := e.Command(h, "server", "weight", "172.25.88.2:80", weight); status != 0 {
			t.Errorf("%s: exit status %d: %s", h.Name, status, out)
			continue
		}
		out, status := e.Command(h, "server", "list")
		if status != 0 || !strings.Contains(out, weight) {
			t.Errorf("%s does not read its own write of weight %s: %s", h.Name, weight, out)
		}
		e.AwaitTables(func(rules string) bool { return strings.Contains(rules, "-r 172.25.88.2:80 -g -w "+weight+"\n") })
	}
	e.Dirs[0].MustRun("lbcluster", "server", "weight", "172.25.88.2:80", "file")
}

func (e *eyes) directorIsLost(t *testing.T) {
	old, from := e.AwaitOwner(), probe.Now()
	e.Daemons[old].Kill()
	delete(e.Daemons, old)
	next := e.AwaitSuccessor(old)
	e.wantHandover(t, next, from, pause(2*time.Second))
	e.Eventually(15*time.Second, "a write with the witness's help", func() error {
		out, status := e.Command(next, "server", "weight", "172.25.88.2:80", "5")
		if status != 0 {
			return errors.New(out)
		}
		return nil
	})
	back := probe.Now()
	e.Start(old)
	e.await(old.Name+" takes the stale address off", 10*time.Second, func() bool { return !old.HasAddress(site.VIP) })
	e.AwaitTables(func(rules string) bool { return strings.Contains(rules, "-r 172.25.88.2:80 -g -w 5\n") })
	e.wantUndisturbed(t, next, back, pause(time.Second))
	e.AwaitVoter(old)
}

func (e *eyes) witnessIsLost(t *testing.T, witness *lab.Host) {
	owner, from := e.AwaitOwner(), probe.Now()
	e.Daemons[witness].Kill()
	delete(e.Daemons, witness)
	e.wantUndisturbed(t, owner, from, pause(4*time.Second))
	e.Eventually(15*time.Second, "a write without the witness", func() error {
		out, status := e.Command(owner, "server", "weight", "172.25.88.2:80", "file")
		if status != 0 {
			return errors.New(out)
		}
		return nil
	})
	e.wantUndisturbed(t, owner, from, probe.Now())
	e.AwaitFinding(owner, "witness does not answer", "")
}

// The witness is gone already; with one director more there is no majority.
func (e *eyes) majorityIsLost(t *testing.T, witness *lab.Host) {
	owner := e.AwaitOwner()
	other := e.Others(owner)[0]
	e.Daemons[other].Kill()
	delete(e.Daemons, other)
	e.await("nobody has the address", 5*time.Second, func() bool { return e.held() == 0 })
	dark := probe.Now()
	pair := owner.MustRun("cat", site.Example)
	owner.WriteFile("/etc/new.conf", strings.Replace(pair, "lb_algo rr", "lb_algo wlc", 1))
	began := time.Now()
	out, status := e.Command(owner, "apply", "-f", "/etc/new.conf", "--yes")
	if status != 5 || !strings.Contains(out, "no leader with a majority") || !strings.Contains(out, "hint: ") {
		t.Errorf("apply without a majority: exit status %d, want 5 and a clear error:\n%s", status, out)
	}
	t.Logf("after %v: %s", time.Since(began).Round(100*time.Millisecond), lastLines(out, 3))
	e.AwaitFinding(owner, "no VIP can be held and no change can be made", "")
	if m := e.macs(dark, probe.Now()); len(m) > 0 {
		t.Errorf("without a majority %v answered for the VIP or announced it", m)
	}
	if rules := e.Rules(owner); strings.Count(rules, "-a ") != 2 {
		t.Errorf("IPVS was not left as it was:\n%s", rules)
	}
	e.Start(witness)
	if now := e.AwaitOwner(); now != owner {
		t.Errorf("%s owns the VIP, want %s", now.Name, owner.Name)
	}
	back := probe.Now()
	to := pause(2 * time.Second)
	e.wantOnly(t, owner, back, to)
	if sum := probe.Summarise(e.http.Records(), back.Add(time.Second), to); sum.OK < 10 { // of 50; the last ones may be under way
		t.Errorf("a majority is back, and the client is not served: %v", sum.ByResult)
	}
}

// Members leave, die, and are not let in again.
func TestMembersComeAndGo(t *testing.T) {
	lab.Need(t)
	e := open(site.Up(t, 3))
	t.Run("the owner leaves", func(t *testing.T) { e.ownerLeaves(t) })
	t.Run("and joins again", func(t *testing.T) { e.joinsAgain(t) })
	t.Run("a dead member is removed and stays out", func(t *testing.T) { e.deadIsRemoved(t) })
	e.wantNoOverlap(t)
}

// names are "NAME director" of the hosts.
func names(hosts []*lab.Host) []string {
	var out []string
	for _, h := range hosts {
		out = append(out, h.Name+" director")
	}
	return out
}

func (e *eyes) ownerLeaves(t *testing.T) {
	old := e.AwaitOwner()
	rest := e.Others(old)
	from := probe.Now()
	old.MustRun("lbcluster", "leave", "--yes")
	next := e.AwaitSuccessor(old)
	if old.HasAddress(site.VIP) {
		t.Errorf("%s left and still has the address", old.Name)
	}
	if rules := e.Rules(old); strings.TrimSpace(rules) != "" {
		t.Errorf("%s left and still has in its kernel\n%s", old.Name, rules)
	}
	if out := old.MustRun("tc", "filter", "show", "dev", lab.Interface, "ingress"); strings.TrimSpace(out) != "" {
		t.Errorf("%s left and still has a gate: %s", old.Name, out)
	}
	e.wantHandover(t, next, from, pause(3*time.Second))
	e.wantMembers(t, next, names(rest)...)
	if out, status := e.Command(old, "member", "list"); status != 5 {
		t.Errorf("%s left: exit status %d, want 5: %s", old.Name, status, out)
	}
	if out, status := e.Command(next, "server", "weight", "172.25.88.2:80", "3"); status != 0 {
		t.Errorf("a write without %s: %s", old.Name, out)
	}
}

func (e *eyes) joinsAgain(t *testing.T) {
	owner, from := e.AwaitOwner(), probe.Now()
	var gone *lab.Host
	for _, h := range e.Dirs {
		if _, status := e.Command(h, "member", "list"); status == 5 {
			gone = h
		}
	}
	if gone == nil {
		t.Fatal("nobody is out of the cluster")
	}
	gone.MustRun("lbcluster", "join", owner.Addr.String(), "--token", e.token(owner))
	e.AwaitVoters(3)
	e.AwaitTables(func(rules string) bool { return strings.Contains(rules, "-r 172.25.88.2:80 -g -w 3\n") })
	e.AwaitCalm()
	e.wantUndisturbed(t, owner, from, probe.Now())
	e.wantOwnerAlone(t, owner)
}

func (e *eyes) deadIsRemoved(t *testing.T) {
	owner := e.AwaitOwner()
	dead, rest := e.Others(owner)[0], e.Others(e.Others(owner)[0])
	e.Daemons[dead].Kill()
	from := probe.Now()
	out, status := e.Command(owner, "member", "remove", dead.Name, "--yes")
	if status != 0 {
		t.Errorf("remove: exit status %d: %s", status, out)
	}
	e.wantMembers(t, rest[1], names(rest)...)
	d := e.Start(dead) // it does not know yet
	e.Eventually(15*time.Second, "the removed member says that it was removed", func() error {
		out, _ := e.Command(dead, "status")
		if !strings.Contains(out, "removed") {
			return errors.New(out + d.Output())
		}
		return nil
	})
	time.Sleep(2 * time.Second)
	e.wantMembers(t, rest[1], names(rest)...)
	for _, h := range rest {
		l, err := e.Local(h)
		if err != nil || len(l.Raft.Voters) == 3 {
			t.Errorf("%s counts %v, %v", h.Name, l.Raft.Voters, err)
		}
	}
	if out, status := e.Command(dead, "server", "weight", "172.25.88.2:80", "9"); status == 0 {
		t.Errorf("a removed member could write: %s", out)
	}
	e.wantUndisturbed(t, owner, from, probe.Now())
	e.wantOwnerAlone(t, owner)
}
