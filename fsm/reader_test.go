package fsm

import (
	"fmt"
	"net/netip"
	"testing"
)

// Which VIPs belong on which host.
func TestVIPsServedBy(t *testing.T) {
	addr := netip.MustParseAddr
	server := func(a string, m Method) RealServer { return RealServer{Addr: addr(a), Port: 80, Weight: 1, Method: m} }
	table := &Table{Services: []VirtualServer{
		{ServiceKey: ServiceKey{Addr: addr("172.16.0.9"), Port: 80, Protocol: TCP}, Method: DirectRouting, RealServers: []RealServer{server("10.0.0.2", ""), server("10.0.0.3", Masquerade)}},
		{ServiceKey: ServiceKey{Addr: addr("172.16.0.1"), Port: 80, Protocol: TCP}, Method: DirectRouting, RealServers: []RealServer{server("10.0.0.2", Tunnel)}},
		{ServiceKey: ServiceKey{Addr: addr("172.16.0.1"), Port: 443, Protocol: TCP}, Method: DirectRouting, RealServers: []RealServer{server("10.0.0.2", "")}},
		{ServiceKey: ServiceKey{Addr: addr("172.16.0.3"), Port: 80, Protocol: TCP}, Method: Masquerade, RealServers: []RealServer{server("10.0.0.2", "")}, Sorry: &SorryServer{Addr: addr("10.0.0.3")}},
		{ServiceKey: ServiceKey{Addr: addr("172.16.0.4"), Port: 80, Protocol: TCP}, Method: DirectRouting, RealServers: []RealServer{server("10.0.0.4", "")}, Sorry: &SorryServer{Addr: addr("10.0.0.3"), Port: 80}},
		{ServiceKey: ServiceKey{Mark: 7}, Method: DirectRouting, RealServers: []RealServer{server("10.0.0.4", "")},
			Matches: []Match{{Addr: netip.MustParsePrefix("172.16.0.5/32"), Protocol: TCP}, {Addr: netip.MustParsePrefix("172.16.1.0/24"), Protocol: TCP}}},
		{ServiceKey: ServiceKey{Addr: addr("2001:db8::1"), Port: 80, Protocol: TCP}, Method: DirectRouting, RealServers: []RealServer{server("2001:db8::2", "")}},
	}}
	for _, c := range []struct {
		own  []string
		want string
	}{
		{nil, "[]"},
		{[]string{"10.9.9.9"}, "[]"},
		{[]string{"10.0.0.2"}, "[172.16.0.1 172.16.0.9]"},
		{[]string{"10.0.0.3"}, "[172.16.0.4]"},
		{[]string{"10.0.0.4"}, "[172.16.0.4 172.16.0.5]"},
		{[]string{"10.0.0.2", "172.16.0.9", "2001:db8::2"}, "[172.16.0.1 2001:db8::1]"},
	} {
		var own []netip.Addr
		for _, a := range c.own {
			own = append(own, addr(a))
		}
		if got := table.VIPsServedBy(own); fmt.Sprint(got) != c.want {
			t.Errorf("host with %v: %v, want %s", c.own, got, c.want)
		}
	}
}
