package conf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lbcluster/fsm"
)

// Home says at whose node a virtual router was at home: what priorities and
// states of the files mean to a placement.
type Home struct {
	Unit   string `json:"unit"`   // a virtual router or, if it is in one, its sync group
	Source string `json:"source"` // the file, by Source.Name
	Why    string `json:"why"`    // "priority 150 in a.conf:7, 100 in b.conf:7"
}

// homes finds the homes of what several files name, and gives each router the
// priority and state that the file of its home says.
func (m *merger) homes(sources []Source) []Home {
	byRouter := map[string]Home{}
	cfg := &m.out.Config
	for i := range cfg.Routers {
		r := &cfg.Routers[i]
		best, home, ok := homeOf(r.Name, sources)
		if !ok {
			continue
		}
		r.Priority, r.Initial = best.Priority, best.Initial
		byRouter[r.Name] = home
	}
	var all []Home
	grouped := map[string]bool{}
	for _, g := range cfg.Groups {
		if home, ok := groupHome(g, byRouter); ok {
			all = append(all, home)
		}
		for _, name := range g.Routers {
			grouped[name] = true
		}
	}
	for _, r := range cfg.Routers {
		if home, ok := byRouter[r.Name]; ok && !grouped[r.Name] {
			all = append(all, home)
		}
	}
	return all
}

// homeOf finds the one file in which a router stands first: by priority, else by
// state. Without such a file, or if only one file has the router, there is none.
func homeOf(name string, sources []Source) (best fsm.Router, home Home, ok bool) {
	type claim struct {
		fsm.Router
		s Source
	}
	var claims []claim
	for _, s := range sources {
		i := slices.IndexFunc(s.Result.Config.Routers, func(r fsm.Router) bool { return r.Name == name })
		if i >= 0 {
			claims = append(claims, claim{s.Result.Config.Routers[i], s})
		}
	}
	if len(claims) < 2 {
		return best, home, false
	}
	rank := func(a, b claim) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(b.Initial, a.Initial)) // MASTER > BACKUP
	}
	slices.SortStableFunc(claims, rank)
	first := claims[0]
	if rank(first, claims[1]) == 0 {
		return best, home, false
	}
	var words []string
	for _, c := range claims {
		field, text := "priority", fmt.Sprint(c.Priority)
		if claims[1].Priority == first.Priority {
			field, text = "state", cmp.Or(c.Initial, "BACKUP")
		}
		at := c.s.Result.places.at(routerPath(name, 0), field)
		words = append(words, text+" in "+Side{File: at.file, Line: at.line}.Place())
		if len(words) == 1 {
			words[0] = field + " " + words[0]
		}
	}
	return first.Router, Home{Unit: name, Source: first.s.Name, Why: strings.Join(words, ", ")}, true
}

// groupHome is the home of a sync group: that of its routers, if they agree.
func groupHome(g fsm.SyncGroup, byRouter map[string]Home) (Home, bool) {
	var home Home
	for i, name := range g.Routers {
		h, ok := byRouter[name]
		if !ok || i > 0 && h.Source != home.Source {
			return Home{}, false
		}
		if i == 0 {
			home = h
		}
	}
	home.Unit = g.Name
	return home, len(g.Routers) > 0
}
