package main

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lbcluster/fsm"
	"lbcluster/notify"
)

func watchTable() *fsm.Table {
	addr := []fsm.Address{{Prefix: netip.MustParsePrefix("10.0.0.1/32")}}
	return &fsm.Table{
		Routers: []fsm.Router{
			{ID: 1, Name: "A", Priority: 100, Addresses: addr, Track: []fsm.Tracker{{Kind: fsm.TrackInterface, Name: "eth0"}}},
			{ID: 2, Name: "B", Priority: 255, Addresses: addr}, {ID: 3, Name: "C", Priority: 9, Addresses: addr},
		},
		Groups: []fsm.SyncGroup{{ID: 4, Name: "A", Routers: []string{"B", "C"}}},
	}
}

// A group and a router may have one name; each of them is told.
func TestSubjects(t *testing.T) {
	w := newWatchers(nil, func() {}, slog.New(slog.DiscardHandler))
	got := map[string]int{}
	for _, u := range watchTable().Units() {
		for key, s := range subjects(watchTable(), u, w) {
			got[key] = s.Priority
		}
	}
	if want := map[string]int{"INSTANCE A": 100, "INSTANCE B": 255, "INSTANCE C": 9, "GROUP A": 0}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// What is not known yet keeps a director from standing; what tracks nothing is known.
func TestTrackersMustHaveSpoken(t *testing.T) {
	w, table := newWatchers(nil, func() {}, slog.New(slog.DiscardHandler)), watchTable()
	var known []string
	for _, u := range table.Units() {
		if _, ok := w.state(table, u); ok {
			known = append(known, u.Name)
		}
	}
	if !slices.Equal(known, []string{"A"}) || len(table.Units()) != 2 {
		t.Errorf("known: %s", strings.Join(known, " "))
	}
	if u, _ := table.Unit(4); u.Name != "A" {
		t.Errorf("the group is %+v", u)
	}
}

func TestDeletedRouterIsToldOnce(t *testing.T) {
	table := watchTable()
	for _, c := range []struct {
		s    notify.Subject
		want bool
	}{
		{notify.Subject{Name: "A"}, true}, {notify.Subject{Name: "Z"}, false},
		{notify.Subject{Group: true, Name: "A"}, true}, {notify.Subject{Group: true, Name: "B"}, false},
	} {
		if got := stillThere(table, c.s); got != c.want {
			t.Errorf("%+v: %v", c.s, got)
		}
	}
}
