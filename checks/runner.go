package checks

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/fsm"
)

// Config is what a Runner needs.
type Config struct {
	Log *slog.Logger
	// Propose puts a command before the cluster and returns when it was
	// committed and applied, or an error. It may block as long as ctx allows.
	Propose func(context.Context, fsm.Command) (fsm.Result, error)
	// Check makes one probe and returns what is wrong, or nil, and what it says of the weight.
	// It must end soon after its context does. nil: [Dial].
	Check func(context.Context, fsm.Check) (fsm.Weighing, error)
	// Paths are the ways of checks through VIPs. nil: they are not made.
	Paths Paths
	// OnProbe is told of each finished probe; it must not block. nil: nobody is.
	OnProbe func(kind fsm.CheckKind, took time.Duration, passed bool)
}

// Runner probes targets and votes on them. Make it with [New]; all methods may
// be called from any goroutine.
type Runner struct {
	log     *slog.Logger
	propose func(context.Context, fsm.Command) (fsm.Result, error)
	check   func(context.Context, fsm.Check) (fsm.Weighing, error)
	paths   Paths
	onProbe func(fsm.CheckKind, time.Duration, bool)
	// warmup draws the pause before a check's first probe from [0, bound).
	warmup func(bound time.Duration) time.Duration
	pulse  pulse
	// open opens what TCP checks are made with together; nil: check makes them.
	open func() (sockets, error)
	tcp  *connector // which does; nil: check does

	changed chan struct{} // 1 slot: the table or the self is new
	voting  chan struct{} // 1 slot: opinions or the table may disagree now

	mu    sync.Mutex
	self  fsm.MemberID
	table *fsm.Table
	// targets has an entry for each target that is being probed.
	targets map[fsm.Target]*target
}

// New returns a Runner that does nothing until [Runner.Run].
func New(c Config) *Runner {
	r := &Runner{
		log: c.Log, propose: c.Propose, check: c.Check, paths: c.Paths, onProbe: c.OnProbe,
		warmup:  rand.N[time.Duration],
		changed: make(chan struct{}, 1), voting: make(chan struct{}, 1),
		targets: map[fsm.Target]*target{},
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.open = func() (sockets, error) { return nil, nil }; r.check == nil {
		r.check, r.open = Dial, newEpoll
	}
	return r
}

// Update tells the Runner the newest table, and which member it runs on. It
// does not block; only the last of several updates counts.
func (r *Runner) Update(self fsm.MemberID, t *fsm.Table) {
	r.mu.Lock()
	r.self, r.table = self, t
	r.mu.Unlock()
	poke(r.changed)
	poke(r.voting)
}

// poke fills a 1-slot channel unless it is full already.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run probes and votes until ctx ends, and then returns nil. It must be called
// once only.
func (r *Runner) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.vote(ctx) })
	g.Go(func() error { return r.pulse.run(ctx) })
	if net, err := r.open(); err != nil {
		r.log.Warn("TCP checks are made one by one, which costs more", "error", err)
	} else if net != nil {
		r.tcp = newConnector(net, func(p *probing, err error, began time.Time) time.Duration {
			return r.took(p, fsm.Weighing{}, err, began)
		})
		g.Go(func() error {
			defer net.close()
			r.tcp.run(ctx)
			return nil
		})
	}
	g.Go(func() error {
		for {
			r.reconcile(ctx, g)
			select {
			case <-ctx.Done():
				return nil
			case <-r.changed:
			}
		}
	})
	return g.Wait()
}

// reconcile starts probers for targets that are new in the table and stops
// those of targets that are no more. It returns at once.
func (r *Runner) reconcile(ctx context.Context, g *errgroup.Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	want := r.wanted()
	for name, t := range r.targets {
		if _, ok := want[name]; !ok {
			t.stop()
			delete(r.targets, name)
		}
	}
	for name, info := range want {
		if _, ok := r.targets[name]; ok || ctx.Err() != nil {
			continue
		}
		t := newTarget(info, time.Now())
		ctx, stop := context.WithCancel(ctx)
		t.stop = stop
		r.targets[name] = t
		for i, c := range t.checks {
			r.begin(g, &probing{ctx: ctx, target: t, nth: i, check: c.Check})
		}
	}
}

// begin has a check made until its context ends.
func (r *Runner) begin(g *errgroup.Group, p *probing) {
	if r.tcp != nil && connects(p.check) {
		r.tcp.add(p, time.Now().Add(r.begins(p.check)))
		return
	}
	g.Go(func() error {
		r.probe(p)
		return nil
	})
}

// wanted returns the targets to probe: none unless this member is a director.
func (r *Runner) wanted() map[fsm.Target]fsm.TargetInfo {
	want := map[fsm.Target]fsm.TargetInfo{}
	if self, ok := r.member(); !ok || self.Role != fsm.Director {
		return want
	}
	for _, info := range r.table.Targets() {
		if len(info.Checks) > 0 {
			want[info.Target] = info
		}
	}
	return want
}

// member returns what the table says of this member.
func (r *Runner) member() (fsm.Member, bool) {
	if r.table == nil {
		return fsm.Member{}, false
	}
	for _, m := range r.table.Members {
		if m.ID == r.self {
			return m, true
		}
	}
	return fsm.Member{}, false
}
