package cluster

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"lbcluster/fsm"
)

// A member that was there counts by itself; one that has just started goes by
// the time in the table, but waits no longer than was asked for.
func TestCountdown(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	waiting := func(rev fsm.Revision, at time.Time) *fsm.Table {
		return &fsm.Table{Cluster: "c", Pending: &fsm.Pending{Revision: rev, At: at, Within: fsm.Duration(time.Minute)}}
	}
	calm := &fsm.Table{Cluster: "c"}
	for _, tt := range []struct {
		name   string
		before *fsm.Table // that it saw first; nil: it has just started
		made   time.Time  // by the clock of who made the change
		after  time.Duration
	}{
		{"live", calm, start, time.Minute},
		{"live, the other clock is behind", calm, start.Add(-time.Hour), time.Minute},
		{"live, the other clock is ahead", calm, start.Add(time.Hour), time.Minute},
		{"started in the middle", nil, start.Add(-20 * time.Second), 40 * time.Second},
		{"started too late", nil, start.Add(-time.Hour), 0},
		{"started, the other clock is ahead", nil, start.Add(time.Hour), time.Minute},
		{"an empty table is no sight", &fsm.Table{}, start.Add(-time.Hour), 0},
		{"the next change", waiting(3, start), start, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c countdown
			if tt.before != nil {
				c.look(tt.before, start.Add(-time.Second))
			}
			table := waiting(7, tt.made)
			c.look(table, start)
			if _, over := c.over(table, start.Add(tt.after-time.Millisecond)); over && tt.after > 0 {
				t.Error("too early")
			}
			if rev, over := c.over(table, start.Add(tt.after)); !over || rev != 7 {
				t.Errorf("after %v: revision %d, over %v", tt.after, rev, over)
			}
			if _, over := c.over(calm, start.Add(tt.after)); over {
				t.Error("it was confirmed, and is over all the same")
			}
			c.look(calm, start)
			if _, over := c.over(calm, start.Add(time.Hour)); over {
				t.Error("nothing waits, and is over")
			}
		})
	}
}

// unconfirmed applies a change that undoes itself and returns its revision.
func unconfirmed(t *testing.T, m *machineUnderTest, at time.Time) fsm.Revision {
	t.Helper()
	res, err := m.node.Propose(within10(t), fsm.Command{At: at, Apply: &fsm.ApplySet{
		Set: "default", ConfirmWithin: fsm.Duration(10 * time.Second), Config: fsm.Config{Globals: fsm.Globals{RouterID: "LVS"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return res.Revision
}

func undone(m *machineUnderTest) func() bool {
	return func() bool { t := m.node.Table(); return t.Pending == nil && len(t.Sets) == 0 }
}

// The member that applied, and led, dies: the others take the change back.
func TestUndoOutlivesTheApplier(t *testing.T) {
	t.Parallel()
	all := three(t)
	dead := leaderOf(t, all)
	begun := time.Now()
	rev := unconfirmed(t, dead, time.Time{})
	rest := slices.DeleteFunc(slices.Clone(all), func(m *machineUnderTest) bool { return m == dead })
	if err := rest[0].node.WaitRevision(within10(t), rev); err != nil {
		t.Fatal(err)
	}
	dead.stop()
	eventually(t, "the change is taken back", undone(rest[0]))
	if took := time.Since(begun); took < 10*time.Second {
		t.Errorf("after %v already", took)
	}
	if h := rest[0].node.Table().History; len(h) != 2 || h[1].Why == "" {
		t.Errorf("history: %+v", h)
	}
}

// Nobody ran when the time was over: whoever starts next takes it back at once.
func TestUndoAfterRestart(t *testing.T) {
	t.Parallel()
	m, _ := found(t, "a")
	unconfirmed(t, m, time.Now().Add(-time.Hour))
	if undone(m)() {
		t.Fatal("it was taken back before its time")
	}
	m.restart()
	begun := time.Now()
	eventually(t, "the change is taken back", undone(m))
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("only after %v", took)
	}
}

func TestConfirmKeepsTheChange(t *testing.T) {
	t.Parallel()
	m, _ := found(t, "a")
	rev := unconfirmed(t, m, time.Now().Add(-time.Hour))
	if _, err := m.node.Propose(within10(t), fsm.Command{Confirm: &fsm.Confirm{Revision: rev}}); err != nil {
		t.Fatal(err)
	}
	m.restart()
	write(t, m, "fast")
	if table := m.node.Table(); len(table.Sets) != 1 || table.Pending != nil {
		t.Errorf("sets %v, pending %v", table.Sets, table.Pending)
	}
}

// Each drain is counted by itself, from when it came into the table.
func TestDrainsAreCounted(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	with := func(all ...fsm.Override) *fsm.Table { return &fsm.Table{Cluster: "c", Overrides: all} }
	drained := func(server string, since time.Time) fsm.Override {
		return fsm.Override{Server: netip.MustParseAddrPort(server), State: fsm.Drained, Since: since, Within: fsm.Duration(time.Minute)}
	}
	a, b := drained("10.0.0.2:80", start.Add(-time.Hour)), drained("10.0.0.3:80", start)
	endless := fsm.Override{Server: netip.MustParseAddrPort("10.0.0.4:80"), State: fsm.Drained, Since: start}
	want := func(d *drains, table *fsm.Table, after time.Duration, server netip.AddrPort) {
		t.Helper()
		if o, over := d.over(table, start.Add(after)); over != server.IsValid() || o.Server != server {
			t.Errorf("after %v: %v is over (%v), not %v", after, o.Server, over, server)
		}
	}
	var live drains
	live.look(with(), start)
	live.look(with(a, endless), start) // its clock is an hour behind
	live.look(with(a, b, endless), start.Add(30*time.Second))
	want(&live, with(a, b, endless), 59*time.Second, netip.AddrPort{})
	want(&live, with(a, b, endless), 60*time.Second, a.Server)
	want(&live, with(b, endless), 89*time.Second, netip.AddrPort{})
	want(&live, with(b, endless), 90*time.Second, b.Server)
	want(&live, with(endless), time.Hour, netip.AddrPort{})
	again := a
	again.Since = start.Add(40 * time.Second)
	live.look(with(again), start.Add(40*time.Second))
	want(&live, with(again), 99*time.Second, netip.AddrPort{})
	want(&live, with(again), 100*time.Second, a.Server)

	var fresh drains // started an hour later: what the table says is over
	fresh.look(&fsm.Table{}, start)
	fresh.look(with(a, b), start.Add(20*time.Second))
	want(&fresh, with(a, b), 20*time.Second, a.Server)
	want(&fresh, with(b), 59*time.Second, netip.AddrPort{})
	want(&fresh, with(b), 60*time.Second, b.Server)
}

// The member that leads when the time is over ends a drain, once.
func TestDrainsEnd(t *testing.T) {
	t.Parallel()
	a, _ := found(t, "a")
	server := netip.MustParseAddrPort("10.0.0.2:80")
	cfg := fsm.Config{Services: []fsm.VirtualServer{{
		ServiceKey: fsm.ServiceKey{Addr: netip.MustParseAddr("10.0.0.100"), Port: 80, Protocol: fsm.TCP}, Scheduler: "rr", Method: fsm.DirectRouting,
		RealServers: []fsm.RealServer{{Addr: server.Addr(), Port: 80, Weight: 1}},
	}}}
	for _, c := range []fsm.Command{
		{Apply: &fsm.ApplySet{Set: "default", Config: cfg}},
		{Override: &fsm.SetOverride{Server: server, State: fsm.Drained, Within: fsm.Duration(time.Second)}},
	} {
		if _, err := a.node.Propose(within10(t), c); err != nil {
			t.Fatal(err)
		}
	}
	if o := a.node.Table().Overrides; len(o) != 1 || o[0].State != fsm.Drained {
		t.Fatalf("drained: %+v", o)
	}
	eventually(t, "the drain is over", func() bool { return a.node.Table().Overrides[0].State == fsm.Disabled })
	rev := a.node.Table().Revision
	time.Sleep(300 * time.Millisecond)
	if now := a.node.Table().Revision; now != rev {
		t.Errorf("it ended again: revision %d after %d", now, rev)
	}
}
