package fsm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

func (e *edit) move(c Move) error {
	u, ok := e.Unit(c.Unit)
	if !ok {
		return notFound("virtual router or sync group %d", c.Unit)
	}
	if c.Pin && c.Unpin {
		return invalid("%s: it can't be pinned and unpinned at once", u.Name)
	}
	goes := c.To != "" || !c.Unpin
	to, err := e.destination(u, c.To)
	if err != nil && goes {
		return err
	}
	was, _ := e.Place(u.ID)
	is := was
	switch {
	case c.Pin:
		is.Pin = cmp.Or(c.To, was.home())
	case c.Unpin:
		is.Pin = ""
	}
	if goes {
		is.Moved, is.Arrived = to, e.Owners[u.ID] == to
	}
	if home := is.Moved == cmp.Or(is.Pin, was.home()); home && is.Arrived {
		is.Moved, is.Arrived = "", false // it is where it belongs
	}
	if was.equal(is) {
		return nil
	}
	e.setPlace(u.ID, is)
	e.tellMove(u, was, is)
	return nil
}

// destination is where a move goes, and whether it may.
func (e *edit) destination(u Unit, to MemberID) (MemberID, error) {
	to = cmp.Or(to, e.Home(u.ID))
	m, ok := e.Member(to)
	switch {
	case !ok:
		return "", notFound("member %s", to)
	case m.Role != Director:
		return "", invalid("%s can't go to %s: that is a %s and holds nothing", u.Name, m.Name, m.Role)
	case m.State != Present:
		return "", invalid("%s can't go to %s: that is %s", u.Name, m.Name, m.State)
	case m.Drained:
		return "", invalid("%s can't go to %s: that is drained (lbcluster director fit %s)", u.Name, m.Name, m.Name)
	case m.Silent:
		return "", invalid("%s can't go to %s: that is out of contact", u.Name, m.Name)
	}
	return to, nil
}

// setPlace puts in one unit's place. The rest of a table without places is
// computed with it.
func (e *edit) setPlace(unit uint64, p Place) {
	places := maps.Clone(e.places())
	places[unit] = p
	e.Places = places
}

func (e *edit) tellMove(u Unit, was, is Place) {
	if is.Pin != was.Pin && is.Pin != "" {
		e.event("move", "%s is pinned to %s", u.Name, e.name(is.Pin))
	}
	if is.Pin != was.Pin && is.Pin == "" {
		e.event("move", "%s is pinned no more (was: to %s)", u.Name, e.name(was.Pin))
	}
	switch {
	case is.Moved == was.Moved && is.Arrived == was.Arrived:
	case is.Moved == "":
		e.event("move", "%s belongs to its home %s again", u.Name, e.name(cmp.Or(is.Pin, is.home())))
	case is.Arrived:
		e.event("move", "%s is to stay at %s", u.Name, e.name(is.Moved))
	case is.Moved == cmp.Or(is.Pin, is.home()):
		e.event("move", "%s is to go home to %s", u.Name, e.name(is.Moved))
	default:
		e.event("move", "%s is to go to %s", u.Name, e.name(is.Moved))
	}
}

func (e *edit) ownership(o Ownership) error {
	u, ok := e.Unit(o.Router)
	if !ok {
		return notFound("virtual router or sync group %d", o.Router)
	}
	m, ok := e.Member(o.Member)
	if !ok {
		return notFound("member %s", o.Member)
	}
	if m.Role != Director {
		return invalid("member %s is a %s: it owns no virtual router", m.Name, m.Role)
	}
	before, had := e.Owners[o.Router]
	if o.Owns == (had && before == o.Member) {
		return nil
	}
	why := clean(o.Why, maxDetail)
	if why != "" {
		why = ": " + why
	}
	e.Owners = cloneMap(e.Owners)
	if !o.Owns {
		delete(e.Owners, o.Router)
		text := fmt.Sprintf("%s lost %s%s", m.Name, e.unitText(u), why)
		e.event("owner", "%s", text)
		e.noticeOwner(u, "FAULT", "", text+"; nobody holds it now")
		return nil
	}
	e.Owners[o.Router] = o.Member
	from := ""
	if had {
		from = " from " + e.name(before)
	}
	text := fmt.Sprintf("%s took %s%s%s", m.Name, e.unitText(u), from, why)
	e.event("owner", "%s", text)
	e.noticeOwner(u, "MASTER", m.Name, text)
	e.arrive(u, o.Member)
	return nil
}

// unitText is "virtual router VI_1" or "sync group VG_1".
func (t *Table) unitText(u Unit) string {
	if slices.ContainsFunc(t.Groups, func(g SyncGroup) bool { return g.ID == u.ID }) {
		return "sync group " + u.Name
	}
	return "virtual router " + u.Name
}

// arrive notes that an operator's move is done, or is overtaken.
func (e *edit) arrive(u Unit, owner MemberID) {
	p, ok := e.Places[u.ID]
	switch {
	case !ok || p.Moved == "":
		return
	case p.Moved == owner && p.Moved == p.home():
		p.Moved, p.Arrived = "", false
	case p.Moved == owner:
		p.Arrived = true
	case p.Arrived:
		e.event("move", "%s was moved to %s by hand: that ends, for %s took it", u.Name, e.name(p.Moved), e.name(owner))
		p.Moved, p.Arrived = "", false
	default:
		return
	}
	e.setPlace(u.ID, p)
}

// place brings the places in line with a table that has changed, and tells of
// homes that moved. Where there are none yet, only a command of version 2 makes
// them: members that read version 1 alone must not be left behind by a command
// that they understand.
func (e *edit) place() {
	if len(e.Places) == 0 && e.cmd.Version < 2 || !e.moves() {
		return
	}
	e.forgetPins()
	was, spares := e.inherited(), e.old.Spares()
	e.Places = e.placing(was, e.recount()).run()
	e.tellHomes(was)
	if is := e.Spares(); !slices.Equal(is, spares) && (e.Settings.Spares > 0 || len(spares) > 0) {
		e.event("place", "%s (%d wanted)", e.sparesText(is), e.Settings.Spares)
	}
}

// moves reports whether the command may have changed what placement depends
// on. Owners are left out on purpose: a home must not follow each failover.
func (e *edit) moves() bool {
	c := e.cmd
	return c.Found != nil || c.Member != nil || c.Remove != nil || c.configures() || c.Settings != nil ||
		c.Move != nil || len(e.Places) == 0
}

// recount: the operator named a number of spares.
func (e *edit) recount() bool { return e.cmd.Settings != nil && e.cmd.Settings.Spares != nil }

// inherited are the places with those of new units that are made of routers of
// older ones: a router that joins or leaves a group stays where it was at home.
func (e *edit) inherited() map[uint64]Place {
	places := maps.Clone(e.Places)
	if len(places) == 0 || !e.cmd.configures() {
		return places
	}
	former := map[uint64]uint64{} // the unit that a router was in
	for _, u := range e.old.Units() {
		for _, r := range u.Routers {
			former[r] = u.ID
		}
	}
	for _, u := range e.Units() {
		if _, ok := places[u.ID]; !ok {
			if p, ok := e.Places[former[u.Routers[0]]]; ok {
				places[u.ID] = Place{Order: p.Order}
			}
		}
	}
	return places
}

// forgetPins drops the pins to members that are no more.
func (e *edit) forgetPins() {
	places := maps.Clone(e.Places)
	for id, p := range places {
		if _, ok := e.Member(p.Pin); !ok {
			p.Pin = ""
			places[id] = p
		}
	}
	e.Places = places
}

func (e *edit) tellHomes(was map[uint64]Place) {
	var fresh []string
	moved := 0
	for _, u := range e.Units() {
		from, to := was[u.ID].home(), e.Places[u.ID].home()
		switch {
		case from == to:
		case from == "":
			fresh = append(fresh, u.Name+" "+e.name(to))
		default:
			if moved++; moved <= eventsPerCommand {
				e.event("place", "%s: home is %s (was %s: %s)", u.Name, e.name(to), e.old.name(from), e.whyMoved(u, from))
			}
		}
		if old := was[u.ID].Moved; old != "" && e.Places[u.ID].Moved == "" {
			e.event("place", "%s was moved to %s by hand: that ends, for %s", u.Name, e.old.name(old), e.ended(u, old))
		}
	}
	if moved > eventsPerCommand {
		e.event("place", "and the homes of %d more", moved-eventsPerCommand)
	}
	if len(fresh) > 0 {
		e.event("place", "new homes: %s", someOf(fresh, eventsPerCommand))
	}
}

// whyMoved says why a unit's home is not from any more.
func (e *edit) whyMoved(u Unit, from MemberID) string {
	m, ok := e.Member(from)
	switch {
	case !ok || !m.presentDirector():
		return e.gone(from)
	case e.Places[u.ID].Pin != "":
		return "it is pinned"
	case slices.Contains(e.Spares(), from):
		return "that is a spare now"
	}
	return "that had more"
}

// ended says why an operator's move to a director is no more to be heeded.
func (e *edit) ended(u Unit, to MemberID) string {
	if e.Places[u.ID].home() == to {
		return "it is at home there"
	}
	return "that director " + strings.TrimPrefix(e.gone(to), "that ")
}

// gone says what became of a director that holds nothing any more.
func (e *edit) gone(id MemberID) string {
	if m, ok := e.Member(id); ok {
		return fmt.Sprintf("that is %s", m.State)
	}
	return "that was removed"
}

// sparesText is "dir3 is spare".
func (t *Table) sparesText(spares []MemberID) string {
	names := make([]string, len(spares))
	for i, id := range spares {
		names[i] = t.name(id)
	}
	switch len(names) {
	case 0:
		return "no director is spare"
	case 1:
		return names[0] + " is spare"
	}
	return strings.Join(names, ", ") + " are spares"
}
