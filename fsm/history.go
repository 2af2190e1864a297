package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Applied is one revision of a set's configuration: that an apply, a rollback or
// an undo made, and that can be looked at and rolled back to.
type Applied struct {
	Revision Revision  `json:"revision"` // of the table since it
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Set      string    `json:"set"`
	Text     string    `json:"text"`          // what it changed, in a line
	Why      string    `json:"why,omitempty"` // "rollback to revision 12"; empty: an ordinary apply
	Config   Config    `json:"config"`        // what the set was since then
}

// The history is bounded by both; the newest two are kept in any case, so that
// there is something to go back to.
const (
	// HistoryKept is how many revisions Table.History has at most.
	HistoryKept = 50
	// historyElements is how many routers, virtual servers, real servers and
	// checks its configurations have together, since all of them are in memory
	// and in each snapshot.
	historyElements = 60000
)

// elements counts what makes a configuration large.
func (c Config) elements() int {
	n := len(c.Routers) + len(c.Groups) + len(c.Services)
	for _, v := range c.Services {
		n += len(v.RealServers)
		for _, r := range v.RealServers {
			n += len(r.Checks)
		}
	}
	return n
}

// Applied finds a revision in the history: the first set that changed at it.
func (t *Table) Applied(rev Revision) (Applied, bool) {
	return find(t.History, func(a Applied) bool { return a.Revision == rev })
}

// AppliedSets are the sets that changed at a revision: none that is kept, one, or, if a
// snapshot was restored, several.
func (t *Table) AppliedSets(rev Revision) []Applied {
	var all []Applied
	for _, a := range t.History {
		if a.Revision == rev {
			all = append(all, a)
		}
	}
	return all
}

// Former is the revision of the same set before at; false if none is kept.
func (t *Table) Former(at Applied) (former Applied, ok bool) {
	for _, a := range t.History {
		if a.Set == at.Set && a.Revision < at.Revision {
			former, ok = a, true
		}
	}
	return former, ok
}

// begin notes what a set was before its history began: it was applied by a
// command of an older version, or its entries were among those that are not
// kept any more. No older command may do this: members that read it before had
// no history.
func (e *edit) begin(set string) {
	s, exists := find(e.Sets, func(s Set) bool { return s.Name == set })
	known := slices.ContainsFunc(e.History, func(a Applied) bool { return a.Set == set && a.Revision == s.Revision })
	if !exists || known {
		return
	}
	e.remember(Applied{
		Revision: s.Revision, At: s.At, By: s.By, Set: set, Text: "the set as it was when its history began",
		Config: e.old.Config(set).canonical(set),
	})
}

// remember adds to the history and drops what is too old.
func (e *edit) remember(a Applied) {
	if e.cmd.Version < 3 {
		return
	}
	orEmpty(&a.Config.Routers)
	orEmpty(&a.Config.Services)
	all := append(slices.Clone(e.History), a)
	slices.SortStableFunc(all, func(a, b Applied) int { return cmp.Compare(a.Revision, b.Revision) })
	n, elements := 0, 0
	for i, a := range slices.Backward(all) {
		elements += a.Config.elements()
		if n = len(all) - i; n > 2 && (n > HistoryKept || elements > historyElements) {
			n--
			break
		}
	}
	e.History = slices.Clone(all[len(all)-n:])
}

func (c *checker) checkHistory() {
	t := c.t
	c.must(len(t.History) <= HistoryKept, "%d revisions are kept", len(t.History))
	for i, a := range t.History {
		c.must(a.Revision > 0 && a.Revision <= t.Revision, "history at revision %d", a.Revision)
		c.must(i == 0 || t.History[i-1].Revision <= a.Revision, "history at revision %d is out of order", a.Revision)
		for _, b := range t.History[:i] {
			c.must(b.Revision != a.Revision || b.Set != a.Set, "history at revision %d has set %s twice", a.Revision, a.Set)
		}
		c.must(nameProblem(a.Set) == "", "history at revision %d: set %q", a.Revision, a.Set)
		c.must(isClean(a.By, maxBy) && isClean(a.Why, maxDetail), "history at revision %d: its text is not clean", a.Revision)
	}
	if p := t.Pending; p != nil {
		a, ok := t.Applied(p.Revision)
		c.must(ok && a.Set == p.Set, "revision %d waits for a confirmation, but is not in the history", p.Revision)
		c.must(p.Within >= leastConfirm && p.Within <= mostConfirm, "revision %d waits %v for a confirmation", p.Revision, p.Within)
		c.must(isClean(p.By, maxBy), "pending: who is not clean")
		for _, o := range p.Overrides {
			c.must(o.problem() == "" && o.String() != "" && isClean(o.By, maxBy), "pending: override of %s: %s", o.where(), o.problem())
		}
	}
}

// house pins new units to the directors that an apply names for them.
func (e *edit) house(homes map[string]MemberID) {
	old := map[uint64]bool{}
	for _, u := range e.old.Units() {
		old[u.ID] = true
	}
	for _, u := range e.Units() {
		if to := homes[u.Name]; to != "" && !old[u.ID] {
			places := cloneMap(e.Places)
			places[u.ID] = Place{Pin: to}
			e.Places = places
			e.event("move", "%s is pinned to %s, as the files say", u.Name, e.name(to))
		}
	}
}

// Problem says what is wrong with what an apply of t asks for besides its
// content; empty: nothing.
func (a ApplySet) Problem(t *Table) string {
	for _, unit := range sortedNames(a.Homes) {
		m, _ := t.Member(a.Homes[unit])
		if !m.presentDirector() {
			return fmt.Sprintf("%s can't be at home with %q: that is no director of the cluster", unit, a.Homes[unit])
		}
	}
	if w := a.ConfirmWithin; w != 0 && (w < leastConfirm || w > mostConfirm) {
		return fmt.Sprintf("a change can wait %v to %v for its confirmation, not %v", leastConfirm, mostConfirm, w)
	}
	return ""
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
