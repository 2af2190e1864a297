package e2e

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
)

// Two machines and a witness become a cluster in place, by the guide: at any
// moment keepalived or the cluster serves.
func TestMigrateInPlaceWithWitness(t *testing.T) {
	lab.Need(t)
	m := newMigration(t, "In place, with a witness", true)
	m.AddHost("witness", "172.25.88.13/24")
	m.Dirs = []*lab.Host{m.lb2}
	m.step(t, "lb2 leaves keepalived", m.lb1)
	m.AwaitFinding(m.lb2, "the cluster stands by for VI_1", "")
	m.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == 2 })
	m.step(t, "The witness joins", m.lb1)
	m.step(t, "The cluster takes the VIP", m.lb2)
	m.watched(t, "keepalived stays BACKUP", func() { time.Sleep(5 * time.Second) })
	m.survives(t, m.lb2, m.lb1)
	m.step(t, "lb1 leaves keepalived", m.lb2)
	m.Dirs = []*lab.Host{m.lb1, m.lb2}
	m.AwaitVoters(3)
	m.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == 2 })
	m.watched(t, "a planned move to lb1", func() {
		m.await("lb1 has the VIP", 20*time.Second, func() bool {
			_, status := m.Command(m.lb2, "router", "move", "VI_1", "lb1")
			return status == 0 && m.AwaitOwner() == m.lb1
		})
	})
	m.finish(t)
}

// survives cuts off the one that serves: the other must take over, and leave it to
// the first again, which is better.
func (m *migration) survives(t *testing.T, serving, other *lab.Host) {
	t.Helper()
	from := probe.Now()
	serving.CutLink()
	m.awaitAt(t, serving.Name+" is cut off", other)
	m.served()
	t.Logf("%s was cut off, and %s serves; the client was without an answer for %v", serving.Name, other.Name,
		probe.Summarise(m.http.Records(), from, probe.Now()).Outage.Length().Round(10*time.Millisecond))
	serving.RestoreLink()
	m.awaitAt(t, serving.Name+" is back", serving)
	m.served()
	time.Sleep(settled)
}
