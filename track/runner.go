package track

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"lbcluster/fsm"
	"lbcluster/script"
)

// Config is what a Runner needs; only OnChange must be set.
type Config struct {
	// OnChange is called, from Run, with the states of all units that have
	// trackers, whenever one changes. It must not block.
	OnChange func(map[uint64]State)
	// Interfaces maps an operator's interface name to this host's.
	Interfaces map[string]string
	Log        *slog.Logger

	// For tests; nil: this machine's.
	Run       func(context.Context, script.Job) (int, error)
	ReadFile  func(string) ([]byte, error)
	Processes func() ([]Process, error)
	Link      func(name string) (condition, error)
}

// Runner watches the trackers of a table. Update may be called any time from
// anywhere; Run runs once.
type Runner struct {
	cfg  Config
	want chan map[uint64][]fsm.Tracker // one slot
	news chan news
}

// news is a change of a watched thing.
type news struct {
	thing fsm.Tracker
	is    condition
}

// New starts nothing: see [Runner.Run].
func New(cfg Config) *Runner {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Run == nil {
		cfg.Run = script.Run
	}
	if cfg.ReadFile == nil {
		cfg.ReadFile = readFile
	}
	if cfg.Processes == nil {
		cfg.Processes = processes
	}
	if cfg.Link == nil {
		cfg.Link = link
	}
	return &Runner{cfg: cfg, want: make(chan map[uint64][]fsm.Tracker, 1), news: make(chan news)}
}

// Update hands over a new table; only the latest counts.
func (r *Runner) Update(t *fsm.Table) {
	w := wanted(t)
	for {
		select {
		case r.want <- w:
			return
		default:
		}
		select {
		case <-r.want:
		default:
		}
	}
}

// wanted are the trackers of each unit that has any.
func wanted(t *fsm.Table) map[uint64][]fsm.Tracker {
	w := map[uint64][]fsm.Tracker{}
	for _, u := range t.Units() {
		if all := Of(t, u); len(all) > 0 {
			w[u.ID] = all
		}
	}
	return w
}

// Of are the trackers that count for a unit: its group's and its routers'.
func Of(t *fsm.Table, u fsm.Unit) []fsm.Tracker {
	var all []fsm.Tracker
	for _, g := range t.Groups {
		if g.ID == u.ID {
			all = append(all, g.Track...)
		}
	}
	for _, id := range u.Routers {
		router, _ := t.Router(id)
		all = append(all, router.Track...)
	}
	return all
}

// thing is what a tracker watches, whatever it then makes of it.
func thing(t fsm.Tracker) fsm.Tracker {
	t.Weight, t.Reverse = 0, false
	if t.Kind == fsm.TrackInterface {
		return fsm.Tracker{Kind: t.Kind, Name: t.Name}
	}
	t.Name = ""
	return t
}

// Run watches until ctx ends, and returns nil when all watchers have ended.
func (r *Runner) Run(ctx context.Context) error {
	var g errgroup.Group
	defer func() { _ = g.Wait() }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &scene{things: map[fsm.Tracker]*watched{}}
	for {
		select {
		case <-ctx.Done():
			return nil
		case w := <-r.want:
			s.want = w
			for thing, watch := range s.change() {
				watching, cancel := context.WithCancel(ctx)
				watch.stop = cancel
				g.Go(func() error {
					r.watch(watching, thing, func(c condition) { r.tell(watching, thing, c) })
					return nil
				})
			}
		case n := <-r.news:
			if w := s.things[n.thing]; w != nil {
				w.is = n.is
			}
		}
		if states := s.states(); !maps.Equal(states, s.told) {
			s.told = states
			r.cfg.OnChange(maps.Clone(states))
		}
	}
}

// tell passes a change on, unless nobody watches any more.
func (r *Runner) tell(ctx context.Context, thing fsm.Tracker, c condition) {
	select {
	case r.news <- news{thing, c}:
	case <-ctx.Done():
	}
}

// scene is what is wanted, what is watched and what was told.
type scene struct {
	want   map[uint64][]fsm.Tracker
	things map[fsm.Tracker]*watched
	told   map[uint64]State
}

type watched struct {
	is   condition
	stop context.CancelFunc
}

// change stops what nobody wants any more and returns what is new.
func (s *scene) change() map[fsm.Tracker]*watched {
	wanted, fresh := map[fsm.Tracker]bool{}, map[fsm.Tracker]*watched{}
	for _, list := range s.want {
		for _, t := range list {
			k := thing(t)
			wanted[k] = true
			if s.things[k] == nil {
				s.things[k] = &watched{}
				fresh[k] = s.things[k]
			}
		}
	}
	for k, w := range s.things {
		if !wanted[k] {
			w.stop()
			delete(s.things, k)
		}
	}
	return fresh
}

// states is what all of it comes to.
func (s *scene) states() map[uint64]State {
	out := map[uint64]State{}
	for unit, list := range s.want {
		var all []State
		for _, t := range list {
			all = append(all, effect(t, s.things[thing(t)].is))
		}
		out[unit] = sum(all)
	}
	return out
}

// linkHandle is one socket for all looks at interfaces.
var linkHandle = sync.OnceValues(func() (*netlink.Handle, error) { return netlink.NewHandle(unix.NETLINK_ROUTE) })

// link looks at an interface: up and running, as keepalived wants it.
func link(name string) (condition, error) {
	h, err := linkHandle()
	if err != nil {
		return condition{}, fmt.Errorf("open netlink: %w", err)
	}
	l, err := h.LinkByName(name)
	var none netlink.LinkNotFoundError
	switch {
	case errors.As(err, &none):
		return condition{known: true, why: "there is no such interface"}, nil
	case err != nil:
		return condition{}, fmt.Errorf("look at interface %s: %w", name, err)
	case l.Attrs().Flags&net.FlagUp == 0:
		return condition{known: true, why: "it is down"}, nil
	case l.Attrs().RawFlags&unix.IFF_RUNNING == 0:
		return condition{known: true, why: "it has no carrier"}, nil
	}
	return condition{known: true, ok: true}, nil
}
