package lease

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
)

// hub is a network in memory for drivers in virtual time.
type hub struct {
	mu    sync.Mutex
	conns map[netip.AddrPort]*hubConn
	sent  int
	drop  func(from, to netip.AddrPort) bool
}

type hubConn struct {
	hub    *hub
	at     netip.AddrPort
	in     chan hubPacket
	closed chan struct{}
	once   sync.Once
}

type hubPacket struct {
	b    []byte
	from netip.AddrPort
}

func (h *hub) conn(at netip.AddrPort) *hubConn {
	c := &hubConn{hub: h, at: at, in: make(chan hubPacket, 1000), closed: make(chan struct{})}
	h.conns[at] = c
	return c
}

func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sent
}

func (c *hubConn) Receive(b []byte) (int, netip.AddrPort, error) {
	select {
	case p := <-c.in:
		return copy(b, p.b), p.from, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, net.ErrClosed
	}
}

func (c *hubConn) Send(b []byte, to netip.AddrPort) error {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	if b[0] == packetMessages {
		c.hub.sent++
	}
	if c.hub.drop != nil && c.hub.drop(c.at, to) {
		return nil
	}
	if peer := c.hub.conns[to]; peer != nil {
		select {
		case peer.in <- hubPacket{slices.Clone(b), c.at}:
		default:
		}
	}
	return nil
}

func (c *hubConn) Close() error { c.once.Do(func() { close(c.closed) }); return nil }

// group is a cluster of drivers in virtual time. It must live in a bubble.
type group struct {
	t       *testing.T
	hub     *hub
	ids     []fsm.MemberID
	peers   map[fsm.MemberID]netip.AddrPort
	members []*member
	clock   func() int64
}

func newGroup(t *testing.T, n int, change func(i int, cfg *Config)) *group {
	start := time.Now()
	g := &group{
		t: t, hub: &hub{conns: map[netip.AddrPort]*hubConn{}}, peers: map[fsm.MemberID]netip.AddrPort{},
		clock: func() int64 { return 1e12 + int64(time.Since(start)) },
	}
	for i := range n {
		id := fsm.MemberID(fmt.Sprintf("m%d", i+1))
		g.ids = append(g.ids, id)
		g.peers[id] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 7000)
	}
	for i, id := range g.ids {
		m := &member{id: id, gate: newFakeGate(), owner: newFakeOwner()}
		cfg := Config{
			Self: id, Cluster: "c1", Key: testKey, Params: profile(t, "default"), Gate: m.gate, Owner: m.owner,
			Floor: testFloor, FreshIdentity: true, Clocks: &Clocks{Boot: g.clock, Raw: g.clock}, Conn: g.hub.conn(g.peers[id]), Listen: g.peers[id],
		}
		if change != nil {
			change(i, &cfg)
		}
		d, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		m.Driver = d
		g.members = append(g.members, m)
	}
	return g
}

func (g *group) start(routers ...Router) {
	for i, m := range g.members {
		m.Update(g.want(i, routers...))
		m.SetFit(true, "")
		m.start(g.t.Context())
	}
}

func (g *group) want(i int, routers ...Router) Want {
	routers = slices.Clone(routers)
	for j := range routers {
		routers[j].Rank = i
	}
	return testWant(g.ids, g.ids[i], g.peers, routers...)
}

// sleep lets virtual time pass and checks that never two own the router.
func (g *group) sleep(d time.Duration) {
	g.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		synctest.Wait()
		open := 0
		for _, m := range g.members {
			if m.gate.open(vip1, g.clock()) {
				open++
			}
		}
		if open > 1 {
			g.t.Fatal("two gates are open")
		}
	}
	synctest.Wait()
}

func (g *group) owners(router uint64) (out []fsm.MemberID) {
	for _, m := range g.members {
		if m.owner.owns(router) {
			out = append(out, m.id)
		}
	}
	return out
}

func (g *group) stop() {
	for _, m := range g.members {
		m.stop()
	}
	for _, m := range g.members {
		if err := <-m.done; err != nil {
			g.t.Errorf("%s: %v", m.id, err)
		}
	}
}

var one = Router{ID: 1, Addrs: []netip.Addr{vip1}}

func TestDriverWaitsOutItsEmbargo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, func(_ int, c *Config) { c.FreshIdentity = false })
		g.start(one)
		g.sleep(2900 * time.Millisecond)
		if s := g.members[0].Status(); len(g.owners(1)) > 0 || s.Embargo <= 0 || s.Embargo > 200*time.Millisecond {
			t.Errorf("during the embargo: owners %v, embargo %v", g.owners(1), s.Embargo)
		}
		g.sleep(400 * time.Millisecond)
		if len(g.owners(1)) != 1 {
			t.Errorf("after the embargo: owners %v", g.owners(1))
		}
		g.stop()
	})
}

// A nonce and a fresh identity are good for one run.
func TestDriverRunsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, nil)
		g.start(one)
		g.sleep(100 * time.Millisecond)
		g.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.members[0].Run(ctx); err == nil {
			t.Error("a driver ran a second time")
		}
	})
}

func TestDriverHandsOverWhenUnfit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.start(one)
		g.members[0].SetFit(true, "")
		g.sleep(300 * time.Millisecond)
		if got := g.owners(1); !slices.Equal(got, []fsm.MemberID{"m1"}) {
			t.Fatalf("owners %v", got)
		}
		g.members[0].SetFit(false, "the link is down")
		g.sleep(100 * time.Millisecond)
		if got := g.owners(1); len(got) != 1 || got[0] == "m1" {
			t.Errorf("owners %v after m1 became unfit", got)
		}
		r := g.members[0].Status().Routers[0]
		if r.Own || r.Barred != "not fit: the link is down" || r.Lost != r.Barred || r.Holder != g.owners(1)[0] {
			t.Errorf("status of m1: %+v", r)
		}
		if h := g.members[0].owner.history(); len(h) != 2 {
			t.Errorf("m1 was told %v", h)
		}
		g.stop()
		if got := g.members[1].Status(); got.Routers[0].Own {
			t.Error("a stopped driver says that it owns")
		}
	})
}

func TestDriverStartsUnfit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, nil)
		m := g.members[0]
		m.Update(g.want(0, one))
		m.start(t.Context())
		g.sleep(time.Second)
		if s := m.Status(); len(g.owners(1)) > 0 || s.Routers[0].Barred != "not fit: not yet reported as fit" {
			t.Errorf("%+v", s.Routers)
		}
		g.stop()
	})
}

// An owner that never removes its addresses delays the Release, and the end of
// the daemon, by 20 ms and no more.
func TestDriverDoesNotWaitForASlowOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.members[0].owner.slow = make(chan struct{})
		g.start(one)
		g.sleep(300 * time.Millisecond)
		start := time.Now()
		g.members[0].stop()
		if err := <-g.members[0].done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < ms(20) || took > ms(40) {
			t.Errorf("the end took %v", took)
		}
		g.sleep(100 * time.Millisecond)
		if got := g.owners(1); len(got) != 1 || got[0] == "m1" {
			t.Errorf("owners %v", got)
		}
		g.stop()
	})
}

func TestDriverWithoutAWorkingGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.members[0].gate.failArm = true
		g.start(one)
		g.sleep(time.Second)
		if h := g.members[0].owner.history(); len(h) > 0 {
			t.Errorf("the owner heard %v although the gate never opened", h)
		}
		if n := g.members[0].Status().Holder.Acquired; n != 1 {
			t.Errorf("a member without a gate took the lease %d times from those that have one", n)
		}
		if got := g.owners(1); len(got) != 1 {
			t.Errorf("owners %v: another member has a gate", got)
		}
		g.stop()
	})
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.start(one)
		g.sleep(300 * time.Millisecond)
		g.members[0].gate.mu.Lock()
		g.members[0].gate.noClose = true
		g.members[0].gate.mu.Unlock()
		g.members[0].SetFit(false, "test")
		g.sleep(500 * time.Millisecond)
		if got := g.owners(1); len(got) > 0 {
			t.Errorf("%v owns while the gate of m1 may be open", got)
		}
		g.sleep(600 * time.Millisecond)
		if got := g.owners(1); len(got) != 1 || got[0] == "m1" {
			t.Errorf("owners %v after the promises ran out", got)
		}
		g.stop()
	})
}

// A gate that does not know the address yet is asked again at leisure, and
// complained of once.
func TestDriverWaitsForItsGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines strings.Builder
		g := newGroup(t, 1, func(_ int, c *Config) { c.Log = slog.New(slog.NewTextHandler(&lines, nil)) })
		m := g.members[0]
		m.gate.noClose = true
		g.start(one)
		g.sleep(time.Second)
		if n := strings.Count(lines.String(), "level=ERROR"); n != 1 || len(g.owners(1)) > 0 {
			t.Errorf("%d complaints, owners %v", n, g.owners(1))
		}
		m.gate.mu.Lock()
		m.gate.noClose = false
		m.gate.mu.Unlock()
		g.sleep(50 * time.Millisecond)
		if len(g.owners(1)) != 1 {
			t.Error("no owner although the gate works now")
		}
		m.gate.mu.Lock()
		m.gate.noClose = true
		m.gate.mu.Unlock()
		m.Update(g.want(0))
		g.sleep(2 * time.Second)
		if s := m.Status(); len(s.Routers) != 0 {
			t.Errorf("a router that is gone is kept for a gate that does not answer: %+v", s.Routers)
		}
		g.stop()
	})
}

func TestDriverGivesANewPermitForNewAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		g.start(one)
		g.sleep(300 * time.Millisecond)
		m := g.members[0]
		old := m.owner.permits[1]
		for i, m := range g.members {
			m.Update(g.want(i, Router{ID: 1, Addrs: []netip.Addr{vip1, vip2}}))
		}
		g.sleep(300 * time.Millisecond)
		p := m.owner.permits[1]
		if !p.Covers(vip1) || !p.Covers(vip2) || old.Valid() || !m.gate.open(vip2, g.clock()) {
			t.Errorf("new permit covers %v %v, old valid %v", p.Covers(vip1), p.Covers(vip2), old.Valid())
		}
		for i, m := range g.members {
			m.Update(g.want(i, Router{ID: 1, Addrs: []netip.Addr{vip2}}))
		}
		g.sleep(5 * time.Millisecond)
		q := m.owner.permits[1]
		if q.Covers(vip1) || !q.Covers(vip2) || p.Valid() || m.gate.open(vip1, g.clock()) {
			t.Error("the address that went is still covered, or the other is not")
		}
		for i, m := range g.members {
			m.Update(g.want(i))
		}
		g.sleep(100 * time.Millisecond)
		if h := m.owner.history(); h[len(h)-1] != "lost 1: the router is gone" {
			t.Errorf("%v", h)
		}
		g.stop()
	})
}

// A witness votes and stands for nothing.
func TestDriverOfAWitness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, func(i int, c *Config) {
			if i == 0 {
				c.Gate, c.Owner = nil, nil
			}
		})
		g.start(one)
		g.sleep(2 * time.Second) // the others wait for the first in rank, which is none
		first := g.owners(1)
		if len(first) != 1 || g.members[0].Status().Routers[0].Rank >= 0 {
			t.Fatalf("owners %v, witness %+v", first, g.members[0].Status().Routers)
		}
		for _, m := range g.members { // the owner's packets are lost: the witness elects the other
			if m.id == first[0] {
				at := g.peers[m.id]
				g.hub.mu.Lock()
				g.hub.drop = func(from, to netip.AddrPort) bool { return from == at || to == at }
				g.hub.mu.Unlock()
			}
		}
		g.sleep(1200 * time.Millisecond)
		if got := g.owners(1); len(got) != 1 || got[0] == first[0] {
			t.Errorf("owners %v after %v was cut off", got, first)
		}
		g.stop()
	})
}

// A log that blocks for ever stops nothing but the log (R12).
func TestDriverDoesNotWaitForItsLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe() // nobody reads
		g := newGroup(t, 3, func(_ int, c *Config) { c.Log = slog.New(slog.NewTextHandler(w, nil)) })
		g.start(one)
		g.sleep(5 * time.Second)
		if got := g.owners(1); len(got) != 1 || len(g.members[0].owner.history()) != 1 {
			t.Errorf("owners %v", got)
		}
		r.Close()
		g.stop()
	})
}

// Rubbish and strangers are counted, and nothing else happens.
func TestDriverCountsWhatItDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, func(i int, c *Config) {
			if i == 2 {
				c.Key = []byte("another key of another cluster..")
			}
		})
		g.start(one)
		stranger := g.hub.conn(netip.MustParseAddrPort("10.9.9.9:1"))
		for range 10 {
			stranger.Send([]byte("GET / HTTP/1.0\r\n\r\n"), g.peers["m1"])
		}
		g.sleep(time.Second)
		s := g.members[0].Status()
		if s.Dropped["key"] == 0 || s.Dropped["version"] != 10 || len(s.Dropped) != 2 {
			t.Errorf("dropped %v", s.Dropped)
		}
		if got := g.owners(1); len(got) != 1 {
			t.Errorf("owners %v: two of three have the right key", got)
		}
		g.stop()
	})
}

// All routers that a holder renews at a voter travel in one datagram.
func TestDriverRenewsAllRoutersInOneDatagram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		var routers []Router
		for i := range 30 {
			routers = append(routers, Router{ID: uint64(i + 1), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{172, 16, 0, byte(i)})}})
		}
		g.start(routers...)
		g.sleep(time.Second)
		before, grants := g.hub.count(), g.members[0].Status().Voter.Grants
		g.sleep(1600 * time.Millisecond)
		sent, grants := g.hub.count()-before, g.members[0].Status().Voter.Grants-grants
		// 10 periods, to and from 2 voters: 40, and as many again if two members hold.
		if sent > 100 || grants < 9*30 {
			t.Errorf("%d datagrams for %d renewals", sent, grants)
		}
		g.stop()
	})
}

// A flood of packets is taken in portions, between which timers run.
func TestFloodLeavesRoomForTimers(t *testing.T) {
	g := newGroup(t, 1, nil)
	seal := newTestSealer(t, "m1", "c1", testKey)
	packets := make(chan arrival, 1024)
	for range cap(packets) {
		packets <- arrival{b: []byte("rubbish")}
	}
	d := g.members[0].Driver
	l := newLoop(d, newSockets(d, packets), seal, packets, make(chan line, 1), recalled{})
	l.settle()
	if len(packets) != cap(packets)-maxTaken || l.dropped["version"] != maxTaken {
		t.Errorf("%d of %d packets are left after one go", len(packets), cap(packets))
	}
}

func TestNewRefuses(t *testing.T) {
	good := func() Config {
		return Config{Self: "m1", Cluster: "c1", Key: testKey, Params: profile(t, "default"), Gate: newFakeGate(), Owner: newFakeOwner(), Floor: testFloor}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"lease timers":    func(c *Config) { c.Params.TTL = 0 },
		"come together":   func(c *Config) { c.Gate = nil },
		"tells the floor": func(c *Config) { c.Floor = nil },
		"no cluster id":   func(c *Config) { c.Cluster = "" },
		"lease key":       func(c *Config) { c.Key = nil },
		"member id":       func(c *Config) { c.Self = "" },
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %q, got %v", want, err)
		}
	}
}

func TestVotersFollowTheLogAtEachVote(t *testing.T) {
	newer := testTag
	newer.Index++
	for _, c := range []struct {
		name  string
		floor fsm.ConfigTag
		known bool
		owned bool
	}{
		{"the candidate's configuration is the latest in the log", testTag, true, true},
		{"a newer one was appended", newer, true, false},
		{"the log is not open yet", testTag, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGroup(t, 3, func(i int, cfg *Config) {
					if i > 0 { // two of three voters
						cfg.Floor = func() (fsm.ConfigTag, bool) { return c.floor, c.known }
					}
				})
				g.start(Router{ID: 1, Addrs: []netip.Addr{vip1}})
				g.sleep(3 * time.Second)
				if owners := g.owners(1); (len(owners) == 1) != c.owned {
					t.Errorf("owners %v, want one: %v", owners, c.owned)
				}
				g.stop()
			})
		})
	}
}

func testRand() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }
