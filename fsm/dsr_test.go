package fsm

import (
	"net/netip"
	"strings"
	"testing"
)

func TestDSRRefused(t *testing.T) {
	for want, change := range map[string]func(*VirtualServer, *Check){
		"":                         func(*VirtualServer, *Check) {},
		"kinds tcp, http":          func(_ *VirtualServer, c *Check) { c.Kind = CheckPing },
		"a firewall mark has none": func(v *VirtualServer, _ *Check) { v.ServiceKey = ServiceKey{Mark: 7} },
		"nothing answers":          func(v *VirtualServer, _ *Check) { v.Protocol = UDP },
		"with NAT":                 func(v *VirtualServer, _ *Check) { v.Method = Masquerade },
		"address family": func(v *VirtualServer, _ *Check) {
			v.RealServers[0].Addr = netip.MustParseAddr("2001:db8::1")
			v.Method = Tunnel
		},
		"not 10.0.0.9:80": func(_ *VirtualServer, c *Check) { c.Dest = netip.MustParseAddrPort("10.0.0.9:80") },
		"none of bindto":  func(_ *VirtualServer, c *Check) { c.Mark = 7 },
	} {
		v := VirtualServer{
			ServiceKey: ServiceKey{Addr: netip.MustParseAddr("10.0.0.100"), Port: 80, Protocol: TCP}, Method: DirectRouting,
			RealServers: []RealServer{{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80}},
		}
		c := Check{Kind: CheckTCP, DSR: true, Dest: netip.MustParseAddrPort("10.0.0.100:80")}
		change(&v, &c)
		var p problems
		p.dsr(v, v.RealServers[0], c)
		var got []string
		for _, one := range p.list {
			got = append(got, one.Text)
		}
		if all := strings.Join(got, "; "); (want == "") != (all == "") || !strings.Contains(all, want) {
			t.Errorf("%q, want %q", all, want)
		}
	}
	c := Check{Kind: CheckTCP, DSR: true, Dest: netip.MustParseAddrPort("10.0.0.100:80")}
	if c.asV2() || !strings.Contains(c.text(netip.MustParseAddrPort("10.0.0.1:80")), " dsr") {
		t.Errorf("%s: %v", c.text(netip.AddrPort{}), c.asV2())
	}
}
