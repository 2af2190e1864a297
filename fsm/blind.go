package fsm

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// leastBlind is how many targets a director must find down against the others before
// its view counts as much worse. Of one alone nobody can tell whose fault it is, and
// with the VIP elsewhere nobody would be better off by more than that one.
const leastBlind = 2

// Blindness is how much less a director sees behind a unit's addresses than was agreed.
type Blindness struct {
	Why string // a sentence for people
	// Wait is how long that may be so because the others have not looked yet: of a
	// server that dies they learn within a round of its checks. What lasts is the
	// director's own trouble.
	Wait Duration
}

// Blind says, by unit, which directors see much less than was agreed: of the targets behind the unit's addresses that are agreed up, a
// director finds at least two and at least half down. Clients whose packets it
// forwards meet those servers still, so it is a bad owner, while another may be a good
// one. It is its own votes that say so: a director without an opinion is not blind.
//
// With the policy [HealthAnyDown] nobody is: what one director finds down is agreed.
func (t *Table) Blind() map[uint64]map[MemberID]Blindness {
	if !t.disputed() {
		return nil
	}
	var blind map[uint64]map[MemberID]Blindness
	for unit, targets := range t.behind() {
		for _, m := range t.voters() {
			b, is := t.blindOn(m, targets)
			if !is {
				continue
			}
			if blind == nil {
				blind = map[uint64]map[MemberID]Blindness{}
			}
			if blind[unit] == nil {
				blind[unit] = map[MemberID]Blindness{}
			}
			blind[unit][m.ID] = b
		}
	}
	return blind
}

// disputed reports whether anybody finds down what is agreed up.
func (t *Table) disputed() bool {
	for target, votes := range t.Votes {
		if t.Health[target].Down {
			continue
		}
		for _, v := range votes {
			if !v.Up {
				return true
			}
		}
	}
	return false
}

// behind are the targets behind each unit's addresses that are agreed up, each once,
// in the order of the virtual servers.
func (t *Table) behind() map[uint64][]Target {
	unitOf := map[netip.Addr]uint64{}
	for _, r := range t.Routers {
		u, _ := t.UnitOf(r.ID)
		for _, a := range r.Addresses {
			unitOf[a.Prefix.Addr()] = u.ID
		}
	}
	type place struct {
		unit   uint64
		target Target
	}
	x, seen, targets := t.index(), map[place]bool{}, map[uint64][]Target{}
	for i, v := range t.Services {
		for _, a := range v.Addrs() {
			unit, ok := unitOf[a]
			if !ok {
				continue
			}
			for _, target := range x.of[i] {
				if p := (place{unit, target}); target != "" && !t.Health[target].Down && !seen[p] {
					seen[p] = true
					targets[unit] = append(targets[unit], target)
				}
			}
		}
	}
	return targets
}

// blindOn reports whether a director is blind on targets that are agreed up.
func (t *Table) blindOn(m Member, targets []Target) (b Blindness, is bool) {
	x := t.index()
	var servers, details []string
	for _, target := range targets {
		v, voted := t.Votes[target][m.ID]
		if !voted || v.Up {
			continue
		}
		info := x.targets[x.byTarget[target]]
		servers = append(servers, info.Server.String())
		for _, c := range info.Checks {
			b.Wait = max(b.Wait, c.round())
		}
		if v.Detail != "" && !slices.Contains(details, v.Detail) {
			details = append(details, v.Detail)
		}
	}
	if len(servers) < leastBlind || 2*len(servers) < len(targets) {
		return Blindness{}, false
	}
	b.Why = fmt.Sprintf("it finds %d of %d real servers down that are agreed up: %s", len(servers), len(targets), someOf(servers, 3))
	if len(details) > 0 {
		b.Why += " (" + clean(strings.Join(details[:min(2, len(details))], "; "), maxDetail) + ")"
	}
	return b, true
}

// round is by how much later than another a director may find that a server is dead.
// Both forgive as many failures, and pause as long after each.
func (c Check) round() Duration {
	takes := c.ConnectTimeout
	if c.Script != nil {
		takes = c.Script.Timeout
	}
	return c.DelayLoop + takes
}
