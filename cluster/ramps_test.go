package cluster

import (
	"net/netip"
	"testing"
	"time"

	"lbcluster/fsm"
)

// ramping is a table with one server whose slow start takes 50 s.
func ramping(since fsm.Revision, step int) (*fsm.Table, fsm.Target) {
	r := fsm.RealServer{Addr: netip.MustParseAddr("10.0.0.2"), Port: 80, Weight: 10, Checks: []fsm.Check{{
		Kind: fsm.CheckTCP, Dest: netip.MustParseAddrPort("10.0.0.2:80"), ConnectTimeout: fsm.Duration(time.Second), DelayLoop: fsm.Duration(time.Second),
	}}}
	return &fsm.Table{Cluster: "c", Services: []fsm.VirtualServer{
		{SlowStart: fsm.Duration(50 * time.Second), RealServers: []fsm.RealServer{r}}, {SlowStart: fsm.Duration(5 * time.Second)},
	}, Health: map[fsm.Target]fsm.Health{r.Target(): {Since: since, Step: step}}}, r.Target()
}

func TestRampsAreCounted(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var r ramps
	want := func(table *fsm.Table, after time.Duration, step int) {
		t.Helper()
		got := r.over(table, start.Add(after))
		if step == 0 && len(got) > 0 || step > 0 && (len(got) != 1 || got[0].Step != step) {
			t.Errorf("after %v: %+v, want step %d", after, got, step)
		}
	}
	one, _ := ramping(3, 1)
	two, target := ramping(3, 2)
	r.look(one, start)
	r.look(one, start.Add(5*time.Second)) // another change of the table begins nothing anew
	want(one, 9*time.Second, 0)
	want(one, 10*time.Second, 2)
	want(two, 10*time.Second, 0) // another leader was quicker
	r.look(two, start.Add(10*time.Second))
	want(two, 19*time.Second, 0)
	want(two, 20*time.Second, 3)
	again, _ := ramping(7, 1) // down and up meanwhile
	r.look(again, start.Add(20*time.Second))
	want(again, 29*time.Second, 0)
	want(again, 30*time.Second, 2)
	delete(again.Health, target)
	r.look(again, start.Add(30*time.Second))
	want(again, time.Hour, 0)
	if len(r.due) != 0 {
		t.Errorf("left: %v", r.due)
	}
}
