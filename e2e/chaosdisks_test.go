package e2e

import (
	"fmt"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
)

// A member's disk hangs: its daemon lives, the VIP does not notice,
// the others say so, and no acknowledged write is lost.
func TestDisksFail(t *testing.T) {
	lab.Need(t)
	c := newChaos(t)
	end := c.judged(t)
	t.Run("the owner's hangs", func(t *testing.T) { c.diskHangs(t, func() *lab.Host { return c.AwaitOwner() }) })
	t.Run("the leader's hangs", func(t *testing.T) { c.diskHangs(t, func() *lab.Host { return c.AwaitCalm() }) })
	end()
}

// writeFor writes by members other than h for so long.
func (c *chaos) writeFor(h *lab.Host, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		c.write(c.Others(h)[c.tried%2])
	}
}

// wantWritten fails the test if a write that was acknowledged is gone.
func (c *chaos) wantWritten(t *testing.T) {
	t.Helper()
	rules := c.AwaitTables(func(rules string) bool { return weightOfWeb2.MatchString(rules) })
	var w int
	if _, err := fmt.Sscan(weightOfWeb2.FindStringSubmatch(rules)[1], &w); err != nil || w < c.acked || w > c.tried {
		t.Errorf("the kernel has weight %d; %d was acknowledged, %d tried; %v", w, c.acked, c.tried, err)
	}
}

func (c *chaos) diskHangs(t *testing.T, who func() *lab.Host) {
	c.AwaitCalm()
	c.writeFor(c.Dirs[0], time.Second)
	owner, h := c.AwaitOwner(), who()
	from, count := probe.Now(), c.count
	c.disks[h].Stall()
	c.DropCaches()
	c.writeFor(h, 10*time.Second)
	to := probe.Now()
	c.AwaitFinding(c.Others(h)[0], "disk", "")
	c.disks[h].Resume()
	c.wantUndisturbed(t, owner, from, to)
	if c.count == count {
		t.Errorf("no write was acknowledged while the disk of %s hung, of %d", h.Name, c.tried)
	}
	c.AwaitCalm()
	c.wantWritten(t)
	c.wantUndisturbed(t, owner, to, pause(time.Second))
	c.wantOwnerAlone(t, owner)
	c.wantAllAlive(t)
}
