package vip

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/dataplane/fence"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var testVIP6 = netip.MustParsePrefix("2001:db8::100/128")

func permit6() (*fence.Term, fence.Permit) {
	t := fence.NewTerm(1, []netip.Addr{testVIP6.Addr()}, 1000, func() int64 { return 1 })
	return t, t.Permit()
}

// An IPv6 VIP can be used at once, and is never this host's own source address.
func TestAddV6WithoutDAD(t *testing.T) {
	p := newPair(t)
	_, permit := permit6()
	existed, err := p.host.Add(permit, p.link.Index, testVIP6, "ignored")
	if err != nil || existed {
		t.Fatalf("Add: existed %v, %v", existed, err)
	}
	addrs, err := p.nl.AddrList(link(p.link.Index), netlink.FAMILY_V6)
	must(t, err)
	i := slices.IndexFunc(addrs, func(a netlink.Addr) bool { return a.IP.Equal(testVIP6.Addr().AsSlice()) })
	if i < 0 {
		t.Fatalf("not there: %v", addrs)
	}
	if f := addrs[i].Flags; f&unix.IFA_F_NODAD == 0 || f&unix.IFA_F_TENTATIVE != 0 || f&unix.IFA_F_DEPRECATED == 0 || f&unix.IFA_F_PERMANENT == 0 {
		t.Errorf("flags %#x, want NODAD, DEPRECATED and PERMANENT without TENTATIVE", f)
	}
	if existed, err = p.host.Add(permit, p.link.Index, testVIP6, ""); err != nil || !existed {
		t.Errorf("second Add: existed %v, %v", existed, err)
	}
	for range 2 {
		must(t, p.host.Remove(p.link.Index, testVIP6))
	}
	s, err := p.host.Snapshot()
	must(t, err)
	if len(s.Where(testVIP6.Addr())) != 0 {
		t.Error("still there")
	}
}

func TestV6SwitchedOff(t *testing.T) {
	p := newPair(t)
	must(t, p.host.inside(func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", []byte("1"), 0)
	}))
	_, permit := permit6()
	if _, err := p.host.Add(permit, p.link.Index, testVIP6, ""); err == nil || !strings.Contains(err.Error(), "IPv6 is switched off") {
		t.Errorf("got %v", err)
	}
	s, err := p.host.Snapshot()
	must(t, err)
	if _, err := s.LinkLocal(p.link.Index); !errors.Is(err, ErrNoLinkLocal) || !strings.Contains(err.Error(), "eth0 has none") {
		t.Errorf("link-local: %v", err)
	}
}

func TestLinkLocal(t *testing.T) {
	s := Snapshot{Links: []Link{{Index: 2, Name: "eth0"}}, Addrs: []Addr{
		{Index: 2, Prefix: netip.MustParsePrefix("169.254.1.1/16")},
		{Index: 3, Prefix: netip.MustParsePrefix("fe80::3/64")},
		{Index: 2, Prefix: netip.MustParsePrefix("2001:db8::1/64")},
		{Index: 2, Prefix: netip.MustParsePrefix("fe80::2/64"), Tentative: true},
	}}
	if _, err := s.LinkLocal(2); !errors.Is(err, ErrNoLinkLocal) || !strings.Contains(err.Error(), "checked for duplicates") {
		t.Errorf("tentative: %v", err)
	}
	s.Addrs[3].Tentative = false
	if a, err := s.LinkLocal(2); err != nil || a.String() != "fe80::2" {
		t.Errorf("got %v, %v", a, err)
	}
}

// capture6 opens a raw IPv6 socket on the neighbour's side.
func capture6(t *testing.T, p pair) *packet.Conn {
	t.Helper()
	var c *packet.Conn
	at := Host{ns: p.other}
	must(t, at.inside(func() error {
		ifi, err := net.InterfaceByName("peer0")
		if err != nil {
			return err
		}
		c, err = packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeIPv6), nil)
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return c
}

// nextNA reads one neighbour advertisement from the VIP; nil: none in time.
func nextNA(t *testing.T, c *packet.Conn, wait time.Duration) ([]byte, *ndp.NeighborAdvertisement) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(wait)))
	buf := make([]byte, 1500)
	for {
		n, _, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, nil
		}
		must(t, err)
		f := slices.Clone(buf[:n])
		if len(f) < 14+ipv6HeaderLen || f[20] != protoICMPv6 || netip.AddrFrom16([16]byte(f[22:])) != testVIP6.Addr() {
			continue
		}
		m, err := ndp.ParseMessage(f[14+ipv6HeaderLen:])
		must(t, err)
		if na, ok := m.(*ndp.NeighborAdvertisement); ok {
			return f, na
		}
	}
}

func TestAnnounceV6(t *testing.T) {
	p := newPair(t)
	_, permit := permit6()
	_, err := p.host.Add(permit, p.link.Index, testVIP6, "")
	must(t, err)
	c := capture6(t, p)
	for _, router := range []bool{false, true} {
		if router {
			must(t, p.host.inside(func() error {
				return os.WriteFile("/proc/sys/net/ipv6/conf/eth0/forwarding", []byte("1"), 0)
			}))
		}
		must(t, p.host.Announce(permit, p.link, testVIP6.Addr()))
		f, na := nextNA(t, c, 2*time.Second)
		if na == nil {
			t.Fatal("nothing heard")
		}
		if !na.Override || na.Solicited || na.Router != router || na.TargetAddress != testVIP6.Addr() {
			t.Errorf("advertisement %+v, want override, router %v", na, router)
		}
		if o, ok := na.Options[0].(*ndp.LinkLayerAddress); !ok || o.Direction != ndp.Target || !slices.Equal(o.Addr, p.link.MAC) {
			t.Errorf("option %+v", na.Options[0])
		}
		if !slices.Equal(f[:6], allNodesMAC) || !slices.Equal(f[6:12], p.link.MAC) || f[14+7] != ndpHopLimit {
			t.Errorf("frame % x", f[:14+ipv6HeaderLen])
		}
		dst := netip.AddrFrom16([16]byte(f[38:]))
		want, err := ndp.MarshalMessageChecksum(na, testVIP6.Addr(), dst)
		must(t, err)
		if dst != allNodes || !slices.Equal(want, f[14+ipv6HeaderLen:]) {
			t.Errorf("to %s with checksum % x", dst, f[14+ipv6HeaderLen:][2:4])
		}
	}
}

// The neighbour's kernel believes it.
func TestANeighbourLearnsTheVIP(t *testing.T) {
	p := newPair(t)
	_, permit := permit6()
	_, err := p.host.Add(permit, p.link.Index, testVIP6, "")
	must(t, err)
	peer := handle(t, p.other)
	l, err := peer.LinkByName("peer0")
	must(t, err)
	old := &netlink.Neigh{LinkIndex: l.Attrs().Index, IP: testVIP6.Addr().AsSlice(), State: netlink.NUD_STALE,
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 99}}
	must(t, peer.NeighAdd(old))
	must(t, p.host.Announce(permit, p.link, testVIP6.Addr()))
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		list, err := peer.NeighList(l.Attrs().Index, netlink.FAMILY_V6)
		must(t, err)
		i := slices.IndexFunc(list, func(n netlink.Neigh) bool { return n.IP.Equal(old.IP) })
		if i >= 0 && slices.Equal(list[i].HardwareAddr, p.link.MAC) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the neighbour has %v", list)
		}
	}
}

func TestAnnounceV6NeedsAPermit(t *testing.T) {
	p := newPair(t)
	term, permit := permit6()
	c := capture6(t, p)
	term.End()
	if err := p.host.Announce(permit, p.link, testVIP6.Addr()); !errors.Is(err, ErrNoPermit) {
		t.Errorf("ended: %v", err)
	}
	if _, na := nextNA(t, c, 100*time.Millisecond); na != nil {
		t.Errorf("announced without a lease: %+v", na)
	}
}
