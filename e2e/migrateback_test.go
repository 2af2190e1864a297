package e2e

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// A cluster becomes a keepalived pair again, by the guide: the client loses
// nothing but connections that are open when the VIP moves, and what is left on
// the machines is keepalived's alone.
func TestMigrateBackToKeepalived(t *testing.T) {
	lab.Need(t)
	m := newMigration(t, "Back to keepalived", false)
	lb3 := m.AddHost("lb3", "172.25.88.13/24")
	m.Dirs = []*lab.Host{m.lb1, m.lb2, lb3}
	m.Found()
	m.Serve()
	m.watch()
	rules := m.Rules(m.lb2)

	m.step(t, "lb2 is given back", m.lb1, lb3)
	m.Dirs = []*lab.Host{m.lb1, lb3}
	m.wantKeepalivedAlone(t, m.lb2, rules, "Entering BACKUP STATE")
	m.watched(t, "keepalived stays BACKUP", func() { time.Sleep(5 * time.Second) })
	if strings.Contains(m.guide.keepalived[m.lb2].Output(), "Entering MASTER STATE") {
		t.Errorf("keepalived on lb2 became MASTER while the cluster served:\n%s", m.guide.keepalived[m.lb2].Output())
	}
	m.step(t, "keepalived takes the VIP", m.lb2)
	m.step(t, "The others are given back", m.lb2)
	m.wantKeepalivedAlone(t, m.lb1, rules, "Entering BACKUP STATE")
	m.watched(t, "lb2 stays MASTER", func() { time.Sleep(5 * time.Second) })
	m.awaitAt(t, "afterwards", m.lb2)
	m.wantNothingLeft(t, lb3)
	if out := strings.TrimSpace(m.Rules(lb3)); out != "" {
		t.Errorf("IPVS on lb3, which left the cluster:\n%s", out)
	}
	m.finish(t)
}

// wantKeepalivedAlone fails the test unless keepalived runs on the host, says so,
// and the host has nothing of lbcluster's but the same IPVS table.
func (m *migration) wantKeepalivedAlone(t *testing.T, h *lab.Host, rules, says string) {
	t.Helper()
	k := m.guide.keepalived[h]
	m.await(h.Name+"'s keepalived says "+says, 10*time.Second, func() bool { return strings.Contains(k.Output(), says) })
	m.await(h.Name+" has the same IPVS table", 10*time.Second, func() bool { return m.Rules(h) == rules })
	m.wantNothingLeft(t, h)
}

// wantNothingLeft fails the test if the host has a gate or a daemon of lbcluster's.
func (m *migration) wantNothingLeft(t *testing.T, h *lab.Host) {
	t.Helper()
	for _, dir := range []string{"ingress", "egress"} {
		if out := h.MustRun("tc", "filter", "show", "dev", lab.Interface, dir); strings.TrimSpace(out) != "" {
			t.Errorf("%s still has a gate: %s", h.Name, out)
		}
	}
	for _, pid := range h.Pids() {
		if c := lab.CommandOf(pid); strings.HasPrefix(c, "lbcluster") {
			t.Errorf("%s still runs %s", h.Name, c)
		}
	}
	if h.HasAddress(site.VIP) && m.guide.keepalived[h] == nil {
		t.Errorf("%s still has the VIP", h.Name)
	}
}
