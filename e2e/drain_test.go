package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// A real server is drained: connections there go on, none is new, and people see how
// many are left and until when. At the deadline they end, on every director.
func TestServerIsDrained(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	e := open(s)
	h := holdOpen(t, s.Client, 40)
	pause(time.Second)
	const within = 20 * time.Second
	begun := time.Now()
	e.ordered(t, "server", "drain", "172.25.88.2:80", "--within", within.String())
	before := 0
	e.await("the connections that are left are shown", 15*time.Second, func() bool {
		before = e.connectionsLeft(t, "172.25.88.2:80")
		return before > 0
	})
	if before < 15 || before > 25 {
		t.Errorf("%d of 40 connections are on the drained server", before)
	}
	late := holdOpen(t, s.Client, 20)
	pause(6 * time.Second) // the kernels are listed every 5 s
	if now := e.connectionsLeft(t, "172.25.88.2:80"); now > before {
		t.Errorf("%d connections are on the drained server, and were %d before more came", now, before)
	}
	h.wantAll(t, "drained")
	e.await("it is disabled everywhere", within, func() bool {
		for _, d := range e.Dirs {
			if strings.Contains(e.Rules(d), "172.25.88.2:80") {
				return false
			}
		}
		return true
	})
	if took := time.Since(begun); took < within-time.Second {
		t.Errorf("it took %v, not %v", took, within)
	}
	out, _ := e.Command(e.Dirs[2], "server", "list")
	if !regexp.MustCompile(`172\.25\.88\.2:80 .*disabled.* since 20`).MatchString(out) {
		t.Errorf("afterwards:\n%s", out)
	}
	e.await("its connections have ended", 15*time.Second, func() bool { left, _ := h.Left(group); return left == 40-before })
	late.wantAll(t, "those that came while it was drained")
	e.ordered(t, "server", "enable", "172.25.88.2:80")
	e.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == 2 })
	e.wantNoOverlap(t)
}

// connectionsLeft is what server list says of a drained server; -1: nothing.
func (e *eyes) connectionsLeft(t *testing.T, server string) int {
	t.Helper()
	out, status := e.Command(e.Dirs[0], "server", "list")
	if status != 0 {
		t.Fatalf("server list: status %d: %s", status, out)
	}
	for l := range strings.Lines(out) {
		m := regexp.MustCompile(` drained .*; (no|[0-9]+) connections? left`).FindStringSubmatch(l)
		if !strings.Contains(l, fmt.Sprintf(" %s ", server)) || m == nil {
			continue
		}
		n, _ := strconv.Atoi(m[1]) // "no" is 0
		return n
	}
	return -1
}
