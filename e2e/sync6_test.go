package e2e

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// Connections to an IPv6 virtual server go on where the VIP goes: the daemons carry
// both families.
func TestConnectionsSurviveOverIPv6(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	dual(s, s.AddHost("peer", "172.25.88.30/24"))
	s.Form()
	e := open(s)
	e.applied(t, conf6)
	// The file of an operator who goes on in YAML.
	synced := "globals:\n  ipvs:\n    sync:\n      id: 77\n" + e.Dirs[0].MustRun("lbcluster", "export", "--format", "yaml")
	e.Dirs[0].WriteFile("/etc/synced.yaml", synced)
	e.ordered(t, "apply", "-f", "/etc/synced.yaml", "--yes")
	e.awaitKnown(t)
	e.await("both servers are in all tables", 20*time.Second, func() bool {
		for _, h := range e.Dirs {
			if strings.Count(e.Rules(h), "-a -t [2001:db8::100]:80 ") != 2 {
				return false
			}
		}
		return true
	})
	h := holdOpenAt(t, s.Client, "["+vip6+"]:80", 30)
	time.Sleep(6 * time.Second) // the kernel tells of a connection within 3 s
	old := e.AwaitOwner()
	e.ordered(t, "router", "move", "VG_1", e.Others(old)[0].Name)
	pause(3 * time.Second)
	h.wantAll(t, "moved")
	old = e.AwaitOwner()
	if err := e.Daemons[old].Freeze(); err != nil {
		t.Fatal(err)
	}
	e.AwaitSuccessor(old)
	pause(3 * time.Second)
	h.wantAll(t, "the owner is frozen")
	if err := e.Daemons[old].Thaw(); err != nil {
		t.Fatal(err)
	}
	e.AwaitCalm()
	e.wantNoOverlap(t)
}
