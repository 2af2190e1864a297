package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// goingBack is a cluster whose configuration is changed and changed back: with
// both real servers, and without the second.
type goingBack struct {
	*eyes
}

const (
	fewerConf   = "/etc/fewer.conf"
	bothServers = 2
	oneServer   = 1
)

// What was applied can be listed, compared and had again, and a change that nobody
// confirms is undone, also if the director that applied it is dead; the VIP is
// served all the time.
func TestHistoryAndGoingBack(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	g := &goingBack{&eyes{Site: s, http: s.ProbeHTTPFor(s.Client, site.Target, 50*time.Millisecond, patience), arp: s.ProbeARP(s.Watcher, site.VIP, 20*time.Millisecond)}}
	before, _, _ := strings.Cut(s.Dirs[0].MustRun("cat", site.Example), "    real_server 172.25.88.3 80")
	for _, h := range s.Dirs {
		h.WriteFile(fewerConf, before+"}\n")
	}
	t.Run("history, diff and rollback", g.isRolledBack)
	t.Run("a change is confirmed", g.isConfirmed)
	t.Run("a change is undone at once", g.isUndone)
	t.Run("nobody confirms, and who applied is dead", g.applierIsDead)
}

// revisions are the entries of history, the newest last.
func (g *goingBack) revisions(t *testing.T, h *lab.Host) (revs []string, pending bool) {
	t.Helper()
	var reply struct {
		Entries []struct{ Revision uint64 }
		Pending *struct{ Revision uint64 }
	}
	out := g.types(t, 0, h, "history", "-o", "json")
	if err := json.Unmarshal([]byte(out), &reply); err != nil {
		t.Fatalf("history: %v: %s", err, out)
	}
	for _, e := range reply.Entries {
		revs = append(revs, fmt.Sprint(e.Revision))
	}
	return revs, reply.Pending != nil
}

// types runs lbcluster, which must end with that status.
func (g *goingBack) types(t *testing.T, status int, h *lab.Host, args ...string) string {
	t.Helper()
	out, got := g.Command(h, args...)
	t.Logf("%s# lbcluster %s\n%s", h.Name, strings.Join(args, " "), out)
	if got != status {
		t.Fatalf("exit status %d, want %d", got, status)
	}
	return out
}

func (g *goingBack) awaitServers(n int) {
	g.T.Helper()
	g.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == n })
}

func wantWords(t *testing.T, out string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(out, w) {
			t.Errorf("it does not say %q:\n%s", w, out)
		}
	}
}

func (g *goingBack) isRolledBack(t *testing.T) {
	a, b := g.Dirs[0], g.Dirs[1]
	from := probe.Now()
	g.types(t, 0, a, "apply", "-f", fewerConf, "--prune", "--yes")
	g.awaitServers(oneServer)
	revs, _ := g.revisions(t, b)
	if len(revs) != 2 {
		t.Fatalf("two were applied, the history has %v", revs)
	}
	wantWords(t, g.types(t, 0, b, "history"), "REVISION", revs[0], revs[1]+"*")
	wantWords(t, g.types(t, 0, b, "diff"), "172.25.88.3", "from revision "+revs[0]+" to revision "+revs[1])
	wantWords(t, g.types(t, 0, b, "diff", revs[1], revs[0]), "from revision "+revs[1]+" to revision "+revs[0])
	wantWords(t, g.types(t, 0, b, "rollback", revs[0], "--dry-run"), "172.25.88.3")
	g.types(t, 0, b, "rollback", revs[0], "--yes")
	g.awaitServers(bothServers)
	wantWords(t, g.types(t, 0, a, "history"), "rollback to revision "+revs[0])
	wantWords(t, g.types(t, 0, a, "diff", revs[0]), "is the same at revisions")
	g.wantServed(t, from)
}

// wantServed fails the test if a request failed that no server was taken from: to
// one that leaves the table, packets of its connections are dropped.
func (g *goingBack) wantServed(t *testing.T, from probe.Time) {
	t.Helper()
	to := pause(settled)
	sum, late := probe.Summarise(g.http.Records(), from, to), g.worst(from, to)
	t.Logf("%d answers, %d failures (%v), the machine was late by %v", sum.OK, sum.Failed, sum.ByResult, late)
	if (sum.Failed > 1 || sum.OK == 0) && late <= stood {
		t.Errorf("%d answers and %d failures: %v", sum.OK, sum.Failed, sum.ByResult)
	}
}

func (g *goingBack) isConfirmed(t *testing.T) {
	a, b := g.Dirs[0], g.Dirs[1]
	wantWords(t, g.types(t, 0, a, "apply", "-f", fewerConf, "--prune", "--yes", "--confirm-within", "15s"), "undone in 15s unless you say: lbcluster confirm")
	g.awaitServers(oneServer)
	g.types(t, exitConflict, b, "apply", "-f", site.Example, "--yes") // it waits
	g.types(t, 0, b, "confirm")
	if _, pending := g.revisions(t, a); pending {
		t.Error("confirmed, and it still waits")
	}
	time.Sleep(16 * time.Second)
	g.awaitServers(oneServer)
	g.types(t, 0, a, "apply", "-f", site.Example, "--yes")
	g.awaitServers(bothServers)
}

// exitConflict is the status where nothing was done because something else comes
// first; see lbcluster help exit-codes.
const exitConflict = 3

func (g *goingBack) isUndone(t *testing.T) {
	g.types(t, 0, g.Dirs[2], "apply", "-f", fewerConf, "--prune", "--yes", "--confirm-within", "5m")
	g.awaitServers(oneServer)
	g.types(t, 0, g.Dirs[0], "rollback", "--yes")
	g.awaitServers(bothServers)
}

func (g *goingBack) applierIsDead(t *testing.T) {
	dead := g.AwaitCalm() // leads, too
	h := g.Others(dead)[0]
	from := probe.Now()
	g.types(t, 0, dead, "apply", "-f", fewerConf, "--prune", "--yes", "--confirm-within", "10s")
	g.awaitServers(oneServer)
	g.Daemons[dead].Kill()
	delete(g.Daemons, dead)
	applied := probe.Now()
	g.Eventually(40*time.Second, "what nobody confirmed is undone", func() error {
		for _, o := range g.Others(dead) {
			if rules := g.Rules(o); strings.Count(rules, "-a ") != bothServers {
				return fmt.Errorf("%s has\n%s", o.Name, rules)
			}
		}
		return nil
	})
	t.Logf("undone %v after it was applied and its member killed", probe.Now().Sub(applied).Round(100*time.Millisecond))
	if now := probe.Now().Sub(from); now < 9*time.Second {
		t.Errorf("undone after %v already, or never applied: this test shows nothing", now)
	}
	if _, pending := g.revisions(t, h); pending {
		t.Error("it is undone, and still waits")
	}
	g.Start(dead)
	g.awaitServers(bothServers)
}
