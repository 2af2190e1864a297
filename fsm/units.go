package fsm

import (
	"cmp"
	"slices"
)

// Units are what leases are for, by id: the sync groups, and the routers that
// are in none. A group without a router (of a table put together by hand) is none.
func (t *Table) Units() []Unit {
	if t.units != nil {
		return t.units.all
	}
	return t.makeUnits()
}

// unitIndex finds units and routers of a finished table: the daemon asks for
// them many times a second.
type unitIndex struct {
	all     []Unit
	byID    map[uint64]int // of all
	of      map[uint64]int // of all, by the id of a router in it
	routers map[uint64]int // of Table.Routers
}

// indexUnits is for a table that changes no more.
func (t *Table) indexUnits() {
	x := &unitIndex{all: t.makeUnits(), byID: map[uint64]int{}, of: map[uint64]int{}, routers: map[uint64]int{}}
	for i, u := range x.all {
		x.byID[u.ID] = i
		for _, r := range u.Routers {
			x.of[r] = i
		}
	}
	for i, r := range t.Routers {
		x.routers[r.ID] = i
	}
	t.units = x
}

func (t *Table) makeUnits() []Unit {
	group := t.groupOf()
	units := make([]Unit, 0, len(t.Routers))
	at := map[uint64]int{}
	for _, r := range t.Routers {
		g, grouped := group[r.Name]
		if !grouped {
			units = append(units, Unit{ID: r.ID, Name: r.Name, Routers: []uint64{r.ID}})
			continue
		}
		i, ok := at[g.ID]
		if !ok {
			i = len(units)
			at[g.ID] = i
			units = append(units, Unit{ID: g.ID, Name: g.Name})
		}
		units[i].Routers = append(units[i].Routers, r.ID)
	}
	slices.SortFunc(units, func(a, b Unit) int { return cmp.Compare(a.ID, b.ID) })
	return units
}

// groupOf is the sync group of each router that is in one, by the router's name.
func (t *Table) groupOf() map[string]SyncGroup {
	of := map[string]SyncGroup{}
	for _, g := range t.Groups {
		for _, name := range g.Routers {
			of[name] = g
		}
	}
	return of
}

// Unit finds a unit by id: that of a sync group, or of a router in no group.
func (t *Table) Unit(id uint64) (Unit, bool) {
	if t.units != nil {
		i, ok := t.units.byID[id]
		if !ok {
			return Unit{}, false
		}
		return t.units.all[i], true
	}
	return find(t.makeUnits(), func(u Unit) bool { return u.ID == id })
}

// UnitOf finds the unit that a router moves with.
func (t *Table) UnitOf(router uint64) (Unit, bool) {
	if t.units != nil {
		i, ok := t.units.of[router]
		if !ok {
			return Unit{}, false
		}
		return t.units.all[i], true
	}
	return find(t.makeUnits(), func(u Unit) bool { return slices.Contains(u.Routers, router) })
}

// UnitByName finds a unit by its name, or by that of a router in it.
func (t *Table) UnitByName(name string) (Unit, bool) {
	if u, ok := find(t.Units(), func(u Unit) bool { return u.Name == name }); ok {
		return u, true
	}
	r, ok := t.RouterByName(name)
	if !ok {
		return Unit{}, false
	}
	return t.UnitOf(r.ID)
}
