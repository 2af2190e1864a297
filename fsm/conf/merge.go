package conf

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"lbcluster/fsm"
)

// Source is one node's file as it was read, without problems.
type Source struct {
	Name   string // as it was opened
	Result Result
}

// Side is what one file says of a difference, and where.
type Side struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	Text string `json:"text,omitempty"` // empty: it says nothing of it; the place is then that of what is around it
}

// Place is "a.conf:12".
func (s Side) Place() string {
	if s.Line == 0 {
		return s.File
	}
	return fmt.Sprintf("%s:%d", s.File, s.Line)
}

// String is "a.conf:12: priority 150".
func (s Side) String() string {
	if s.Text == "" {
		return s.Place() + ": (not there)"
	}
	return s.Place() + ": " + s.Text
}

// Difference is one thing in which the files of the nodes differ.
type Difference struct {
	Path  string `json:"path"`            // the element, as in fsm.Problem
	Field string `json:"field,omitempty"` // the setting; empty: the whole element
	// PerNode: it is each node's own affair, and the cluster has another way to
	// say it.
	PerNode bool `json:"per_node,omitempty"`
	A       Side `json:"a"` // of the files before
	B       Side `json:"b"` // of the file that was added
	// Taken is the place that was chosen; empty: nobody has decided yet, or
	// nothing has to be decided.
	Taken string `json:"taken,omitempty"`
}

// String is the element, and below it both sides.
func (d Difference) String() string {
	return fmt.Sprintf("%s\n      %s\n      %s", d.Path, d.A, d.B)
}

// Open says that somebody must decide.
func (d Difference) Open() bool { return !d.PerNode && d.Taken == "" }

// perNode are the keywords that keepalived wants to differ from node to node.
// Addresses of the nodes themselves are among them: a cluster knows its own.
var perNode = map[string]bool{
	"router_id": true, "state": true, "priority": true, "interface": true, "mcast_src_ip": true, "unicast_src_ip": true,
}

// Merged is what the files of all nodes say together.
type Merged struct {
	Result
	Differences []Difference
	Homes       []Home
}

// Merge makes one configuration of the files of a pair (or of more nodes). All
// that differs is in Differences. What may differ is taken from the first file,
// but for priority and state, which come from the file that says the router's
// home. Of the rest the choices decide, each a file's name or one place of a
// difference ("b.conf:14"), the more exact before the other; they decide element
// by element. While there is an Open difference the result must not be applied.
// A choice that names no place of a difference is an error.
func Merge(sources []Source, choices []string) (Merged, error) {
	m := merger{choices: choices, used: map[string]bool{}, short: shortNames(sources)}
	for i, s := range sources {
		m.add(s, i == 0)
	}
	m.out.Homes = m.homes(sources)
	for _, c := range choices {
		named := slices.ContainsFunc(sources, func(s Source) bool { return m.isFile(c, s.Name) })
		if !named && !m.used[c] {
			return Merged{}, fmt.Errorf("%q is neither one of the files nor a place at which they differ", c)
		}
	}
	m.out.Notices = m.notices(sources)
	return m.out, nil
}

type merger struct {
	out     Merged
	choices []string
	used    map[string]bool
	short   map[string]string // what a file may be called, too
}

// shortNames are the names without folders, where they tell the files apart.
func shortNames(sources []Source) map[string]string {
	times := map[string]int{}
	for _, s := range sources {
		times[path.Base(s.Name)]++
	}
	short := map[string]string{}
	for _, s := range sources {
		if base := path.Base(s.Name); times[base] == 1 {
			short[s.Name] = base
		}
	}
	return short
}

// add merges one more file into the result.
func (m *merger) add(s Source, first bool) {
	if first {
		m.out.Result = Result{Config: clone(s.Result.Config), places: places{}}
		for path, e := range s.Result.places {
			m.out.places[path] = e
		}
		return
	}
	before := len(m.out.Differences)
	whole := "" // a virtual server that one of them does not have: its servers go with it
	for _, d := range fsm.Compare(m.out.Config, s.Result.Config) {
		if whole != "" && strings.HasPrefix(d.Path, whole+" > ") {
			continue
		}
		if whole = ""; d.Field == "" {
			whole = d.Path
		}
		m.out.Differences = append(m.out.Differences, m.difference(d, s))
	}
	added := m.out.Differences[before:]
	take := map[string]bool{} // elements of which this file's word counts
	for i := range added {
		if d := &added[i]; !d.PerNode {
			d.Taken = m.choose(added, d.Path)
			take[d.Path] = take[d.Path] || d.Taken != "" && m.isSide(added, d.Path, d.Taken)
		}
	}
	together := m.together(s)
	m.takeOver(s, take)
	for i := range m.out.Config.Routers {
		if r := &m.out.Config.Routers[i]; together[r.Name] != nil {
			r.Peering.Peers = together[r.Name]
		}
	}
}

// difference gives what fsm found its places.
func (m *merger) difference(d fsm.Difference, s Source) Difference {
	side := func(p places, text string) Side {
		at := p.at(d.Path, d.Field)
		return Side{File: at.file, Line: at.line, Text: text}
	}
	order := d.Field == "order" || d.Field == "virtual_ipaddress" // of the same addresses: it decides nothing
	return Difference{
		Path: d.Path, Field: d.Field, PerNode: perNode[d.Field] || order || d.Field == "unicast_peer" && m.eachOther(d.Path, s),
		A: side(m.out.places, d.A), B: side(s.Result.places, d.B),
	}
}

// choose finds the choice for an element: one of the places at which it
// differs, else a file.
func (m *merger) choose(all []Difference, path string) string {
	file := ""
	for _, c := range m.choices {
		for _, d := range all {
			if d.Path != path || d.PerNode {
				continue
			}
			for _, s := range []Side{d.A, d.B} {
				switch {
				case m.isPlace(c, s):
					m.used[c] = true
					return s.Place()
				case m.isFile(c, s.File):
					file = s.File
				}
			}
		}
	}
	return file
}

// isSide reports whether the chosen place or file is on the added file's side.
func (m *merger) isSide(all []Difference, path, taken string) bool {
	return slices.ContainsFunc(all, func(d Difference) bool {
		return d.Path == path && !d.PerNode && (taken == d.B.Place() || taken == d.B.File)
	})
}

func (m *merger) isFile(choice, name string) bool {
	return choice == name || choice == m.short[name] && choice != ""
}

func (m *merger) isPlace(choice string, s Side) bool {
	line, ok := strings.CutSuffix(choice, ":"+strconv.Itoa(s.Line))
	return ok && s.Line > 0 && m.isFile(line, s.File)
}

// takeOver puts the added file's word into the result for some elements, and
// its places for those that came with it.
func (m *merger) takeOver(s Source, take map[string]bool) {
	cfg, other := &m.out.Config, s.Result.Config
	if take["global_defs"] {
		id := cfg.Globals.RouterID
		cfg.Globals = other.Globals
		cfg.Globals.RouterID = id
	}
	cfg.Routers = mixed(cfg.Routers, other.Routers, func(r fsm.Router) string { return routerPath(r.Name, 0) }, take,
		func(mine, theirs fsm.Router) fsm.Router {
			theirs.Priority, theirs.Initial, theirs.Interface = mine.Priority, mine.Initial, mine.Interface
			return theirs
		})
	cfg.Groups = mixed(cfg.Groups, other.Groups, func(g fsm.SyncGroup) string { return groupPath(g.Name) }, take, second)
	cfg.Services = mixed(cfg.Services, other.Services, func(v fsm.VirtualServer) string { return servicePath(v.ServiceKey) }, take,
		func(mine, theirs fsm.VirtualServer) fsm.VirtualServer { // the servers are elements of their own
			theirs.RealServers = mine.RealServers
			return theirs
		})
	for i := range cfg.Services {
		v := &cfg.Services[i]
		theirs := slices.IndexFunc(other.Services, func(o fsm.VirtualServer) bool { return o.ServiceKey == v.ServiceKey })
		if theirs < 0 {
			continue
		}
		path := func(r fsm.RealServer) string { return serverPath(v.ServiceKey, r.AddrPort()) }
		v.RealServers = mixed(v.RealServers, other.Services[theirs].RealServers, path, take, second)
	}
	for path, e := range s.Result.places {
		if _, ok := m.out.places[path]; !ok || take[path] {
			m.out.places[path] = e
		}
	}
}

func second[T any](_, theirs T) T { return theirs }

// mixed is mine with the elements of theirs that are to be taken: changed,
// added or, where theirs has none, left out.
func mixed[T any](mine, theirs []T, path func(T) string, take map[string]bool, join func(mine, theirs T) T) []T {
	var out []T
	for _, v := range mine {
		i := slices.IndexFunc(theirs, func(o T) bool { return path(o) == path(v) })
		switch {
		case !take[path(v)]:
			out = append(out, v)
		case i >= 0:
			out = append(out, join(v, theirs[i]))
		}
	}
	for _, o := range theirs {
		known := slices.ContainsFunc(mine, func(v T) bool { return path(v) == path(o) })
		if !known && take[path(o)] {
			out = append(out, o)
		}
	}
	return out
}

// clone copies what takeOver changes in place.
func clone(c fsm.Config) fsm.Config {
	c.Routers, c.Groups, c.Services = slices.Clone(c.Routers), slices.Clone(c.Groups), slices.Clone(c.Services)
	return c
}

// notices are those of all files; what a later one says in the words of an
// earlier one is left out.
func (m *merger) notices(sources []Source) []Notice {
	var out []Notice
	for _, s := range sources {
		for _, n := range s.Result.Notices {
			said := slices.ContainsFunc(out, func(o Notice) bool {
				return o.Keyword == n.Keyword && o.Text == n.Text && o.File != n.File
			})
			if !said {
				out = append(out, n)
			}
		}
	}
	return out
}
