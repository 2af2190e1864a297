package vip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The neighbour answers for what it has on lo, as a real server does whose arp_ignore
// is 0, and is told by its other address; the host itself, which has it too, is not.
func TestClaimsOfANeighbour(t *testing.T) {
	p := newPair(t)
	far := handle(t, p.other)
	put := func(h *netlink.Handle, dev string, prefixes ...string) netlink.Link {
		l, err := h.LinkByName(dev)
		must(t, err)
		for _, s := range prefixes {
			a := address(netip.MustParsePrefix(s), "")
			a.Flags |= unix.IFA_F_NODAD
			must(t, h.AddrAdd(l, a))
		}
		return l
	}
	peer := put(far, "peer0", "172.25.88.2/24", "2001:db8::2/64", "2001:db8::100/128", "fe80::2/64").Attrs()
	put(far, "lo", "172.25.88.100/32")
	put(p.nl, "eth0", "172.25.88.100/32", "172.25.88.101/32", "2001:db8::11/64", "2001:db8::100/128", "2001:db8::101/128", "fe80::11/64")
	for _, a := range []string{"172.25.88.2", "2001:db8::2"} { // as if it had been checked
		must(t, p.nl.NeighSet(&netlink.Neigh{LinkIndex: p.link.Index, State: unix.NUD_STALE, IP: net.ParseIP(a), HardwareAddr: peer.HardwareAddr}))
	}
	for addr, want := range map[string]string{
		"172.25.88.100": fmt.Sprintf("[%s (172.25.88.2, 2001:db8::2)]", peer.HardwareAddr),
		"172.25.88.101": "[]",
		"2001:db8::100": fmt.Sprintf("[%s (172.25.88.2, 2001:db8::2)]", peer.HardwareAddr),
		"2001:db8::101": "[]",
		"172.25.88.102": "[]",
		"172.25.88.2":   fmt.Sprintf("[%s (2001:db8::2)]", peer.HardwareAddr),
	} {
		got, err := p.host.Claims(context.Background(), p.link, netip.MustParseAddr(addr), time.Second)
		var known []Claim // link-local addresses come and go
		for _, c := range got {
			k := Claim{MAC: c.MAC}
			for _, a := range c.Addrs {
				if !a.IsLinkLocalUnicast() {
					k.Addrs = append(k.Addrs, a)
				}
			}
			known = append(known, k)
		}
		if fmt.Sprint(known) != want || err != nil {
			t.Errorf("%s: %v, %v, want %s", addr, known, err, want)
		}
	}
	lo := Link{Index: 1, Name: "lo", Loopback: true, MAC: make(net.HardwareAddr, 6)}
	if got, err := p.host.Claims(context.Background(), lo, netip.MustParseAddr("172.25.88.100"), time.Second); got != nil || err != nil {
		t.Errorf("on lo: %v, %v", got, err)
	}
	if _, err := p.host.Claims(context.Background(), Link{Index: 999, Name: "gone0", MAC: p.link.MAC}, netip.MustParseAddr("172.25.88.100"), time.Second); err == nil {
		t.Error("no error for an interface that is not there")
	}
}

// Each host is named once, and only by what its neighbours surely know.
func TestClaimsNameHosts(t *testing.T) {
	mac := func(b byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, b} }
	near := func(ip string, m net.HardwareAddr, state int) netlink.Neigh {
		return netlink.Neigh{IP: net.ParseIP(ip), HardwareAddr: m, State: state}
	}
	got := claims([]net.HardwareAddr{mac(3), mac(2), mac(3)}, []netlink.Neigh{
		near("172.25.88.100", mac(2), unix.NUD_REACHABLE), near("172.25.88.9", mac(2), unix.NUD_FAILED),
		near("172.25.88.5", mac(2), unix.NUD_STALE), near("172.25.88.2", mac(2), unix.NUD_REACHABLE), near("172.25.88.4", mac(4), unix.NUD_REACHABLE),
	}, netip.MustParseAddr("172.25.88.100"))
	if want := "[02:00:00:00:00:02 (172.25.88.2, 172.25.88.5) 02:00:00:00:00:03]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
	if !bytes.Equal(got[1].MAC, mac(3)) {
		t.Errorf("%v", got)
	}
}

func TestWhereNeighboursCanBeAsked(t *testing.T) {
	s := hostOf("lo 127.0.0.1/8", "eth0 172.25.88.11/24 fe80::11/64", "eth1 10.0.0.11/24", "tun0 10.1.0.11/24 fe80::12/64")
	for i := range s.Links[:3] {
		s.Links[i].MAC = net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}
	}
	for _, c := range []struct {
		dev, addr string
		want      bool
	}{
		{"lo", "172.25.88.100", false},
		{"eth0", "172.25.88.100", true}, {"eth0", "2001:db8::100", true},
		{"eth1", "172.25.88.100", true}, {"eth1", "2001:db8::100", false}, // no link-local address
		{"tun0", "172.25.88.100", false}, {"tun0", "2001:db8::100", false}, // no MAC
	} {
		l, _ := s.Named(c.dev)
		if got := asks(s, l, netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("%s on %s: %v", c.addr, c.dev, got)
		}
	}
}
