package lease

import (
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The explorer tries, breadth first, everything that can happen to two
// candidates and three voters, all of the real code: each message that was ever
// sent may be delivered at each step, once, often or never; each process may
// stop before each thing it does to the gate; time passes by half a ttl. States
// that look the same, times counted from now, are gone on from once. It goes as
// deep as its bound of states allows.
type explored struct {
	*world
	soup    []packet
	crashes int
	unfits  int
	trail   []string
}

// exploreParams make half a ttl the unit of time.
func exploreParams() Params {
	p := simParams()
	p.Round = ms(200)
	return p
}

const half = int64(120e6)

func newExplored(mut mutation, crashes int) *explored {
	x := &explored{world: newWorld(1, 3, exploreParams(), mut), crashes: crashes, unfits: 1}
	x.send = x.collect
	for _, n := range x.nodes {
		n.voter.bug.noCookie = true
		if n.id != "m3" {
			n.routers[1] = []netip.Addr{vip1}
		}
		n.wanted()
		n.settle()
	}
	return x
}

// collect keeps what matters, each once: greetings, refusals and
// acknowledgements only save time.
func (x *explored) collect(_ *node, p packet) {
	if k := p.msg.Kind; k != Ask && k != Grant && k != Release {
		return
	}
	same := func(q packet) bool {
		return q.to == p.to && q.msg.Kind == p.msg.Kind && q.msg.From == p.msg.From && q.msg.Seq == p.msg.Seq && q.msg.Boot == p.msg.Boot && q.msg.Echo == p.msg.Echo
	}
	if !slices.ContainsFunc(x.soup, same) {
		x.soup = append(x.soup, p)
	}
}

// move is one thing that can happen next.
type move struct {
	name string
	do   func(x *explored)
}

func (x *explored) moves() (out []move) {
	for i, n := range x.nodes {
		if len(n.pending) > 0 {
			out = append(out, move{fmt.Sprint(n.id, " goes on"), func(x *explored) { x.nodes[i].carry() }})
			continue
		}
		c := n.holder.routers[1]
		if c == nil {
			continue
		}
		if c.phase == waiting && len(c.toClose) == 0 {
			out = append(out, move{fmt.Sprint(n.id, " asks"), func(x *explored) { x.ask(x.nodes[i]) }})
		} else if n.holder.Next() <= n.bootNow() {
			out = append(out, move{fmt.Sprint(n.id, " sees the time"), func(x *explored) { x.nodes[i].step(Tick{}) }})
		}
		if c.phase == holding && x.unfits > 0 {
			out = append(out, move{fmt.Sprint(n.id, " gives up"), func(x *explored) {
				x.unfits--
				x.nodes[i].step(Fit{Reason: "explored"})
				x.nodes[i].holder.fit = true
			}})
		}
		if x.crashes > 0 {
			out = append(out, move{fmt.Sprint(n.id, " restarts"), func(x *explored) {
				x.crashes--
				x.nodes[i].start(false)
				x.nodes[i].voter.bug.noCookie = true
			}})
		}
	}
	for j, p := range x.soup {
		if n := x.node(p.to); len(n.pending) == 0 {
			out = append(out, move{fmt.Sprint(p.to, " gets ", showMessage(p.msg)), func(x *explored) { x.node(p.to).deliver(x.soup[j].msg) }})
		}
	}
	return append(out, move{"time passes", func(x *explored) { x.now += half }})
}

// ask starts a round, past the probe, which changes nothing.
func (x *explored) ask(n *node) {
	c := n.holder.routers[1]
	c.backoff, c.notBefore = 0, 0
	n.step(Tick{})
	for c.phase == probing {
		for _, v := range c.poll.voters.voters() {
			if c.poll != nil {
				n.step(Received{Message{Kind: ProbeReply, Router: 1, From: v, Seq: c.poll.id, Echo: n.boot}})
			}
		}
	}
}

// quiet does at once what can't be told apart from doing it later: sends wait
// in the soup, and the process tells itself things.
func (x *explored) quiet() {
	for _, n := range x.nodes {
		for {
			if len(n.pending) > 0 {
				if _, ok := n.pending[0].(Send); !ok {
					break
				}
				n.carry()
			} else if len(n.events) > 0 {
				ev := n.events[0]
				n.events = n.events[1:]
				n.step(ev)
			} else {
				break
			}
		}
	}
}

func (x *explored) clone() *explored {
	w := *x.world
	y := &explored{world: &w, soup: slices.Clone(x.soup), crashes: x.crashes, unfits: x.unfits, trail: slices.Clone(x.trail)}
	w.send, w.nodes, w.rounds = y.collect, nil, map[askKey]*asked{}
	for k, r := range x.rounds {
		c := *r
		c.granted = maps.Clone(r.granted)
		w.rounds[k] = &c
	}
	for _, n := range x.nodes {
		w.nodes = append(w.nodes, n.clone(&w))
	}
	return y
}

func (n *node) clone(w *world) *node {
	c := *n
	c.w, c.gate, c.released, c.owns = w, maps.Clone(n.gate), maps.Clone(n.released), maps.Clone(n.owns)
	c.pending, c.events, c.zombies = slices.Clone(n.pending), slices.Clone(n.events), nil
	c.file = &memory{head: n.file.head, recs: maps.Clone(n.file.recs), seq: n.file.seq}
	c.keeper = newKeeper(&c)
	c.keeper.bug = n.keeper.bug
	for a, s := range n.keeper.slots {
		*c.keeper.slot(a) = *s
	}
	seats := map[uint64]*seat{}
	for id, s := range n.voter.seats {
		t := *s
		t.addrs, t.last = slices.Clone(s.addrs), slices.Clone(s.last)
		seats[id] = &t
	}
	v := *n.voter // its cookies may be shared: nobody needs them
	v.seats, v.named, v.dirty = seats, map[netip.Addr][]uint64{}, nil
	for id, s := range seats {
		v.index(id, nil, s.addrs)
	}
	c.voter = &v
	c.holder = n.holder.clone()
	return &c
}

func (h *Holder) clone() *Holder {
	c := *h
	c.out, c.notes, c.order = nil, nil, slices.Clone(h.order)
	c.rng = rand.New(rand.NewPCG(1, 2))
	c.routers, c.releases, c.cookies = map[uint64]*candidacy{}, map[uint64]*releasing{}, maps.Clone(h.cookies)
	for id, r := range h.releases {
		s := *r
		s.left = slices.Clone(r.left)
		c.releases[id] = &s
	}
	for id, k := range h.routers {
		d := *k
		d.toClose, d.held, d.asked = slices.Clone(k.toClose), slices.Clone(k.held), slices.Clone(k.asked)
		if k.round != nil {
			r := *k.round
			r.votes, r.denials = slices.Clone(r.votes), slices.Clone(r.denials)
			d.round = &r
		}
		c.routers[id] = &d
	}
	return &c
}

var seed = maphash.MakeSeed()

// key names the state: all that the future depends on, but pauses.
func (x *explored) key() uint64 {
	var b strings.Builder
	rel := func(t int64) int64 { return max(-2e9, t-x.now) }
	fmt.Fprint(&b, x.crashes, x.unfits)
	for _, n := range x.nodes {
		fmt.Fprint(&b, "|", n.boot[:2], max(0, rel(n.voter.embargo)), max(0, rel(n.gate[vip1])), len(n.pending), n.holder.fit)
		for _, o := range n.pending {
			switch o := o.(type) {
			case Arm:
				fmt.Fprint(&b, "a", o.Round, rel(o.Deadline))
			case CloseGate:
				fmt.Fprint(&b, "c", o.Round)
			case Send:
				fmt.Fprint(&b, "s", o.To, o.Msg.Kind, o.Msg.Seq)
			default:
				fmt.Fprintf(&b, "%T", o)
			}
		}
		if s := n.voter.seats[1]; s != nil {
			fmt.Fprint(&b, "v", s.to.node, s.to.boot[:2], s.seq, max(0, rel(s.until)))
			last := slices.Clone(s.last)
			slices.SortFunc(last, func(a, b lastRound) int { return slices.Compare(a.who.boot[:], b.who.boot[:]) })
			for _, l := range last {
				fmt.Fprint(&b, l.who.boot[:2], l.seq)
			}
		}
		if s := n.keeper.slots[vip1]; s != nil {
			fmt.Fprint(&b, "k", s.closed)
		}
		if c := n.holder.routers[1]; c != nil {
			fmt.Fprint(&b, "h", n.holder.seq, c.phase, max(0, rel(c.deadline)), len(c.toClose), c.last, c.asked, rel(c.since), rel(c.renewAt) > 0)
			if r := c.round; r != nil {
				slices.Sort(r.votes)
				fmt.Fprint(&b, "r", r.seq, rel(r.t0), r.votes)
			}
		}
	}
	var soup []string
	for _, p := range x.soup {
		soup = append(soup, fmt.Sprint(p.to, p.msg.Kind, p.msg.From, p.msg.Boot[:2], p.msg.Echo[:2], p.msg.Seq, p.msg.TTL))
	}
	slices.Sort(soup)
	fmt.Fprint(&b, soup)
	return maphash.String(seed, b.String())
}

// explore returns the shortest violation, or nil, and how many steps deep all
// was looked at, within so many states.
func explore(mut mutation, crashes, states int, only1 bool) (found *explored, depth, seen int) {
	known := map[uint64]bool{}
	first := newExplored(mut, crashes)
	first.only1 = only1
	for layer := []*explored{first}; len(layer) > 0; depth++ {
		var next []*explored
		for _, x := range layer {
			for _, m := range x.moves() {
				y := x.clone()
				m.do(y)
				y.quiet()
				y.trail = append(y.trail, m.name)
				if len(y.bad) > 0 {
					return y, depth + 1, len(known)
				}
				if k := y.key(); !known[k] {
					known[k] = true
					next = append(next, y)
				}
				if len(known) > states {
					return nil, depth, len(known)
				}
			}
		}
		layer = next
	}
	return nil, depth, len(known)
}

func TestEverythingUpToADepthOpensOneGate(t *testing.T) {
	states := 5_000
	if n, err := strconv.Atoi(os.Getenv("LEASE_SEEDS")); err == nil {
		states *= n
	}
	for crashes := range 2 {
		t.Run(fmt.Sprint(crashes, " restarts"), func(t *testing.T) {
			t.Parallel()
			x, depth, seen := explore(mutation{}, crashes, states, false)
			if x != nil {
				t.Fatalf("%v after:\n%s", x.bad, strings.Join(x.trail, "\n"))
			}
			t.Logf("all of %d steps, %d states", depth, seen)
			if depth < 6 {
				t.Errorf("only %d steps deep", depth)
			}
		})
	}
}

func TestExplorerCatchesMutants(t *testing.T) {
	for _, c := range []struct {
		name    string
		mut     mutation
		crashes int
	}{
		{"M08 Grants counted by message (R4)", mutation{holder: holderBugs{countMessages: true}}, 0},
		{"M12 Release before the gate is closed (R8)", mutation{holder: holderBugs{releaseFirst: true}}, 0},
		{"M01 no embargo after a restart (R2)", mutation{voter: voterBugs{noEmbargo: true}}, 1},
		{"M03 validity counted from the Grant's arrival (R6)", mutation{holder: holderBugs{fromReceipt: true}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			x, depth, seen := explore(c.mut, c.crashes, 4_000, os.Getenv("LEASE_ONLY_I1") != "")
			if x == nil {
				t.Fatalf("not caught in %d states, %d steps", seen, depth)
			}
			t.Logf("%d steps, %d states: %v:\n%s", depth, seen, x.bad, strings.Join(x.trail, "\n"))
		})
	}
}
