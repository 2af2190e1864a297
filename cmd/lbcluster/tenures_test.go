package main

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/dataplane/fence"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// The former owner often was the leader: a report that was lost with it is made
// again until the table says who owns what.
func TestOwnershipIsReportedUntilTheTableSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := threeMembers()
		unit := table.Units()[0].ID
		table.Owners = map[uint64]fsm.MemberID{unit: "m2"}
		ten := newTenures(&recorder{}, nil, func(journal.Entry) {}, func(uint64) fsm.MemberID { return "" })
		leader, asked := true, 0
		propose := func(_ context.Context, c fsm.Command) (fsm.Result, error) {
			asked++
			if !leader {
				return fsm.Result{}, errors.New("no leader")
			}
			table.Owners = maps.Clone(table.Owners)
			if delete(table.Owners, c.Ownership.Router); c.Ownership.Owns {
				table.Owners[c.Ownership.Router] = c.Ownership.Member
			}
			return fsm.Result{}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- ten.report(ctx, "m1", func() *fsm.Table { return table }, propose) }()
		want := func(owner fsm.MemberID, what string) {
			t.Helper()
			time.Sleep(2500 * time.Millisecond)
			synctest.Wait()
			if got := table.Owners[unit]; got != owner {
				t.Errorf("%s: the table says %q, want %q", what, got, owner)
			}
		}
		table.Owners[unit] = "m1" // by the process before this one
		want("m1", "what may still be adopted")
		want("", "what was not adopted")
		table.Owners[unit], asked = "m2", 0
		want("m2", "somebody else's")
		if asked > 0 {
			t.Errorf("%d reports of what is so already", asked)
		}
		leader = false
		ten.Acquired(fence.NewTerm(unit, []netip.Addr{vipA}, 100, func() int64 { return 1 }).Permit())
		want("m2", "taken without a leader")
		leader = true
		want("m1", "a leader again")
		leader = false
		ten.Lost(unit, "its lease ran out")
		want("m1", "lost without a leader")
		leader = true
		want("", "a leader again")
		before := asked
		want("", "calm")
		if asked != before {
			t.Errorf("%d reports without need", asked-before)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAdoptingEndsWithTheAdoption(t *testing.T) {
	ten := newTenures(&recorder{}, map[netip.Addr]int64{vipA: 5}, func(journal.Entry) {}, func(uint64) fsm.MemberID { return "" })
	if !ten.adopting() {
		t.Error("what was inherited is still to be adopted")
	}
	ten.Acquired(fence.NewTerm(7, []netip.Addr{vipA}, 100, func() int64 { return 1 }).Permit())
	if ten.adopting() {
		t.Error("adopted, and still waited for")
	}
}
