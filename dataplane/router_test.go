package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lbcluster/dataplane/fence"
	"lbcluster/dataplane/vip"

	"pgregory.net/rapid"
)

// stage is a machine on a pretended host with the interfaces eth0 and eth1.
// Commands (one a line; after each the machine runs until it has no step):
//
//	table PREFIX@DEV ...   the router's addresses; "nowhere" as DEV: no interface
//	acquired | lost | lost zero | renewed
//	inherit PREFIX@DEV DURATION         left by an earlier process, kept so long
//	put PREFIX@DEV | take PREFIX@DEV    somebody else's doing
//	link DEV up|down
//	fail add|del|announce N             the next N such steps fail
//	permit on|off                       whether the lease covers the addresses
//	every GARP GNA                      at least so long between announcements
//	wait DURATION                       with the machine's own wake-ups
type stage struct {
	r      *router
	now    time.Duration
	host   vip.Snapshot
	fail   map[verb]int
	permit bool
	terms  int64
	out    strings.Builder
}

func newStage() *stage {
	g := &stage{r: newRouter(1, &pacer{free: map[voice]time.Duration{}}), permit: true, fail: map[verb]int{}}
	for i, n := range []string{"eth0", "eth1"} {
		g.host.Links = append(g.host.Links, vip.Link{Index: i + 1, Name: n, MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}, Up: true, Carrier: true})
	}
	return g
}

func (g *stage) play(input string) string {
	g.out.Reset()
	for _, line := range strings.Split(input, "\n") {
		if f := strings.Fields(line); len(f) > 0 {
			g.command(f[0], f[1:])
			g.run()
		}
	}
	return g.out.String()
}

func (g *stage) command(name string, args []string) {
	switch name {
	case "table":
		var ts []target
		for _, a := range args {
			ts = append(ts, g.target(a))
		}
		g.r.table(g.now, ts)
	case "acquired", "renewed":
		g.terms++
		g.r.acquired(g.now, fence.NewTerm(1, nil, g.terms, func() int64 { return 0 }).Permit())
	case "lost":
		g.r.lost(g.now, len(args) > 0)
	case "put", "take":
		t := g.target(args[0])
		g.set(t.place(), name == "put")
		g.r.seen(g.now, g.host)
	case "inherit":
		t := g.target(args[0])
		d, _ := time.ParseDuration(args[1])
		g.set(t.place(), true)
		g.r.inherit(t.place(), g.now+d)
	case "link":
		i := slices.IndexFunc(g.host.Links, func(l vip.Link) bool { return l.Name == args[0] })
		g.host.Links[i].Carrier = args[1] == "up"
		g.r.seen(g.now, g.host)
	case "fail":
		n, _ := strconv.Atoi(args[1])
		g.fail[map[string]verb{"add": addAddress, "del": removeAddress, "announce": announce}[args[0]]] = n
	case "every":
		g.r.every.garp, _ = time.ParseDuration(args[0])
		g.r.every.gna, _ = time.ParseDuration(args[1])
	case "permit":
		g.permit = args[0] == "on"
	case "wait":
		d, _ := time.ParseDuration(args[0])
		g.wait(g.now + d)
	default:
		panic("unknown command " + name)
	}
}

func (g *stage) target(s string) target {
	prefix, dev, _ := strings.Cut(s, "@")
	t := target{prefix: netip.MustParsePrefix(prefix)}
	var ok bool
	if t.link, ok = g.host.Named(dev); !ok {
		t.err = vip.ErrNoInterface
	}
	return t
}

func (g *stage) set(at place, on bool) {
	g.host.Addrs = slices.DeleteFunc(slices.Clone(g.host.Addrs), func(a vip.Addr) bool { return a.Index == at.index && a.Prefix == at.prefix })
	if on {
		g.host.Addrs = append(g.host.Addrs, vip.Addr{Index: at.index, Prefix: at.prefix})
	}
}

func (g *stage) wait(until time.Duration) {
	for {
		at, ok := g.r.wake()
		if !ok || at > until {
			g.now = until
			return
		}
		g.now = max(at, g.now)
		g.run()
	}
}

func (g *stage) run() {
	for n := 0; ; n++ {
		s, ok := g.r.todo(g.now)
		if !ok {
			return
		}
		if n > 50 {
			panic("the machine goes in circles: " + s.String())
		}
		existed, err := g.do(s)
		fmt.Fprintf(&g.out, "%v %s", g.now, s)
		if existed {
			g.out.WriteString(": there already")
		}
		if err != nil {
			fmt.Fprintf(&g.out, ": %v", err)
		}
		g.out.WriteString("\n")
		g.r.done(g.now, s, existed, err)
	}
}

func (g *stage) do(s step) (existed bool, err error) {
	if !g.permit && (s.verb == addAddress || s.verb == announce) {
		return false, vip.ErrNoPermit
	}
	if g.fail[s.verb] > 0 {
		g.fail[s.verb]--
		return false, errors.New("fails")
	}
	switch s.verb {
	case addAddress:
		existed = g.host.Has(s.place.index, s.place.prefix)
		g.set(s.place, true)
	case removeAddress:
		g.set(s.place, false)
	}
	return existed, nil
}

func TestRouterTranscripts(t *testing.T) {
	transcripts(t, "testdata/router/*.txt", func(*testing.T) func(string) string { return newStage().play })
}

// Whatever happens in whatever order: nothing is added or announced while not
// owned, nothing of others is removed, the machine never goes in circles, and
// once all is calm the owner has its addresses on and a former owner none.
func TestRouterProperties(t *testing.T) {
	const a, b = "10.0.0.100/32@eth0", "10.0.0.101/32@eth0"
	commands := []string{
		"table " + a, "table " + a + " " + b, "table " + b, "table " + a + " 10.0.0.101/32@nowhere", "table 10.0.0.100/32@eth1", "table",
		"acquired", "renewed", "lost", "inherit " + a + " 2s", "lost zero", "put " + a, "take " + a, "take " + b,
		"link eth0 down", "link eth0 up", "fail add 2", "fail del 2", "fail announce 1", "permit off", "permit on",
		"wait 50ms", "wait 3s", "wait 1m", "every 20ms 0s", "every 400ms 0s", "every 0s 0s",
	}
	rapid.Check(t, func(t *rapid.T) {
		g := newStage()
		owned := false
		g.play("table " + a)
		for range rapid.IntRange(1, 40).Draw(t, "n") {
			c := rapid.SampledFrom(commands).Draw(t, "command")
			switch {
			case c == "acquired" || c == "renewed":
				owned = true
			case strings.HasPrefix(c, "lost"):
				owned = false
			}
			out := g.play(c)
			if !owned && (strings.Contains(out, " add ") || strings.Contains(out, "announce") || strings.Contains(out, "adverts on")) {
				t.Fatalf("%s, not owned: %s", c, out)
			}
		}
		calm(t, g, owned, a, b)
	})
}

func calm(t *rapid.T, g *stage, owned bool, a, b string) {
	g.play("permit on\nfail add 0\nfail del 0\nfail announce 0\nlink eth0 up\ntable " + a + " " + b + "\nwait 10s")
	for _, h := range g.r.places {
		there := g.host.Has(h.link.Index, h.prefix)
		switch {
		case owned && !there:
			t.Fatalf("the owner has no %s", h.prefix)
		case owned && h.sent == 0:
			t.Fatalf("%s was never announced", h.prefix)
		case !owned && h.on && !h.foreign:
			t.Fatalf("%s is still on", h.prefix)
		}
	}
	if g.r.speaking != owned || g.r.waiting {
		t.Fatalf("owned %v, speaking %v, waiting %v", owned, g.r.speaking, g.r.waiting)
	}
}
