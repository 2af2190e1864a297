package fsm

import (
	"cmp"
	"slices"
)

// placing is one computation of who should hold what: a pure function of the
// placement before and of the members, units, pins, spares and owners that
// there are. It is part of Apply, so a change of what it computes needs a new
// command version.
//
// What it aims at, the first before the next:
//
//  1. A pinned unit has its pin as home.
//  2. A home stays where it is while its director is present: a director that
//     is merely silent or drained comes back, and what was there with it.
//  3. Spares stay without a home. A director that leaves is replaced by a spare,
//     which then is none any more; the next to join becomes the new spare.
//  4. Homes are spread evenly over the directors that are no spares. A unit
//     without a home goes to the one that has fewest; homes move to a director
//     that has none while another has two. What became uneven otherwise (units
//     were deleted) is evened only with units that are not at home anyway: to
//     move one that is would trouble its clients for the look of it.
//  5. After the home come the spares, and then the others, such that whichever
//     directors die, one after the other, each time the rest bears an even
//     share.
type placing struct {
	was       map[uint64]Place
	units     []Unit   // by id
	directors []Member // present ones, by id
	spares    int
	owners    map[uint64]MemberID
	recount   bool // an operator named the number of spares: make it so

	active map[MemberID]bool // those that have homes
	homes  map[uint64]MemberID
	load   map[MemberID]int // how many homes each active director has
}

func (t *Table) placing(was map[uint64]Place, recount bool) *placing {
	return &placing{
		was: was, units: t.Units(), spares: t.Settings.Spares, owners: t.Owners, recount: recount,
		directors: slices.DeleteFunc(slices.Clone(t.Members), func(m Member) bool { return !m.presentDirector() }),
	}
}

// run computes the new placement; nil if there is no unit, or nobody to hold one.
func (p *placing) run() map[uint64]Place {
	if len(p.units) == 0 || len(p.directors) == 0 {
		return nil
	}
	p.choose()
	p.settle()
	p.house()
	p.even()
	orders := p.rank()
	places := make(map[uint64]Place, len(p.units))
	for i, u := range p.units {
		place := p.was[u.ID]
		place.Order = orders[i]
		if !p.present(place.Moved) || place.Arrived && place.Moved == place.home() {
			place.Moved, place.Arrived = "", false
		}
		places[u.ID] = place
	}
	return places
}

func (p *placing) present(id MemberID) bool {
	return slices.ContainsFunc(p.directors, func(m Member) bool { return m.ID == id })
}

// choose decides who has homes, and who is a spare. As many as before stay
// active when directors go, and new ones are spares first.
func (p *placing) choose() {
	had, pinned := map[MemberID]int{}, map[MemberID]bool{}
	for _, u := range p.units {
		if home := p.was[u.ID].home(); home != "" {
			had[home]++
		}
		pinned[p.was[u.ID].Pin] = true
	}
	least := len(p.directors) - min(p.spares, len(p.directors)-1)
	before := len(had) // those that left included: a spare takes their place
	if p.recount {
		before = 0
	}
	p.active = map[MemberID]bool{}
	candidates := slices.Clone(p.directors)
	slices.SortStableFunc(candidates, func(a, b Member) int {
		return cmp.Or(cmp.Compare(had[b.ID], had[a.ID]), cmp.Compare(ailing(a), ailing(b)))
	})
	for i, m := range candidates {
		p.active[m.ID] = i < least || pinned[m.ID] || i < before && (had[m.ID] > 0 || ailing(m) == 0)
	}
}

// ailing is 1 for a director that could not hold anything now.
func ailing(m Member) int {
	if m.Silent || m.Drained {
		return 1
	}
	return 0
}

// settle keeps what may stay: pins, and homes at active directors.
func (p *placing) settle() {
	p.homes, p.load = map[uint64]MemberID{}, map[MemberID]int{}
	for _, u := range p.units {
		was := p.was[u.ID]
		switch {
		case p.pinned(u):
			p.give(u, was.Pin)
		case p.active[was.home()]:
			p.give(u, was.home())
		}
	}
}

func (p *placing) pinned(u Unit) bool { return p.present(p.was[u.ID].Pin) }

// give makes a director the home of a unit.
func (p *placing) give(u Unit, id MemberID) {
	if old, had := p.homes[u.ID]; had {
		p.load[old]--
	}
	p.homes[u.ID] = id
	p.load[id]++
}

// house finds a home for units that have none: with the director that has
// fewest; among those the owner, then who was next in the unit's order.
func (p *placing) house() {
	for _, u := range p.units {
		if _, ok := p.homes[u.ID]; ok {
			continue
		}
		order := p.was[u.ID].Order
		best := slices.MinFunc(p.able(), func(a, b Member) int {
			return cmp.Or(
				cmp.Compare(p.load[a.ID], p.load[b.ID]),
				cmp.Compare(unlike(a.ID, p.owners[u.ID]), unlike(b.ID, p.owners[u.ID])),
				cmp.Compare(ailing(a), ailing(b)),
				cmp.Compare(placeIn(order, a.ID), placeIn(order, b.ID)),
			)
		})
		p.give(u, best.ID)
	}
}

// able are the active directors, by id. There is one always: see choose.
func (p *placing) able() []Member {
	return slices.DeleteFunc(slices.Clone(p.directors), func(m Member) bool { return !p.active[m.ID] })
}

func unlike(a, b MemberID) int {
	if a == b {
		return 0
	}
	return 1
}

// placeIn is where id is in order; those that are not in it come last.
func placeIn(order []MemberID, id MemberID) int {
	if i := slices.Index(order, id); i >= 0 {
		return i
	}
	return len(order)
}

// even moves homes, to directors that are well, until none of these has two
// fewer than another director, as far as homes may be moved.
func (p *placing) even() {
	able := p.able()
	least := func(a, b Member) int { return cmp.Compare(p.load[a.ID], p.load[b.ID]) }
	well := slices.DeleteFunc(slices.Clone(able), func(m Member) bool { return ailing(m) > 0 })
	if len(well) == 0 {
		return // whoever is back first shall not get everything
	}
	all := p.load[slices.MinFunc(well, least).ID] == 0 // it has joined, or is a spare no more
	for {
		to := slices.MinFunc(well, least)
		fullest := slices.Clone(able)
		slices.SortStableFunc(fullest, func(a, b Member) int { return cmp.Compare(p.load[b.ID], p.load[a.ID]) })
		moved := false
		for _, from := range fullest {
			if p.load[from.ID] < p.load[to.ID]+2 {
				break
			}
			if u, ok := p.movable(from.ID, to.ID, all); ok {
				p.give(u, to.ID)
				moved = true
				break
			}
		}
		if !moved {
			return
		}
	}
}

// movable finds the unit that can best change its home: one that is at the new
// home already, then one that is not at its old one, then, if all may move, the
// newest.
func (p *placing) movable(from, to MemberID, all bool) (best Unit, ok bool) {
	bestCost := 3
	for _, u := range p.units {
		if p.homes[u.ID] != from || p.pinned(u) {
			continue
		}
		cost := 1
		switch p.owners[u.ID] {
		case to:
			cost = 0
		case from:
			if cost = 2; !all {
				continue
			}
		}
		if cost <= bestCost {
			best, bestCost, ok = u, cost, true
		}
	}
	return best, ok
}

// ranked is how many directors of an order are chosen by load; further ones
// follow by turns. That so many fail at once is past what a cluster of seven
// survives.
const ranked = 7

// rank makes the orders, level by level. The next of a unit is who, if all that
// are in its order already had failed, would hold fewest units then: spares
// first.
func (p *placing) rank() [][]MemberID {
	orders := make([][]MemberID, len(p.units))
	for i, u := range p.units {
		orders[i] = []MemberID{p.homes[u.ID]}
	}
	for level := 1; level < len(p.directors); level++ {
		loads := map[string]map[MemberID]int{} // by who has failed
		used := map[MemberID]int{}             // how often each was chosen at this level
		for i := range orders {
			load := map[MemberID]int{}
			if level <= ranked {
				down := failed(orders[i])
				if loads[down] == nil {
					loads[down] = loadWithout(orders, level, orders[i])
				}
				load = loads[down]
			}
			next := p.next(orders[i], load, used)
			load[next]++
			used[next]++
			orders[i] = append(orders[i], next)
		}
	}
	return orders
}

// failed names a set of directors.
func failed(ids []MemberID) string {
	key := ""
	for _, id := range slices.Sorted(slices.Values(ids)) {
		key += string(id) + " "
	}
	return key
}

// loadWithout counts the units that each director would hold without those that
// are down. Orders are level long; those that have all failed do not count yet.
func loadWithout(orders [][]MemberID, level int, down []MemberID) map[MemberID]int {
	load := map[MemberID]int{}
	for _, order := range orders {
		for _, id := range order[:min(level, len(order))] {
			if !slices.Contains(down, id) {
				load[id]++
				break
			}
		}
	}
	return load
}

// next chooses who comes after those in order. Among those that would hold
// equally many it takes who was chosen less often, so that when two directors
// fail, what they held does not meet at the same one.
func (p *placing) next(order []MemberID, load, used map[MemberID]int) MemberID {
	n := len(p.directors)
	home := slices.IndexFunc(p.directors, func(m Member) bool { return m.ID == order[0] })
	var best MemberID
	for i := range n {
		id := p.directors[(home+i)%n].ID
		if slices.Contains(order, id) {
			continue
		}
		if best == "" || cmp.Or(
			cmp.Compare(p.idle(best), p.idle(id)),
			cmp.Compare(load[id], load[best]),
			cmp.Compare(used[id], used[best]),
		) < 0 {
			best = id
		}
	}
	return best
}

// idle is 1 for a spare.
func (p *placing) idle(id MemberID) int {
	if p.active[id] {
		return 0
	}
	return 1
}
