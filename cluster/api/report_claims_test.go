package api

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// Who answers for a VIP besides its owner is named as what it is.
func TestClaims(t *testing.T) {
	table, ids := voters(2)
	table.Members[1].Networks = []fsm.Network{{Prefix: netip.MustParsePrefix("172.25.88.12/24"), MAC: "02:00:00:00:00:0c"}}
	table.Routers = []fsm.Router{{ID: 7, Name: "VI_7"}}
	table.Services = []fsm.VirtualServer{{RealServers: []fsm.RealServer{{Addr: netip.MustParseAddr("172.25.88.2")}, {Addr: netip.MustParseAddr("2001:db8::2")}}}}
	addrs := func(all ...string) (out []netip.Addr) {
		for _, a := range all {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for _, c := range []struct {
		name      string
		vip       string
		claim     Claim
		text, fix string
	}{
		{"a real server", "172.25.88.100/32", Claim{MAC: "02:00:00:00:00:02", Addrs: addrs("172.25.88.2", "172.25.88.200")},
			"172.25.88.100: the real server 172.25.88.2 (02:00:00:00:00:02) answers for it too", "on 172.25.88.2: sysctl -w net.ipv4.conf.all.arp_ignore=1"},
		{"by its second address", "172.25.88.100/32", Claim{MAC: "02:00:00:00:00:02", Addrs: addrs("172.25.88.1", "172.25.88.2")},
			"the real server 172.25.88.2 ", "sysctl"},
		{"of IPv6", "2001:db8::100/128", Claim{MAC: "02:00:00:00:00:02", Addrs: addrs("2001:db8::2", "fe80::2")},
			"2001:db8::100: the real server 2001:db8::2 (02:00:00:00:00:02) answers for it too", "on 2001:db8::2: have 2001:db8::100 on lo only"},
		{"a member", "172.25.88.100/32", Claim{MAC: "02:00:00:00:00:0c", Addrs: addrs("172.25.88.2")}, "the member " + table.Members[1].Name + " (02:00:00:00:00:0c)", "its gate"},
		{"a stranger", "172.25.88.100/32", Claim{MAC: "02:00:00:00:00:77", Addrs: addrs("172.25.88.77")}, "172.25.88.77 (02:00:00:00:00:77), which is no real server", ""},
		{"nobody known", "172.25.88.100/32", Claim{MAC: "02:00:00:00:00:77"}, "a host with the MAC address 02:00:00:00:00:77 answers", ""},
	} {
		own := DirectorStatus{
			Enrolled: true, ID: ids[0], Role: fsm.Director, Raft: RaftStatus{Voters: ids, Leader: ids[0]},
			Kernel: KernelStatus{Applied: true}, Gate: GateStatus{Mode: GateTCX},
			Addresses: []AddressStatus{{Router: 7, Prefix: netip.MustParsePrefix(c.vip), Claims: []Claim{c.claim}}},
		}
		found := 0
		for _, f := range BuildReport(table, own, nil, time.Now()).Findings {
			if !strings.Contains(f.Text, "answers for it too") {
				continue
			}
			found++
			if f.Severity != Bad || !strings.Contains(f.Text, c.text) || !strings.Contains(f.Fix, c.fix) || (c.fix == "") != (f.Fix == "") {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
		if found != 1 {
			t.Errorf("%s: %d findings", c.name, found)
		}
	}
}
