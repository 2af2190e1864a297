package fsm

import (
	"cmp"
	"slices"
)

func (e *edit) applySet(a ApplySet) error {
	if err := e.old.Unconfirmed(); err != nil {
		return err
	}
	if problems := e.old.ValidateSet(a.Set, a.Config); len(problems) > 0 {
		return &ConfigError{Problems: problems}
	}
	if err := e.applyAsBefore(a); err != nil {
		return err
	}
	if bad := a.Problem(e.old); bad != "" {
		return invalid("%s", bad)
	}
	cfg := a.Config.canonical(a.Set)
	changes := e.old.summarise(a.Set, cfg)
	if changes.total == 0 {
		return nil
	}
	e.replace(a.Set, cfg, changes, clean(a.Why, maxDetail))
	e.house(a.Homes)
	e.await(a)
	return nil
}

// replace makes cfg, which is canonical, what a set owns, and tells of it.
func (e *edit) replace(set string, cfg Config, changes summary, why string) {
	e.begin(set)
	e.replaceRouters(set, cfg.Routers)
	e.replaceGroups(set, cfg.Groups)
	e.replaceServices(set, cfg.Services)
	e.replaceSet(set, cfg)
	e.doubtNew()
	text := changes.String()
	e.event("apply", "set %s: %s%s", set, text, reason(why))
	e.remember(Applied{Revision: e.rev, At: e.cmd.At, By: e.cmd.By, Set: set, Text: text, Why: why, Config: cfg})
	e.forget()
}

func reason(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}

// canonical is a deep copy of c as the table keeps it: owned by set, services
// by key, nothing nil but empty lists of checks.
func (c Config) canonical(set string) Config {
	out := Config{
		Globals: c.Globals, Routers: slices.Clone(c.Routers), Groups: slices.Clone(c.Groups), Services: slices.Clone(c.Services),
	}
	if len(c.Globals.NotificationEmail) == 0 {
		out.Globals.NotificationEmail = nil
	} else {
		out.Globals.NotificationEmail = slices.Clone(c.Globals.NotificationEmail)
	}
	out.Globals.IPVS, out.Globals.FIFOs = c.Globals.IPVS.clone(), c.Globals.FIFOs.clone()
	for i := range out.Routers {
		r := &out.Routers[i]
		r.ID, r.Set, r.Addresses = 0, set, slices.Clone(r.Addresses)
		r.Track, r.Notify = append([]Tracker(nil), r.Track...), r.Notify.clone()
		r.Peering.Peers = append([]Peer(nil), r.Peering.Peers...)
	}
	for i := range out.Groups {
		g := &out.Groups[i]
		g.ID, g.Set, g.Routers = 0, set, append([]string(nil), g.Routers...)
		g.Track, g.Notify = append([]Tracker(nil), g.Track...), g.Notify.clone()
	}
	for i := range out.Services {
		v := &out.Services[i]
		v.Set, v.RealServers = set, slices.Clone(v.RealServers)
		orEmpty(&v.RealServers)
		v.Notify = v.Notify.clone()
		v.Matches = append([]Match(nil), v.Matches...)
		for j := range v.RealServers {
			v.RealServers[j].Notify = v.RealServers[j].Notify.clone()
			v.RealServers[j].Checks = append([]Check(nil), v.RealServers[j].Checks...)
		}
	}
	slices.SortStableFunc(out.Services, compareServices)
	return out
}

func compareServices(a, b VirtualServer) int { return a.ServiceKey.compare(b.ServiceKey) }

// compare orders keys as their texts.
func (k ServiceKey) compare(o ServiceKey) int {
	if k == o {
		return 0
	}
	return cmp.Compare(k.String(), o.String())
}

func (c Config) empty() bool {
	return len(c.Routers)+len(c.Groups)+len(c.Services) == 0 && len(globalFields(c.Globals)) == 0
}

// Config is what the table has of a set: what was applied last. Routers and
// groups come by id, services by key.
func (t *Table) Config(set string) Config {
	s, _ := find(t.Sets, func(s Set) bool { return s.Name == set })
	c := Config{Globals: s.Globals}
	for _, r := range t.Routers {
		if r.Set == set {
			c.Routers = append(c.Routers, r)
		}
	}
	for _, g := range t.Groups {
		if g.Set == set {
			c.Groups = append(c.Groups, g)
		}
	}
	for _, v := range t.Services {
		if v.Set == set {
			c.Services = append(c.Services, v)
		}
	}
	return c
}

// replaceRouters puts in the routers of a set. A router that the set had under
// the same name keeps its id, and with it its lease.
func (e *edit) replaceRouters(set string, routers []Router) {
	ids := map[string]uint64{}
	all := make([]Router, 0, len(e.Routers)+len(routers))
	for _, r := range e.Routers {
		if r.Set == set {
			ids[r.Name] = r.ID
		} else {
			all = append(all, r)
		}
	}
	for _, r := range routers {
		if r.ID = ids[r.Name]; r.ID == 0 {
			r.ID = e.NextRouter
			e.NextRouter++
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Router) int { return cmp.Compare(a.ID, b.ID) })
	e.Routers = all
}

// replaceGroups does for sync groups what replaceRouters does for routers. A
// router that joins or leaves a group changes its unit, and so its lease.
func (e *edit) replaceGroups(set string, groups []SyncGroup) {
	ids := map[string]uint64{}
	var all []SyncGroup // nil when there is none: it is left out of snapshots
	for _, g := range e.Groups {
		if g.Set == set {
			ids[g.Name] = g.ID
		} else {
			all = append(all, g)
		}
	}
	for _, g := range groups {
		if g.ID = ids[g.Name]; g.ID == 0 {
			g.ID = e.NextRouter
			e.NextRouter++
		}
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b SyncGroup) int { return cmp.Compare(a.ID, b.ID) })
	e.Groups = all
}

func (e *edit) replaceServices(set string, services []VirtualServer) {
	had := map[ServiceKey]VirtualServer{}
	all := make([]VirtualServer, 0, len(e.Services)+len(services))
	for _, v := range e.Services {
		if v.Set == set {
			had[v.ServiceKey] = v
		} else {
			all = append(all, v)
		}
	}
	for _, v := range services {
		if old, ok := had[v.ServiceKey]; ok && old.equal(v) {
			v = old // shared, so that Touched sees at once that it is the same
		}
		all = append(all, v)
	}
	slices.SortFunc(all, compareServices)
	e.idx = newIndex(all, e.idx, e.Services)
	e.Services = all
}

func (e *edit) replaceSet(set string, cfg Config) {
	e.Sets = slices.DeleteFunc(slices.Clone(e.Sets), func(s Set) bool { return s.Name == set })
	if cfg.empty() {
		return
	}
	e.Sets = append(e.Sets, Set{Name: set, Globals: cfg.Globals, Revision: e.rev, By: e.cmd.By, At: e.cmd.At})
	slices.SortFunc(e.Sets, func(a, b Set) int { return cmp.Compare(a.Name, b.Name) })
}

// forget drops what was said about routers, servers and targets that are no more.
func (e *edit) forget() {
	current := func(target Target) bool { return e.idx.has(target) }
	e.Votes = keep(e.Votes, func(t Target, _ map[MemberID]Vote) bool { return current(t) })
	e.Health = keep(e.Health, func(t Target, _ Health) bool { return current(t) })
	units := map[uint64]bool{}
	for _, u := range e.Units() {
		units[u.ID] = true
	}
	e.Owners = keep(e.Owners, func(id uint64, _ MemberID) bool { return units[id] })
	e.forgetOverrides()
}

func (e *edit) forgetOverrides() {
	if len(e.Overrides) == 0 {
		return
	}
	servers := allServers(e.Services)
	kept, dropped := make([]Override, 0, len(e.Overrides)), 0
	for _, o := range e.Overrides {
		if servers[overrideKey{o.Service, o.Server}] {
			kept = append(kept, o)
			continue
		}
		if dropped++; dropped <= eventsPerCommand {
			e.event("override", "%s is no more: what was set by hand is dropped (%s)", o.where(), o)
		}
	}
	if dropped > eventsPerCommand {
		e.event("override", "and what was set by hand of %d more", dropped-eventsPerCommand)
	}
	e.Overrides = kept
}

// allServers are the places that overrides can name: each server in its
// virtual server, and each server anywhere (zero ServiceKey).
func allServers(services []VirtualServer) map[overrideKey]bool {
	all := map[overrideKey]bool{}
	for _, v := range services {
		for _, r := range v.RealServers {
			all[overrideKey{v.ServiceKey, r.AddrPort()}] = true
			all[overrideKey{ServiceKey{}, r.AddrPort()}] = true
		}
	}
	return all
}
