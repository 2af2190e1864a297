package e2e

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// Two of three directors are gone for good: the third becomes a cluster of its own and
// serves. One of the old comes back as it was: nobody hears it, and it owns nothing.
func TestRecover(t *testing.T) {
	lab.Need(t)
	s := site.Up(t, 3)
	e := open(s)
	last := e.AwaitOwner()
	dead := e.Others(last)
	if out, status := e.Command(last, "recover", "--yes-they-are-off"); status == 0 || !strings.Contains(out, "another lbcluster daemon runs") {
		t.Errorf("recovered beside its daemon: exit status %d: %s", status, out)
	}
	for _, h := range dead {
		e.Daemons[h].PowerOff()
		delete(e.Daemons, h)
	}
	e.await("nobody that has power has the address", 10*time.Second, func() bool { return !last.HasAddress(site.VIP) })
	if err := e.Daemons[last].Stop(); err != nil {
		t.Fatal(err)
	}
	delete(e.Daemons, last)
	t.Run("served by hand", func(t *testing.T) { e.servedByHand(t, last) })
	if out, status := e.Command(last, "recover"); status == 0 || !strings.Contains(out, "--yes-they-are-off") {
		t.Errorf("recovered without a word: exit status %d: %s", status, out)
	}
	t.Logf("%s", last.MustRun("lbcluster", "recover", "--yes-they-are-off"))
	began := probe.Now()
	e.Start(last)
	if now := e.AwaitOwner(); now != last {
		t.Fatalf("%s owns the VIP, want %s", now.Name, last.Name)
	}
	t.Logf("served again %v after its start", time.Duration(e.took(last, began)-began).Round(time.Millisecond))
	if out, status := e.Command(last, "server", "weight", "172.25.88.2:80", "7"); status != 0 {
		t.Errorf("it takes no write: exit status %d: %s", status, out)
	}
	e.wantMembers(t, last, last.Name+" director")

	from := probe.Now()
	back := dead[0]
	back.Boot(site.VIP)
	e.Start(back)
	to := pause(5 * time.Second)
	e.wantOnly(t, last, from, to)
	if back.HasAddress(site.VIP) {
		t.Errorf("%s is of the old cluster and has the VIP", back.Name)
	}
	if sum := probe.Summarise(e.http.Records(), from, to); sum.OK == 0 || dark(sum.Outage) {
		t.Errorf("the client is not served: %v", sum.ByResult)
	}
	if out, status := e.Command(back, "server", "weight", "172.25.88.2:80", "9"); status == 0 {
		t.Errorf("the old member changed something: %s", out)
	}
	if out, _ := e.Command(last, "server", "list"); !strings.Contains(out, "7") {
		t.Errorf("what was written is lost: %s", out)
	}

	// The other one is replaced: another machine, with an empty disk.
	token := tokenText.FindString(last.MustRun("lbcluster", "token"))
	fresh := dead[1]
	fresh.Boot(site.VIP)
	fresh.MustRun("sh", "-c", "rm -rf "+lab.DataDir+"/*")
	e.Start(fresh)
	fresh.MustRun("lbcluster", "join", last.Addr.String(), "--token", token)
	e.AwaitVoter(fresh)
	e.wantMembers(t, last, last.Name+" director", fresh.Name+" director")
	e.wantNoOverlap(t)
}

// servedByHand: without any lbcluster, the break-glass script alone serves, and lets go.
func (e *eyes) servedByHand(t *testing.T, h *lab.Host) {
	const script = lab.DataDir + "/breakglass/serve.sh"
	from := probe.Now()
	t.Logf("%s", h.MustRun("sh", script, "up"))
	served := pause(time.Second)
	to := pause(time.Second)
	if sum := probe.Summarise(e.http.Records(), served, to); sum.OK == 0 || dark(sum.Outage) {
		t.Errorf("the client is not served by hand: %v", sum.ByResult)
	}
	e.wantOnly(t, h, from, to)
	h.MustRun("sh", script, "down")
	if h.HasAddress(site.VIP) {
		t.Error("the VIP is still there")
	}
	rules := e.Rules(h)
	h.MustRun("ipvsadm", "-C")
	h.MustRun("sh", script, "tables")
	if again := e.Rules(h); again != rules || rules == "" {
		t.Errorf("the script's services:\n%s\nlbcluster's:\n%s", again, rules)
	}
}
