package api

import (
	"fmt"

	"lbcluster/fsm"
)

// place fills in where a router's unit should be, and why it is not there.
func (v *view) place(out *RouterReport, u fsm.Unit) {
	if u.ID != out.ID {
		out.Group = u.Name
	}
	out.Unit = u.ID
	p, ok := v.table.Place(u.ID)
	if !ok {
		return
	}
	out.Home = v.table.Home(u.ID)
	out.HomeName = v.name(out.Home)
	out.Pinned = p.Pin != "" && p.Pin == out.Home
	out.Away = v.away(out, p)
}

// away says why a unit is not at home, and what would bring it there; empty
// if it is and may stay, or if nobody owns it.
func (v *view) away(out *RouterReport, p fsm.Place) string {
	if out.Owner == "" {
		return ""
	}
	if out.Owner == out.Home && p.Moved == "" {
		return v.waits(out) // it should leave: its director is drained, say
	}
	if to, asked := v.table.Asked(out.Unit); asked && to != out.Owner {
		return v.pending(out, to)
	}
	if p.Arrived && p.Moved == out.Owner {
		return fmt.Sprintf("moved to %s by hand; back home to %s: lbcluster router move %s --home",
			out.OwnerName, out.HomeName, out.Name)
	}
	if out.Owner == out.Home {
		return ""
	}
	return v.notHome(out)
}

// pending tells of an operator's move that is not done.
func (v *view) pending(out *RouterReport, to fsm.MemberID) string {
	text := fmt.Sprintf("to be moved to %s", v.name(to))
	if v.statuses[to] == nil {
		return text + ", which does not answer"
	}
	if waits := v.waits(out); waits != "" {
		return text + ": " + waits
	}
	return text + ": under way"
}

// waits is what the owner says keeps the unit where it is.
func (v *view) waits(out *RouterReport) string {
	s := v.statuses[out.Owner]
	if s == nil {
		return ""
	}
	l, _ := leaseOf(s, out.Unit)
	return l.Waits
}

// notHome says why the home does not have its unit.
func (v *view) notHome(out *RouterReport) string {
	home, _ := v.table.Member(out.Home)
	s := v.statuses[out.Home]
	var l LeaseStatus
	if s != nil {
		l, _ = leaseOf(s, out.Unit)
	}
	auto, after := v.table.Settings.FailsBack()
	switch {
	case home.Drained:
		return fmt.Sprintf("%s is drained: lbcluster director fit %s", home.Name, home.Name)
	case s == nil:
		return fmt.Sprintf("%s does not answer", home.Name)
	case l.Unfit != "":
		return fmt.Sprintf("%s is not fit: %s", home.Name, plain(l.Unfit))
	case auto && v.waits(out) != "":
		return v.waits(out)
	case auto:
		return fmt.Sprintf("it goes home by itself once %s has been well for %v", home.Name, after)
	}
	return fmt.Sprintf("%s can have it again, and fail-back is manual: lbcluster router move %s --home",
		home.Name, out.Name)
}
