package e2e

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// An owner that is cut off from the real servers alone hands the VIP to a director that
// sees them; the servers stay in all tables. Servers that die move nothing.
func TestBlindOwnerHandsOver(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	s.Form()
	e := open(s)
	e.applied(t, poolRouter+strings.ReplaceAll(poolConf, "%POOL%", ""))
	old := e.AwaitOwner()
	e.wantServers(t, "both are well", "172.25.88.2:80", "172.25.88.3:80")

	// Both die at once, and rise again: no view is worse than another.
	from := probe.Now()
	e.stopped(t, s.Web1)
	e.stopped(t, s.Web2)
	e.wantServers(t, "both are dead")
	s.Web1.StartNginx()
	s.Web2.StartNginx()
	e.wantServers(t, "both are well again", "172.25.88.2:80", "172.25.88.3:80")
	e.wantStayed(t, old, from, probe.Now())

	pause(2 * time.Second) // delay_loop is 1: now each of them knows
	cut := e.Partition([]*lab.Host{old}, []*lab.Host{s.Web1, s.Web2}, "")
	next := e.AwaitSuccessor(old)
	e.wantServers(t, "one director is blind", "172.25.88.2:80", "172.25.88.3:80")
	e.wantPage(t, "web")
	e.wantWhy(t, next, old, next, "has a worse view of the real servers than "+next.Name)
	f := e.AwaitFinding(next, "it finds 2 of 2 real servers down that are agreed up", "look at the way from "+old.Name)
	t.Log(f.Text)
	settled := probe.Now()
	cut.Heal()
	e.wantStayed(t, next, settled, pause(8*time.Second)) // fail-back is manual
	e.wantOwnerAlone(t, next)
	e.wantServers(t, "all see again", "172.25.88.2:80", "172.25.88.3:80")
	e.wantNoOverlap(t)
}
