package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"lbcluster/cluster/lease"
	"lbcluster/fsm"
	"lbcluster/notify"
	"lbcluster/track"
)

// watchers are what a director does for its routers' trackers and notify
// scripts.
type watchers struct {
	track  *track.Runner
	notify *notify.Runner
	pipes  *notify.Pipes

	mu     sync.Mutex
	states map[uint64]track.State // of units that have trackers
}

// newWatchers: changed is called when a state has changed; it must not block.
func newWatchers(interfaces map[string]string, changed func(), log *slog.Logger) *watchers {
	log = log.With("part", "notify")
	pipes := notify.NewPipes(log)
	w := &watchers{notify: notify.New(pipes, log), pipes: pipes}
	w.track = track.New(track.Config{Interfaces: interfaces, Log: log.With("part", "track"), OnChange: func(states map[uint64]track.State) {
		w.mu.Lock()
		w.states = states
		w.mu.Unlock()
		changed()
	}})
	return w
}

// state is what a unit's trackers come to; false: it has some, and nothing is
// known of them yet.
func (w *watchers) state(t *fsm.Table, u fsm.Unit) (track.State, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, known := w.states[u.ID]
	return s, known || len(track.Of(t, u)) == 0
}

// score is what the unit's trackers add up to here, and why it is low.
func (w *watchers) score(unit uint64) (int, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.states[unit]
	return s.Score, s.Why
}

// unfit says why this director cannot hold a unit; "": it can.
func (m *member) unfit(unit uint64) string {
	t := m.d.node.Table()
	u, ok := t.Unit(unit)
	if !ok {
		u.ID = unit
	}
	return m.unfitFor(t, u)
}

// unfitFor is unfit for those who have the unit at hand, many times a second.
func (m *member) unfitFor(t *fsm.Table, u fsm.Unit) string {
	if why := m.units.why(u.ID); why != "" || m.watch == nil {
		return why
	}
	s, known := m.watch.state(t, u)
	switch {
	case !known:
		return "what it tracks has not been looked at yet"
	case s.Fault:
		return s.Why
	}
	return ""
}

// tellEvery bounds how late a script hears of a change that nobody announced.
const tellEvery = 50 * time.Millisecond

// pipesEvery is each how many looks the notify pipes are brought in line although no
// set has changed: one that could not be opened may be by now.
const pipesEvery = 10

// tell lets notify scripts know this director's states, until ctx ends; then of
// the end, unless this process only makes room for the next one.
func (m *member) tell(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- m.watch.notify.Run(running) }()
	piped := make(chan error, 1)
	kept := func() bool { return errors.Is(context.Cause(ctx), lease.ErrKeep) }
	go func() { piped <- m.watch.pipes.Run(running, kept) }()
	told := map[string]notify.Subject{}
	first := time.Now().Add(reportFirst)
	var sets []fsm.Set
	for n := 0; pause(ctx, tellEvery); n++ {
		if len(told) == 0 && m.tenure.adopting() && time.Now().Before(first) {
			continue // a reload must not tell of BACKUP between two MASTERs
		}
		if _, whole := m.plane.Applied(); !whole && len(told) == 0 {
			continue // a first look at the kernel comes before a first word
		}
		t := m.d.node.Table()
		if n%pipesEvery == 0 || !sameSets(sets, t.Sets) { // before a line could go into a new one
			sets = t.Sets
			m.watch.pipes.Want(pipesOf(sets))
		}
		m.tellNow(t, told)
	}
	if !kept() {
		for _, s := range told {
			m.watch.notify.Set(s, notify.Stop)
		}
	}
	stop()
	return errors.Join(<-ended, <-piped)
}

// tellNow sets the state of each router and group; told are those of the last
// time, by kind and name.
func (m *member) tellNow(t *fsm.Table, told map[string]notify.Subject) {
	now := map[string]bool{}
	for _, u := range t.Units() {
		if _, known := m.watch.state(t, u); !known {
			continue
		}
		since, _ := m.tenure.of(u.ID)
		state := notify.StateOf(!since.IsZero(), m.unfitFor(t, u) != "")
		for key, s := range subjects(t, u, m.watch) {
			now[key], told[key] = true, s
			m.watch.notify.Set(s, state)
		}
	}
	for key, s := range told {
		if !now[key] && !stillThere(t, s) {
			m.watch.notify.Set(s, notify.Fault) // keepalived's word for a router that was deleted
			delete(told, key)
		}
	}
}

// sameSets reports whether nothing was applied in between: a list that changes is a
// new one.
func sameSets(a, b []fsm.Set) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// tellServers is package notify's, with this director's pipes if it has any.
func (m *member) tellServers(ctx context.Context, t *fsm.Table, list []fsm.Notice) {
	log := m.d.log.With("part", "notify")
	pipes := notify.NewPipes(log)
	if m.watch != nil {
		pipes = m.watch.pipes
	}
	notify.Servers{Pipes: pipes, Log: log}.Tell(ctx, t, list)
}

// pipesOf are the notify pipes of all sets. Where two name one, the first is meant.
func pipesOf(sets []fsm.Set) []fsm.FIFO {
	var list []fsm.FIFO
	for _, s := range sets {
		f := s.Globals.FIFOs
		for _, p := range []*fsm.FIFO{f.All, f.VRRP, f.LVS} {
			if p != nil && !slices.ContainsFunc(list, func(o fsm.FIFO) bool { return o.Path == p.Path }) {
				list = append(list, *p)
			}
		}
	}
	return list
}

func stillThere(t *fsm.Table, s notify.Subject) bool {
	if s.Group {
		for _, g := range t.Groups {
			if g.Name == s.Name {
				return true
			}
		}
		return false
	}
	_, ok := t.RouterByName(s.Name)
	return ok
}

// subjects are whoever's scripts hear of a unit: its routers, and its group.
func subjects(t *fsm.Table, u fsm.Unit, w *watchers) map[string]notify.Subject {
	out := map[string]notify.Subject{}
	score, _ := w.score(u.ID)
	for _, id := range u.Routers {
		r, _ := t.Router(id)
		out["INSTANCE "+r.Name] = notify.Subject{
			Name: r.Name, Priority: notify.Priority(r.Priority, score), Scripts: r.Notify, Pipes: t.Globals(r.Set).FIFOs.Paths(true),
		}
	}
	for _, g := range t.Groups {
		if g.ID == u.ID {
			out["GROUP "+g.Name] = notify.Subject{Group: true, Name: g.Name, Scripts: g.Notify, Pipes: t.Globals(g.Set).FIFOs.Paths(true)}
		}
	}
	return out
}
