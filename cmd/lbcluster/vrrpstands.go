package main

import (
	"strings"
	"sync"
	"time"

	"lbcluster/cluster/lease"
	"lbcluster/fsm"
)

// vrrpStands are what VRRP peers outside the cluster mean to this member's
// standing for units: what it hears itself, and what other members hear. It only
// keeps members from the lease; without a lease nobody serves, whatever VRRP says.
type vrrpStands struct {
	changed func() // must not block

	mu      sync.Mutex
	barred  map[uint64]string // by router: what this member heard; "": nothing
	others  map[uint64]string // by unit: what others heard that binds this member
	adverts map[uint64]bool   // by router: another member adverts it
}

func newVRRPStands(changed func()) *vrrpStands {
	return &vrrpStands{changed: changed, barred: map[uint64]string{}}
}

// bar implements vrrp.Config.OnBarred.
func (v *vrrpStands) bar(router uint64, why string) {
	v.mu.Lock()
	v.barred[router] = why
	if why == "" {
		delete(v.barred, router)
	}
	v.mu.Unlock()
	v.changed()
}

// advertedElsewhere implements vrrp.Config.Adverts.
func (v *vrrpStands) advertedElsewhere(router uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.adverts[router]
}

// hear takes what the other members say of themselves, and says whether that
// changes for what this member stands. Words older than fresh count nothing. An
// owner yields to what others hear only if that has a higher priority: between
// equals it decides itself, by its own address.
func (v *vrrpStands) hear(t *fsm.Table, peers []lease.PeerStatus, owns map[uint64]bool, fresh time.Duration) bool {
	others, adverts := map[uint64]string{}, map[uint64]bool{}
	for _, p := range peers {
		for _, u := range p.Units {
			if p.Ago < 0 || p.Ago > fresh || u.Ago > fresh {
				continue
			}
			if u.YieldsHigher || u.Yields && !owns[u.Unit] {
				others[u.Unit] = heardBy(t, p.ID, u.Why)
			}
			if unit, ok := t.Unit(u.Unit); ok && u.Adverts {
				for _, id := range unit.Routers {
					adverts[id] = true
				}
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := len(others) != len(v.others)
	for id, why := range others {
		changed = changed || v.others[id] != why
	}
	v.others, v.adverts = others, adverts
	return changed
}

func heardBy(t *fsm.Table, id fsm.MemberID, why string) string {
	name := string(id)
	if m, ok := t.Member(id); ok {
		name = m.Name
	}
	if why, _, _ = strings.Cut(why, ", as "); why == "" {
		why = "a VRRP peer is MASTER"
	}
	return why + ", as " + name + " hears"
}

// why is what keeps this member from a unit; "": nothing does.
func (v *vrrpStands) why(u fsm.Unit) string {
	if v == nil {
		return ""
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range u.Routers {
		if why := v.barred[id]; why != "" {
			return why
		}
	}
	return v.others[u.ID]
}

// barredFor says why VRRP keeps this member from a unit; "": it does not.
func (m *member) barredFor(u fsm.Unit) string { return m.stands.why(u) }

// keptOff says why this member must not hold a unit: it cannot, or a VRRP peer
// is MASTER.
func (m *member) keptOff(unit uint64) string {
	if why := m.unfit(unit); why != "" {
		return why
	}
	u, ok := m.d.node.Table().Unit(unit)
	if !ok {
		return ""
	}
	return m.barredFor(u)
}

// tellStand adds to a standing what VRRP says of the unit.
func (m *member) tellStand(t *fsm.Table, u fsm.Unit, to *lease.UnitStanding) {
	for _, id := range u.Routers {
		if r, _ := t.Router(id); len(r.Peering.Peers) == 0 {
			continue
		}
		to.Adverts = to.Adverts || m.vrrp.Speaks(id)
		if why, higher := m.vrrp.Yields(id); why != "" {
			to.Yields, to.YieldsHigher, to.Why = true, to.YieldsHigher || higher, why
		}
	}
}

// asksPeers says of the end of a tenure whether VRRP peers are asked to take
// over by priority 0: when nobody of the cluster can be next.
func asksPeers(why string) bool {
	return strings.HasPrefix(why, "the lease ran out") || strings.HasSuffix(why, lease.NobodyNext)
}
