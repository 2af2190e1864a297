package vip

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/vishvananda/netns"
)

// A real server: the VIP on lo, which the kernel keeps to itself.
func TestAddLoopback(t *testing.T) {
	p := newPair(t)
	s, err := p.host.Snapshot()
	must(t, err)
	lo, _ := s.Named("lo")
	if _, err := p.host.AddLoopback(p.link.Index, testVIP); !errors.Is(err, ErrNoPermit) {
		t.Errorf("on eth0, without a lease: %v", err)
	}
	for _, prefix := range []netip.Prefix{testVIP, testVIP6} {
		for _, there := range []bool{false, true} {
			if existed, err := p.host.AddLoopback(lo.Index, prefix); err != nil || existed != there {
				t.Errorf("%s: existed %v, %v", prefix, existed, err)
			}
		}
		// The owner has it on eth0 too; taking that off leaves lo's.
		permit := newLease().term.Permit()
		if prefix == testVIP6 {
			_, permit = permit6()
		}
		if existed, err := p.host.Add(permit, p.link.Index, prefix, ""); err != nil || existed {
			t.Errorf("%s on eth0 as well: existed %v, %v", prefix, existed, err)
		}
		must(t, p.host.Remove(p.link.Index, prefix))
		s, err = p.host.Snapshot()
		must(t, err)
		if !s.Has(lo.Index, prefix) || s.Has(p.link.Index, prefix) {
			t.Errorf("%s is at %v", prefix, s.Where(prefix.Addr()))
		}
		must(t, p.host.Remove(lo.Index, prefix))
	}
	if _, err := p.host.AddLoopback(4711, testVIP); err == nil {
		t.Error("on an interface that is not there")
	}
}

// Sysctls are the namespace's, not this process's.
func TestSysctl(t *testing.T) {
	p := newPair(t)
	const name = "net.ipv4.conf.all.arp_ignore"
	outside, err := (&Host{ns: netns.None()}).Sysctl(name)
	must(t, err)
	must(t, p.host.SetSysctl(name, "2"))
	if v, err := p.host.Sysctl(name); err != nil || v != "2" {
		t.Errorf("read back %q, %v", v, err)
	}
	if v, _ := (&Host{ns: netns.None()}).Sysctl(name); v != outside {
		t.Errorf("outside the namespace it became %q", v)
	}
	if _, err := p.host.Sysctl("net.ipv4.no_such"); err == nil {
		t.Error("a sysctl that is not there")
	}
}
