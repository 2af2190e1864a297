package main

import (
	"testing"
	"time"

	"lbcluster/cluster/lease"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// Who of the others keeps this member from a unit: candidates heed everybody, an
// owner only those who hear a peer of higher priority.
func TestOthersYield(t *testing.T) {
	table := &fsm.Table{Members: []fsm.Member{{ID: "m2", Name: "dir2"}}}
	told := func(ago time.Duration, u lease.UnitStanding) []lease.PeerStatus {
		u.Unit, u.Why = 7, "VRRP peer 10.0.0.9 is MASTER (priority 150, this router 100)"
		return []lease.PeerStatus{{ID: "m2", Ago: ago, Units: []lease.UnitTold{{UnitStanding: u, Ago: ago}}}}
	}
	for _, c := range []struct {
		name  string
		peers []lease.PeerStatus
		owns  bool
		bars  bool
	}{
		{"nobody yields", told(0, lease.UnitStanding{}), false, false},
		{"a candidate, equal priority", told(0, lease.UnitStanding{Yields: true}), false, true},
		{"the owner, equal priority", told(0, lease.UnitStanding{Yields: true}), true, false},
		{"the owner, higher priority", told(0, lease.UnitStanding{Yields: true, YieldsHigher: true}), true, true},
		{"said too long ago", told(time.Second, lease.UnitStanding{Yields: true, YieldsHigher: true}), false, false},
		{"never said", told(-1, lease.UnitStanding{Yields: true, YieldsHigher: true}), false, false},
	} {
		v := newVRRPStands(func() {})
		if changed := v.hear(table, c.peers, map[uint64]bool{7: c.owns}, 500*time.Millisecond); changed != c.bars {
			t.Errorf("%s: changed %v", c.name, changed)
		}
		why := v.why(fsm.Unit{ID: 7, Routers: []uint64{7}})
		if want := "VRRP peer 10.0.0.9 is MASTER (priority 150, this router 100), as dir2 hears"; c.bars && why != want || !c.bars && why != "" {
			t.Errorf("%s: kept off for %q", c.name, why)
		}
		if c.bars && !v.hear(table, nil, nil, time.Second) {
			t.Errorf("%s: the end of it is no change", c.name)
		}
	}
}

// What this member hears of any router of a unit keeps it from the unit.
func TestBarredUnit(t *testing.T) {
	pokes := 0
	v := newVRRPStands(func() { pokes++ })
	u := fsm.Unit{ID: 9, Routers: []uint64{3, 4}}
	v.bar(4, "a peer is MASTER")
	if v.why(u) != "a peer is MASTER" || pokes != 1 {
		t.Errorf("%q, %d pokes", v.why(u), pokes)
	}
	v.bar(4, "")
	if v.why(u) != "" || pokes != 2 {
		t.Errorf("%q, %d pokes", v.why(u), pokes)
	}
}

func TestWhenPeersAreAsked(t *testing.T) {
	for why, want := range map[string]bool{
		"the lease ran out: no majority of the voters answered in time": true,
		"the daemon stops" + lease.NobodyNext:                           true,
		"the daemon stops":                                              false, // another is about to serve
		"handed over to m2: moved by alice":                             false,
	} {
		if asksPeers(why) != want {
			t.Errorf("%q: %v", why, !want)
		}
	}
	if lostCause("the daemon stops"+lease.NobodyNext) != journal.Stopping {
		t.Error("the journal does not know the cause any more")
	}
}
