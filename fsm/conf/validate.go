package conf

import (
	"fmt"
	"net/netip"
	"strings"

	"lbcluster/fsm"
)

// place is where a file says an element or one of its values.
type place struct {
	pos
	keyword string
}

// element is the place of an element and of what it says, the latter by the
// words with which package fsm's complaints about it begin ("scheduler",
// "virtual_ipaddress 1.2.3.4").
type element struct {
	place
	values map[string]place
}

// places finds the place of what package fsm complains about. Keys are the
// paths of fsm.Problem; "" is the file. Of elements that appear twice the last
// one is kept: that is the one too many.
type places map[string]element

func (p places) element(path string, at place) { p[path] = element{at, map[string]place{}} }

// value notes the place of a value of an element.
func (p places) value(path, words string, at place) { p[path].values[words] = at }

// at returns the place nearest to a complaint.
func (p places) at(path, text string) place {
	words := strings.Fields(text)
	for i := range words {
		words[i] = strings.TrimSuffix(words[i], ":")
	}
	for {
		e, ok := p[path]
		for n := min(2, len(words)); n > 0; n-- {
			if at, ok := e.values[strings.Join(words[:n], " ")]; ok {
				return at
			}
		}
		if ok || path == "" {
			return e.place
		}
		path, words = path[:max(strings.LastIndex(path, " > "), 0)], nil
	}
}

// These are the paths that package fsm uses.
func routerPath(name string, i int) string {
	if name == "" {
		return fmt.Sprintf("virtual_router #%d", i+1)
	}
	return "virtual_router " + name
}

func servicePath(k fsm.ServiceKey) string { return "virtual_server " + k.String() }

func serverPath(k fsm.ServiceKey, server netip.AddrPort) string {
	return fmt.Sprintf("%s > real_server %s", servicePath(k), server)
}

func checkPath(server string, i int) string { return fmt.Sprintf("%s > check #%d", server, i+1) }

// locate turns a complaint about the configuration into one about the file.
func (p places) locate(problem fsm.Problem) Problem {
	at := p.at(problem.Path, problem.Text)
	text := problem.Text
	if rest, ok := strings.CutPrefix(text, at.keyword+" "); ok && at.keyword != "" {
		text = rest
	}
	if at.keyword == "" || at == p[""].place { // no element: say which one it was
		text = problem.String()
	}
	return found(at.pos, at.keyword, text)
}

// Locate gives a problem that package fsm found in r.Config its file, line and
// keyword; for those that only the table can see ([fsm.Table.ValidateSet]).
func (r Result) Locate(problem fsm.Problem) Problem { return r.places.locate(problem) }

// validate adds what package fsm finds. A line that has been complained about
// already is left at that, and so is an element whose address could not be
// read: what fsm sees there is the gap that the reader left.
func validate(r *report, p places, cfg fsm.Config) {
	said := map[spot]bool{}
	for _, problem := range r.problems {
		said[spot{problem.File, problem.Line}] = true
	}
	for _, complaint := range fsm.ValidateConfig(cfg) {
		problem := p.locate(complaint)
		gap := strings.Contains(complaint.Path, "invalid AddrPort")
		if !gap && !said[spot{problem.File, problem.Line}] && len(r.problems) < maxProblems {
			r.problems = append(r.problems, problem)
		}
	}
}
