package fsm

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// placed is a table with so many present directors and units, without the
// trouble of commands.
func placed(directors, units, spares int) *Table {
	t := &Table{Settings: Settings{Spares: spares}, Owners: map[uint64]MemberID{}}
	for i := range directors {
		t.Members = append(t.Members, Member{ID: memberID(uint64(i + 1)), Name: fmt.Sprint("dir", i+1), Role: Director, State: Present})
	}
	for i := range units {
		t.Routers = append(t.Routers, Router{ID: uint64(i + 1), Name: fmt.Sprint("VI_", i+1)})
	}
	t.replace()
	return t
}

// replace computes the places again, as Apply does.
func (t *Table) replace() { t.Places = t.placing(t.Places, false).run() }

func (t *Table) leaves(id MemberID) {
	t.Members = slices.DeleteFunc(slices.Clone(t.Members), func(m Member) bool { return m.ID == id })
	t.Owners = keep(t.Owners, func(_ uint64, owner MemberID) bool { return owner != id })
	t.replace()
}

func (t *Table) joinsAs(id MemberID) {
	t.Members = append(slices.Clone(t.Members), Member{ID: id, Name: string(id), Role: Director, State: Present})
	t.replace()
}

// everybodyHome makes the homes owners.
func (t *Table) everybodyHome() {
	t.Owners = map[uint64]MemberID{}
	for id, p := range t.Places {
		t.Owners[id] = p.home()
	}
}

// spread is the least and the most that the directors not down and not in except hold.
func spread(t *Table, down, except map[MemberID]bool) (least, most int) {
	held := holdings(t, down)
	least = len(t.Routers)
	for _, m := range t.Members {
		if !down[m.ID] && !except[m.ID] {
			least, most = min(least, len(held[m.ID])), max(most, len(held[m.ID]))
		}
	}
	return least, most
}

func set(ids ...MemberID) map[MemberID]bool {
	s := map[MemberID]bool{}
	for _, id := range ids {
		s[id] = true
	}
	return s
}

func movedHomes(was, is map[uint64]Place) int {
	n := 0
	for id, p := range is {
		if old, ok := was[id]; ok && old.home() != p.home() {
			n++
		}
	}
	return n
}

// Homes are even; and so are the holdings after any first failure, and nearly
// so after any second.
func TestPlacementIsEven(t *testing.T) {
	worst := 0
	rapid.Check(t, func(t *rapid.T) {
		directors := rapid.IntRange(2, 7).Draw(t, "directors")
		table := placed(directors, rapid.IntRange(1, 40).Draw(t, "units"), rapid.IntRange(0, 2).Draw(t, "spares"))
		spares := set(table.Spares()...)
		if want := min(table.Settings.Spares, directors-1); len(spares) != want {
			t.Fatalf("%d spares, want %d", len(spares), want)
		}
		if least, most := spread(table, nil, spares); most > least+1 {
			t.Fatalf("homes: %d to %d", least, most)
		}
		for _, a := range table.Members {
			if least, most := spread(table, set(a.ID), spares); len(spares) == 0 && most > least+1 {
				t.Fatalf("without %s: %d to %d", a.ID, least, most)
			}
			for _, b := range table.Members {
				if a.ID == b.ID || directors < 3 || len(spares) > 0 {
					continue
				}
				least, most := spread(table, set(a.ID, b.ID), nil)
				worst = max(worst, most-least)
				if most > least+2 {
					t.Fatalf("without %s and %s: %d to %d", a.ID, b.ID, least, most)
				}
			}
		}
	})
	t.Logf("after two failures: within %d", worst)
}

// With spares, a failed director is replaced, and nobody else holds more.
func TestSparesTakeWhatFails(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		directors, spares := rapid.IntRange(3, 7).Draw(t, "directors"), rapid.IntRange(1, 2).Draw(t, "spares")
		table := placed(directors, rapid.IntRange(1, 40).Draw(t, "units"), min(spares, directors-2))
		before := holdings(table, nil)
		idle := set(table.Spares()...)
		for _, a := range table.Members {
			after := holdings(table, set(a.ID))
			least, most := len(table.Routers), 0
			for _, m := range table.Members {
				switch {
				case m.ID == a.ID:
				case idle[m.ID]:
					least, most = min(least, len(after[m.ID])), max(most, len(after[m.ID]))
				case len(after[m.ID]) != len(before[m.ID]):
					t.Fatalf("without %s, %s holds %d instead of %d", a.ID, m.ID, len(after[m.ID]), len(before[m.ID]))
				}
			}
			if !idle[a.ID] && most > least+1 {
				t.Fatalf("without %s the spares hold %d to %d", a.ID, least, most)
			}
		}
	})
}

// One director more or less moves only the homes that it must.
func TestPlacementMovesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		directors, units := rapid.IntRange(2, 7).Draw(t, "directors"), rapid.IntRange(1, 60).Draw(t, "units")
		table := placed(directors, units, rapid.IntRange(0, 2).Draw(t, "spares"))
		table.everybodyHome()
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			was := table.Places
			idle := set(table.Spares()...)
			if len(table.Members) > 2 && rapid.Bool().Draw(t, "one leaves") {
				gone := rapid.SampledFrom(table.Members).Draw(t, "who").ID
				had := 0
				for _, p := range was {
					if p.home() == gone {
						had++
					}
				}
				table.leaves(gone)
				if moved := movedHomes(was, table.Places); moved != had {
					t.Fatalf("%s with %d homes left, and %d moved", gone, had, moved)
				}
			} else {
				id := memberID(uint64(100 + len(table.Events)))
				table.Events = append(table.Events, Event{})
				table.joinsAs(id)
				active := len(table.Members) - len(table.Spares())
				moved := movedHomes(was, table.Places)
				if most := (units + active - 1) / active; moved > most {
					t.Fatalf("%s joined, and %d homes moved to share %d among %d", id, moved, units, active)
				}
				if len(idle) < table.Settings.Spares && moved > 0 {
					t.Fatalf("%s should be the missing spare, but %d homes moved", id, moved)
				}
			}
			if least, most := spread(table, nil, set(table.Spares()...)); most > least+1 {
				t.Fatalf("homes: %d to %d", least, most)
			}
			table.everybodyHome()
		}
	})
}

// A unit more or less moves none that is at home.
func TestUnitsComeAndGoQuietly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := placed(rapid.IntRange(1, 7).Draw(t, "directors"), rapid.IntRange(1, 30).Draw(t, "units"), rapid.IntRange(0, 2).Draw(t, "spares"))
		table.everybodyHome()
		was := table.Places
		if rapid.Bool().Draw(t, "one goes") {
			i := rapid.IntRange(0, len(table.Routers)-1).Draw(t, "which")
			table.Routers = slices.Delete(slices.Clone(table.Routers), i, i+1)
		} else {
			table.Routers = append(slices.Clone(table.Routers), Router{ID: 1000, Name: "new"})
		}
		table.replace()
		// A director without any home may get one: it was the last of its own that went.
		if moved := movedHomes(was, table.Places); moved > 1 {
			t.Fatalf("%d homes moved", moved)
		}
	})
}

// What is down for a while moves no home. (Which of several directors without a
// home counts as the spare may change with it.)
func TestSilenceAndDrainMoveNoHome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := placed(rapid.IntRange(2, 7).Draw(t, "directors"), rapid.IntRange(1, 30).Draw(t, "units"), rapid.IntRange(0, 2).Draw(t, "spares"))
		was := table.Places
		table.Members = slices.Clone(table.Members)
		for i := range table.Members {
			table.Members[i].Silent = rapid.Bool().Draw(t, "silent")
			table.Members[i].Drained = rapid.Bool().Draw(t, "drained")
			table.Owners[uint64(i+1)] = rapid.SampledFrom(table.Members).Draw(t, "owner").ID
		}
		table.replace()
		if moved := movedHomes(was, table.Places); moved > 0 {
			t.Fatalf("%v became %v", was, table.Places)
		}
		if table.Settings.Spares == 0 && !maps.EqualFunc(was, table.Places, Place.equal) {
			t.Fatalf("%v became %v", was, table.Places)
		}
	})
}

// Pins are honoured, whoever is there.
func TestPinsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := placed(rapid.IntRange(1, 7).Draw(t, "directors"), rapid.IntRange(1, 30).Draw(t, "units"), rapid.IntRange(0, 2).Draw(t, "spares"))
		pins := map[uint64]MemberID{}
		for range rapid.IntRange(1, 5).Draw(t, "pins") {
			unit := rapid.SampledFrom(table.Routers).Draw(t, "unit").ID
			pins[unit] = rapid.SampledFrom(table.Members).Draw(t, "director").ID
			p := table.Places[unit]
			p.Pin = pins[unit]
			table.Places = maps.Clone(table.Places)
			table.Places[unit] = p
			table.replace()
		}
		if len(table.Members) > 1 {
			table.leaves(table.Members[0].ID)
		}
		for unit, pin := range pins {
			if _, there := table.Member(pin); there && table.Home(unit) != pin {
				t.Fatalf("unit %d is pinned to %s, and at home with %s", unit, pin, table.Home(unit))
			}
		}
	})
}

// 255 units on seven directors are placed at once; a table must not stall on it.
func TestManyUnitsAreQuick(t *testing.T) {
	start := time.Now()
	table := placed(7, 255, 2)
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("it took %v", took)
	} else {
		t.Logf("it took %v", took)
	}
	if least, most := spread(table, set("m1"), set("m6", "m7")); most != 51 || least != 51 {
		t.Errorf("%d to %d", least, most)
	}
}

// However many directors there are, it ends.
func TestManyDirectors(t *testing.T) {
	table := placed(40, 50, 3)
	for id, p := range table.Places {
		if len(p.Order) != 40 || len(set(p.Order...)) != 40 {
			t.Fatalf("unit %d: %v", id, p.Order)
		}
	}
}
