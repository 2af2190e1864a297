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

// What the process before held is adopted while its gate is open; what is won
// later is won anew, and the record says so.
func TestAdoptingEndsWithTheAdoption(t *testing.T) {
	for name, c := range map[string]struct {
		at    int64 // when the lease is there; the gate was open until 500
		cause journal.Cause
	}{"while the gate is open": {499, journal.Adopted}, "after another owner": {5000, ""}} {
		t.Run(name, func(t *testing.T) {
			var noted []journal.Entry
			ten := newTenures(&recorder{}, map[netip.Addr]int64{vipA: 500}, func(e journal.Entry) { noted = append(noted, e) }, func(uint64) fsm.MemberID { return "" })
			now := int64(1)
			ten.now = func() int64 { return now }
			if !ten.adopting() {
				t.Error("what was inherited is still to be adopted")
			}
			now = c.at
			ten.Acquired(fence.NewTerm(7, []netip.Addr{vipA}, 9999, func() int64 { return now }).Permit())
			if ten.adopting() {
				t.Error("adopted or lost, and still waited for")
			}
			if len(noted) != 1 || noted[0].Kind != journal.Acquired || noted[0].Cause != c.cause {
				t.Errorf("noted %+v, want the cause %q", noted, c.cause)
			}
		})
	}
}
