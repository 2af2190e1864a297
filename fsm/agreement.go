package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Agreement is what people decided, without what machines made of it: no members, no
// votes, no owners, no history. It is what a [Saved] snapshot keeps and [Reinstate]
// brings back, in this cluster or in another one.
type Agreement struct {
	Settings  Settings    `json:"settings"`
	Sets      []AgreedSet `json:"sets"` // by name
	Overrides []Override  `json:"overrides,omitempty"`
	// Pins are the homes that operators chose: directors' names by unit names. A name
	// that no present director has, or no unit, is passed over.
	Pins map[string]string `json:"pins,omitempty"`
}

// AgreedSet is one set's content.
type AgreedSet struct {
	Name   string `json:"name"`
	Config Config `json:"config"`
}

// Reinstate makes an Agreement the table's again, in one change: sets that it does not
// have are deleted, settings and what was set by hand become what they were.
type Reinstate struct {
	Agreement Agreement `json:"agreement"`
	// Why is kept in the history: "snapshot of revision 12".
	Why string `json:"why,omitempty"`
}

// Agreement is t's.
func (t *Table) Agreement() Agreement {
	a := Agreement{Settings: t.Settings, Sets: []AgreedSet{}, Overrides: slices.Clone(t.Overrides)}
	for _, s := range t.Sets {
		c := t.Config(s.Name).canonical(s.Name)
		orEmpty(&c.Routers)
		orEmpty(&c.Services)
		a.Sets = append(a.Sets, AgreedSet{s.Name, c})
	}
	for _, u := range t.Units() {
		p, _ := t.Place(u.ID)
		if m, ok := t.Member(p.Pin); ok {
			if a.Pins == nil {
				a.Pins = map[string]string{}
			}
			a.Pins[u.Name] = m.Name
		}
	}
	return a
}

// config is the content of a set; empty: the agreement does not have it.
func (a Agreement) config(set string) Config {
	s, _ := find(a.Sets, func(s AgreedSet) bool { return s.Name == set })
	return s.Config
}

// names are the sets of t and of a, each once, by name.
func (a Agreement) names(t *Table) []string {
	var names []string
	for _, s := range t.Sets {
		names = append(names, s.Name)
	}
	for _, s := range a.Sets {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ValidateAgreement finds all that is wrong with a where t's members are.
func (t *Table) ValidateAgreement(a Agreement) []Problem {
	if bad := a.Settings.problem(); bad != "" {
		return []Problem{{Path: "settings", Text: bad}}
	}
	var all []Problem
	scratch := *t
	scratch.Settings, scratch.Sets, scratch.Routers, scratch.Groups, scratch.Services = a.Settings, nil, nil, nil, nil
	scratch.idx, scratch.units, scratch.Overrides = nil, nil, nil
	for i, s := range a.Sets {
		if i > 0 && a.Sets[i-1].Name >= s.Name {
			return append(all, Problem{Path: fmt.Sprintf("set %q", s.Name), Text: "it is there twice, or out of order"})
		}
		for _, p := range scratch.ValidateSet(s.Name, s.Config) {
			p.Path = fmt.Sprintf("set %s: %s", s.Name, p.Path)
			all = append(all, p)
		}
		c := s.Config.canonical(s.Name)
		scratch.Sets = append(scratch.Sets, Set{Name: s.Name, Globals: c.Globals})
		scratch.Routers = append(scratch.Routers, c.Routers...)
		scratch.Groups = append(scratch.Groups, c.Groups...)
		scratch.Services = append(scratch.Services, c.Services...)
	}
	for _, o := range a.Overrides {
		if bad := o.problem(); bad != "" {
			all = append(all, Problem{Path: o.where(), Text: bad})
		}
	}
	return all
}

// DiffAgreement says what reinstating a would change: nothing (nil) exactly if the
// command would change nothing. It does not validate.
func (t *Table) DiffAgreement(a Agreement) []Change {
	changes := t.settingChanges(a.Settings)
	bare := *t
	bare.Overrides = nil // they are compared by themselves
	for _, set := range a.names(t) {
		for _, c := range bare.Diff(set, a.config(set)) {
			c.Path = fmt.Sprintf("set %s: %s", set, c.Path)
			changes = append(changes, c)
		}
	}
	changes = append(changes, t.overrideChanges(a)...)
	return append(changes, t.pinChanges(a)...)
}

func (t *Table) settingChanges(is Settings) []Change {
	if texts := t.Settings.changes(is); len(texts) > 0 {
		return []Change{{Op: OpChange, Path: "settings", After: strings.Join(texts, ", ")}}
	}
	return nil
}

// overrides are those of a whose servers it has, in order; one that stands already is
// as it stands.
func (a Agreement) overrides(now []Override) []Override {
	var services []VirtualServer
	for _, s := range a.Sets {
		services = append(services, s.Config.Services...)
	}
	servers := allServers(services)
	all := []Override{}
	for _, o := range a.Overrides {
		twice := slices.ContainsFunc(all, o.same)
		if twice || !servers[overrideKey{o.Service, o.Server}] || o.String() == "" {
			continue
		}
		if stands, ok := find(now, o.equal); ok {
			o = stands
		}
		all = append(all, o)
	}
	slices.SortFunc(all, compareOverrides)
	return all
}

func (t *Table) overrideChanges(a Agreement) []Change {
	var changes []Change
	is := a.overrides(t.Overrides)
	for _, o := range t.Overrides {
		if !slices.ContainsFunc(is, o.same) {
			changes = append(changes, Change{Op: OpDelete, Path: "by hand: " + o.where(), Before: o.String()})
		}
	}
	for _, o := range is {
		was, ok := find(t.Overrides, o.same)
		switch {
		case !ok:
			changes = append(changes, Change{Op: OpAdd, Path: "by hand: " + o.where(), After: o.String()})
		case !was.equal(o):
			changes = append(changes, Change{Op: OpChange, Path: "by hand: " + o.where(), Before: was.String(), After: o.String()})
		}
	}
	return changes
}

// pinned are the pins of a that can be carried out: directors' ids by unit names.
func (a Agreement) pinned(members []Member) map[string]MemberID {
	units := map[string]bool{}
	for _, s := range a.Sets {
		grouped := map[string]bool{}
		for _, g := range s.Config.Groups {
			units[g.Name] = true
			for _, r := range g.Routers {
				grouped[r] = true
			}
		}
		for _, r := range s.Config.Routers {
			units[r.Name] = units[r.Name] || !grouped[r.Name]
		}
	}
	pins := map[string]MemberID{}
	for _, unit := range sortedNames(a.Pins) {
		m, ok := find(members, func(m Member) bool { return m.Name == a.Pins[unit] })
		if ok && m.presentDirector() && units[unit] {
			pins[unit] = m.ID
		}
	}
	return pins
}

func (t *Table) pinChanges(a Agreement) []Change {
	is, was := a.pinned(t.Members), map[string]MemberID{}
	for _, u := range t.Units() {
		if p, _ := t.Place(u.ID); p.Pin != "" {
			was[u.Name] = p.Pin
		}
	}
	var changes []Change
	names := append(sortedNames(is), sortedNames(was)...)
	slices.Sort(names)
	name := func(id MemberID) string { m, _ := t.Member(id); return m.Name }
	for _, unit := range slices.Compact(names) {
		c := Change{Op: OpChange, Path: "home of " + unit, Before: name(was[unit]), After: name(is[unit])}
		switch {
		case was[unit] == is[unit]:
			continue
		case was[unit] == "":
			c.Op = OpAdd
		case is[unit] == "":
			c.Op = OpDelete
		}
		changes = append(changes, c)
	}
	return changes
}

// reinstate does it: all or nothing.
func (e *edit) reinstate(r Reinstate) error {
	if e.cmd.Version < 3 {
		return oldVersion("snapshots cannot be restored")
	}
	if err := e.old.Unconfirmed(); err != nil {
		return err
	}
	a := r.Agreement
	if problems := e.old.ValidateAgreement(a); len(problems) > 0 {
		return &ConfigError{Problems: problems}
	}
	if len(e.old.DiffAgreement(a)) == 0 {
		return nil
	}
	why := clean(r.Why, maxDetail)
	e.event("restore", "what operators had decided is put back%s", reason(why))
	if texts := e.Settings.changes(a.Settings); len(texts) > 0 {
		e.event("settings", "%s", strings.Join(texts, ", "))
	}
	anew := cmp.Or(e.Settings.Health, HealthMajority) != cmp.Or(a.Settings.Health, HealthMajority)
	e.Settings = a.Settings
	e.reinstateSets(a, why)
	if anew {
		e.judgeAll()
	}
	overrides := a.overrides(e.old.Overrides)
	for i, c := range e.old.overrideChanges(a) {
		if i == eventsPerCommand {
			e.event("override", "and more by hand")
			break
		}
		e.event("override", "%s: %s", strings.TrimPrefix(c.Path, "by hand: "), cmp.Or(c.After, "as configured again"))
	}
	for i := range overrides {
		if o := &overrides[i]; !slices.ContainsFunc(e.old.Overrides, o.equal) {
			// A drain that ends by itself begins now.
			if o.By = e.cmd.By; o.State != Enabled {
				o.Since = e.cmd.At
			}
		}
	}
	e.Overrides = overrides
	e.reinstatePins(a)
	return nil
}

// reinstateSets replaces the sets that differ. Services that change their set are taken
// out of all first, so that none is there twice in between.
func (e *edit) reinstateSets(a Agreement, why string) {
	var changed []string
	for _, set := range a.names(e.old) {
		if e.old.summarise(set, a.config(set).canonical(set)).total > 0 {
			changed = append(changed, set)
			e.begin(set)
		}
	}
	for _, set := range changed {
		e.replaceServices(set, nil)
	}
	for i, set := range changed {
		cfg := a.config(set).canonical(set)
		sum := e.old.summarise(set, cfg)
		e.replaceRouters(set, cfg.Routers)
		e.replaceGroups(set, cfg.Groups)
		e.replaceServices(set, cfg.Services)
		e.replaceSet(set, cfg)
		if i < eventsPerCommand {
			e.event("apply", "set %s: %s%s", set, sum, reason(why))
		}
		e.remember(Applied{Revision: e.rev, At: e.cmd.At, By: e.cmd.By, Set: set, Text: sum.String(), Why: why, Config: cfg})
	}
	if len(changed) > 0 {
		e.doubtNew()
		e.forget()
	}
}

func (e *edit) reinstatePins(a Agreement) {
	pins := a.pinned(e.Members)
	places := cloneMap(e.Places)
	var texts []string
	for _, u := range e.Units() {
		p := places[u.ID]
		if p.Pin == pins[u.Name] {
			continue
		}
		if p.Pin = pins[u.Name]; p.Pin == "" {
			texts = append(texts, u.Name+" is not pinned any more")
		} else {
			texts = append(texts, fmt.Sprintf("%s is pinned to %s", u.Name, e.name(p.Pin)))
		}
		places[u.ID] = p
	}
	if len(texts) > 0 {
		e.event("move", "%s", someOf(texts, 5))
		e.Places = places
	}
}
