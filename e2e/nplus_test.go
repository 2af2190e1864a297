package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

var nplusVIPs = []string{site.VIP, "172.25.88.101", "172.25.88.102"}

// nplus is a site with several VIPs, and somebody who watches each.
type nplus struct {
	*site.Site
	witness *lab.Host
	eyes    map[string]*eyes // by the router's name
}

// Three VIPs on four directors, one of them a spare. A witness makes five voters,
// so that two directors may fail at once.
func TestSpareDirector(t *testing.T) {
	lab.Need(t)
	n := newNPlus(t)
	t.Run("homes are spread, and one director has none", func(t *testing.T) { n.homesAreSpread(t) })
	t.Run("a home dies, then another, and both return", func(t *testing.T) { n.homesDie(t) })
	t.Run("each is moved home", func(t *testing.T) { n.allGoHome(t) })
	t.Run("a home that returns gets its router by itself", func(t *testing.T) { n.failsBack(t) })
	t.Run("a router is pinned and unpinned", func(t *testing.T) { n.isPinned(t) })
	t.Run("a director is drained and made fit", func(t *testing.T) { n.isDrained(t) })
	for _, e := range n.eyes {
		e.wantNoOverlap(t)
	}
}

// A client that waits longer than TCP does before it repeats a lost SYN has no
// request fail in a planned handover: between the old owner's last packet and
// the new one's first lie some milliseconds. After settled all of them ended.
const (
	patience = 2 * time.Second
	settled  = 2200 * time.Millisecond
)

func newNPlus(t *testing.T) *nplus {
	t.Helper()
	s := site.New(t, 4)
	n := &nplus{Site: s, witness: s.AddHost("witness", "172.25.88.19/24"), eyes: map[string]*eyes{}}
	for _, web := range []*lab.Host{s.Web1, s.Web2} {
		for _, vip := range nplusVIPs[1:] {
			web.AddAddress("lo", vip+"/32")
		}
	}
	s.FoundRobust(n.witness)
	n.witness.MustRun("lbcluster", "settings", "set", "spares=1")
	n.witness.WriteFile("/etc/three.conf", site.Several(n.witness.MustRun("cat", site.Example), nplusVIPs...))
	n.witness.MustRun("lbcluster", "apply", "-f", "/etc/three.conf", "--yes")
	n.AwaitTables(func(rules string) bool { return strings.Count(rules, "-a ") == 6 })
	n.await("each router has an owner", 30*time.Second, allOwned)
	for i, vip := range nplusVIPs {
		n.eyes[fmt.Sprintf("VI_%d", i+1)] = &eyes{
			Site: s, http: s.ProbeHTTPFor(s.Client, vip+":80", 50*time.Millisecond, patience),
			arp: s.ProbeARP(s.Watcher, vip, 50*time.Millisecond), limit: 6 * time.Second,
		}
	}
	return n
}

// await asks the witness, which is there all the time.
func (n *nplus) await(what string, patience time.Duration, wanted func(map[string]site.Router) bool) map[string]site.Router {
	n.T.Helper()
	return n.AwaitRouters(n.witness, patience, what, wanted)
}

func allOwned(rs map[string]site.Router) bool {
	owned := 0
	for _, r := range rs {
		if r.Owner != "" {
			owned++
		}
	}
	return owned == len(nplusVIPs)
}

func allHome(rs map[string]site.Router) bool {
	home := 0
	for _, r := range rs {
		if r.Owner != "" && r.Owner == r.Home && r.Away == "" {
			home++
		}
	}
	return home == len(nplusVIPs)
}

// spare is the director that is nobody's home.
func (n *nplus) spare(rs map[string]site.Router) *lab.Host {
	n.T.Helper()
	homes := map[string]bool{}
	for _, r := range rs {
		homes[r.Home] = true
	}
	spares := slices.DeleteFunc(slices.Clone(n.Dirs), func(h *lab.Host) bool { return homes[h.Name] })
	if len(homes) != 3 || len(spares) != 1 {
		n.T.Fatalf("three homes and a spare are wanted, not %+v", rs)
	}
	return spares[0]
}

// ordered runs a command on the witness that must succeed.
func (n *nplus) ordered(t *testing.T, args ...string) string {
	t.Helper()
	out, status := n.Command(n.witness, args...)
	if status != 0 {
		t.Errorf("lbcluster %s: exit status %d: %s", strings.Join(args, " "), status, out)
	}
	t.Logf("%s: %s", strings.Join(args, " "), out)
	return out
}

// shown fails the test unless router list and status both say so to a person.
func (n *nplus) shown(t *testing.T, words ...string) {
	t.Helper()
	list, status := n.ordered(t, "router", "list"), n.ordered(t, "status")
	for _, w := range words {
		if !strings.Contains(list, w) || !strings.Contains(status, w) {
			t.Errorf("router list and status do not both say %q", w)
		}
	}
}

// wantServed fails the test unless the clients of the routers had every request
// answered, but those that were under way together when the VIP moved: the new
// owner's IPVS does not know them. A machine that stood still is told of instead.
func (n *nplus) wantServed(t *testing.T, from, to probe.Time, routers ...string) {
	t.Helper()
	for _, name := range routers {
		e := n.eyes[name]
		sum := probe.Summarise(e.http.Records(), from, to)
		late, under := e.worst(from, to), probe.UnderWay(e.http.Records(), from, to)
		t.Logf("%s: %d answers, %d connections lost by the move, longest gap %v, the machine was late by %v", name, sum.OK, under, sum.Outage.Length().Round(time.Millisecond), late)
		switch {
		case sum.Failed == under && under <= 3 && sum.OK > 0:
		case late > stood:
			t.Logf("%s: %v", name, sum.ByResult)
		default:
			t.Errorf("%s: the client got %d answers and %d failures: %v", name, sum.OK, sum.Failed, sum.ByResult)
		}
	}
}

func (n *nplus) homesAreSpread(t *testing.T) {
	for name, r := range n.await("owners", 5*time.Second, allOwned) {
		if r.Owner != r.Home {
			n.ordered(t, "router", "move", name, "--home")
		}
	}
	spare := n.spare(n.await("each router is at home", 10*time.Second, allHome))
	n.shown(t, "VI_1", "VI_3")
	for _, vip := range nplusVIPs {
		if spare.HasAddress(vip) {
			t.Errorf("%s is a spare and has %s", spare.Name, vip)
		}
	}
}

// others are the routers' names but some.
func (n *nplus) others(but ...string) []string {
	var out []string
	for name := range n.eyes {
		if !slices.Contains(but, name) {
			out = append(out, name)
		}
	}
	return out
}

// fails takes the power from a router's owner and waits for the next; what the
// rest owns must not move, nor be felt.
func (n *nplus) fails(t *testing.T, name string) (old, next *lab.Host) {
	t.Helper()
	before := n.await("owners", 5*time.Second, allOwned)
	old = n.Named(before[name].Owner)
	from := probe.Now()
	n.Daemons[old].PowerOff()
	delete(n.Daemons, old)
	after := n.await("another director owns "+name, 20*time.Second, func(rs map[string]site.Router) bool {
		return rs[name].Owner != "" && rs[name].Owner != old.Name && allOwned(rs)
	})
	to := pause(2 * time.Second)
	next = n.Named(after[name].Owner)
	n.eyes[name].wantHandover(t, next, from, to)
	for _, other := range n.others(name) {
		owner := n.Named(before[other].Owner)
		n.wantStayed(t, other, owner, after[other], from, to)
	}
	return old, next
}

// wantStayed fails the test unless the router stayed where it was and its clients
// felt nothing. A machine that stood still for long enough loses a lease.
func (n *nplus) wantStayed(t *testing.T, name string, owner *lab.Host, now site.Router, from, to probe.Time) {
	t.Helper()
	e := n.eyes[name]
	if late := e.worst(from, to); now.Owner != owner.Name && late > stood {
		why, _ := n.Command(n.witness, "why", name)
		t.Logf("%s moved from %s to %s while the machine was late by %v: %s", name, owner.Name, now.Owner, late, why)
		return
	}
	if now.Owner != owner.Name {
		why, _ := n.Command(n.witness, "why", name)
		t.Errorf("%s moved from %s to %s by itself: %s", name, owner.Name, now.Owner, why)
	}
	e.wantUndisturbed(t, owner, from, to)
}

func (n *nplus) homesDie(t *testing.T) {
	spare := n.spare(n.await("all at home", 5*time.Second, allHome))
	from := probe.Now()
	dead1, next1 := n.fails(t, "VI_1")
	if next1 != spare {
		// It asks a few tens of milliseconds before the others do.
		late, report := n.eyes["VI_1"].worst(from, probe.Now()), t.Errorf
		if late > calm {
			report = t.Logf
		}
		report("%s took over, though %s is the spare; the machine was late by %v", next1.Name, spare.Name, late)
	}
	n.shown(t, dead1.Name+" does not answer")
	dead2, next2 := n.fails(t, "VI_2")
	t.Logf("VI_1 went from %s to %s, then VI_2 from %s to %s", dead1.Name, next1.Name, dead2.Name, next2.Name)
	owners := n.await("owners", 5*time.Second, allOwned)
	back := probe.Now()
	for _, h := range []*lab.Host{dead1, dead2} {
		h.Boot(nplusVIPs...)
		n.Start(h)
	}
	n.AwaitVoter(dead1)
	n.AwaitVoter(dead2)
	to := pause(6 * time.Second)
	now := n.await("owners", 5*time.Second, allOwned)
	for name, was := range owners {
		n.wantStayed(t, name, n.Named(was.Owner), now[name], back, to)
	}
	for _, name := range []string{"VI_1", "VI_2"} {
		if now[name].Owner != now[name].Home {
			n.shown(t, now[name].Home+" can have it again, and fail-back is manual: lbcluster router move "+name+" --home")
		}
	}
}

func (n *nplus) allGoHome(t *testing.T) {
	for _, name := range []string{"VI_1", "VI_2"} {
		from := probe.Now()
		n.ordered(t, "router", "move", name, "--home")
		n.wantServed(t, from, pause(settled), "VI_1", "VI_2", "VI_3")
	}
	n.await("all at home", 10*time.Second, allHome)
}

func (n *nplus) failsBack(t *testing.T) {
	home := n.Named(n.await("all at home", 5*time.Second, allHome)["VI_1"].Home)
	n.ordered(t, "settings", "set", "fail-back=auto", "fail-back-after=2s")
	if err := n.Daemons[home].KillWithStopPost(); err != nil {
		t.Error(err)
	}
	delete(n.Daemons, home)
	n.await("the spare took it over", 20*time.Second, func(rs map[string]site.Router) bool {
		return rs["VI_1"].Owner != "" && rs["VI_1"].Owner != home.Name
	})
	n.Start(home)
	n.AwaitVoter(home)
	from := probe.Now()
	n.await("it goes home by itself", 30*time.Second, allHome)
	n.wantServed(t, from, pause(settled), "VI_1", "VI_2", "VI_3")
	n.ordered(t, "settings", "set", "fail-back=manual")
}

func (n *nplus) isPinned(t *testing.T) {
	before := n.await("all at home", 5*time.Second, allHome)
	spare := n.spare(before)
	from := probe.Now()
	n.ordered(t, "router", "move", "VI_2", spare.Name, "--pin")
	n.wantServed(t, from, pause(settled), "VI_1", "VI_2", "VI_3")
	after := n.await("it is at its new home", 5*time.Second, allHome)
	if r := after["VI_2"]; r.Home != spare.Name || !r.Pinned {
		t.Errorf("pinned to %s: %+v", spare.Name, r)
	}
	n.shown(t, spare.Name+", pinned")
	if now := n.spare(after); now.Name != before["VI_2"].Home {
		t.Errorf("%s is the spare now, want %s, which has no home any more", now.Name, before["VI_2"].Home)
	}
	n.ordered(t, "router", "move", "VI_2", "--unpin")
	pause(2 * time.Second)
	if r := n.await("all at home", 5*time.Second, allHome)["VI_2"]; r.Pinned || r.Owner != spare.Name {
		t.Errorf("unpinned, it need not move, and did: %+v", r)
	}
}

func (n *nplus) isDrained(t *testing.T) {
	home := n.Named(n.await("all at home", 5*time.Second, allHome)["VI_3"].Home)
	from := probe.Now()
	out := n.ordered(t, "director", "drain", home.Name)
	n.wantServed(t, from, pause(settled), "VI_1", "VI_2", "VI_3")
	if !strings.Contains(out, "VI_3 went to ") {
		t.Errorf("drain does not say where VI_3 went")
	}
	n.shown(t, home.Name+" is drained: lbcluster director fit "+home.Name)
	from = probe.Now()
	if out := n.ordered(t, "director", "fit", home.Name); !strings.Contains(out, "lbcluster router move VI_3 --home") {
		t.Errorf("fit does not say how VI_3 comes home")
	}
	pause(6 * time.Second)
	if r := n.await("owners", 5*time.Second, allOwned)["VI_3"]; r.Owner == home.Name {
		t.Errorf("VI_3 went home by itself: fail-back is manual")
	}
	n.ordered(t, "router", "move", "VI_3", "--home")
	n.wantServed(t, from, pause(settled), "VI_1", "VI_2", "VI_3")
	n.await("all at home", 5*time.Second, allHome)
}
