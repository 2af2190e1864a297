package fsm

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Unit is what one lease is for, and what moves: a sync group with all its
// routers, or a router that is in no group.
type Unit struct {
	ID      uint64   `json:"id"` // the group's, or the router's
	Name    string   `json:"name"`
	Routers []uint64 `json:"routers"` // by id
}

// Network is one address of a member with what others must know of it. Members
// tell them themselves.
type Network struct {
	Prefix netip.Prefix `json:"prefix"` // the member's address with its network's length
	MAC    string       `json:"mac"`    // of the interface: "02:1b:0c:5d:a8:52"; empty: none
}

// Place says who should hold a unit.
type Place struct {
	// Order is who stands for the unit, best first; the first is its home.
	// Invariant: every present director, each once.
	Order []MemberID `json:"order"`
	// Pin, when set, is the home that an operator chose. It is in force while
	// its director is present, and forgotten when that is removed.
	Pin MemberID `json:"pin,omitempty"`
	// Moved, when set, is where an operator moved the unit by hand; it stands
	// before the home until the unit is moved home, its director leaves, or,
	// once it was there, another director takes it.
	Moved MemberID `json:"moved,omitempty"`
	// Arrived: the unit has been at Moved since. Until then the operator's
	// word is still to be carried out, whatever [Settings.FailBack] says.
	Arrived bool `json:"arrived,omitempty"`
}

func (p Place) equal(o Place) bool {
	return slices.Equal(p.Order, o.Order) && p.Pin == o.Pin && p.Moved == o.Moved && p.Arrived == o.Arrived
}

// home is the first of the order, or nobody.
func (p Place) home() MemberID {
	if len(p.Order) == 0 {
		return ""
	}
	return p.Order[0]
}

// FailBack says what happens when a unit's home can hold it again.
type FailBack string

const (
	FailBackManual FailBack = "manual" // it stays where it is until somebody moves it
	FailBackAuto   FailBack = "auto"   // it goes home once the home has been well for Settings.FailBackAfter
)

// FailsBack says whether a unit goes home by itself, and how long its home must
// have been well before it does.
func (s Settings) FailsBack() (auto bool, after time.Duration) {
	return s.FailBack == FailBackAuto, cmp.Or(s.FailBackAfter.D(), time.Minute)
}

// places are t.Places, or, in a table whose log has no command of version 2
// yet, what they would be if they were computed now.
func (t *Table) places() map[uint64]Place {
	switch {
	case len(t.Places) > 0:
		return t.Places
	case t.scratch != nil:
		return t.scratch
	}
	return t.placing(nil, false).run()
}

// Place finds where a unit should be; false if there is no such unit.
func (t *Table) Place(unit uint64) (Place, bool) {
	p, ok := t.places()[unit]
	return p, ok
}

// Home is the director that a unit belongs to while all is well: it may be
// silent or drained. Empty for a unit that is not there.
func (t *Table) Home(unit uint64) MemberID { return t.places()[unit].home() }

// Order says who stands for a unit, best first: where an operator moved it,
// then its home, then the rest of its [Place]. Drained directors are left out.
// Silent ones come last, each in its place among them: they are probably dead,
// and a rank is only the delay with which a director asks for a lease that has
// ended, so that each dead one in front would cost its followers that delay,
// and a live one that the leader alone can't hear loses no more than that. Nil
// for a unit that is not there.
func (t *Table) Order(unit uint64) []MemberID {
	p := t.places()[unit]
	order := p.Order
	if p.Moved != "" && slices.Contains(order, p.Moved) {
		order = slices.Concat([]MemberID{p.Moved}, slices.DeleteFunc(slices.Clone(order),
			func(id MemberID) bool { return id == p.Moved }))
	}
	var stand, silent []MemberID
	for _, id := range order {
		switch m, _ := t.Member(id); {
		case m.Drained:
		case m.Silent:
			silent = append(silent, id)
		default:
			stand = append(stand, id)
		}
	}
	return append(stand, silent...)
}

// Asked is the director to which an operator moved a unit that has not got
// there yet; false if nothing is to be carried out, or can be: its director is
// drained.
func (t *Table) Asked(unit uint64) (MemberID, bool) {
	p := t.places()[unit]
	if p.Moved == "" || p.Arrived {
		return "", false
	}
	m, ok := t.Member(p.Moved)
	return p.Moved, ok && m.presentDirector() && !m.Drained
}

// Spares are the directors that are kept without a home, by id: at most
// Settings.Spares.
func (t *Table) Spares() []MemberID {
	homes := map[MemberID]bool{}
	for _, p := range t.places() {
		homes[p.home()] = true
	}
	p := t.placing(t.places(), false)
	p.choose()
	var spares []MemberID
	for _, m := range p.directors {
		if !p.active[m.ID] && !homes[m.ID] {
			spares = append(spares, m.ID)
		}
	}
	return spares
}
