package api

import (
	"fmt"
	"slices"
	"strings"

	"lbcluster/fsm"
)

// survival counts voters and directors that answer.
func (v *view) survival() Survival {
	local := v.statuses[v.self]
	s := Survival{Voters: len(local.Raft.Voters), Leader: local.Raft.Leader}
	s.Majority = s.Voters/2 + 1
	for _, id := range local.Raft.Voters {
		if st := v.statuses[id]; st != nil {
			s.Answering++
			if slices.ContainsFunc(st.Leases, func(l LeaseStatus) bool { return l.EmbargoMS > 0 }) {
				s.Embargoed++
			}
		}
	}
	for _, m := range v.table.Members {
		if m.Role == fsm.Director && v.statuses[m.ID] != nil {
			s.Directors++
		}
	}
	s.Able, _ = v.able()
	if s.Failures = -1; s.Answering >= s.Majority {
		s.Failures = max(min(s.Answering-s.Majority, s.Able-1), 0)
	}
	if s.Failures > 0 {
		s.Failures = max(0, min(s.Failures, s.Answering-s.Embargoed-s.Majority))
	}
	s.Advice = v.advice(s)
	return s
}

// able is how many directors hold a unit or could take it, and the name of the
// unit that has the fewest; without units, how many are not drained. A director
// that has not spoken of a unit yet counts.
func (v *view) able() (least int, unit string) {
	least = v.count(func(m fsm.Member, _ *DirectorStatus) bool { return !m.Drained && m.State != fsm.Leaving })
	for _, u := range v.table.Units() {
		n := v.count(func(m fsm.Member, s *DirectorStatus) bool {
			l, _ := leaseOf(s, u.ID)
			return l.State == LeaseHolder || !m.Drained && m.State != fsm.Leaving && l.Unfit == ""
		})
		if n < least || unit == "" {
			least, unit = n, u.Name
		}
	}
	return least, unit
}

// count is how many directors answer and are so.
func (v *view) count(is func(fsm.Member, *DirectorStatus) bool) (n int) {
	for _, m := range v.directors() {
		if s := v.statuses[m.ID]; s != nil && is(m, s) {
			n++
		}
	}
	return n
}

// advice says what would let the cluster survive more than it does.
func (v *view) advice(s Survival) string {
	switch {
	case s.Voters == 0:
		return "this member does not know the voters yet"
	case s.Failures < 0:
		return "bring back members that do not answer; without a majority no VIP can be held"
	case s.Failures > 0:
		return ""
	case s.Embargoed > 0:
		return "wait: a voter that has just restarted grants no lease for some seconds"
	case s.Answering < s.Voters:
		return "bring back the members that do not answer"
	case s.Able < 2 && s.Directors > 1:
		return v.lacking(s)
	case len(v.table.Members) == 1:
		return "add two directors, or a director and a witness"
	case len(v.table.Members) == s.Voters:
		return "add a witness or a director"
	default:
		return "members that have not caught up become voters when their number makes it odd; add a witness or a director"
	}
}

// lacking says which directors that answer could not take over.
func (v *view) lacking(s Survival) string {
	var drained []string
	for _, m := range v.directors() {
		if m.Drained && v.statuses[m.ID] != nil {
			drained = append(drained, m.Name)
		}
	}
	_, unit := v.able()
	text := fmt.Sprintf("only %d of the %d directors that answer can hold", s.Able, s.Directors)
	if unit == "" {
		text += " a VIP"
	} else {
		text += " " + unit + ", and below stands what the others lack"
	}
	if len(drained) > 0 {
		text += fmt.Sprintf("; drained: %s (lbcluster director fit %s)", strings.Join(drained, ", "), drained[0])
	}
	return text
}
