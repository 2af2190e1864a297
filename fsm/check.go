package fsm

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// maxNumber bounds revisions and ids, so that none can ever wrap around.
const maxNumber = 1 << 53

// Check tests every invariant of the table and returns all that are broken,
// joined; nil if none is. Every table that Apply and Restore return passes.
func (t *Table) Check() error {
	c := checker{t: t}
	c.numbers()
	c.must(t.Used >= 0 && t.Used <= CommandVersion, "version %d of commands was used, this program reads up to %d", t.Used, CommandVersion)
	c.checkMembers()
	c.checkTokens()
	c.checkSets()
	c.checkGroups()
	c.checkPlaces()
	c.checkVotes()
	c.checkPools()
	c.checkOverrides()
	c.checkOwners()
	c.checkEvents()
	c.checkHistory()
	c.checkNotices()
	if len(c.broken) > 0 {
		return fmt.Errorf("table at revision %d: %w", t.Revision, errors.Join(c.broken...))
	}
	return nil
}

type checker struct {
	t      *Table
	broken []error
}

// must notes a broken invariant.
func (c *checker) must(ok bool, format string, args ...any) {
	if !ok {
		c.broken = append(c.broken, fmt.Errorf(format, args...))
	}
}

func (c *checker) numbers() {
	t := c.t
	c.must(t.Revision < maxNumber && t.NextMember < maxNumber && t.NextRouter < maxNumber, "a number is too large")
	c.must(t.NextMember > 0 && t.NextRouter > 0, "ids begin at 1")
	if t.Cluster != "" {
		c.must(nameProblem(t.Cluster) == "", "cluster id: %s", nameProblem(t.Cluster))
		c.must(t.Settings.problem() == "", "settings: %s", t.Settings.problem())
		c.must(slices.ContainsFunc(t.Members, Member.presentDirector), "there is no present director")
		c.must(t.Revision > 0, "a founded table has a revision")
		return
	}
	c.must(t.Revision == 0 && t.Settings == Settings{} && len(t.Members)+len(t.Sets)+len(t.Routers)+
		len(t.Groups)+len(t.Places)+len(t.Services)+len(t.Tokens)+len(t.Events)+len(t.History) == 0 && t.Pending == nil, "there is no cluster, but the table is not empty")
}

func (c *checker) checkMembers() {
	requests := map[string]bool{}
	last := uint64(0)
	for i, m := range c.t.Members {
		n, ok := m.ID.number()
		c.must(ok && n > last && n < c.t.NextMember, "member id %q is out of order or not below m%d", m.ID, c.t.NextMember)
		last = n
		c.must(m.Request == "" || !requests[m.Request], "member %s: its request is there twice", m.ID)
		requests[m.Request] = true
		c.must(slices.Contains([]MemberState{Joining, Present, Leaving}, m.State), "member %s: state %q", m.ID, m.State)
		c.must(m.Joined > 0 && m.Joined <= c.t.Revision, "member %s: joined at revision %d", m.ID, m.Joined)
		c.must(isClean(m.Request, maxBy), "member %s: its request is not clean", m.ID)
		c.must(m.Role == Director || !m.Drained, "member %s: a drained %s", m.ID, m.Role)
		networks, bad := canonicalNetworks(m.Networks)
		c.must(bad == "" && slices.Equal(networks, m.Networks), "member %s: its networks: %s", m.ID, cmp.Or(bad, "out of order"))
		// As if it were added to those before it; checkSets looks at the
		// addresses of the configuration.
		others := Table{Members: c.t.Members[:i]}
		bad = others.newMemberProblem(m.Name, m.Role, m.Addr)
		c.must(bad == "", "%s", bad)
	}
}

func (c *checker) checkTokens() {
	seen := map[string]bool{}
	for _, t := range c.t.Tokens {
		c.must(t.problem() == "", "token: %s", t.problem())
		c.must(!seen[t.Hash], "token %s is there twice", t.Hash)
		seen[t.Hash] = true
	}
}

func (c *checker) checkSets() {
	t := c.t
	owned := map[string]bool{}
	last := uint64(0)
	for _, r := range t.Routers {
		owned[r.Set] = true
		c.must(r.ID > last && r.ID < t.NextRouter, "router id %d is out of order or not below %d", r.ID, t.NextRouter)
		last = r.ID
	}
	for i, v := range t.Services {
		owned[v.Set] = true
		c.must(i == 0 || compareServices(t.Services[i-1], v) < 0, "virtual server %s is out of order", v.ServiceKey)
		c.must(v.RealServers != nil, "virtual server %s: nil real servers", v.ServiceKey)
	}
	for i, s := range t.Sets {
		c.must(i == 0 || t.Sets[i-1].Name < s.Name, "set %q is out of order", s.Name)
		c.must(s.Revision > 0 && s.Revision <= t.Revision, "set %q: applied at revision %d", s.Name, s.Revision)
		c.must(!t.Config(s.Name).empty(), "set %q is empty", s.Name)
		delete(owned, s.Name)
		for _, p := range t.ValidateSet(s.Name, t.Config(s.Name)) {
			c.must(false, "set %s: %s", s.Name, p)
		}
	}
	for name := range owned {
		c.must(false, "set %q owns something but is not there", name)
	}
}

func (c *checker) checkGroups() {
	routers := map[uint64]bool{}
	for _, r := range c.t.Routers {
		routers[r.ID] = true
	}
	last := uint64(0)
	for _, g := range c.t.Groups {
		c.must(g.ID > last && g.ID < c.t.NextRouter, "sync group id %d is out of order or not below %d", g.ID, c.t.NextRouter)
		c.must(!routers[g.ID], "id %d is a sync group's and a router's", g.ID)
		c.must(slices.ContainsFunc(c.t.Sets, func(s Set) bool { return s.Name == g.Set }), "set %q owns a group but is not there", g.Set)
		last = g.ID
	}
}

// checkPlaces: a table whose log has no command of version 2 has no places.
func (c *checker) checkPlaces() {
	t := c.t
	if len(t.Places) == 0 {
		return
	}
	units := t.Units()
	for _, u := range units {
		p, ok := t.Places[u.ID]
		c.must(ok, "%s has no place", u.Name)
		c.checkPlace(u, p)
	}
	c.must(len(t.Places) == len(units), "%d places for %d units", len(t.Places), len(units))
}

func (c *checker) checkPlace(u Unit, p Place) {
	seen := map[MemberID]bool{}
	for _, id := range p.Order {
		m, _ := c.t.Member(id)
		c.must(m.presentDirector() && !seen[id], "%s: the order has %s, which is no present director, or twice", u.Name, id)
		seen[id] = true
	}
	for _, m := range c.t.Members {
		c.must(!m.presentDirector() || seen[m.ID], "%s: the order is without %s", u.Name, m.ID)
	}
	pin, pinned := c.t.Member(p.Pin)
	c.must(pinned || p.Pin == "", "%s is pinned to %s, which is no member", u.Name, p.Pin)
	c.must(!pin.presentDirector() || p.home() == p.Pin, "%s is pinned to %s, but at home with %s", u.Name, p.Pin, p.home())
	c.must(p.Moved == "" || seen[p.Moved], "%s was moved to %s, which is no present director", u.Name, p.Moved)
	c.must(!p.Arrived || p.Moved != "", "%s has arrived nowhere", u.Name)
	c.must(!p.Arrived || p.Moved != p.home(), "%s is back home and still moved", u.Name)
}

func (c *checker) checkVotes() {
	t := c.t
	x := newIndex(t.Services, nil, nil)
	may := map[MemberID]bool{}
	for _, m := range t.Members {
		may[m.ID] = m.presentDirector()
	}
	voters := t.voters()
	for target, votes := range t.Votes {
		c.must(x.has(target) && len(votes) > 0, "votes on %q, which is no target", target)
		for id, v := range votes {
			c.must(may[id], "a vote of %s, which is no present director", id)
			c.must(v == v.clean(), "the vote of %s on %q is not clean", id, target)
		}
		down := t.Health[target].Down
		sum, weighs := t.tally(target, voters), t.Health[target].Weighs
		c.must(sum.agreed(down, t.Settings.Health) == down, "the votes on %q and its health disagree", target)
		c.must(down || sum.weighed(weighs) == weighs, "the votes on %q and its weight disagree", target)
	}
	for target, h := range t.Health {
		c.must(x.has(target), "health of %q, which is no target", target)
		c.must(h.Since > 0 && h.Since <= t.Revision, "health of %q since revision %d", target, h.Since)
		c.must(isClean(h.Detail, maxDetail), "health of %q is not clean", target)
		c.must(h.Step >= 0 && h.Step < RampSteps && (h.Step == 0 || !h.Down), "health of %q is at step %d", target, h.Step)
		c.must(h.Weighs == (Weighing{}) || !h.Down && h.Weighs.valid(), "health of %q has a weight of %v", target, h.Weighs)
	}
	c.must(t.idx == nil || slices.EqualFunc(t.idx.targets, x.targets, sameTarget) && slices.EqualFunc(t.idx.of, x.of, slices.Equal), "the index is stale")
}

func sameTarget(a, b TargetInfo) bool { return a.Target == b.Target && a.Server == b.Server }

func (c *checker) checkOverrides() {
	if len(c.t.Overrides) == 0 {
		return
	}
	servers := allServers(c.t.Services)
	for i, o := range c.t.Overrides {
		c.must(o.problem() == "" && o.String() != "", "override of %s: %s", o.where(), o.problem())
		c.must(servers[overrideKey{o.Service, o.Server}], "override of %s, which is not there", o.where())
		c.must(i == 0 || compareOverrides(c.t.Overrides[i-1], o) < 0, "override of %s is out of order", o.where())
		c.must(isClean(o.By, maxBy), "override of %s: who is not clean", o.where())
		c.must(o.State != Enabled || o.Since.IsZero(), "override of %s: since when is it nothing", o.where())
	}
}

func (c *checker) checkOwners() {
	for id, owner := range c.t.Owners {
		_, unit := c.t.Unit(id)
		m, member := c.t.Member(owner)
		c.must(unit && member && m.Role == Director, "owner %s of unit %d: one of them is not there", owner, id)
	}
}

func (c *checker) checkEvents() {
	t := c.t
	c.must(len(t.Events) <= EventsKept, "%d events are kept", len(t.Events))
	for i, e := range t.Events {
		c.must(e.Revision > 0 && e.Revision <= t.Revision, "event at revision %d", e.Revision)
		c.must(i == 0 || t.Events[i-1].Revision <= e.Revision, "event at revision %d is out of order", e.Revision)
	}
	// What tells people of events is none itself: see edit.quiet.
	c.must(len(t.Events) == 0 || len(t.Channels) > 0 || t.Events[len(t.Events)-1].Revision == t.Revision, "the last event is not of the last revision")
}
