package fsm

import "strings"

// UpDown are the programs that run when something goes up or down: a real server of a
// virtual server (keepalived: notify_up, notify_down), or a virtual server's pool
// (quorum_up, quorum_down). They get no arguments but their own.
type UpDown struct {
	Up   *Script `json:"up,omitempty"`
	Down *Script `json:"down,omitempty"`
}

// Of is the program for a state; nil: none.
func (u UpDown) Of(state string) *Script {
	if state == "UP" {
		return u.Up
	}
	return u.Down
}

func (u UpDown) equal(o UpDown) bool { return u.Up.equal(o.Up) && u.Down.equal(o.Down) }

func (u UpDown) clone() UpDown { return UpDown{u.Up.clone(), u.Down.clone()} }

func (s *Script) equal(o *Script) bool { return s == o || s != nil && o != nil && *s == *o }

func (s *Script) clone() *Script {
	if s == nil {
		return nil
	}
	c := *s
	return &c
}

// FIFO is a named pipe that lines are written into (keepalived: notify_fifo).
type FIFO struct {
	Path string `json:"path"`
	User string `json:"user,omitempty"` // whose it is, if it is made; empty: as a script's
	// Script reads it: it runs as long as the daemon, with the path as its last argument.
	Script *Script `json:"script,omitempty"`
}

// FIFOs are those of a set.
type FIFOs struct {
	All  *FIFO `json:"notify_fifo,omitempty"`
	VRRP *FIFO `json:"vrrp_notify_fifo,omitempty"` // of routers and sync groups only
	LVS  *FIFO `json:"lvs_notify_fifo,omitempty"`  // of virtual and real servers only
}

type namedFIFO struct {
	word string
	fifo **FIFO
}

func (f *FIFOs) each() []namedFIFO {
	return []namedFIFO{{"notify_fifo", &f.All}, {"vrrp_notify_fifo", &f.VRRP}, {"lvs_notify_fifo", &f.LVS}}
}

func (f FIFOs) clone() FIFOs {
	for _, n := range f.each() {
		if *n.fifo != nil {
			c := **n.fifo
			c.Script = c.Script.clone()
			*n.fifo = &c
		}
	}
	return f
}

// Paths are the pipes for lines of routers, or else of servers.
func (f FIFOs) Paths(routers bool) []string {
	var paths []string
	other := f.LVS
	if routers {
		other = f.VRRP
	}
	for _, p := range []*FIFO{f.All, other} {
		if p != nil {
			paths = append(paths, p.Path)
		}
	}
	return paths
}

func (l *list) fifos(f FIFOs) {
	for _, n := range f.each() {
		p := *n.fifo
		if p == nil {
			continue
		}
		text := quoted(p.Path)
		if p.User != "" {
			text += " of " + quoted(p.User)
		}
		if p.Script != nil {
			text += " read by " + p.Script.text()
		}
		l.text(n.word, text)
	}
}

func (l *list) upDown(word string, u UpDown) {
	for _, s := range []notifyScript{{word + "_up", u.Up}, {word + "_down", u.Down}} {
		if s.script != nil {
			l.text(s.keyword, s.script.text())
		}
	}
}

func (p *problems) script(path, keyword string, s *Script) {
	if s == nil {
		return
	}
	if bad := commandProblem(s.Command); bad != "" {
		p.add(path, "%s: %s", keyword, bad)
	}
	if bad := userProblem(s.User); bad != "" {
		p.add(path, "%s: %s", keyword, bad)
	}
}

func (p *problems) fifos(path string, f FIFOs) {
	taken := map[string]string{}
	for _, n := range f.each() {
		if *n.fifo == nil {
			continue
		}
		at := (*n.fifo).Path
		if !strings.HasPrefix(at, "/") || len(at) > 256 || !isClean(at, 256) {
			p.add(path, "%s: %q is no absolute path", n.word, at)
		}
		if taken[at] != "" {
			p.add(path, "%s: %s is the %s already", n.word, at, taken[at])
		}
		taken[at] = n.word
		if bad := userProblem((*n.fifo).User); bad != "" {
			p.add(path, "%s: %s", n.word, bad)
		}
		p.script(path, n.word+"_script", (*n.fifo).Script)
	}
}

// runs reports whether something of a set is run, or written, when servers change.
func (t *Table) runs(set Set) bool {
	if len(set.Globals.FIFOs.Paths(false)) > 0 {
		return true
	}
	for _, v := range t.Services {
		if v.Set != set.Name {
			continue
		}
		if v.Notify != (UpDown{}) {
			return true
		}
		for _, r := range v.RealServers {
			if r.Notify != (UpDown{}) {
				return true
			}
		}
	}
	return false
}
