package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// syncedConf is the example with its connections synchronised, and, if scheduler is
// not empty, with that and its words in place of rr.
func syncedConf(t *testing.T, scheduler string) string {
	t.Helper()
	text, err := os.ReadFile(site.Example)
	if err != nil {
		t.Fatal(err)
	}
	out := strings.Replace(string(text), "router_id LVS_DEVEL", "router_id LVS_DEVEL\n   lvs_sync_daemon eth0 VI_1", 1)
	if scheduler != "" {
		out = strings.Replace(out, "lb_algo rr", "lb_algo "+scheduler, 1)
	}
	return out
}

// applied gives a configuration to the cluster and waits until all have it.
func (e *eyes) applied(t *testing.T, conf string) {
	t.Helper()
	e.Dirs[0].WriteFile("/etc/applied.conf", conf)
	if out, status := e.Command(e.Dirs[0], "apply", "-f", "/etc/applied.conf", "--yes"); status != 0 {
		t.Fatalf("apply: status %d: %s", status, out)
	}
	e.AwaitCalm()
}

// awaitKnown waits until every director knows the others' connections.
func (e *eyes) awaitKnown(t *testing.T) {
	t.Helper()
	e.await("all know the connections", 30*time.Second, func() bool {
		out, _ := e.Command(e.Dirs[0], "status")
		return strings.Count(out, "knows them all") == len(e.Dirs)
	})
}

// Connections go on whatever happens to their director.
func TestConnectionsSurvive(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	e := open(s)
	e.applied(t, syncedConf(t, ""))
	t.Run("both daemons run everywhere", func(t *testing.T) { e.daemonsRun(t) })
	e.awaitKnown(t)
	h := holdOpen(t, s.Client, 40)
	time.Sleep(6 * time.Second) // the kernel tells of a connection within 3 s
	h.wantAll(t, "before anything happens")
	t.Run("moved", func(t *testing.T) {
		old := e.AwaitOwner()
		e.ordered(t, "router", "move", "VI_1", e.Others(old)[0].Name)
		pause(3 * time.Second)
		h.wantAll(t, "moved")
	})
	t.Run("drained, around all three", func(t *testing.T) {
		for range 2 {
			old := e.AwaitOwner()
			e.ordered(t, "director", "drain", old.Name)
			e.AwaitSuccessor(old)
			pause(3 * time.Second)
			e.ordered(t, "director", "fit", old.Name)
			pause(time.Second)
		}
		h.wantAll(t, "drained")
	})
	t.Run("the owner's daemon is reloaded, killed and started again", func(t *testing.T) {
		owner := e.AwaitOwner()
		if err := e.Daemons[owner].Reload(); err != nil {
			t.Fatal(err)
		}
		pause(5 * time.Second)
		e.AwaitCalm()
		owner = e.AwaitOwner()
		e.Daemons[owner].Kill()
		e.Start(owner)
		e.AwaitCalm()
		pause(3 * time.Second)
		h.wantAll(t, "restarted")
	})
	t.Run("the owner is frozen", func(t *testing.T) {
		old := e.AwaitOwner()
		if err := e.Daemons[old].Freeze(); err != nil {
			t.Fatal(err)
		}
		e.AwaitSuccessor(old)
		pause(3 * time.Second)
		if err := e.Daemons[old].Thaw(); err != nil {
			t.Fatal(err)
		}
		e.AwaitCalm()
		h.wantAll(t, "frozen")
	})
	t.Run("the owner's link is cut", func(t *testing.T) {
		old := e.AwaitOwner()
		old.CutLink()
		e.AwaitSuccessor(old)
		pause(3 * time.Second)
		old.RestoreLink()
		e.AwaitCalm()
		h.wantAll(t, "cut")
	})
	t.Run("who has just begun to hear of them is waited for", func(t *testing.T) { e.newcomerWaits(t, h) })
	t.Run("settings are put back", func(t *testing.T) { e.settingsAreUndone(t) })
	e.wantNoOverlap(t)
}

// daemonsRun asks ipvsadm.
func (e *eyes) daemonsRun(t *testing.T) {
	for _, h := range e.Dirs {
		out := h.MustRun("ipvsadm", "-l", "--daemon")
		if !strings.Contains(out, "master sync daemon (mcast=eth0, syncid=51") || !strings.Contains(out, "backup sync daemon (mcast=eth0, syncid=51") {
			t.Errorf("%s: %s", h.Name, out)
		}
		if got := vsSysctl(h, "sloppy_tcp") + vsSysctl(h, "conn_reuse_mode") + vsSysctl(h, "sync_refresh_period"); got != "1310" {
			t.Errorf("%s: sysctls %s", h.Name, got)
		}
	}
}

func vsSysctl(h *lab.Host, name string) string {
	return strings.TrimSpace(h.MustRun("cat", "/proc/sys/net/ipv4/vs/"+name))
}

// newcomerWaits has a director's daemons stopped by somebody: they are started again,
// and a move to it waits until it has heard of all connections.
func (e *eyes) newcomerWaits(t *testing.T, h held) {
	owner := e.AwaitOwner()
	next := e.Others(owner)[0]
	e.awaitKnown(t)
	next.MustRun("ipvsadm", "--stop-daemon", "backup")
	e.await(next.Name+" hears of connections again", 20*time.Second, func() bool {
		out, _ := e.Command(owner, "status")
		return strings.Contains(out, next.Name+" will know them all in")
	})
	out, status := e.Command(owner, "router", "move", "VI_1", next.Name, "--wait", "1s")
	t.Logf("%s", out)
	if status == 0 || !strings.Contains(out, "has not heard of all its connections yet") {
		t.Errorf("status %d: %s", status, out)
	}
	if e.AwaitSuccessor(owner) != next {
		t.Error("it went elsewhere")
	}
	pause(3 * time.Second)
	h.wantAll(t, "moved to a newcomer")
}

// settingsAreUndone takes synchronisation out of the table, and then a director out
// of the cluster.
func (e *eyes) settingsAreUndone(t *testing.T) {
	text, err := os.ReadFile(site.Example)
	if err != nil {
		t.Fatal(err)
	}
	e.applied(t, string(text))
	for _, h := range e.Dirs {
		if out := h.MustRun("ipvsadm", "-l", "--daemon"); strings.Contains(out, "daemon (") {
			t.Errorf("%s still runs %s", h.Name, out)
		}
		if got := vsSysctl(h, "sync_threshold"); got != "3\t50" {
			t.Errorf("%s: sync_threshold %q", h.Name, got)
		}
	}
	gone := e.Others(e.AwaitOwner())[0]
	if out, status := e.Command(gone, "leave"); status != 0 {
		t.Fatalf("leave: status %d: %s", status, out)
	}
	if got := vsSysctl(gone, "sloppy_tcp") + vsSysctl(gone, "conn_reuse_mode") + vsSysctl(gone, "expire_nodest_conn"); got != "010" {
		t.Errorf("%s left with the sysctls %s", gone.Name, got)
	}
}

// What is too young to be told of goes on where the scheduler finds the same
// server: the combination that the documentation recommends.
func TestYoungConnectionsSurvive(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	e := open(s)
	e.applied(t, syncedConf(t, "mh\n    mh-port"))
	e.awaitKnown(t)
	for _, age := range []time.Duration{300 * time.Millisecond, time.Second, 4 * time.Second} {
		old := e.AwaitOwner()
		h := holdOpen(t, s.Client, 30)
		time.Sleep(age)
		e.ordered(t, "router", "move", "VI_1", e.Others(old)[0].Name)
		pause(3 * time.Second)
		h.wantAll(t, "moved when they were "+age.String()+" old")
		h.Close()
	}
	e.wantNoOverlap(t)
}

// A cluster that stands by a keepalived with its own sync daemon takes over with the
// connections, and keepalived takes them back.
func TestConnectionsGoToAndFromKeepalived(t *testing.T) {
	lab.Need(t)
	s := site.New(t, 3)
	p := &peering{Site: s, peer: s.AddHost("peer", "172.25.88.30/24")}
	s.Form()
	e := open(s)
	e.applied(t, strings.Replace(syncedConf(t, ""), "advert_int 1\n", "advert_int 1\n    @lbcluster lbcluster_peers 172.25.88.30\n", 1))
	e.awaitKnown(t)
	k := p.peer.StartKeepalived(strings.NewReplacer("state MASTER", "state BACKUP", "priority 100", "priority 150").Replace(syncedConf(t, "")))
	p.await(t, "keepalived alone has the VIP", 10*time.Second, atPeer)
	h := holdOpen(t, s.Client, 40)
	time.Sleep(8 * time.Second)
	h.wantAll(t, "through keepalived")
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
	p.await(t, "keepalived has stopped, and a director has the VIP", 10*time.Second, atUs)
	pause(3 * time.Second)
	h.wantAll(t, "taken over by the cluster")
	k = p.peer.StartKeepalived(strings.NewReplacer("state MASTER", "state BACKUP", "priority 100", "priority 150", "vrrp_instance VI_1 {", "vrrp_instance VI_1 {\n    preempt_delay 20").Replace(syncedConf(t, "")))
	p.await(t, "keepalived has it again, 20 s after its start", 40*time.Second, atPeer)
	pause(3 * time.Second)
	h.wantAll(t, "taken back by keepalived")
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
}
