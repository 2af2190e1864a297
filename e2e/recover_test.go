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
	to := pause(8 * time.Second)
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

	token := tokenText.FindString(last.MustRun("lbcluster", "token"))
	if out, status := e.Command(back, "eject", "--force", "--yes"); status != 0 {
		t.Fatalf("it does not forget its old cluster: exit status %d: %s", status, out)
	}
	back.MustRun("lbcluster", "join", last.Addr.String(), "--token", token)
	e.AwaitVoter(back)
	e.wantMembers(t, last, last.Name+" director", back.Name+" director")
	e.wantNoOverlap(t)
}
