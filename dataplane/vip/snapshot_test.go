package vip

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// hostOf builds a snapshot from "name addr addr ..." lines.
func hostOf(lines ...string) Snapshot {
	var s Snapshot
	for i, line := range lines {
		words := strings.Fields(line)
		s.Links = append(s.Links, Link{Index: i + 1, Name: words[0], Loopback: words[0] == "lo", Up: true, Carrier: true})
		for _, a := range words[1:] {
			s.Addrs = append(s.Addrs, Addr{Index: i + 1, Prefix: netip.MustParsePrefix(a)})
		}
	}
	return s
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name       string
		host       []string
		configured string
		want       string // interface, or what the error says
		err        error
	}{
		{"by network", []string{"lo 127.0.0.1/8", "ens3 172.25.88.11/24", "ens4 10.0.0.1/24"}, "eth0", "ens3", nil},
		{"nothing configured", []string{"ens3 172.25.88.11/24"}, "", "ens3", nil},
		{"the network beats the name", []string{"eth0 10.0.0.1/24", "eth1 172.25.88.11/24"}, "eth0", "eth1", nil},
		{"the name where no network holds it", []string{"eth0 10.0.0.1/24", "eth1 10.0.1.1/24"}, "eth0", "eth0", nil},
		{"the name where several do", []string{"eth0 172.25.88.11/24", "eth1 172.25.88.12/24"}, "eth1", "eth1", nil},
		{"the name beats the longer prefix", []string{"eth0 172.16.0.1/12", "eth1 172.25.88.12/24"}, "eth0", "eth0", nil},
		{"the longer prefix", []string{"eth0 172.16.0.1/12", "eth1 172.25.88.12/24"}, "ens9", "eth1", nil},
		{"several", []string{"eth0 172.25.88.11/24", "eth1 172.25.88.12/24"}, "ens9", "eth0, eth1", ErrAmbiguous},
		{"several, none named", []string{"eth0 172.25.88.11/24", "eth1 172.25.88.12/24"}, "", "name one", ErrAmbiguous},
		{"none", []string{"eth0 10.0.0.1/24"}, "ens9", "ens9 is not", ErrNoInterface},
		{"the VIP itself is no network", []string{"eth0 172.25.88.100/24", "eth1 10.0.0.1/8"}, "", "172.25.88.100", ErrNoInterface},
		{"another VIP is no network", []string{"eth0 172.25.88.101/24"}, "", "172.25.88.100", ErrNoInterface},
		{"a single address is no network", []string{"eth0 172.25.88.100/32"}, "", "172.25.88.100", ErrNoInterface},
		{"lo is no choice", []string{"lo 172.25.88.1/24"}, "", "172.25.88.100", ErrNoInterface},
		{"two addresses, one interface", []string{"eth0 172.25.88.11/24 172.25.88.12/24"}, "", "eth0", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			skip := map[netip.Addr]bool{netip.MustParseAddr("172.25.88.101"): true}
			l, err := Choose(netip.MustParseAddr("172.25.88.100"), c.configured, hostOf(c.host...), skip)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if c.err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %q does not say %q", err, c.want)
				}
			} else if l.Name != c.want {
				t.Errorf("chose %s, want %s", l.Name, c.want)
			}
		})
	}
}

func TestWhereAndHas(t *testing.T) {
	s := hostOf("lo 127.0.0.1/8 172.25.88.100/32", "eth0 172.25.88.11/24 172.25.88.100/24")
	vip := netip.MustParseAddr("172.25.88.100")
	if got := s.Where(vip); len(got) != 2 || got[0].Index != 1 || got[1].Prefix.Bits() != 24 {
		t.Errorf("Where: %v", got)
	}
	if s.Has(2, netip.PrefixFrom(vip, 32)) || !s.Has(2, netip.PrefixFrom(vip, 24)) {
		t.Error("Has must compare the prefix length")
	}
}

func TestAnnounceAt(t *testing.T) {
	for n, want := range []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 32 * time.Second, 62 * time.Second} {
		if got := AnnounceAt(n); got != want {
			t.Errorf("announcement %d at %v, want %v", n, got, want)
		}
	}
}
