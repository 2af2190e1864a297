package lease

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// twoNets gives each member of a group a second address, in 10.1.0.0/24.
func twoNets(g *group) func(i int, routers ...Router) Want {
	second := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), 7000)
	}
	return func(i int, routers ...Router) Want {
		w := g.want(i, routers...)
		for j, id := range g.ids {
			if i != j {
				w.Peers[id] = append(w.Peers[id], second(j))
			}
		}
		w.Locals = []netip.Prefix{netip.PrefixFrom(second(i).Addr(), 24)}
		return w
	}
}

// openOn lets a group's members open their further sockets on the hub.
func openOn(h **hub) func(at netip.AddrPort) (Conn, error) {
	return func(at netip.AddrPort) (Conn, error) {
		(*h).mu.Lock()
		defer (*h).mu.Unlock()
		return (*h).conn(at), nil
	}
}

func (g *group) startWith(want func(i int, routers ...Router) Want, routers ...Router) {
	for i, m := range g.members {
		m.Update(want(i, routers...))
		m.SetFit(true, "")
		m.start(g.t.Context())
	}
}

func (h *hub) dropping(drop func(from, to netip.AddrPort) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop = drop
}

var mainNet = netip.MustParsePrefix("10.0.0.0/24")

// record collects journal entries.
type record struct {
	mu  sync.Mutex
	all []Entry
}

func (r *record) add(e Entry) { r.mu.Lock(); defer r.mu.Unlock(); r.all = append(r.all, e) }

func (r *record) of(k EntryKind) (out []Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.all {
		if e.Kind == k {
			out = append(out, e)
		}
	}
	return out
}

// With two networks, the main one may die: nothing happens to the lease, the
// dead way is shown and recorded, and so is its return. Each packet counts once
// however many ways it came.
func TestDriverLosesAWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *hub
		rec := &record{}
		g := newGroup(t, 3, func(i int, c *Config) {
			c.Open = openOn(&h)
			if i == 0 {
				c.Journal = rec.add
			}
		})
		h = g.hub
		g.startWith(twoNets(g), one)
		g.sleep(2 * time.Second)
		m1 := g.members[0]
		owner := g.owners(1)
		s := m1.Status()
		if len(owner) != 1 || len(s.Peers) != 2 || len(s.Peers[0].Paths) != 2 || !s.Peers[0].Paths[0].Alive || !s.Peers[0].Paths[1].Alive {
			t.Fatalf("owner %v, peers %+v", owner, s.Peers)
		}
		if copies := s.Dropped["replay"]; copies == 0 || s.Received-copies > copies+10 || s.Received-copies+10 < copies {
			t.Errorf("of %d packets %d were copies of others: about half wanted", s.Received, copies)
		}
		h.dropping(func(from, to netip.AddrPort) bool { return mainNet.Contains(to.Addr()) })
		g.sleep(10 * time.Second)
		s = m1.Status()
		if got := g.owners(1); !slices.Equal(got, owner) {
			t.Errorf("owner %v became %v when one of two networks died", owner, got)
		}
		if p := s.Peers[0].Paths; p[0].Alive || !p[1].Alive || p[0].Heard < 9*time.Second {
			t.Errorf("paths to m2: %+v", p)
		}
		dead := rec.of(EntryPathDead)
		if len(dead) != 2 || dead[0].Peers[0] != "m2" || dead[0].Cause != "UDP 10.0.0.1 to 10.0.0.2" {
			t.Errorf("recorded: %+v", dead)
		}
		h.dropping(nil)
		g.sleep(3 * time.Second)
		if s := m1.Status(); !s.Peers[0].Paths[0].Alive {
			t.Errorf("the way is not alive again: %+v", s.Peers[0].Paths)
		}
		if back := rec.of(EntryPathBack); len(back) != 2 || back[0].Peers[0] == back[1].Peers[0] ||
			back[1].Text != fmt.Sprintf("%[1]s is heard over UDP 10.0.0.1 to 10.0.0.%[2]s", back[1].Peers[0], back[1].Peers[0][1:]) {
			t.Errorf("came back: %+v", back)
		}
		for _, m := range g.members {
			if n := len(m.owner.history()); n > 1 {
				t.Errorf("%s: %v", m.id, m.owner.history())
			}
		}
		g.stop()
	})
}

// Where a firewall drops all UDP the relay is enough, and a relay that drops
// everything harms nothing.
func TestDriverOverTheRelay(t *testing.T) {
	for name, c := range map[string]struct{ udp, tls bool }{"UDP dropped": {false, true}, "relay stuck": {true, false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				byID := map[fsm.MemberID]*member{}
				var g *group
				g = newGroup(t, 3, func(i int, cfg *Config) {
					cfg.Relay = func(to fsm.MemberID, p []byte) bool {
						if c.tls {
							byID[to].Deliver(slices.Clone(p))
						}
						return c.tls
					}
				})
				for _, m := range g.members {
					byID[m.id] = m
				}
				if !c.udp {
					g.hub.dropping(func(_, _ netip.AddrPort) bool { return true })
				}
				g.start(one)
				g.sleep(10 * time.Second)
				owner := g.owners(1)
				if len(owner) != 1 || len(byID[owner[0]].owner.history()) != 1 {
					t.Fatalf("owners %v", owner)
				}
				p := g.members[0].Status().Peers[0].Paths
				if len(p) != 2 || p[0].Remote.IsValid() || p[0].Alive != c.tls || p[1].Alive != c.udp {
					t.Errorf("paths: %+v", p)
				}
				g.stop()
			})
		})
	}
}

// At rest the relay carries little; when a firewall begins to drop datagrams, in
// whichever direction, the repetition within the round goes over it, and no
// renewal is lost.
func TestTheRelayIsSparedAndThereInTime(t *testing.T) {
	for name, drops := range map[string]func(owner netip.Addr, from, to netip.AddrPort) bool{
		"both directions": func(netip.Addr, netip.AddrPort, netip.AddrPort) bool { return true },
		"to the owner":    func(owner netip.Addr, _, to netip.AddrPort) bool { return to.Addr() == owner },
		"from the owner":  func(owner netip.Addr, from, _ netip.AddrPort) bool { return from.Addr() == owner },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				byID := map[fsm.MemberID]*member{}
				var relayed atomic.Uint64
				rec := &record{}
				g := newGroup(t, 3, func(_ int, cfg *Config) {
					cfg.Journal = rec.add
					cfg.Relay = func(to fsm.MemberID, p []byte) bool {
						relayed.Add(1)
						byID[to].Deliver(slices.Clone(p))
						return true
					}
				})
				for _, m := range g.members {
					byID[m.id] = m
				}
				g.start(one)
				g.sleep(5 * time.Second)
				before, sent := relayed.Load(), sentBy(g)
				g.sleep(10 * time.Second)
				if n, all := relayed.Load()-before, sentBy(g)-sent; n == 0 || n > all/2 {
					t.Errorf("at rest %d of %d packets went over the relay too: some wanted, and less than half", n, all)
				}
				owner := byID[g.owners(1)[0]]
				at := owner.cfg.Listen.Addr()
				g.hub.dropping(func(from, to netip.AddrPort) bool { return drops(at, from, to) })
				g.sleep(10 * time.Second)
				if len(owner.owner.history()) != 1 || len(rec.of(EntryRound)) != 0 {
					t.Errorf("tenures %v, rounds lost: %+v", owner.owner.history(), rec.of(EntryRound))
				}
				g.stop()
			})
		})
	}
}

// sentBy counts the packets of a group's members.
func sentBy(g *group) (n uint64) {
	for _, m := range g.members {
		n += m.Status().Sent
	}
	return n
}

// A local address that can't be bound is shown and tried again, and one that is
// gone is closed; the daemon goes on, even without its main address.
func TestSocketsFollowTheAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h *hub
		free, mu := false, sync.Mutex{}
		opened := map[netip.Addr]*hubConn{}
		g := newGroup(t, 1, func(_ int, c *Config) {
			c.Conn = nil
			c.Open = func(at netip.AddrPort) (Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				if !free {
					return nil, errors.New("cannot assign requested address")
				}
				h.mu.Lock()
				defer h.mu.Unlock()
				opened[at.Addr()] = h.conn(at)
				return opened[at.Addr()], nil
			}
		})
		h = g.hub
		m := g.members[0]
		w := g.want(0, one)
		w.Locals = []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("10.2.0.1/24")}
		m.Update(w)
		m.SetFit(true, "")
		m.start(t.Context())
		g.sleep(3 * time.Second)
		if s := m.Status(); len(s.Trouble) != 3 || s.Trouble[netip.MustParseAddr("10.0.0.1")] != "cannot assign requested address" {
			t.Errorf("trouble: %v", s.Trouble)
		}
		if got := g.owners(1); len(got) != 1 {
			t.Errorf("owners %v: one voter needs no network", got)
		}
		mu.Lock()
		free = true
		mu.Unlock()
		g.sleep(2 * time.Second)
		if s := m.Status(); len(s.Trouble) != 0 || len(opened) != 3 {
			t.Errorf("trouble: %v, opened %v", s.Trouble, opened)
		}
		gone := opened[netip.MustParseAddr("10.2.0.1")]
		w.Locals = w.Locals[:1]
		m.Update(w)
		g.sleep(time.Second)
		select {
		case <-gone.closed:
		default:
			t.Error("the socket of an address that is gone is open")
		}
		g.stop()
		for at, c := range opened {
			select {
			case <-c.closed:
			default:
				t.Errorf("the socket on %v is open after the end", at)
			}
		}
	})
}

func TestWaysTo(t *testing.T) {
	main := netip.MustParseAddr("10.0.0.1")
	ap := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), 7500) }
	nets := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("fd00::1/64")}
	for _, c := range []struct {
		name string
		nets []netip.Prefix
		peer []netip.AddrPort
		want []way
	}{
		{"no address", nets, nil, nil},
		{"main to main, even far away", nil, []netip.AddrPort{ap("192.0.2.1")}, []way{{main, ap("192.0.2.1")}}},
		{"each network", nets, []netip.AddrPort{ap("10.0.0.2"), ap("10.1.0.2"), ap("fd00::2")},
			[]way{{main, ap("10.0.0.2")}, {netip.MustParseAddr("10.1.0.1"), ap("10.1.0.2")}, {netip.MustParseAddr("fd00::1"), ap("fd00::2")}}},
		{"no network in common", nets, []netip.AddrPort{ap("10.0.0.2"), ap("10.9.0.2")}, []way{{main, ap("10.0.0.2")}}},
		{"the main one told twice", nets, []netip.AddrPort{ap("10.0.0.2"), ap("10.0.0.2")}, []way{{main, ap("10.0.0.2")}}},
		{"several in one network", nets, []netip.AddrPort{ap("10.0.0.3"), ap("10.0.0.2"), ap("10.1.0.2"), ap("10.1.0.3")},
			[]way{{main, ap("10.0.0.3")}, {netip.MustParseAddr("10.1.0.1"), ap("10.1.0.2")}}},
		{"our own address", nets, []netip.AddrPort{ap("10.0.0.2"), ap("10.1.0.1")}, []way{{main, ap("10.0.0.2")}}},
	} {
		if got := waysTo(main, c.nets, c.peer); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	var many []netip.AddrPort
	var wide []netip.Prefix
	for i := range 50 {
		many = append(many, ap(fmt.Sprintf("10.%d.0.2", i+2)))
		wide = append(wide, netip.MustParsePrefix(fmt.Sprintf("10.%d.0.1/24", i+2)))
	}
	if n := len(waysTo(main, wide, many)); n != maxWays {
		t.Errorf("%d ways to one peer", n)
	}
}

// What one side lists as a way to the other, the other lists too, the other way
// round: a way that is used in one direction only would always seem dead.
func TestWaysAreTheSameFromBothSides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		host := func(label string, last byte) (addrs []netip.Prefix) {
			for n := range 4 {
				for k := range rapid.IntRange(0, 2).Draw(t, label) {
					addrs = append(addrs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), 0, last + byte(k)}), 24))
				}
			}
			return addrs
		}
		a, b := host("a", 1), host("b", 101)
		if len(a) == 0 || len(b) == 0 {
			return
		}
		peer := func(addrs []netip.Prefix, main int) (out []netip.AddrPort) {
			out = append(out, netip.AddrPortFrom(addrs[main].Addr(), 7))
			for i, p := range addrs {
				if i != main {
					out = append(out, netip.AddrPortFrom(p.Addr(), 7))
				}
			}
			return out
		}
		ma, mb := rapid.IntRange(0, len(a)-1).Draw(t, "main a"), rapid.IntRange(0, len(b)-1).Draw(t, "main b")
		there := waysTo(a[ma].Addr(), a, peer(b, mb))
		back := waysTo(b[mb].Addr(), b, peer(a, ma))
		for _, w := range there {
			if !slices.Contains(back, way{w.to.Addr(), netip.AddrPortFrom(w.local, 7)}) {
				t.Fatalf("there %v\nback %v", there, back)
			}
		}
	})
}

// A recorded packet that is sent again keeps no dead way alive, and one from an
// address that is not the peer's counts for no way.
func TestHearingCreditsWhatIsNew(t *testing.T) {
	a := way{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddrPort("10.0.0.2:1")}
	b := way{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddrPort("10.1.0.2:1")}
	var h hearing
	h.peers(map[fsm.MemberID][]way{"m2": {a, b}}, false)
	on := func(w way) arrival { return arrival{local: w.local, from: w.to} }
	at := func(w way) int64 { return h.ways["m2"][w].at }
	h.note(10, on(a), opened{from: "m2", counter: 1})
	h.note(20, on(b), opened{from: "m2", counter: 1}) // the copy
	if at(a) != 10 || at(b) != 20 {
		t.Fatalf("heard at %d and %d", at(a), at(b))
	}
	h.note(30, on(a), opened{from: "m2", counter: 1})
	h.note(30, on(way{a.local, b.to}), opened{from: "m2", counter: 9})
	h.note(30, on(a), opened{from: "m3", counter: 9})
	if at(a) != 10 || at(b) != 20 {
		t.Errorf("heard at %d and %d after a replay and strange senders", at(a), at(b))
	}
	h.note(40, on(b), opened{from: "m2", counter: 2})
	if got := h.lately(60, 25); len(got) != 1 || got[0] != (Heard{"m2", b.to.Addr(), 20}) {
		t.Errorf("heard lately: %v", got)
	}
	h.note(50, on(a), opened{from: "m2", boot: Nonce{1}, counter: 1}) // it started again
	if at(a) != 50 {
		t.Errorf("a new start is not heard")
	}
	h.peers(map[fsm.MemberID][]way{"m2": {b}}, true)
	if len(h.ways["m2"]) != 2 || at(b) != 40 || at(way{}) != never {
		t.Errorf("after a change of the ways: %+v", h.ways["m2"])
	}
}
