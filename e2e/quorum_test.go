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
	if sum := probe.Summarise(e.http.Records(), served, to); sum.OK == 0 || dark(sum.Outage) {
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
	if sum := probe.Summarise(e.http.Records(), from.Add(time.Second), to); sum.OK == 0 || dark(sum.Outage) {
		t.Errorf("a majority is back, and the client is not served: %v", sum.ByResult)
	}
}
