package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lbcluster/dataplane/fence"
	"lbcluster/fsm"
)

var (
	vip1 = netip.MustParseAddr("172.25.88.100")
	vip2 = netip.MustParseAddr("172.25.88.101")
	vip3 = netip.MustParseAddr("2001:db8::100")
)

// fakeGate is a gate in memory, and fails on demand.
type fakeGate struct {
	mu      sync.Mutex
	slots   map[netip.Addr]int64
	failArm bool
	noClose bool
	log     *[]string
}

func newFakeGate() *fakeGate { return &fakeGate{slots: map[netip.Addr]int64{}} }

func (g *fakeGate) Arm(a netip.Addr, deadline int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failArm {
		return errors.New("no such slot")
	}
	g.slots[a] = deadline
	return nil
}

func (g *fakeGate) Close(addrs []netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.noClose {
		return errors.New("reads back as open")
	}
	for _, a := range addrs {
		g.slots[a] = 0
	}
	return nil
}

func (g *fakeGate) open(a netip.Addr, now int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.slots[a] > now
}

// deadlines is what a new process takes over.
func (g *fakeGate) deadlines() map[netip.Addr]int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.slots)
}

// fakeOwner remembers what it owns and checks each permit.
type fakeOwner struct {
	mu      sync.Mutex
	permits map[uint64]fence.Permit
	events  []string
	slow    chan struct{} // what Lost returns; nil: removed at once
}

func newFakeOwner() *fakeOwner { return &fakeOwner{permits: map[uint64]fence.Permit{}} }

func (o *fakeOwner) Acquired(p fence.Permit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.permits[p.Router()] = p
	o.events = append(o.events, fmt.Sprintf("acquired %d valid %v", p.Router(), p.Valid()))
}

func (o *fakeOwner) Lost(router uint64, why string) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, fmt.Sprintf("lost %d: %s", router, why))
	if o.permits[router].Valid() {
		o.events = append(o.events, "the permit outlived the lease")
	}
	delete(o.permits, router)
	if o.slow != nil {
		return o.slow
	}
	done := make(chan struct{})
	close(done)
	return done
}

func (o *fakeOwner) owns(router uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.permits[router].Valid()
}

func (o *fakeOwner) history() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.events)
}

// member is one driver of a test with all its surroundings.
type member struct {
	*Driver
	id    fsm.MemberID
	gate  *fakeGate
	owner *fakeOwner
	stop  context.CancelFunc
	keep  func() // ends it as one that the next process goes on for
	done  chan error
}

func (m *member) start(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	m.stop, m.keep = func() { cancel(nil) }, func() { cancel(ErrKeep) }
	m.done = make(chan error, 1)
	go func() { m.done <- m.Run(ctx); close(m.done) }()
}

// testTag is the configuration of the tests; it is in everybody's log.
var testTag = fsm.ConfigTag{Term: 1, Index: 1}

func testFloor() (fsm.ConfigTag, bool) { return testTag, true }

func testWant(ids []fsm.MemberID, self fsm.MemberID, peers map[fsm.MemberID]netip.AddrPort, routers ...Router) Want {
	set := fsm.VoterSet{Tag: testTag, Voters: ids}
	w := Want{Committed: set, Peers: map[fsm.MemberID][]netip.AddrPort{}, Routers: routers}
	for id, a := range peers {
		if id != self {
			w.Peers[id] = []netip.AddrPort{a}
		}
	}
	return w
}

var testKey = []byte("0123456789abcdef0123456789abcdef")

// TestThreeDriversOnLoopbackElectOne is the one test on real sockets and the
// real clocks: three drivers elect one holder, its daemon stops, and the next
// takes over at once because the lease was released.
func TestThreeDriversOnLoopbackElectOne(t *testing.T) {
	params, err := Profile("default")
	if err != nil {
		t.Fatal(err)
	}
	ids := []fsm.MemberID{"m1", "m2", "m3"}
	peers := map[fsm.MemberID]netip.AddrPort{}
	conns := map[fsm.MemberID]*udpConn{}
	for _, id := range ids {
		c, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		conns[id], peers[id] = c, netip.MustParseAddrPort(c.LocalAddr().String())
	}
	var members []*member
	for rank, id := range ids {
		m := &member{id: id, gate: newFakeGate(), owner: newFakeOwner()}
		m.Driver, err = New(Config{
			Self: id, Cluster: "c1", Key: testKey, Params: params, Gate: m.gate, Owner: m.owner,
			Floor: testFloor, FreshIdentity: true, Conn: conns[id], Listen: peers[id], Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		m.Update(testWant(ids, id, peers, Router{ID: 7, Addrs: []netip.Addr{vip1}, Rank: rank}))
		m.SetFit(true, "")
		m.start(t.Context())
		members = append(members, m)
	}
	first := waitOwner(t, members, 7)
	if got := members[0].Status(); len(got.Routers) != 1 || got.Routers[0].Holder != first.id {
		t.Errorf("m1 does not know the holder %s: %+v", first.id, got.Routers)
	}
	if !first.gate.open(vip1, KernelClocks().Boot()) {
		t.Error("the owner's gate is closed")
	}

	start := time.Now()
	first.stop()
	if err := <-first.done; err != nil {
		t.Fatalf("Run: %v", err)
	}
	if h := first.owner.history(); len(h) != 2 || h[1] != "lost 7: the daemon stops"+NobodyNext {
		t.Errorf("history of the first owner: %v", h)
	}
	rest := slices.DeleteFunc(slices.Clone(members), func(m *member) bool { return m == first })
	second := waitOwner(t, rest, 7)
	if took := time.Since(start); took > 600*time.Millisecond {
		t.Errorf("the second owner %s took %v although the first released", second.id, took)
	}
	for _, m := range rest {
		m.stop()
		if err := <-m.done; err != nil {
			t.Errorf("Run of %s: %v", m.id, err)
		}
		delete(m.Status().Dropped, "sender") // before the first Update a driver knows nobody
		if d := m.Status().Dropped; len(d) > 0 {
			t.Errorf("%s dropped packets: %v", m.id, d)
		}
	}
}

// waitOwner waits until exactly one member owns the router.
func waitOwner(t *testing.T, members []*member, router uint64) *member {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		var owners []*member
		for _, m := range members {
			if m.owner.owns(router) {
				owners = append(owners, m)
			}
		}
		if len(owners) > 1 {
			t.Fatalf("%d owners", len(owners))
		}
		if len(owners) == 1 {
			return owners[0]
		}
	}
	var b strings.Builder
	for _, m := range members {
		fmt.Fprintf(&b, "%s: %+v\n", m.id, m.Status())
	}
	t.Fatalf("no owner of router %d\n%s", router, b.String())
	return nil
}

// A closed socket ends Receive with net.ErrClosed, which ends the driver's
// receiving goroutine.
func TestReceiveEndsWithItsSocket(t *testing.T) {
	c, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, _, err := c.Receive(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive on a closed socket: %v", err)
	}
}

// Real sockets on two networks of loopback addresses: each member is heard by
// each other one on both, and an address that is not this machine's is shown.
func TestRealSocketsOnTwoNetworks(t *testing.T) {
	params := profile(t, "default")
	probe, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(probe.LocalAddr().String()).Port()
	probe.Close()
	addr := func(net, i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 77, byte(net), byte(i + 1)}) }
	ids := []fsm.MemberID{"m1", "m2", "m3"}
	var members []*member
	for i, id := range ids {
		m := &member{id: id, gate: newFakeGate(), owner: newFakeOwner()}
		m.Driver, err = New(Config{
			Self: id, Cluster: "c1", Key: testKey, Params: params, Gate: m.gate, Owner: m.owner,
			Floor: testFloor, FreshIdentity: true, Listen: netip.AddrPortFrom(addr(0, i), port),
		})
		if err != nil {
			t.Fatal(err)
		}
		w := testWant(ids, id, nil, Router{ID: 7, Addrs: []netip.Addr{vip1}, Rank: i})
		for j, o := range ids {
			if i != j {
				w.Peers[o] = []netip.AddrPort{netip.AddrPortFrom(addr(0, j), port), netip.AddrPortFrom(addr(1, j), port)}
			}
		}
		w.Locals = []netip.Prefix{netip.PrefixFrom(addr(0, i), 24), netip.PrefixFrom(addr(1, i), 24), netip.MustParsePrefix("192.0.2.1/24")}
		m.Update(w)
		m.SetFit(true, "")
		m.start(t.Context())
		members = append(members, m)
	}
	waitOwner(t, members, 7)
	alive := func() (n int) {
		for _, m := range members {
			for _, p := range m.Status().Peers {
				for _, path := range p.Paths {
					if path.Alive {
						n++
					}
				}
			}
		}
		return n
	}
	for end := time.Now().Add(5 * time.Second); alive() < 12 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := alive(); n != 12 {
		t.Errorf("%d of 12 ways are alive: %+v", n, members[0].Status().Peers)
	}
	if s := members[0].Status().Trouble; len(s) != 1 || s[netip.MustParseAddr("192.0.2.1")] == "" {
		t.Errorf("trouble: %v", s)
	}
	for _, m := range members {
		m.stop()
		if err := <-m.done; err != nil {
			t.Error(err)
		}
	}
}
