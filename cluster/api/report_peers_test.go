package api

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// What is said of those who advert a router's VRID.
func TestPeerFindings(t *testing.T) {
	peer := netip.MustParseAddr("10.0.0.9")
	router := fsm.Router{ID: 7, Name: "VI_1", VRID: 51, Priority: 100, Peering: fsm.Peering{Peers: []fsm.Peer{{Addr: peer}}}}
	v := &view{table: &fsm.Table{Routers: []fsm.Router{router}}}
	for _, c := range []struct {
		name  string
		owner fsm.MemberID
		said  []Speaker
		want  []string
	}{
		{"a stranger", "m1", []Speaker{{Addr: peer, Priority: 150, Reason: "another password than ours"}},
			[]string{"10.0.0.9, which is no member, sends VRRP adverts for VRID 51 (version 0, priority 150); they are ignored: another password than ours"}},
		{"a stranger that says it stops", "m1", []Speaker{{Addr: peer}},
			[]string{"10.0.0.9, which is no member, sends VRRP adverts for VRID 51 (version 0, priority 0); they are ignored"}},
		{"a peer that is understood", "m1", []Speaker{{Addr: peer, Listed: true, Priority: 150}}, nil},
		{"a peer that ignores us", "m1", []Speaker{{Addr: peer, Listed: true, Priority: 150, Reason: "advert interval 2s, ours is 1s"}},
			[]string{"VRRP peer 10.0.0.9 and VI_1 ignore each other, so that both may be MASTER: advert interval 2s, ours is 1s"}},
		{"other VIPs", "m1", []Speaker{{Addr: peer, Listed: true, Priority: 150, Warnings: []string{"lists [1.1.1.1], we list [2.2.2.2]"}}},
			[]string{"VRRP peer 10.0.0.9 of VI_1: lists [1.1.1.1], we list [2.2.2.2]; a keepalived before 2.3.3 ignores such adverts, and then both are MASTER"}},
		{"the same priority", "m1", []Speaker{{Addr: peer, Listed: true, Priority: 100}},
			[]string{"VRRP peer 10.0.0.9 and VI_1 have the same priority, 100"}},
		{"silent for long", "m1", []Speaker{{Addr: peer, Listed: true, Priority: 150, AgeMS: 60000}}, nil},
		{"silent, and it ignored us", "m1", []Speaker{{Addr: peer, Listed: true, Priority: 150, AgeMS: 60000, Reason: "advert interval 2s, ours is 1s"}},
			[]string{"VRRP peer 10.0.0.9 and VI_1 ignore each other, so that both may be MASTER: advert interval 2s, ours is 1s; it was last heard 1m0s ago, but"}},
		{"silent for very long", "m1", []Speaker{{Addr: peer, Listed: true, Priority: 150, AgeMS: 2 * 3600e3, Reason: "advert interval 2s, ours is 1s"}}, nil},
		{"silent, a stranger", "m1", []Speaker{{Addr: peer, Priority: 150, AgeMS: 60000, Reason: "advert interval 2s, ours is 1s"}}, nil},
		{"it stops", "m1", []Speaker{{Addr: peer, Listed: true, Reason: "advert interval 2s, ours is 1s"}}, nil},
		{"it has stopped", "m1", []Speaker{{Addr: peer, Listed: true, AgeMS: 60000, Reason: "advert interval 2s, ours is 1s"}}, nil},
		{"nobody serves, nobody heard", "", nil, []string{"VRRP peer 10.0.0.9 of VI_1 has not been heard"}},
	} {
		r := RouterReport{ID: 7, Name: "VI_1", VRID: 51, Owner: c.owner}
		for _, s := range c.said {
			r.Speakers = append(r.Speakers, SpeakerReport{Speaker: s})
		}
		got := v.peerFindings(r)
		if len(got) != len(c.want) {
			t.Errorf("%s: %+v, want %q", c.name, got, c.want)
			continue
		}
		for i, f := range got {
			if !strings.HasPrefix(f.Text, c.want[i]) {
				t.Errorf("%s: %q, want %q", c.name, f.Text, c.want[i])
			}
		}
	}
}

// While a peer is MASTER nobody of the cluster owns the router, and that is no
// failure.
func TestClusterStandsBy(t *testing.T) {
	router := fsm.Router{ID: 7, Name: "VI_1", Addresses: []fsm.Address{{Prefix: netip.MustParsePrefix("10.0.0.100/32")}}}
	v := &view{table: &fsm.Table{Routers: []fsm.Router{router}, Members: []fsm.Member{{ID: "m1"}}}, statuses: map[fsm.MemberID]*DirectorStatus{
		"m1": {VRRP: []VRRPStatus{{Router: 7, Stand: "BACKUP", Barred: "VRRP peer 10.0.0.9 is MASTER (priority 150, this router 100)"}}},
	}}
	got := v.routerFindings(RouterReport{ID: 7, Name: "VI_1"})
	if len(got) != 1 || got[0].Severity != Warn || !strings.Contains(got[0].Text, "the cluster stands by for VI_1 (): VRRP peer 10.0.0.9 is MASTER") {
		t.Errorf("%+v", got)
	}
}

// Rejected adverts are told of by reason, with who sent the last; a member of an
// older version knows the count alone.
func TestRejectedAdvertsAreExplained(t *testing.T) {
	table, ids := voters(1)
	table.Routers = []fsm.Router{{ID: 7, Name: "VI_7"}}
	s := DirectorStatus{Enrolled: true, ID: ids[0], Role: fsm.Director, VRRP: []VRRPStatus{{
		Router: 7, Rejected: map[string]uint64{"auth_pass": 12, "ttl": 3, "length": 0},
		LastRejected: map[string]Rejection{"auth_pass": {From: netip.MustParseAddr("10.0.0.9"), Reason: "another password than ours", AgeMS: 3400}},
	}}}
	var got []string
	for _, f := range BuildReport(table, s, nil, time.Now()).Findings {
		if strings.Contains(f.Text, "rejected") {
			got = append(got, f.Text)
		}
	}
	want := []string{
		"dir1: 12 VRRP adverts were rejected: auth_pass (the last from 10.0.0.9, 3s ago: another password than ours)",
		"dir1: 3 VRRP adverts were rejected: ttl",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
