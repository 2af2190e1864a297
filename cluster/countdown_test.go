package cluster

import (
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
