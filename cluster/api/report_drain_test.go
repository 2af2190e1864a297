package api

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// Of a drained server's connections the owner's count is told; without an owner that
// answers, the highest.
func TestConnectionsLeftOfADrainedServer(t *testing.T) {
	table, ids := voters(3)
	vip, server := netip.MustParseAddr("172.25.88.100"), netip.MustParseAddrPort("172.25.88.2:80")
	key := fsm.ServiceKey{Addr: vip, Port: 80, Protocol: fsm.TCP}
	table.Routers = []fsm.Router{{ID: 7, Name: "VI_7", Addresses: []fsm.Address{{Prefix: netip.PrefixFrom(vip, 32)}}}}
	table.Services = []fsm.VirtualServer{{ServiceKey: key, RealServers: []fsm.RealServer{{Addr: server.Addr(), Port: 80, Weight: 1}}}}
	status := func(i int, holds bool, active, inactive uint32) DirectorStatus {
		s := DirectorStatus{Enrolled: true, ID: ids[i], Role: fsm.Director}
		s.Kernel.Draining = []DrainStatus{{Service: key.String(), Server: server, Active: active, Inactive: inactive}}
		if holds {
			s.Leases = []LeaseStatus{{Router: 7, State: LeaseHolder, RemainingMS: 500}}
		}
		return s
	}
	report := func(owner bool, active, inactive uint32) ServerReport {
		a, b := status(1, owner, active, inactive), status(2, false, 90, 9)
		r := BuildReport(table, status(0, false, 70, 0), map[fsm.MemberID]DirectorReply{ids[1]: {Status: &a}, ids[2]: {Status: &b}}, time.Now())
		return r.Services[0].Servers[0]
	}
	if r := report(true, 3, 0); r.Left != nil || strings.Contains(r.Why, "left") {
		t.Errorf("not drained: %+v", r)
	}
	table.Overrides = []fsm.Override{{Server: server, State: fsm.Drained, By: "ann"}}
	for _, c := range []struct {
		owner            bool
		active, inactive uint32
		want             string
	}{
		{true, 3, 0, "; 3 connections left"},
		{true, 1, 2, "; 1 connection left, 2 closing"},
		{true, 0, 0, "; no connection left"},
		{true, 0, 5, "; no connection left, 5 closing"},
		{false, 3, 0, "; 90 connections left, 9 closing"},
	} {
		if r := report(c.owner, c.active, c.inactive); r.Left == nil || !strings.HasSuffix(r.Why, c.want) {
			t.Errorf("%+v: %q", c, r.Why)
		}
	}
}
