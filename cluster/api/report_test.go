package api

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"lbcluster/fsm"
)

// voters makes a table of n directors, all of which vote.
func voters(n int) (*fsm.Table, []fsm.MemberID) {
	t := &fsm.Table{Cluster: "c"}
	var ids []fsm.MemberID
	for i := range n {
		id := fsm.MemberID(fmt.Sprintf("m%d", i+1))
		ids = append(ids, id)
		t.Members = append(t.Members, fsm.Member{
			ID: id, Name: fmt.Sprintf("dir%d", i+1), Role: fsm.Director, State: fsm.Present,
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 7500),
		})
	}
	return t, ids
}

func TestSurvivalCountsWhoCanHelp(t *testing.T) {
	for _, c := range []struct {
		name                     string
		voters, silent, embargos int
		failures                 int
	}{
		{"three", 3, 0, 0, 1},
		{"five", 5, 0, 0, 2},
		{"one of three is gone", 3, 1, 0, 0},
		{"two of three are gone", 3, 2, 0, -1},
		{"one of three has just restarted", 3, 0, 1, 0},
		{"one of five has just restarted", 5, 0, 1, 1},
		{"all have just restarted", 3, 0, 3, 0},
		{"alone", 1, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, ids := voters(c.voters)
			status := func(i int) DirectorStatus {
				s := DirectorStatus{Enrolled: true, ID: ids[i], Role: fsm.Director, Raft: RaftStatus{Voters: ids, Leader: "m1"}}
				s.Leases = []LeaseStatus{{Router: 1, State: LeaseIdle}}
				if i < c.embargos {
					s.Leases[0].EmbargoMS = 1200
				}
				return s
			}
			others := map[fsm.MemberID]DirectorReply{}
			for i := 1; i < c.voters; i++ {
				if i >= c.voters-c.silent {
					others[ids[i]] = DirectorReply{Error: "no answer within 1s"}
					continue
				}
				s := status(i)
				others[ids[i]] = DirectorReply{Status: &s}
			}
			got := BuildReport(table, status(0), others, time.Now()).Survival
			if got.Failures != c.failures || got.Embargoed != c.embargos || got.Answering != c.voters-c.silent {
				t.Errorf("got %+v, want %d failures", got, c.failures)
			}
			if c.failures < 1 && got.Advice == "" {
				t.Error("no advice although nothing may fail")
			}
		})
	}
}

// TestSurvivalCountsWhoCanHold: a majority that answers helps nobody if no
// second director can hold a VIP.
func TestSurvivalCountsWhoCanHold(t *testing.T) {
	idle, holder, unfit := LeaseStatus{Router: 1}, LeaseStatus{Router: 1, State: LeaseHolder}, LeaseStatus{Router: 1, Unfit: "eth0 has no carrier"}
	for _, c := range []struct {
		name     string
		drained  string // members, by number
		leases   [3]LeaseStatus
		able     int
		failures int
		advice   string
	}{
		{"all can", "", [3]LeaseStatus{holder, idle, idle}, 3, 1, ""},
		{"one is drained", "3", [3]LeaseStatus{holder, idle, idle}, 2, 1, ""},
		{"the others are drained", "23", [3]LeaseStatus{holder, idle, idle}, 1, 0, "only 1 of the 3 directors that answer can hold VI_1, and below stands what the others lack; drained: dir2, dir3 (lbcluster director fit dir2)"},
		{"the others are unfit", "", [3]LeaseStatus{holder, unfit, unfit}, 1, 0, "can hold VI_1"},
		{"a drained one keeps it, for want of a better", "1", [3]LeaseStatus{holder, unfit, unfit}, 1, 0, "drained: dir1"},
		{"nobody can", "", [3]LeaseStatus{unfit, unfit, unfit}, 0, 0, "only 0 of the 3 directors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, ids := voters(3)
			table.Routers = []fsm.Router{{ID: 1, Name: "VI_1", VRID: 51}}
			others, own := map[fsm.MemberID]DirectorReply{}, DirectorStatus{}
			for i := range ids {
				table.Members[i].Drained = strings.Contains(c.drained, fmt.Sprint(i+1))
				s := DirectorStatus{Enrolled: true, ID: ids[i], Role: fsm.Director, Raft: RaftStatus{Voters: ids, Leader: "m1"}, Leases: []LeaseStatus{c.leases[i]}}
				if others[ids[i]] = (DirectorReply{Status: &s}); i == 0 {
					own = s
				}
			}
			got := BuildReport(table, own, others, time.Now()).Survival
			if got.Able != c.able || got.Failures != c.failures || !strings.Contains(got.Advice, c.advice) || (c.advice == "") != (got.Advice == "") {
				t.Errorf("got %+v, want %d able, %d failures, advice %q", got, c.able, c.failures, c.advice)
			}
		})
	}
}

// A router that is gone leaves no row and no finding, whatever a member that
// lags still says of it.
func TestRemovedRouterLeavesNothing(t *testing.T) {
	table, ids := voters(1)
	of := func(router uint64) DirectorStatus {
		vip := netip.MustParsePrefix("172.25.88.100/32")
		return DirectorStatus{
			Enrolled: true, ID: ids[0], Role: fsm.Director, Raft: RaftStatus{Voters: ids, Leader: ids[0]},
			Kernel: KernelStatus{Applied: true}, Gate: GateStatus{Mode: GateTCX, Addresses: []GateAddress{{Addr: vip.Addr(), InDropped: 5}}},
			Leases:    []LeaseStatus{{Router: router, State: LeaseHolder, RemainingMS: 500, Renewals: 9, LeastLeft: 0.01}},
			VRRP:      []VRRPStatus{{Router: router, Heard: []Speaker{{Addr: vip.Addr()}}, Rejected: map[string]uint64{"password": 3}}},
			Addresses: []AddressStatus{{Router: router, Prefix: vip, Error: "no interface fits", Restored: 2}},
		}
	}
	table.Routers = []fsm.Router{{ID: 7, Name: "VI_7"}}
	if r := BuildReport(table, of(7), nil, time.Now()); len(r.Findings) < 4 || r.Routers[0].Owner == "" {
		t.Errorf("while it is there: %+v", r.Findings)
	}
	table.Routers = nil
	if r := BuildReport(table, of(7), nil, time.Now()); len(r.Routers)+len(r.Findings) > 0 {
		t.Errorf("rows %+v, findings %+v", r.Routers, r.Findings)
	}
}

// Packets that reach the old owner while the neighbours learn of a move are no
// finding; those that come later, or to a director that nobody took it from, are.
func TestStrays(t *testing.T) {
	v := &view{at: time.Date(2026, 1, 1, 0, 0, 10, 0, time.UTC)}
	ago := func(d time.Duration) time.Time { return v.at.Add(-d) }
	for _, c := range []struct {
		name    string
		since   time.Time
		dropped uint64
		last    int64 // ms ago
		want    bool
	}{
		{"just moved", ago(4 * time.Second), 3, 3500, false},
		{"moved, and still", ago(4 * time.Second), 3, 200, true},
		{"nobody has it", time.Time{}, 3, 200, true},
		{"owned for long", ago(time.Hour), 3, 200, true},
		{"long ago", ago(time.Hour), 3, 60_000, false},
		{"never", ago(time.Hour), 0, 0, false},
		{"unknown when", ago(time.Hour), 3, -1, false},
	} {
		if got := v.straysTo(RouterReport{HeldSince: c.since}, GateAddress{InDropped: c.dropped, LastDropAgeMS: c.last}); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
