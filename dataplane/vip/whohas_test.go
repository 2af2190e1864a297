package vip

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestWhoHas: the host at the other end of a cable answers for what it has, in
// either family, and for nothing else.
func TestWhoHas(t *testing.T) {
	here, there := newNamespace(t), newNamespace(t)
	near, far := handle(t, here), handle(t, there)
	must(t, near.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "far0", PeerNamespace: netlink.NsFd(there)}))
	up(t, near, "eth0")
	l := up(t, far, "far0")
	theirs := netip.MustParsePrefix("10.9.0.2/24")
	theirs6 := netip.MustParsePrefix("2001:db8:9::2/128")
	for _, p := range []netip.Prefix{theirs, theirs6} {
		a := address(p, "")
		a.Flags |= 0x02 // IFA_F_NODAD
		must(t, far.AddrAdd(l, a))
	}
	h, err := New(here)
	must(t, err)
	defer h.Close()
	s, err := h.Snapshot()
	must(t, err)
	eth, ok := s.Named("eth0")
	if !ok {
		t.Fatal("no eth0")
	}
	ask := func(addr string) net.HardwareAddr {
		t.Helper()
		var mac net.HardwareAddr
		must(t, within(here, func() (err error) {
			mac, err = WhoHas(context.Background(), eth, netip.MustParseAddr(addr), 3*time.Second)
			return err
		}))
		return mac
	}
	for _, addr := range []string{"10.9.0.2", "2001:db8:9::2"} {
		if mac := ask(addr); mac.String() != l.Attrs().HardwareAddr.String() {
			t.Errorf("%s: %v answers, want %v", addr, mac, l.Attrs().HardwareAddr)
		}
	}
	must(t, within(here, func() error {
		for _, addr := range []string{"10.9.0.3", "2001:db8:9::3"} {
			mac, err := WhoHas(context.Background(), eth, netip.MustParseAddr(addr), 500*time.Millisecond)
			if mac != nil || err != nil {
				t.Errorf("%s: %v, %v; nobody has it", addr, mac, err)
			}
		}
		return nil
	}))
}

// within runs f in a namespace.
func within(ns netns.NsHandle, f func() error) error {
	h := &Host{ns: ns}
	return h.inside(f)
}
