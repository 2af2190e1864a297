package vrrp

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
	"testing/synctest"
	"time"

	"lbcluster/dataplane/fence"
)

// fakeWire is an interface that keeps what was sent, with the checks of Conn.
type fakeWire struct {
	mu     sync.Mutex
	begin  time.Time
	sent   []string
	in     chan Packet
	closed chan struct{}
}

func (w *fakeWire) Send(p fence.Permit, a Advert, _ Route) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.Covers(a.Addrs[0]) {
		return ErrNoPermit
	}
	w.sent = append(w.sent, fmt.Sprintf("%v prio %d", time.Since(w.begin), a.Priority))
	return nil
}

func (w *fakeWire) SendZero(f Farewell, a Advert, _ Route) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.Permit.Valid() || f.Permit == (fence.Permit{}) {
		return ErrNoFarewell
	}
	w.sent = append(w.sent, fmt.Sprintf("%v prio 0", time.Since(w.begin)))
	return nil
}

func (w *fakeWire) Receive(ctx context.Context) (Packet, error) {
	select {
	case p := <-w.in:
		if p.Payload == nil {
			return p, errors.New("the network is down")
		}
		return p, nil
	case <-w.closed:
		return Packet{}, net.ErrClosed
	case <-ctx.Done():
		return Packet{}, ctx.Err()
	}
}

func (w *fakeWire) Source(Route) (netip.Addr, error) { return self, nil }

func (w *fakeWire) Close() error {
	select {
	case <-w.closed:
	default:
		close(w.closed)
	}
	return nil
}

func (w *fakeWire) lines() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := strings.Join(w.sent, ", ")
	w.sent = nil
	return out
}

// rig is a Listener in a bubble, on fake interfaces.
type rig struct {
	*Listener
	t     *testing.T
	begin time.Time
	stop  func()

	mu    sync.Mutex
	log   strings.Builder
	wires map[string]*fakeWire // of the last opening
	fail  map[string]error     // interfaces that do not open
}

// Write takes a log line.
func (r *rig) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *rig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

func (r *rig) wire(name string) *fakeWire {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wires[name]
}

// fails makes opening an interface fail, or work again with nil.
func (r *rig) fails(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail[name] = err
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, wires: make(map[string]*fakeWire), fail: make(map[string]error), begin: time.Now()}
	handler := slog.NewTextHandler(r, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	r.Listener = New(Config{Log: slog.New(handler), Clock: bootNow, open: func(k linkKey) (wire, error) {
		name := k.name
		if k.v6 {
			name += "/6"
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if err := r.fail[name]; err != nil {
			return nil, err
		}
		w := &fakeWire{begin: r.begin, in: make(chan Packet), closed: make(chan struct{})}
		r.wires[name] = w
		return w, nil
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return r
}

// bootNow is the bubble's clock.
func bootNow() int64 { return time.Now().UnixNano() }

var vi1 = Router{ID: 1, Name: "VI_1", VRID: 51, Interface: "eth0", Version: 2, Priority: 100, Interval: time.Second,
	AuthPass: "1111", Addresses: []netip.Addr{vip}}

func (r *rig) set(rs ...Router) {
	r.t.Helper()
	if err := r.SetRouters(rs); err != nil {
		r.t.Fatal(err)
	}
}

// term starts a lease of d for vi1.
func term(d time.Duration) *fence.Term {
	return fence.NewTerm(1, []netip.Addr{vip}, bootNow()+int64(d), bootNow)
}

func (r *rig) acquired(p fence.Permit) {
	r.t.Helper()
	if err := r.Acquired(p.Router(), p); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) expect(what, want string) {
	r.t.Helper()
	synctest.Wait()
	if got := r.wire("eth0").lines(); got != want {
		r.t.Errorf("%s: sent %q, want %q", what, got, want)
	}
}

func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.stop()
		f(t, r)
	})
}

func TestAdvertsFollowTheLease(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.set(vi1)
		time.Sleep(10 * time.Second)
		r.expect("without a lease", "")
		tm := term(time.Minute)
		r.acquired(tm.Permit())
		r.expect("acquired", "10s prio 100")
		time.Sleep(3500 * time.Millisecond)
		r.expect("held", "11s prio 100, 12s prio 100, 13s prio 100")
		tm.End()
		r.Lost(1, true)
		r.expect("given up", "13.5s prio 0")
		time.Sleep(5 * time.Second)
		r.expect("afterwards", "")
		want := "VI_1: Entering BACKUP STATE VI_1: Entering MASTER STATE VI_1: Entering BACKUP STATE"
		if got := words(r.logged()); got != want {
			t.Errorf("log\n%s", r.logged())
		}
		if st := r.Status().Routers[0]; st.Sent != 4 || st.Farewells != 1 || st.Refused != 0 || st.State != Backup {
			t.Errorf("status %+v", st)
		}
	})
}

// words are the messages of a log.
func words(log string) string {
	var out []string
	for line := range strings.Lines(log) {
		if _, rest, ok := strings.Cut(line, `msg="`); ok {
			msg, _, _ := strings.Cut(rest, `"`)
			out = append(out, msg)
		}
	}
	return strings.Join(out, " ")
}

func TestNoAdvertPastTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.set(vi1)
		tm := term(1500 * time.Millisecond)
		r.acquired(tm.Permit())
		time.Sleep(5 * time.Second)
		r.expect("not renewed", "0s prio 100, 1s prio 100")
		if st := r.Status().Routers[0]; st.Refused == 0 || st.LastError == "" {
			t.Errorf("status %+v", st)
		}
		tm.Extend(bootNow() + int64(time.Minute))
		time.Sleep(time.Second)
		r.expect("renewed", "6s prio 100")
	})
}

// A lease that ran out long ago, as after a freeze, gets no farewell, although
// the permit no longer tells when it ended.
func TestNoFarewellAfterAFreeze(t *testing.T) {
	for _, c := range []struct {
		late time.Duration
		want string
	}{{100 * time.Millisecond, "900ms prio 0"}, {400 * time.Millisecond, ""}, {time.Minute, ""}} {
		bubble(t, func(t *testing.T, r *rig) {
			r.set(vi1)
			tm := term(800 * time.Millisecond)
			r.acquired(tm.Permit())
			synctest.Wait()
			r.expect("acquired", "0s prio 100")
			time.Sleep(800*time.Millisecond + c.late)
			tm.End()
			r.wire("eth0").lines()
			r.Lost(1, true)
			r.expect(fmt.Sprintf("%v late", c.late), c.want)
		})
	}
}

func TestFarewellOfARenewedLease(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.set(vi1)
		tm := term(216 * time.Millisecond)
		r.acquired(tm.Permit())
		for range 38 { // 1.9 s of renewals as the fast profile makes them
			time.Sleep(50 * time.Millisecond)
			tm.Extend(bootNow() + int64(216*time.Millisecond))
		}
		tm.End()
		r.Lost(1, true)
		r.expect("given up", "0s prio 100, 1s prio 100, 1.9s prio 0")
	})
}

func packet(t *testing.T, src netip.Addr, a Advert) Packet {
	t.Helper()
	b, err := a.Marshal(src, Group)
	if err != nil {
		t.Fatal(err)
	}
	return Packet{Src: src, Dst: Group, TTL: 255, Payload: b}
}

func TestOthersAreCountedAndNotObeyed(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.set(vi1)
		synctest.Wait()
		r.acquired(term(time.Minute).Permit())
		in := r.wire("eth0").in
		better := vi1.Advert(200)
		wrong := better
		wrong.AuthPass = "2222"
		other := better
		other.VRID = 52
		broken := packet(t, peer1, better)
		broken.TTL = 1
		self2 := netip.MustParseAddr("172.25.88.11")
		for _, p := range []Packet{packet(t, peer1, better), packet(t, peer1, better), packet(t, self2, wrong),
			packet(t, peer1, other), broken, {Src: peer1, Dst: Group, TTL: 255, Payload: []byte("garbage")}} {
			in <- p
		}
		synctest.Wait()
		st := r.Status()
		rs := st.Routers[0]
		if rs.State != Master || len(rs.Peers) != 2 {
			t.Fatalf("status %+v", rs)
		}
		a, b := rs.Peers[0], rs.Peers[1]
		if a.Addr != peer1 || a.Count != 2 || a.Priority != 200 || !a.Accepted || a.Interval != time.Second || a.Version != 2 || a.Addrs[0] != vip {
			t.Errorf("the one with our password: %+v", a)
		}
		if b.Addr != self2 || b.Count != 1 || b.Accepted || b.Reason == "" {
			t.Errorf("the one with another password: %+v", b)
		}
		if got := fmt.Sprint(rs.Rejected, st.Unknown); got != "map[auth_pass:1 ttl:1] map[length:1 unknown_vrid:1]" {
			t.Errorf("rejections %s", got)
		}
		now := bootNow()
		want := map[string]Rejection{
			RejectAuthPass: {From: self2, Reason: "another password than ours", At: now},
			RejectTTL:      {From: peer1, Reason: "TTL 1, want 255: it may have crossed a router", At: now},
		}
		if !maps.Equal(rs.LastRejected, want) {
			t.Errorf("the last rejections %+v, want %+v", rs.LastRejected, want)
		}
		time.Sleep(300 * time.Millisecond)
		in <- packet(t, peer1, wrong)
		synctest.Wait()
		rs = r.Status().Routers[0]
		if got := rs.LastRejected[RejectAuthPass]; rs.Rejected[RejectAuthPass] != 2 || got.From != peer1 || got.At-now != int64(300*time.Millisecond) {
			t.Errorf("a later one: %+v of %v", got, rs.Rejected)
		}
		time.Sleep(700 * time.Millisecond)
		r.expect("adverts go on", "0s prio 100, 1s prio 100")
	})
}

func TestMembersAlarmNobody(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.ours = func(a netip.Addr) bool { return a == peer1 }
		r.set(vi1)
		synctest.Wait()
		r.wire("eth0").in <- packet(t, peer1, vi1.Advert(100))
		synctest.Wait()
		if log := r.logged(); strings.Contains(log, "WARN") {
			t.Errorf("a member's advert was alarmed about:\n%s", log)
		}
		stranger := netip.MustParseAddr("172.25.88.99")
		r.wire("eth0").in <- packet(t, stranger, vi1.Advert(100))
		synctest.Wait()
		if log := r.logged(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, "from=172.25.88.99") {
			t.Errorf("a stranger's advert was not:\n%s", log)
		}
		if n := len(r.Status().Routers[0].Peers); n != 2 {
			t.Errorf("%d senders are shown, want both", n)
		}
	})
}

// A flood of sources and of changes fills neither memory nor the log.
func TestFlood(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.set(vi1)
		synctest.Wait()
		src := peer1
		for i := range 500 {
			src = src.Next()
			r.wire("eth0").in <- packet(t, src, vi1.Advert(uint8(i%250+1)))
			r.wire("eth0").in <- packet(t, peer1, vi1.Advert(uint8(i%250+1)))
		}
		synctest.Wait()
		rs := r.Status().Routers[0]
		if len(rs.Peers) != maxPeers || rs.Rejected[RejectMoreSpeakers] == 0 {
			t.Errorf("%d peers, rejected %v", len(rs.Peers), rs.Rejected)
		}
		if last := rs.LastRejected[RejectMoreSpeakers]; last.From != src || last.Reason != "32 other senders are shown already" {
			t.Errorf("the last rejection %+v", last)
		}
		if n := strings.Count(r.logged(), "\n"); n > maxPeers+5 {
			t.Errorf("%d log lines", n)
		}
	})
}

// Strangers do not crowd out a listed peer, nor a member.
func TestFloodHidesNoPeer(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		member := netip.MustParseAddr("172.25.99.1")
		r.ours = func(a netip.Addr) bool { return a == member }
		r.set(peered())
		synctest.Wait()
		src := netip.MustParseAddr("172.25.90.1")
		for range maxPeers + 1 {
			src = src.Next()
			r.wire("eth0").in <- packet(t, src, vi1.Advert(90))
		}
		for _, a := range []netip.Addr{peer1, member} {
			r.wire("eth0").in <- packet(t, a, vi1.Advert(90))
		}
		synctest.Wait()
		rs := r.Status().Routers[0]
		shown := func(a netip.Addr) bool {
			return slices.ContainsFunc(rs.Peers, func(p Peer) bool { return p.Addr == a })
		}
		if !shown(peer1) || !shown(member) || shown(src) || len(rs.Peers) != maxPeers+2 {
			t.Errorf("%d are shown; the peer %v, the member %v, the last stranger %v", len(rs.Peers), shown(peer1), shown(member), shown(src))
		}
	})
}

func TestInterfaceComesLater(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.fails("eth0", errors.New("no such interface"))
		r.set(vi1)
		r.acquired(term(time.Minute).Permit())
		time.Sleep(2500 * time.Millisecond)
		if st := r.Status().Routers[0]; st.LinkError != "no such interface" || st.LastError == "" || st.Sent != 0 {
			t.Errorf("status %+v", st)
		}
		r.fails("eth0", nil)
		time.Sleep(2 * time.Second)
		if st := r.Status().Routers[0]; st.LinkError != "" || st.LastError != "" || st.Sent == 0 {
			t.Errorf("status %+v", st)
		}
		// It breaks, and is opened again.
		old := r.wire("eth0")
		old.in <- Packet{}
		time.Sleep(1500 * time.Millisecond)
		if r.wire("eth0") == old || r.Status().Routers[0].LinkError != "" {
			t.Error("not opened again after an error")
		}
		if n := strings.Count(r.logged(), "cannot speak"); n != 1 {
			t.Errorf("the same failure was logged %d times", n)
		}
	})
}

func TestSetRouters(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		vi2 := vi1
		vi2.ID, vi2.Name, vi2.VRID, vi2.Interface = 2, "VI_2", 52, "eth1"
		r.set(vi1, vi2)
		r.acquired(term(time.Hour).Permit())
		r.expect("acquired", "0s prio 100")
		eth1 := r.wire("eth1")

		time.Sleep(500 * time.Millisecond)
		r.set(vi1, vi2)
		r.expect("set again, nothing changed", "")
		changed := vi1
		changed.Priority = 150
		r.set(changed)
		r.expect("another priority", "500ms prio 150")
		select {
		case <-eth1.closed:
		default:
			t.Error("an interface without routers stays open")
		}
		bad := vi2
		bad.Interval = time.Millisecond
		if err := r.SetRouters([]Router{bad, changed}); err == nil || !strings.Contains(err.Error(), "VI_2") {
			t.Errorf("a router that cannot be advertised: %v", err)
		}
		if st := r.Status().Routers; len(st) != 1 || st[0].State != Master {
			t.Errorf("status %+v", st)
		}
		r.set()
		time.Sleep(5 * time.Second)
		r.expect("no routers", "")
		if err := r.Acquired(9, term(time.Hour).Permit()); err == nil {
			t.Error("acquired a router that is none")
		}
		r.Lost(1, true)
	})
}

func TestPriorityZeroIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.set(vi1)
		synctest.Wait()
		r.acquired(term(time.Minute).Permit())
		time.Sleep(300 * time.Millisecond)
		for range 20 {
			r.wire("eth0").in <- packet(t, peer1, vi1.Advert(0))
		}
		time.Sleep(1100 * time.Millisecond)
		r.expect("twenty farewells of another", "0s prio 100, 300ms prio 100, 1.3s prio 100")
	})
}
