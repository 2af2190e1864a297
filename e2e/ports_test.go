package e2e

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// What "lbcluster ports --nft" says is enough: with everything else dropped on every
// director the cluster forms, serves, and replaces a dead owner as usual.
func TestPorts(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	load := func(h *lab.Host, file string) {
		h.WriteFile("/etc/base.nft", `flush ruleset
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		iif lo accept
		ct state established,related accept
		counter comment "dropped below"
	}
}
`)
		h.MustRun("nft", "-f", "/etc/base.nft")
		h.MustRun("sh", "-ec", "lbcluster ports --nft >"+file+" && nft -f "+file)
	}
	for _, d := range s.Dirs {
		load(d, "/etc/before.nft") // nobody knows a table yet
	}
	s.Form()
	s.Dirs[0].MustRun("lbcluster", "apply", "-f", site.Example, "--yes")
	s.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == 2 })
	for _, d := range s.Dirs {
		load(d, "/etc/after.nft")
	}
	t.Logf("%s", s.Dirs[1].MustRun("cat", "/etc/after.nft"))
	s.AwaitOwner()
	e := open(s)
	from := probe.Now()
	owner := e.AwaitOwner()
	e.wantUndisturbed(t, owner, from, pause(3*time.Second))
	from = probe.Now()
	if err := e.Daemons[owner].KillWithStopPost(); err != nil {
		t.Error(err)
	}
	delete(e.Daemons, owner)
	next := e.AwaitSuccessor(owner)
	e.wantHandover(t, next, from, pause(2*time.Second))
	e.wantNoOverlap(t)
}
