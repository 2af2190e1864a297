package dataplane

import (
	"fmt"
	"slices"

	"lbcluster/fsm"
)

// unitsOf lists what the table has leases for: its sync groups, and the routers
// that are in none, by id.
func unitsOf(t *fsm.Table) []fsm.Unit {
	var out []fsm.Unit
	in := map[string]*fsm.Unit{}
	for _, g := range t.Groups {
		u := &fsm.Unit{ID: g.ID, Name: g.Name}
		for _, name := range g.Routers {
			in[name] = u
		}
	}
	for _, r := range t.Routers {
		if u := in[r.Name]; u != nil {
			u.Routers = append(u.Routers, r.ID)
			continue
		}
		out = append(out, fsm.Unit{ID: r.ID, Name: r.Name, Routers: []uint64{r.ID}})
	}
	for _, g := range t.Groups {
		if len(g.Routers) > 0 {
			out = append(out, *in[g.Routers[0]])
		}
	}
	slices.SortFunc(out, func(a, b fsm.Unit) int { return int(a.ID) - int(b.ID) })
	return out
}

// regroup tells each machine which unit it belongs to, by table t. A router
// that left the table stays with its unit until the lease gives the unit up; one
// that left a unit that goes on has no lease any more.
func (a *addressLoop) regroup(t *fsm.Table) {
	unit, stays := map[uint64]uint64{}, map[uint64]bool{}
	for _, u := range unitsOf(t) {
		stays[u.ID] = true
		for _, id := range u.Routers {
			unit[id] = u.ID
		}
	}
	for id, r := range a.routers {
		if u, listed := unit[id]; listed {
			r.unit = u
		} else if stays[r.unit] {
			r.unit = 0
		}
	}
}

// assign tells each machine whether its unit is owned now.
func (p *Plane) assign() {
	a := &p.addresses
	for _, r := range a.routers {
		permit, owned := a.owned[r.unit]
		switch {
		case owned && (!r.owned || r.permit != permit):
			r.acquired(p.since(), permit)
		case !owned && r.owned: // its unit has another lease now
			r.lost(p.since(), false)
		}
	}
}

// take carries one word of the lease to the machines of its unit.
func (p *Plane) take(e leaseEvent) {
	a := &p.addresses
	if e.removed == nil {
		p.log.Info("dataplane: acquired", "unit", p.unitName(e.unit))
		a.owned[e.unit] = e.permit
		for _, r := range a.of(e.unit) {
			r.acquired(p.since(), e.permit)
		}
		a.release(e.unit)
		return
	}
	p.log.Info("dataplane: lost", "unit", p.unitName(e.unit), "why", e.why)
	delete(a.owned, e.unit)
	a.waiters[e.unit] = append(a.waiters[e.unit], e.removed)
	for _, r := range a.of(e.unit) {
		r.lost(p.since(), e.zero)
	}
	a.releaseIfOff(e.unit)
}

// of are the machines of a unit.
func (a *addressLoop) of(unit uint64) []*router {
	var out []*router
	for _, r := range a.routers {
		if r.unit == unit {
			out = append(out, r)
		}
	}
	return out
}

// releaseIfOff ends the waiting for a unit when none of its routers has an
// address of ours left.
func (a *addressLoop) releaseIfOff(unit uint64) {
	if !slices.ContainsFunc(a.of(unit), func(r *router) bool { return r.waiting }) {
		a.release(unit)
	}
}

// unitName is how logs call a unit.
func (p *Plane) unitName(id uint64) string {
	if t := p.addresses.table; t != nil {
		for _, u := range unitsOf(t) {
			if u.ID == id {
				return u.Name
			}
		}
	}
	return "unit " + itoa(id)
}

// judgeUnits says of each unit of the table why this host cannot hold it; empty:
// it can. A unit needs each of its routers: with an interface, the one that its
// adverts leave by, that is up.
func (a *addressLoop) judgeUnits() map[uint64]string {
	out := map[uint64]string{}
	if a.table == nil {
		return out
	}
	for _, u := range unitsOf(a.table) {
		out[u.ID] = ""
		for _, id := range u.Routers {
			r := a.routers[id]
			if r == nil || out[u.ID] != "" {
				continue
			}
			out[u.ID] = r.unfit()
			if fr, _ := a.table.Router(id); out[u.ID] != "" && len(u.Routers) > 1 {
				out[u.ID] = fr.Name + ": " + out[u.ID]
			}
		}
	}
	return out
}

// unfit says why this host cannot serve the router; empty: it can.
func (r *router) unfit() string {
	var why string
	for _, h := range r.places {
		if !r.wanted[h.place()] {
			continue
		}
		if !ready(h.link) {
			return fmt.Sprintf("the link of %s is down", h.link.Name)
		}
		return ""
	}
	for _, t := range r.nowhere {
		why = t.err.Error()
	}
	return why
}
