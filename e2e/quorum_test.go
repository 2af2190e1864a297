package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// Planned moves under load, the causes that why names, and what is left to do
// when the majority is lost.
func TestMovesCausesAndForce(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	// 200 new connections a second.
	e := &eyes{s, s.ProbeHTTPFor(s.Client, site.Target, 5*time.Millisecond, patience), s.ProbeARP(s.Watcher, site.VIP, 5*time.Millisecond)}
	t.Run("moved under load", func(t *testing.T) { e.movedUnderLoad(t) })
	t.Run("why: a move, a freeze, a cut", func(t *testing.T) { e.causes(t) })
	t.Run("two of three lose power", func(t *testing.T) { e.forced(t) })
	e.wantNoOverlap(t)
}

// calm is how late a prober may be in a trial that counts: while the machine
// stands still, requests end late or never, whatever the product does.
const calm = 50 * time.Millisecond

// movedUnderLoad moves the VIP again and again; in trials without stalls no
// connection may fail.
func (e *eyes) movedUnderLoad(t *testing.T) {
	e.AwaitCalm()
	counted := 0
	for trial := range 5 {
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
// when the VIP moved: the new owner's IPVS does not know them.
func (e *eyes) underWay(next *lab.Host, from, to probe.Time) (n int) {
	moved := e.took(next, from)
	for _, r := range e.http.Records() {
		if r.Result == probe.Reset && r.End >= from && r.End <= to && r.Start <= moved && r.End >= moved.Add(-calm) {
			n++
		}
	}
	return n
}

// wantWhy asks why, until all members have told, and fails the test unless the
// sentence has one of the words.
func (e *eyes) wantWhy(t *testing.T, asked, from, to *lab.Host, words ...string) {
	t.Helper()
	var sentence string
	for range 40 {
		out, status := e.Command(asked, "why", "VI_1")
		if sentence, _, _ = strings.Cut(out, "\n"); status == 0 && strings.Contains(sentence, "VI_1 moved from "+from.Name+" to "+to.Name) {
			for _, w := range words {
				if strings.Contains(sentence, w) {
					t.Log(sentence)
					return
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("why says %q, want a move from %s to %s because of %q", sentence, from.Name, to.Name, words)
}

func (e *eyes) causes(t *testing.T) {
	e.AwaitCalm()
	first := e.AwaitOwner()
	second := e.Others(first)[0]
	e.ordered(t, "router", "move", "VI_1", second.Name)
	e.wantWhy(t, first, first, second, "an operator moved it")

	if err := e.Daemons[second].Freeze(); err != nil {
		t.Fatal(err)
	}
	third := e.AwaitSuccessor(second)
	e.wantWhy(t, third, second, third, "does not answer", "frozen")
	if err := e.Daemons[second].Thaw(); err != nil {
		t.Fatal(err)
	}
	e.wantWhy(t, third, second, third, "stood still for")
	e.AwaitCalm()

	cut := e.Partition([]*lab.Host{third}, e.Others(third), "")
	fourth := e.AwaitSuccessor(third)
	pause(time.Second)
	cut.Heal()
	e.AwaitCalm()
	e.wantWhy(t, fourth, third, fourth, "cut off")
	e.wantOwnerAlone(t, fourth)
}

// forced: the one that is left owns the VIP on a person's word, until somebody
// whom he called dead is heard.
func (e *eyes) forced(t *testing.T) {
	last := e.AwaitOwner()
	dead := e.Others(last)
	force := func(named ...*lab.Host) (string, int) {
		var names []string
		for _, h := range named {
			names = append(names, h.Name)
		}
		return e.Command(last, "force-own", "VI_1", "--powered-off", strings.Join(names, ","), "--yes")
	}
	if out, status := force(dead...); status == 0 {
		t.Errorf("forced though all are well: %s", out)
	}
	e.Daemons[dead[0]].PowerOff()
	if out, status := e.Command(dead[1], "force-own", "VI_1", "--powered-off", dead[0].Name, "--yes"); status == 0 || !strings.Contains(out, "there is a majority") {
		t.Errorf("forced beside a majority: exit status %d: %s", status, out)
	}
	e.Daemons[dead[1]].PowerOff()
	delete(e.Daemons, dead[0])
	delete(e.Daemons, dead[1])
	e.await("nobody that has power has the address", 10*time.Second, func() bool { return !last.HasAddress(site.VIP) })
	e.Eventually(15*time.Second, "status says first that there is no majority", func() error {
		out, _ := e.Command(last, "status")
		if !strings.HasPrefix(out, "The cluster has NO MAJORITY") {
			return errors.New(out)
		}
		return nil
	})
	if out, status := force(dead[0]); status == 0 || !strings.Contains(out, dead[1].Name+" does not answer either and is not named") && !strings.Contains(out, "is not powered off") {
		t.Errorf("forced with one dead director named of two: exit status %d: %s", status, out)
	}
	// What was heard lately speaks against it, for half a minute.
	e.Eventually(60*time.Second, "the last director owns the VIP by force", func() error {
		if out, status := force(dead...); status != 0 {
			return fmt.Errorf("exit status %d: %s", status, out)
		}
		return nil
	})
	if now := e.AwaitOwner(); now != last {
		t.Errorf("%s owns it", now.Name)
	}
	served := pause(time.Second)
	to := pause(2 * time.Second)
	if sum := probe.Summarise(e.http.Records(), served, to); sum.OK == 0 || sum.Outage.Open {
		t.Errorf("forced, and the client is not served: %v", sum.ByResult)
	}
	e.wantOnly(t, last, served, to)
	out, _ := e.Command(last, "status")
	if !strings.HasPrefix(out, "BY FORCE: "+last.Name+" OWNS VI_1") || !strings.Contains(out, dead[0].Name) {
		t.Errorf("status does not say first that it is by force:\n%s", out)
	}
	if out, _ := e.Command(last, "why", "VI_1", "--since", "5m"); !strings.Contains(out, "a person said that") {
		t.Errorf("why does not tell of it:\n%s", out)
	}
	e.endsWhenHeard(t, last, dead[0])
}

// endsWhenHeard: one of those called dead is back, and makes a majority.
func (e *eyes) endsWhenHeard(t *testing.T, last, back *lab.Host) {
	back.Boot(site.VIP)
	e.Start(back)
	e.Eventually(15*time.Second, "it is by force no more", func() error {
		if out, _ := e.Command(last, "status"); strings.Contains(out, "BY FORCE") {
			return errors.New(out)
		}
		return nil
	})
	owner := e.AwaitOwner()
	from := probe.Now()
	to := pause(2 * time.Second)
	e.wantOnly(t, owner, from, to)
	if sum := probe.Summarise(e.http.Records(), from.Add(time.Second), to); sum.OK == 0 || sum.Outage.Open {
		t.Errorf("a majority is back, and the client is not served: %v", sum.ByResult)
	}
}
