package main

import (
	"fmt"
	"net/netip"
	"testing"

	"lbcluster/fsm"
	"lbcluster/journal"
)

func TestFitOnlyIfEachPartIs(t *testing.T) {
	got := ""
	f := newFitness(func(ok bool, why string) { got = fmt.Sprint(ok, " ", why) }, "data plane")
	gate, plane := f.of("gate"), f.of("data plane")
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { gate(true, "") }, "false data plane has not reported yet"},
		{func() { plane(true, "") }, "true "},
		{func() { gate(false, "eth0: no gate") }, "false eth0: no gate"},
		{func() { plane(false, "link") }, "false eth0: no gate"},
		{func() { plane(true, "") }, "false eth0: no gate"},
		{func() { plane(false, "link") }, "false eth0: no gate"},
		{func() { gate(true, "") }, "false link"},
		{func() { plane(true, "") }, "true "},
	} {
		if step.do(); got != step.want {
			t.Errorf("told %q, want %q", got, step.want)
		}
	}
}

// Each unit by itself: what is wrong with one does not stop the others, and one
// that nobody has looked at is not stood for.
func TestUnitsAreJudgedOneByOne(t *testing.T) {
	u := newUnitFitness(func(journal.Entry) {})
	all := func(netip.Addr) bool { return true }
	unfit := func() string { return leaseWant("m1", threeMembers(), fsm.VoterSet{}, all, u.why).Routers[0].Unfit }
	if got := unfit(); got != "its interface has not been looked at yet" {
		t.Errorf("before any report: %q", got)
	}
	u.set(7, false, "the link of eth7 is down")
	u.set(1, true, "")
	if got := unfit(); got != "" {
		t.Errorf("another unit's link counts: %q", got)
	}
	select {
	case <-u.changed:
	default:
		t.Error("nobody is told")
	}
	u.set(1, false, "the link of eth0 is down")
	if got := unfit(); got != "the link of eth0 is down" {
		t.Errorf("got %q", got)
	}
}
