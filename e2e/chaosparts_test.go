package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// The network between the directors fails in every pattern there is; clients
// and watcher reach every director all the time. Whoever owns the VIP and still
// reaches a majority keeps it, and nobody notices.
func TestNetworkFailsInEveryPattern(t *testing.T) {
	lab.Need(t)
	e := open(site.Up(t, 3))
	end := e.judged(t)
	for mask := 1; mask < 8; mask++ {
		t.Run("cut "+strings.Join(cutNames(mask), " "), func(t *testing.T) { e.linksAreCut(t, mask) })
	}
	for _, w := range oneWays {
		t.Run("one way "+w.name, func(t *testing.T) { e.oneWayIsCut(t, w) })
	}
	for _, p := range []struct{ name, match string }{
		{"VRRP", "ip protocol 112"},
		{"members' TCP", "tcp dport 7500"},
		{"gossip", "meta l4proto { tcp, udp } th dport 7501"},
	} {
		t.Run("only "+p.name, func(t *testing.T) { e.protocolIsCut(t, p.match) })
	}
	t.Run("the owner's cable flaps", func(t *testing.T) { e.cableFlaps(t) })
	t.Run("a very bad network", func(t *testing.T) { e.networkIsBad(t) })
	t.Run("a lossy network", func(t *testing.T) { e.networkLoses(t) })
	end()
}

// cutLinks are the links between three directors, the owner first.
var cutLinks = [3][2]int{{0, 1}, {0, 2}, {1, 2}}

func cutNames(mask int) (names []string) {
	for i, l := range cutLinks {
		if mask&(1<<i) != 0 {
			names = append(names, []string{"owner", "a", "b"}[l[0]]+"-"+[]string{"owner", "a", "b"}[l[1]])
		}
	}
	return names
}

func (e *eyes) linksAreCut(t *testing.T, mask int) {
	owner := e.AwaitOwner()
	hosts := append([]*lab.Host{owner}, e.Others(owner)...)
	from := probe.Now()
	var cuts []*lab.Block
	links := map[int]int{0: 2, 1: 2, 2: 2}
	for i, l := range cutLinks {
		if mask&(1<<i) != 0 {
			cuts = append(cuts, e.Partition(hosts[l[0]:l[0]+1], hosts[l[1]:l[1]+1], ""))
			links[l[0]]--
			links[l[1]]--
		}
	}
	defer func() {
		for _, c := range cuts {
			c.Heal()
		}
	}()
	switch {
	case links[0] > 0:
		e.wantUndisturbed(t, owner, from, pause(2500*time.Millisecond))
	case links[1] > 0:
		next := e.AwaitSuccessor(owner)
		e.wantHandover(t, next, from, pause(2*time.Second))
		owner = next
	default:
		e.await("nobody has the address", 5*time.Second, func() bool { return e.held() == 0 })
		dark := probe.Now()
		if m := e.macs(dark, pause(2*time.Second)); len(m) > 0 {
			t.Errorf("without a majority %v answered for the VIP or announced it", m)
		}
		owner = nil
	}
	e.heals(t, owner, cuts...)
}

// heals mends the network: nothing changes, or if nobody owned the VIP one
// director does, and keeps it.
func (e *eyes) heals(t *testing.T, owner *lab.Host, cuts ...*lab.Block) {
	t.Helper()
	back := probe.Now()
	for _, c := range cuts {
		c.Heal()
	}
	if owner == nil {
		owner = e.AwaitOwner()
		back = pause(200 * time.Millisecond)
		e.AwaitCalm()
		e.wantOnly(t, owner, back, probe.Now())
		return
	}
	e.AwaitCalm()
	e.wantUndisturbed(t, owner, back, pause(time.Second))
	e.wantOwnerAlone(t, owner)
}

// oneWays say who is no longer heard by whom: 0 is the owner, and whether the
// owner keeps the VIP.
var oneWays = []struct {
	name     string
	from, to []int
	keeps    bool
}{
	{"owner to a", []int{0}, []int{1}, true},
	{"a to owner", []int{1}, []int{0}, true},
	{"a to b", []int{1}, []int{2}, true},
	{"owner to all", []int{0}, []int{1, 2}, false},
	{"all to owner", []int{1, 2}, []int{0}, false},
}

func (e *eyes) oneWayIsCut(t *testing.T, w struct {
	name     string
	from, to []int
	keeps    bool
}) {
	owner := e.AwaitOwner()
	hosts := append([]*lab.Host{owner}, e.Others(owner)...)
	pick := func(n []int) (some []*lab.Host) {
		for _, i := range n {
			some = append(some, hosts[i])
		}
		return some
	}
	from := probe.Now()
	cut := e.Block(pick(w.from), pick(w.to), "")
	defer cut.Heal()
	if w.keeps {
		e.wantUndisturbed(t, owner, from, pause(2500*time.Millisecond))
	} else {
		next := e.AwaitSuccessor(owner)
		e.wantHandover(t, next, from, pause(2*time.Second))
		owner = next
	}
	e.heals(t, owner, cut)
}

func (e *eyes) protocolIsCut(t *testing.T, match string) {
	owner, from := e.AwaitOwner(), probe.Now()
	cut := e.Partition(e.Dirs, e.Dirs, match)
	defer cut.Heal()
	e.wantUndisturbed(t, owner, from, pause(5*time.Second))
	e.heals(t, owner, cut)
}

// Up and down every 300 ms: whoever ends up with the VIP, it is one.
func (e *eyes) cableFlaps(t *testing.T) {
	owner, from := e.AwaitOwner(), probe.Now()
	for range 16 {
		owner.CutLink()
		time.Sleep(300 * time.Millisecond)
		owner.RestoreLink()
		time.Sleep(300 * time.Millisecond)
	}
	e.AwaitCalm()
	now := e.AwaitOwner()
	back := probe.Now()
	e.wantUndisturbed(t, now, back, pause(4*time.Second))
	e.wantOwnerAlone(t, now)
	e.wantNoOverlap(t)
	t.Logf("the VIP changed its director %d times in 10 s of flapping", len(e.tenants(from, back))-1)
}

// shapeAll makes what arrives at the directors bad. What they send to others is
// not touched, so that the judges see it when it happens. It is mended when the
// requests whose packets were lost have ended, too.
func (e *eyes) shapeAll(args ...string) (mend func()) {
	for _, h := range e.Dirs {
		h.ShapeIn(args...)
	}
	return sync.OnceFunc(func() {
		for _, h := range e.Dirs {
			h.Shape()
		}
		pause(1100 * time.Millisecond)
	})
}

func (e *eyes) networkIsBad(t *testing.T) {
	from := probe.Now()
	mend := e.shapeAll("delay", "50ms", "20ms", "loss", "20%", "duplicate", "10%", "reorder", "25%")
	defer mend()
	to := pause(15 * time.Second)
	mend()
	e.wantNoOverlap(t)
	t.Logf("the VIP changed its director %d times in 15 s", len(e.tenants(from, to))-1)
	e.AwaitCalm()
	e.heals(t, e.AwaitOwner())
}

// One datagram in twenty is lost: the lease is renewed often enough. The soak
// does it for longer.
func (e *eyes) networkLoses(t *testing.T) {
	owner, from := e.AwaitOwner(), probe.Now()
	mend := e.shapeAll("loss", "5%")
	defer mend()
	to := pause(20 * time.Second)
	mend()
	e.wantStayed(t, owner, from, to)
	e.heals(t, e.AwaitOwner())
}
