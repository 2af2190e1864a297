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

// lbcluster starts beside a keepalived that runs, by the guide, and takes over its
// services; when keepalived is stopped it removes them, and nobody feels it.
func TestMigrateBesideRunningKeepalived(t *testing.T) {
	lab.Need(t)
	m := newMigration(t, "In place, with keepalived still running", true)
	m.Dirs = []*lab.Host{m.lb2}
	before := m.Rules(m.lb2)
	m.step(t, "lbcluster starts beside keepalived", m.lb1)
	m.AwaitFinding(m.lb2, "the cluster stands by for VI_1", "")
	if now := m.Rules(m.lb2); now != before {
		t.Errorf("adopting changed the IPVS table from\n%sto\n%s", before, now)
	}
	m.step(t, "keepalived stops", m.lb1)
	m.AwaitTables(func(rules string) bool { return rules == before })
	m.wantRepaired(t, m.lb2)

	m.survives(t, m.lb1, m.lb2)
	m.guide.wantAllDone(t)
}

// wantRepaired fails the test unless the host's data plane says that it put back
// what somebody removed: else the test shows nothing.
func (m *migration) wantRepaired(t *testing.T, h *lab.Host) {
	t.Helper()
	l, err := m.Local(h)
	if err != nil || l.Kernel.Repairs == 0 {
		t.Errorf("%s repaired nothing: %+v, %v", h.Name, l.Kernel, err)
	}
}

// A keepalived that only checks real servers runs on the director that serves. It
// is adopted, then stopped, and removes the services that the packets are under
// way to.
func TestStoppedKeepalivedOnServingDirector(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 1)
	e := &eyes{Site: s}
	dir := s.Dirs[0]
	_, services, _ := strings.Cut(dir.MustRun("cat", site.Example), "virtual_server")
	k := dir.StartKeepalived("virtual_server" + services)
	e.await("keepalived has made its services", 20*time.Second, func() bool { return strings.Count(s.Rules(dir), "-a ") == 2 })
	before := s.Rules(dir)
	s.Form()
	dir.MustRun("lbcluster", "apply", "-f", site.Example, "--adopt", "--yes")
	s.AwaitOwner()
	e.http, e.arp = s.ProbeHTTPFor(s.Client, site.Target, 10*time.Millisecond, patience), s.ProbeARP(s.Watcher, site.VIP, 50*time.Millisecond)
	for trial := range 3 {
		time.Sleep(time.Second)
		from := probe.Now()
		if err := k.Stop(); err != nil {
			t.Fatal(err)
		}
		e.await("the services are back", 5*time.Second, func() bool { return s.Rules(dir) == before })
		to := pause(settled)
		sum, late := probe.Summarise(e.http.Records(), from, to), e.worst(from, to)
		t.Logf("stopped (%d): %d answers, %d failures (%v), longest gap %v, slowest answer %v; the machine was late by %v",
			trial+1, sum.OK, sum.Failed, sum.ByResult, sum.Outage.Length().Round(time.Millisecond), sum.Worst.Round(time.Millisecond), late)
		if sum.OK < 50 || sum.Failed > 0 && late <= stood {
			t.Errorf("%d requests failed, %d were answered: %v", sum.Failed, sum.OK, sum.ByResult)
		}
		k = dir.StartKeepalived("virtual_server" + services)
		time.Sleep(2 * time.Second)
	}
	out, _ := dir.Run(context.Background(), "nft", "list", "ruleset")
	t.Logf("%s", out)
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
}
