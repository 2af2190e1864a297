package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// A running pair moves to a cluster on new machines, by the guide, and its client
// loses nothing but connections that are open when the VIP moves.
func TestMigrateToNewMachines(t *testing.T) {
	lab.Need(t)
	m := newMigration(t, "To new machines", true)
	for i := range 3 {
		m.Dirs = append(m.Dirs, m.AddHost(fmt.Sprintf("dir%d", i+1), fmt.Sprintf("172.25.88.%d/24", 21+i)))
	}
	m.step(t, "Found the cluster", m.lb1)
	m.AwaitVoters(3)
	m.step(t, "Look at both files", m.lb1)
	m.step(t, "Join below the pair", m.lb1)
	m.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == 2 })
	m.AwaitFinding(m.Dirs[0], "the cluster stands by for VI_1", "")
	m.step(t, "Check", m.lb1)
	owner := m.step(t, "Raise it above the pair", m.Dirs...)
	m.watched(t, "keepalived stays BACKUP", func() { time.Sleep(5 * time.Second) })
	if h := m.awaitAt(t, "afterwards", m.Dirs...); h != owner {
		t.Errorf("the VIP went from %s to %s by itself", owner.Name, h.Name)
	}
	m.step(t, "Take keepalived out", m.Dirs...)
	m.AwaitOwner()
	for _, h := range []*lab.Host{m.lb1, m.lb2} {
		if h.HasAddress(site.VIP) || len(h.Pids()) > 0 {
			t.Errorf("%s still has the VIP or runs something: %v", h.Name, h.Pids())
		}
	}
	m.finish(t)
}
