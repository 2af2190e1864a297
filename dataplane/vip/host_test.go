package vip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/dataplane/fence"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var testVIP = netip.MustParsePrefix("172.25.88.100/32")

// pair is a director's network namespace and a neighbour's, joined by a veth:
// eth0 in the one, peer0 in the other.
type pair struct {
	host  *Host
	nl    *netlink.Handle // in the director's namespace: other people's doing
	other netns.NsHandle
	link  Link // eth0
}

// newPair needs root; elsewhere the test is skipped.
func newPair(t *testing.T) pair {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	ns, other := newNamespace(t), newNamespace(t)
	p := pair{nl: handle(t, ns), other: other}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0", PeerNamespace: netlink.NsFd(other)}
	must(t, p.nl.LinkAdd(veth))
	peer := handle(t, other)
	up(t, peer, "peer0")
	up(t, peer, "lo")
	up(t, p.nl, "lo")
	eth0 := up(t, p.nl, "eth0")
	must(t, p.nl.AddrAdd(eth0, address(netip.MustParsePrefix("172.25.88.11/24"), "")))
	host, err := New(ns)
	must(t, err)
	t.Cleanup(host.Close)
	p.host = host
	s, err := host.Snapshot()
	must(t, err)
	p.link, _ = s.Named("eth0")
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newNamespace makes a network namespace that lives as long as its handle.
func newNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, err := netns.Get()
	must(t, err)
	defer old.Close()
	ns, err := netns.New()
	if errors.Is(err, unix.EPERM) {
		t.Skip("network namespaces are not permitted here")
	}
	must(t, err)
	must(t, netns.Set(old))
	t.Cleanup(func() { ns.Close() })
	return ns
}

func handle(t *testing.T, ns netns.NsHandle) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	must(t, err)
	t.Cleanup(h.Close)
	return h
}

func up(t *testing.T, h *netlink.Handle, name string) netlink.Link {
	t.Helper()
	l, err := h.LinkByName(name)
	must(t, err)
	must(t, h.LinkSetUp(l))
	return l
}

// lease is a term over testVIP's address on a clock that the test moves.
type lease struct {
	now  int64
	term *fence.Term
}

func newLease() *lease {
	l := &lease{now: 1}
	l.term = fence.NewTerm(1, []netip.Addr{testVIP.Addr()}, 1000, func() int64 { return l.now })
	return l
}

func TestAddAndRemoveExactPrefix(t *testing.T) {
	p := newPair(t)
	permit := newLease().term.Permit()

	existed, err := p.host.Add(permit, p.link.Index, testVIP, "eth0:vip")
	if err != nil || existed {
		t.Fatalf("Add: existed %v, %v", existed, err)
	}
	wide := netip.PrefixFrom(testVIP.Addr(), 24)
	must(t, p.nl.AddrAdd(link(p.link.Index), address(wide, "")))
	s, err := p.host.Snapshot()
	must(t, err)
	at := s.Where(testVIP.Addr())
	if len(at) != 2 || !slices.ContainsFunc(at, func(a Addr) bool { return a.Prefix == testVIP && a.Label == "eth0:vip" }) {
		t.Fatalf("the VIP is at %v", at)
	}
	if existed, err = p.host.Add(permit, p.link.Index, testVIP, ""); err != nil || !existed {
		t.Errorf("second Add: existed %v, %v", existed, err)
	}
	for range 2 {
		must(t, p.host.Remove(p.link.Index, testVIP))
	}
	must(t, p.host.Remove(4711, testVIP)) // an interface that went away
	s, err = p.host.Snapshot()
	must(t, err)
	if s.Has(p.link.Index, testVIP) || !s.Has(p.link.Index, wide) {
		t.Errorf("after Remove of %s: %v", testVIP, s.Where(testVIP.Addr()))
	}
}

func TestAddNeedsAPermit(t *testing.T) {
	p := newPair(t)
	l := newLease()
	l.now = 1000 // at the deadline
	other := netip.MustParsePrefix("172.25.88.101/32")
	for name, add := range map[string]func() (bool, error){
		"expired":         func() (bool, error) { return p.host.Add(l.term.Permit(), p.link.Index, testVIP, "") },
		"zero":            func() (bool, error) { return p.host.Add(fence.Permit{}, p.link.Index, testVIP, "") },
		"another address": func() (bool, error) { return p.host.Add(newLease().term.Permit(), p.link.Index, other, "") },
	} {
		if _, err := add(); !errors.Is(err, ErrNoPermit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := p.host.Snapshot()
	must(t, err)
	if len(s.Where(testVIP.Addr())) != 0 || len(s.Where(other.Addr())) != 0 {
		t.Error("an address was added without a lease")
	}
}

func TestSnapshotSeesLinks(t *testing.T) {
	p := newPair(t)
	if !p.link.Up || !p.link.Carrier || p.link.Loopback || len(p.link.MAC) != 6 {
		t.Errorf("eth0 is %+v", p.link)
	}
	peer, err := handle(t, p.other).LinkByName("peer0")
	must(t, err)
	must(t, handle(t, p.other).LinkSetDown(peer))
	s, err := p.host.Snapshot()
	must(t, err)
	if l, _ := s.Named("eth0"); !l.Up || l.Carrier {
		t.Errorf("with its peer down eth0 is %+v", l)
	}
	if l, _ := s.Named("lo"); !l.Loopback {
		t.Errorf("lo is %+v", l)
	}
}

// capture opens a raw socket on the neighbour's side.
func capture(t *testing.T, p pair) *packet.Conn {
	t.Helper()
	var c *packet.Conn
	at := Host{ns: p.other}
	must(t, at.inside(func() error {
		ifi, err := net.InterfaceByName("peer0")
		if err != nil {
			return err
		}
		c, err = packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

// next reads one ARP frame about the VIP; nil: none within the time.
func next(t *testing.T, c *packet.Conn, wait time.Duration) (*ethernet.Frame, *arp.Packet) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(wait)))
	buf := make([]byte, 1500)
	for {
		n, _, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, nil
		}
		must(t, err)
		var f ethernet.Frame
		var a arp.Packet
		must(t, f.UnmarshalBinary(slices.Clone(buf[:n])))
		must(t, a.UnmarshalBinary(f.Payload))
		if a.SenderIP == testVIP.Addr() {
			return &f, &a
		}
	}
}

func TestAnnounceSendsBothForms(t *testing.T) {
	p := newPair(t)
	permit := newLease().term.Permit()
	_, err := p.host.Add(permit, p.link.Index, testVIP, "")
	must(t, err)
	c := capture(t, p)
	for range 2 { // the second through the socket that is open already
		must(t, p.host.Announce(permit, p.link, testVIP.Addr()))
		for _, op := range []arp.Operation{arp.OperationRequest, arp.OperationReply} {
			f, a := next(t, c, 2*time.Second)
			if f == nil {
				t.Fatalf("no %v", op)
			}
			if a.Operation != op || a.TargetIP != testVIP.Addr() || !slices.Equal(a.SenderHardwareAddr, p.link.MAC) {
				t.Errorf("packet is %+v, want a %v from %v", a, op, p.link.MAC)
			}
			if !slices.Equal(f.Destination, ethernet.Broadcast) || !slices.Equal(f.Source, p.link.MAC) {
				t.Errorf("frame goes from %v to %v", f.Source, f.Destination)
			}
		}
	}
}

func TestAnnounceUsesTheNewMAC(t *testing.T) {
	p := newPair(t)
	permit := newLease().term.Permit()
	_, err := p.host.Add(permit, p.link.Index, testVIP, "")
	must(t, err)
	must(t, p.host.Announce(permit, p.link, testVIP.Addr()))
	p.link.MAC = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	must(t, p.nl.LinkSetHardwareAddr(link(p.link.Index), p.link.MAC))
	c := capture(t, p)
	must(t, p.host.Announce(permit, p.link, testVIP.Addr()))
	if _, a := next(t, c, 2*time.Second); a == nil || !slices.Equal(a.SenderHardwareAddr, p.link.MAC) {
		t.Errorf("announced %+v, want from %v", a, p.link.MAC)
	}
}

func TestAnnounceNeedsAPermit(t *testing.T) {
	p := newPair(t)
	l := newLease()
	_, err := p.host.Add(l.term.Permit(), p.link.Index, testVIP, "")
	must(t, err)
	c := capture(t, p)
	l.now = 1000
	if err := p.host.Announce(l.term.Permit(), p.link, testVIP.Addr()); !errors.Is(err, ErrNoPermit) {
		t.Errorf("expired: %v", err)
	}
	l.now = 1
	if err := p.host.Announce(l.term.Permit(), p.link, netip.MustParseAddr("172.25.88.11")); !errors.Is(err, ErrNoPermit) {
		t.Errorf("another address: %v", err)
	}
	l.term.End()
	if err := p.host.Announce(l.term.Permit(), p.link, testVIP.Addr()); !errors.Is(err, ErrNoPermit) {
		t.Errorf("ended: %v", err)
	}
	if _, a := next(t, c, 100*time.Millisecond); a != nil {
		t.Errorf("announced without a lease: %+v", a)
	}
}

func TestAnnounceSaysWhatItCannot(t *testing.T) {
	h := &Host{senders: map[senderKey]*sender{}}
	p := newLease().term.Permit()
	for want, err := range map[string]error{
		"no Ethernet address": h.Announce(p, Link{Index: 1, Name: "tun0"}, testVIP.Addr()),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// watch runs Watch until the test ends and returns a channel with one element
// when something changed since it was last read.
func watch(t *testing.T, h *Host) <-chan struct{} {
	ctx, cancel := context.WithCancel(t.Context())
	ch, done := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		done <- h.Watch(ctx, func() {
			select {
			case ch <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	wait(t, ch, "subscription")
	return ch
}

func wait(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(5 * time.Second):
		t.Fatalf("no event for the %s", what)
	}
}

func TestWatchTellsOfOthersChanges(t *testing.T) {
	p := newPair(t)
	changed := watch(t, p.host)
	until := func(what string, cond func(Snapshot) bool) {
		t.Helper()
		for {
			s, err := p.host.Snapshot()
			must(t, err)
			if cond(s) {
				return
			}
			wait(t, changed, what)
		}
	}
	must(t, p.nl.AddrAdd(link(p.link.Index), address(testVIP, "")))
	until("added address", func(s Snapshot) bool { return s.Has(p.link.Index, testVIP) })
	must(t, p.nl.AddrDel(link(p.link.Index), address(testVIP, "")))
	until("removed address", func(s Snapshot) bool { return !s.Has(p.link.Index, testVIP) })
	must(t, p.nl.LinkSetDown(link(p.link.Index)))
	until("link down", func(s Snapshot) bool { l, _ := s.Named("eth0"); return !l.Up })
	must(t, p.nl.LinkSetUp(link(p.link.Index)))
	until("link up", func(s Snapshot) bool { l, _ := s.Named("eth0"); return l.Up && l.Carrier })
}

func TestWatchSurvivesAnOverrun(t *testing.T) {
	p := newPair(t)
	old := watchBuffer
	watchBuffer = 4096
	t.Cleanup(func() { watchBuffer = old })

	ctx, cancel := context.WithCancel(t.Context())
	entered, release := make(chan struct{}), make(chan struct{})
	calls := make(chan struct{}, 1000)
	done := make(chan error, 1)
	first := true
	go func() {
		done <- p.host.Watch(ctx, func() {
			if first {
				first = false
				close(entered)
				<-release
			}
			select {
			case calls <- struct{}{}:
			default:
			}
		})
	}()
	<-entered
	for range 200 {
		must(t, p.nl.AddrAdd(link(p.link.Index), address(testVIP, "")))
		must(t, p.nl.AddrDel(link(p.link.Index), address(testVIP, "")))
	}
	close(release)
	for deadline := time.After(5 * time.Second); p.host.Overruns() == 0; {
		select {
		case <-calls:
		case <-deadline:
			t.Fatal("no overrun was noticed")
		}
	}
	for len(calls) > 0 {
		<-calls
	}
	must(t, p.nl.AddrAdd(link(p.link.Index), address(testVIP, "")))
	wait(t, calls, "change after the overrun")
	cancel()
	must(t, <-done)
}
