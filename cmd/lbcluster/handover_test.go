package main

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"lbcluster/cluster/handover"
	"lbcluster/cluster/lease"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// peerSays is what m2 told lately.
func peerSays(units ...lease.UnitTold) []lease.PeerStatus {
	return []lease.PeerStatus{
		{ID: "m2", Ago: 100 * time.Millisecond, Units: units,
			Hears: []lease.Heard{{Member: "m1", Addr: netip.MustParseAddr("172.25.88.11")}},
			Paths: []lease.PathStatus{
				{Remote: netip.MustParseAddrPort("172.25.88.12:7500"), Alive: true},
				{Remote: netip.MustParseAddrPort("10.0.0.12:7500")},
				{Alive: true}, // TLS: not an address on a network
			}},
		{ID: "m3", Ago: -1},
	}
}

func told(unit uint64, ready bool, score int) lease.UnitTold {
	return lease.UnitTold{UnitStanding: lease.UnitStanding{Unit: unit, Ready: ready, Score: score, Why: "because"}, Ago: 300 * time.Millisecond}
}

func TestFactsForHandovers(t *testing.T) {
	own := lease.Standing{Behind: true, Units: []lease.UnitStanding{{Unit: 1, Ready: true, Score: 5}}}
	all := factsFor(time.Minute, 480*time.Millisecond, "m1", threeMembers(), derive(threeMembers()), own, map[uint64]bool{1: true}, peerSays(told(1, true, 9), told(2, true, 1)))
	if len(all) != 1 {
		t.Fatalf("%d units", len(all))
	}
	f := all[0]
	if !f.Owner || f.Unit.ID != 1 || f.Self != "m1" || !f.Own.Ready || !f.Own.Behind || f.Own.Score != 5 || f.Now != time.Minute {
		t.Errorf("%+v", f)
	}
	hears := hearing("m1", 480*time.Millisecond, peerSays())
	if h, ok := hears("m1"); !ok || !slices.Equal(h, []netip.Addr{netip.MustParseAddr("172.25.88.12")}) {
		t.Errorf("hears %v: what is alive and has an address", h)
	}
	if h, ok := hears("m2"); !ok || !slices.Equal(h, []netip.Addr{netip.MustParseAddr("172.25.88.11")}) {
		t.Errorf("m2 hears %v", h)
	}
	if _, ok := hears("m3"); ok {
		t.Error("m3 has told nothing")
	}
	if _, ok := hearing("m1", 50*time.Millisecond, peerSays())("m2"); ok {
		t.Error("what m2 told is too old")
	}
	r, ok := f.Others["m2"]
	if !ok || len(f.Others) != 1 || !r.Ready || r.Score != 9 || r.Ago != 300*time.Millisecond {
		t.Errorf("others: %+v", f.Others)
	}
	all = factsFor(0, time.Second, "m1", threeMembers(), derive(threeMembers()), own, nil, peerSays())
	if r := all[0].Others["m2"]; r.Ready || all[0].Owner {
		t.Errorf("a unit of which it does not speak: %+v", r)
	}
}

// Who is blind is known from the table, of this member and of those that have spoken.
func TestFactsTellWhoIsBlind(t *testing.T) {
	own := lease.Standing{Units: []lease.UnitStanding{{Unit: 1, Ready: true}}}
	known := derive(threeMembers())
	bad := fsm.Blindness{Why: "it finds 2 of 2 down", Wait: fsm.Duration(time.Second)}
	for _, c := range []struct {
		blind      fsm.MemberID
		own, other bool
	}{{"m1", true, false}, {"m2", false, true}, {"m3", false, false}} {
		known.blind = map[uint64]map[fsm.MemberID]fsm.Blindness{1: {c.blind: bad}, 2: {"m1": bad, "m2": bad}}
		f := factsFor(0, time.Second, "m1", threeMembers(), known, own, nil, peerSays(told(1, true, 0)))[0]
		if f.Unit.ID != 1 || f.Own.Blind == bad != c.own || f.Others["m2"].Blind == bad != c.other {
			t.Errorf("%s is blind: %+v, %+v", c.blind, f.Own, f.Others)
		}
		if _, spoke := f.Others["m3"]; spoke {
			t.Errorf("m3 has said nothing: %+v", f.Others)
		}
	}
}

// A decision is offered to the lease and recorded once, and taken back when the
// reason is gone.
func TestJudgesDecide(t *testing.T) {
	table := threeMembers()
	table.Members[0].Drained = true
	var notes []journal.Entry
	j := newJudges()
	decide := func(ready bool) {
		own := lease.Standing{Units: []lease.UnitStanding{{Unit: 1}}}
		j.decide(factsFor(time.Minute, 480*time.Millisecond, "m1", table, derive(table), own, map[uint64]bool{1: true}, peerSays(told(1, ready, 0))),
			func(e journal.Entry) { notes = append(notes, e) })
	}
	decide(false)
	if j.yield(1) != nil || j.waiting(1) != "dir1 is drained, but no other director is ready" || len(j.changed) != 0 {
		t.Errorf("%+v, waits %q", j.yield(1), j.waiting(1))
	}
	decide(true)
	decide(true)
	if y := j.yield(1); y == nil || y.To != "m2" || len(j.changed) != 1 {
		t.Fatalf("%+v", y)
	}
	if len(notes) != 1 || notes[0].Kind != journal.Handover || notes[0].Cause != journal.ByDrain || notes[0].Peers[0] != fsm.MemberID("m2") {
		t.Errorf("recorded %+v", notes)
	}
	<-j.changed
	w := lease.Want{Routers: []lease.Router{{ID: 1, Rank: -1, Addrs: []netip.Addr{vipA}}, {ID: 2, Rank: -1, Addrs: []netip.Addr{vipB}}}}
	j.offer(&w, table, "m1")
	if y := w.Routers[0].Yield; y == nil || *y != (lease.Yield{To: "m2", Why: "dir1 is drained", AtOnce: true}) || w.Routers[0].Rank != 3 || w.Routers[1].Rank != -1 || w.Routers[1].Yield != nil {
		t.Errorf("the lease is told %+v", w.Routers)
	}
	table.Members[0].Drained = false
	decide(true)
	if j.yield(1) != nil || len(j.changed) != 1 {
		t.Errorf("%+v is still offered", j.yield(1))
	}
	if (*judges)(nil).yield(1) != nil {
		t.Error("a witness hands something over")
	}
}

// What an operator ordered is recorded with who he was, the rest with its reason.
func TestHandoverEntry(t *testing.T) {
	table := threeMembers()
	u := table.Units()[0]
	table.Events = []fsm.Event{
		{Kind: "move", By: "eve@dir3", Text: u.Name + " is to go to dir3"},
		{Kind: "move", By: "root@dir1", Text: u.Name + " is to go to dir2"},
		{Kind: "move", By: "eve@dir3", Text: u.Name + "0 is to go to dir3"},
		{Kind: "member", By: "ann@dir2", Text: "dir1 (m1) is drained: it hands over what it holds and takes nothing"},
	}
	for _, c := range []struct {
		reason  handover.Reason
		drained bool
		cause   journal.Cause
		text    string
	}{
		{handover.Moved, false, journal.ByMove, "root@dir1"},
		{handover.Leaving, true, journal.ByDrain, "ann@dir2"},
		{handover.Leaving, false, journal.ByStop, "why"},
		{handover.FailBack, false, journal.GoHome, "why"},
		{handover.Unfit, false, journal.ToFitter, "why"},
		{handover.CutOff, false, journal.ByCutOff, "why"},
	} {
		table.Members[0].Drained = c.drained
		e := handoverEntry(u.ID, handover.Decision{To: "m2", Reason: c.reason, Why: "why"}, table, "m1")
		if e.Kind != journal.Handover || e.Unit != u.ID || e.Cause != c.cause || e.Text != c.text || len(e.Peers) != 1 || e.Peers[0] != "m2" {
			t.Errorf("%v: %+v", c.reason, e)
		}
	}
}

// What is given up with somebody ready for it is a handover too, unless a
// planned one was recorded before.
func TestPassedOn(t *testing.T) {
	closed := func(cause string, peers ...fsm.MemberID) journal.Entry {
		n, ok := leaseEntry(lease.Entry{Kind: lease.EntryClosed, Unit: 7, Cause: cause, Peers: peers, Deadline: 5, Boot: 4})
		if !ok || n.Deadline != 5 {
			t.Fatalf("%+v", n)
		}
		return n
	}
	if h, ok := passedOn(closed("the daemon stops", "m2")); !ok || h.Kind != journal.Handover || h.Cause != journal.ByStop || h.Unit != 7 || h.Boot != 4 || h.Peers[0] != "m2" {
		t.Errorf("%+v, %v", h, ok)
	}
	if h, ok := passedOn(closed("not fit for it: eth0 has no carrier", "m2")); !ok || h.Cause != journal.ToFitter {
		t.Errorf("%+v, %v", h, ok)
	}
	for _, none := range []journal.Entry{closed("the daemon stops"), closed("handed over to m2: an operator moved it", "m2"), {Kind: journal.Lost, Cause: journal.Stopping, Peers: []fsm.MemberID{"m2"}}} {
		if h, ok := passedOn(none); ok {
			t.Errorf("%+v", h)
		}
	}
}

// A new table reaches the kernel after a moment; only what lasts is lag.
func TestLags(t *testing.T) {
	j, at := newJudges(), time.Unix(1000, 0)
	for _, c := range []struct {
		after  time.Duration
		behind bool
		want   bool
	}{{0, true, false}, {time.Second, true, false}, {3 * time.Second, true, true}, {4 * time.Second, false, false}, {5 * time.Second, true, false}} {
		if got := j.lags(c.behind, at.Add(c.after)); got != c.want {
			t.Errorf("after %v, behind %v: %v", c.after, c.behind, got)
		}
	}
}

func TestLeaseEntriesInTheJournal(t *testing.T) {
	for _, c := range []struct {
		e    lease.Entry
		kind journal.Kind
		text string
	}{
		{lease.Entry{Kind: lease.EntryPathDead, Cause: "UDP a to b", Text: "nothing comes from m2"}, journal.PathDead, "UDP a to b"},
		{lease.Entry{Kind: lease.EntryRound, Text: "a renewal got 1"}, journal.RoundLost, "a renewal got 1"},
		{lease.Entry{Kind: lease.EntryClock, Text: "slow"}, journal.Clock, "slow"},
	} {
		if n, ok := leaseEntry(c.e); !ok || n.Kind != c.kind || n.Text != c.text {
			t.Errorf("%+v became %+v", c.e, n)
		}
	}
	if n, _ := leaseEntry(lease.Entry{Kind: lease.EntryClosed, Cause: "the lease ran out: x"}); n.Cause != journal.Expired {
		t.Errorf("%+v", n)
	}
	if _, ok := leaseEntry(lease.Entry{Kind: lease.EntryAcquired}); ok {
		t.Error("an acquisition is recorded twice")
	}
}

func TestLeaseWarnings(t *testing.T) {
	path := func(local, remote string, alive bool, heard time.Duration) lease.PathStatus {
		return lease.PathStatus{Local: netip.MustParseAddr(local), Remote: netip.MustParseAddrPort(remote), Alive: alive, Heard: heard}
	}
	ls := lease.Status{
		Trouble: map[netip.Addr]string{netip.MustParseAddr("10.0.0.11"): "cannot assign requested address"},
		Clock:   lease.ClockStatus{Alarm: "this machine's clock runs 9.0 % slow"},
		Peers: []lease.PeerStatus{
			{ID: "m2", Paths: []lease.PathStatus{{Alive: true}, path("172.25.88.11", "172.25.88.12:7500", false, 90*time.Second), path("10.0.0.11", "10.0.0.12:7500", false, -1)}},
			{ID: "m3", Paths: []lease.PathStatus{path("172.25.88.11", "172.25.88.13:7500", false, time.Second)}},
			{ID: "m4", Paths: []lease.PathStatus{{Alive: true}}},
		},
	}
	want := []string{
		"this machine's clock runs 9.0 % slow",
		"no lease packets over 10.0.0.11: cannot assign requested address",
		"dir2 is not heard over UDP 172.25.88.11 to 172.25.88.12 (since 1m30s), UDP 10.0.0.11 to 10.0.0.12 (never); leases go the other ways",
		"wit is not heard at all",
	}
	if got := leaseWarnings(ls, threeMembers()); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
