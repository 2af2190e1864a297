package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The generators draw from small pools, so that commands meet: same names,
// same addresses, same servers under several virtual servers, stale ids.

func TestApplyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := founded(t)
		if rapid.IntRange(0, 9).Draw(t, "from nothing") == 0 {
			table = New()
		}
		replica := table // follows through encoded commands, restored now and then
		given := map[MemberID]bool{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			c := drawCommand(t, table)
			before := mustSnapshot(t, table)
			next, result, err := table.Apply(c)
			if !bytes.Equal(before, mustSnapshot(t, table)) {
				t.Fatalf("Apply changed its input: %+v", c)
			}
			checkStep(t, table, next, c, result, err)
			if result.Changed && result.Member != "" {
				if given[result.Member] {
					t.Fatalf("id %s was given twice", result.Member)
				}
				given[result.Member] = true
			}
			replica = replay(t, replica, c)
			if rapid.IntRange(0, 4).Draw(t, "restart") == 0 {
				replica = restored(t, replica)
			}
			table = next
			if !bytes.Equal(mustSnapshot(t, table), mustSnapshot(t, replica)) {
				t.Fatalf("the replica differs:\n%s\n%s", mustSnapshot(t, table), mustSnapshot(t, replica))
			}
		}
	})
}

// checkStep holds one Apply to its promises.
func checkStep(t *rapid.T, table, next *Table, c Command, result Result, err error) {
	if err := next.Check(); err != nil {
		t.Fatalf("after %+v: %v", c, err)
	}
	if result.Revision != next.Revision {
		t.Fatalf("the result says revision %d, the table %d", result.Revision, next.Revision)
	}
	if (err != nil || !result.Changed) && next != table {
		t.Fatal("a command that changed nothing made a new table")
	}
	if err != nil && !slices.ContainsFunc([]error{ErrConflict, ErrInvalid, ErrNotFound, ErrUnknownCommand, ErrDenied},
		func(sentinel error) bool { return errors.Is(err, sentinel) }) {
		t.Fatalf("an error of no kind: %v", err)
	}
	if result.Changed && (next.Revision != table.Revision+1 || c.Tell == nil && next.Events[len(next.Events)-1].Revision != next.Revision) {
		t.Fatalf("revision %d to %d without its event", table.Revision, next.Revision)
	}
	if c.Apply != nil && err == nil {
		changes := table.Diff(c.Apply.Set, c.Apply.Config)
		if differs := len(changes) > 0; differs != result.Changed {
			t.Fatalf("diff says %v, apply %v", differs, result.Changed)
		}
		checkSummary(t, table, *c.Apply, changes)
		if left := next.Diff(c.Apply.Set, c.Apply.Config); len(left) > 0 {
			t.Fatalf("after the apply there is a difference left: %v", left)
		}
	}
	if c.Reinstate != nil && err == nil {
		if differs := len(table.DiffAgreement(c.Reinstate.Agreement)) > 0; differs != result.Changed {
			t.Fatalf("diff says %v, reinstate %v", differs, result.Changed)
		}
		if left := next.DiffAgreement(c.Reinstate.Agreement); len(left) > 0 {
			t.Fatalf("after a snapshot was restored there is a difference left: %v", left)
		}
	}
	checkPending(t, table, next, c, result)
	checkHealth(t, table, next)
	checkEffective(t, next)
	checkPlacement(t, next)
}

// checkSummary: a summary tells in short what Diff lists.
func checkSummary(t *rapid.T, table *Table, a ApplySet, changes []Change) {
	numbers, texts := map[string]int{}, make([]string, len(changes))
	for i, c := range changes {
		numbers[c.Op]++
		texts[i] = c.Op + " " + c.Path
	}
	long := fmt.Sprintf("%d added, %d changed, %d deleted: %s", numbers[OpAdd], numbers[OpChange], numbers[OpDelete], someOf(texts, changesTold))
	if short := table.summarise(a.Set, a.Config.canonical(a.Set)).String(); short != long {
		t.Fatalf("the summary is %q, the changes are %q", short, long)
	}
}

// checkPending: while a change waits for its confirmation nothing is applied, and
// an undo brings back what was before it.
func checkPending(t *rapid.T, table, next *Table, c Command, result Result) {
	p := table.Pending
	if p != nil && c.Apply != nil && result.Changed {
		t.Fatal("something was applied while a change waited for its confirmation")
	}
	if p == nil || c.Undo == nil || !result.Changed || len(table.ValidateSet(p.Set, p.Before)) > 0 {
		return
	}
	if left := next.Diff(p.Set, p.Before); len(left) > 0 || next.Pending != nil {
		t.Fatalf("after the undo: %v, %v", left, next.Pending)
	}
	last := next.History[len(next.History)-1]
	if c.Version == 0 && last.Revision != next.Revision {
		t.Fatalf("an undo is not in the history: %+v", last)
	}
}

// checkPlacement: to compute the places of a table again changes nothing, and
// nobody who stands for a unit could not hold it.
func checkPlacement(t *rapid.T, table *Table) {
	again := table.placing(table.places(), false).run()
	for id, p := range table.places() {
		if !again[id].equal(p) {
			t.Fatalf("unit %d: %+v becomes %+v when it is computed again", id, p, again[id])
		}
		order := table.Order(id)
		for _, m := range table.Members {
			if stands := slices.Contains(order, m.ID); stands != (m.presentDirector() && !m.Drained) {
				t.Fatalf("unit %d: %s stands for it: %v", id, m.ID, stands)
			}
		}
		if len(order) == 0 {
			t.Fatalf("unit %d: nobody stands for it", id)
		}
	}
	if spares := table.Spares(); len(spares) > table.Settings.Spares {
		t.Fatalf("%v are spare, %d wanted", spares, table.Settings.Spares)
	}
}

// checkHealth counts votes in its own naive way.
func checkHealth(t *rapid.T, table, next *Table) {
	for _, info := range next.Targets() {
		balance, downs := 0, 0
		for _, m := range next.Members {
			vote, ok := next.Votes[info.Target][m.ID]
			if ok && m.Role == Director && m.State == Present && !m.Silent {
				if vote.Up {
					balance++
				} else {
					balance--
					downs++
				}
			}
		}
		was, is := table.Health[info.Target].Down, next.Health[info.Target].Down
		want := was
		if !slices.ContainsFunc(table.Targets(), func(o TargetInfo) bool { return o.Target == info.Target }) {
			want = slices.ContainsFunc(info.Checks, func(c Check) bool { return c.Alpha }) // it is new
		}
		if balance != 0 {
			want = balance < 0
		}
		if next.Settings.Health == HealthAnyDown && downs > 0 {
			want = true
		}
		if is != want {
			t.Fatalf("%s: balance %d, was down=%v, is down=%v", info.Target, balance, was, is)
		}
		if is != was && next.Health[info.Target].Since != next.Revision {
			t.Fatalf("%s: turned, but says since %d", info.Target, next.Health[info.Target].Since)
		}
	}
}

// checkEffective compares the two views of the same thing.
func checkEffective(t *rapid.T, table *Table) {
	services := table.Effective()
	if len(services) != len(table.Services) {
		t.Fatalf("%d services are effective of %d", len(services), len(table.Services))
	}
	for i, s := range services {
		if table.Pooled {
			checkPool(t, table, table.Services[i], s)
		}
		weights := map[netip.AddrPort]int{}
		for _, d := range s.Dests {
			weights[netip.AddrPortFrom(d.Addr, d.Port)] = d.Weight
		}
		for _, state := range table.ServerStates(s.ServiceKey) {
			weight, in := weights[state.Server]
			if in != state.InKernel || weight != state.Effective {
				t.Fatalf("%s: effective %d (%v), state %+v", state.Server, weight, in, state)
			}
			if in && state.Admin == Disabled || weight > 0 && (state.Admin == Drained || state.Health.Down) {
				t.Fatalf("%s: it is served: %+v", state.Server, state)
			}
		}
	}
}

// checkPool: a pool is short or not as the weight that is up says, within the
// hysteresis either; and where it is, the sorry server alone has a weight.
func checkPool(t *rapid.T, table *Table, v VirtualServer, s Service) {
	up, backups, pooled := 0, 0, len(v.RealServers) > 0 || v.Sorry != nil
	for _, state := range table.ServerStates(v.ServiceKey) {
		if state.Health.Down || state.Admin != Enabled {
			continue
		}
		weight := state.Health.Weighs.of(state.Weight)
		if state.ByHand != nil {
			weight = *state.ByHand
		}
		if state.Backup {
			backups += weight
		} else {
			up += weight
		}
	}
	quorum, h := max(1, int(v.Quorum)), int(v.Hysteresis)
	short := slices.ContainsFunc(table.Short, func(p ShortPool) bool { return p.Service == v.ServiceKey })
	if pooled && (!short && (up == 0 || up < quorum-h) || short && up >= quorum+h) || !pooled && short {
		t.Fatalf("%s: weight %d is up, quorum %d, hysteresis %d: short %v", v.ServiceKey, up, quorum, h, short)
	}
	heavy, sorry := 0, v.Sorry != nil && short && backups == 0
	for _, d := range s.Dests {
		isSorry := v.Sorry != nil && d.Addr == v.Sorry.Addr
		isBackup := slices.ContainsFunc(v.RealServers, func(r RealServer) bool { return r.Backup && r.Addr == d.Addr && r.Port == d.Port })
		if d.Weight > 0 && (isSorry != sorry || isBackup && !short) {
			t.Fatalf("%s: short %v, and %s has weight %d", v.ServiceKey, short, d.Addr, d.Weight)
		}
		if d.Weight > 0 {
			heavy++
		}
	}
	if sorry && heavy != 1 {
		t.Fatalf("%s is short, and %d servers serve", v.ServiceKey, heavy)
	}
}

// replay applies c as the log would bring it.
func replay(t *rapid.T, table *Table, c Command) *Table {
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	next, _, _ := table.Apply(back)
	return next
}

func restored(t interface{ Fatal(...any) }, table *Table) *Table {
	next, err := Restore(mustSnapshot(t, table))
	if err != nil {
		t.Fatal(err)
	}
	return next
}
