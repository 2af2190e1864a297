package e2e

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// Raft's leader dies while a fourth director joins and writes go on: what was
// acknowledged is there afterwards, and the tables agree.
func TestLeaderDiesWhileAnotherJoins(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	c := &chaos{eyes: open(s)}
	fourth := s.AddHost("dir4", "172.25.88.14/24")
	three := s.Dirs
	s.Dirs = append(three[:3:3], fourth) // for the judge
	end := c.judged(t)
	s.Dirs = three
	s.Start(fourth)
	token := c.token(s.Dirs[0])
	leader, from := c.AwaitCalm(), probe.Now()
	owner := c.AwaitOwner()
	other := c.Others(leader)[0]
	joined := make(chan string, 1)
	go func() {
		out, status := c.Command(fourth, "join", other.Addr.String(), "--token", token)
		if status == 0 {
			out = ""
		}
		joined <- out
	}()
	c.write(other)
	time.Sleep(300 * time.Millisecond)
	c.Daemons[leader].Kill()
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		c.write(other)
	}
	if c.count == 0 {
		t.Errorf("of %d writes none was acknowledged", c.tried)
	}
	t.Logf("%s owned, %s led and died; %d of %d writes were acknowledged", owner.Name, leader.Name, c.count, c.tried)
	if out := <-joined; out != "" {
		t.Logf("join, while the leader died: %s", lastLines(out, 3))
		fourth.MustRun("lbcluster", "join", other.Addr.String(), "--token", token)
	}
	s.Dirs = append(s.Dirs, fourth)
	c.Start(leader)
	c.AwaitCalm()
	rules := c.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == 2 })
	t.Logf("the tables agree:\n%s", rules)
	c.wantWritten(t)
	now := c.AwaitOwner()
	if owner != leader {
		c.wantUndisturbed(t, owner, from, probe.Now())
	}
	c.wantOwnerAlone(t, now)
	end()
}
