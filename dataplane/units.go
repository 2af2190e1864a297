package dataplane

import (
	"fmt"
	"slices"

	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// regroup tells each machine which unit it belongs to, by table t. A router
// that left the table stays with its unit until the lease gives the unit up; one
// that left a unit that goes on has no lease any more.
func (a *addressLoop) regroup(t *fsm.Table) {
	unit, stays := map[uint64]uint64{}, map[uint64]bool{}
	for _, u := range t.Units() {
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
		if u, ok := t.Unit(id); ok {
			return u.Name
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
	for _, u := range a.table.Units() {
		out[u.ID] = ""
		for _, id := range u.Routers {
			r := a.routers[id]
			if r == nil || out[u.ID] != "" {
				continue
			}
			out[u.ID] = r.unfit(a.host)
			if fr, _ := a.table.Router(id); out[u.ID] != "" && len(u.Routers) > 1 {
				out[u.ID] = fr.Name + ": " + out[u.ID]
			}
		}
	}
	return out
}

// unfit says why this host cannot serve the router; empty: it can.
func (r *router) unfit(s vip.Snapshot) string {
	var why string
	for _, h := range r.places {
		if !r.wanted[h.place()] {
			continue
		}
		if !ready(h.link) {
			return fmt.Sprintf("the link of %s is down", h.link.Name)
		}
		if h.prefix.Addr().Is6() { // VRRP for IPv6 speaks from a link-local address
			speaks := h.link.Index
			if r.vmac && h.link.MACVLAN {
				speaks = h.link.Base
			}
			if _, err := s.LinkLocal(speaks); err != nil {
				return err.Error()
			}
		}
		return ""
	}
	for _, t := range r.nowhere {
		why = t.err.Error()
	}
	return why
}
