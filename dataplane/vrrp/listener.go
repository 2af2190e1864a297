package vrrp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/dataplane/fence"
)

const (
	// sampleEvery is how often the owner's deadline is noted. It must be well
	// below what is left of a lease just before a renewal (166 ms for a TTL of
	// 240 ms), so that a lease given up by hand is told from one that ran out.
	sampleEvery = 50 * time.Millisecond
	// reopenEvery is how often an interface that cannot be opened is tried.
	reopenEvery = time.Second
)

// wire is what the Listener needs of an interface; *Conn is one.
type wire interface {
	Send(fence.Permit, Advert, Route) error
	SendZero(Farewell, Advert, Route) error
	Receive(context.Context) (Packet, error)
	// Source is where adverts come from; it asks isVIP.
	Source(Route) (netip.Addr, error)
	Close() error
}

// Config tells New what to make.
type Config struct {
	Log   *slog.Logger // nil: discard
	Clock fence.Clock  // CLOCK_BOOTTIME in nanoseconds; required
	// Ours says which senders are members of the cluster, whose adverts alarm
	// nobody; nil: none. It is called with a lock held and must not block.
	Ours func(netip.Addr) bool
	// Inherited are VIPs that the process before this one held and may hold still:
	// their routers go on as MASTER. nil: none.
	Inherited []netip.Addr
	// Adverts says whether another member says that it adverts a router; nil: none
	// ever does. Like those below it is called with a lock held and must not block.
	Adverts func(id uint64) bool
	// OnBarred is called for each router with peers, and whenever it changes: why
	// this member must not stand for it; "": it may.
	OnBarred func(id uint64, why string)
	// OnContested is called when a peer may have told the neighbours that a
	// router's addresses are with it; at most once a second.
	OnContested func(id uint64)

	// open opens an interface; nil: OpenConn.
	open func(linkKey) (wire, error)
}

// Listener speaks and listens for all routers of this member. Its methods may
// be called before, during and after Run, from any goroutine; each has taken
// effect on the wire when it returns.
type Listener struct {
	log   *slog.Logger
	clock fence.Clock
	ours  func(netip.Addr) bool
	cfg   Config
	open  func(linkKey) (wire, error)
	wake  chan struct{} // one slot: something changed for the loop

	mu      sync.Mutex
	routers map[uint64]*router
	links   map[linkKey]*linkState
	unknown map[string]uint64 // rejections of packets that belong to no router
	vips    map[netip.Addr]bool
}

// router is a Speaker with its surroundings. Guarded by Listener.mu.
type router struct {
	speaker  Speaker
	elect    *electing // nil: the router has no peers
	permit   fence.Permit
	deadline int64 // the permit's, as last seen while it was not 0
	sent     uint64
	farewell uint64
	refused  uint64
	lastErr  string
	heard    map[netip.Addr]*peer
	rejected map[string]uint64
	last     map[string]Rejection // of each key in rejected
}

// linkKey names a socket: an interface and a family.
type linkKey struct {
	name string
	v6   bool
}

// link is where the router is advertised.
func (r Router) link() linkKey { return linkKey{r.Interface, r.Advert(r.Priority).is6()} }

// linkState is an interface that routers use. Guarded by Listener.mu.
type linkState struct {
	wire      wire // nil: not open
	receiving bool
	tried     time.Time
	err       string
}

// New makes a Listener without routers. It opens and starts nothing.
func New(cfg Config) *Listener {
	l := &Listener{
		log: cfg.Log, cfg: cfg, clock: cfg.Clock, ours: cfg.Ours, open: cfg.open, wake: make(chan struct{}, 1),
		routers: make(map[uint64]*router), links: make(map[linkKey]*linkState),
		unknown: make(map[string]uint64), vips: make(map[netip.Addr]bool),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.ours == nil {
		l.ours = func(netip.Addr) bool { return false }
	}
	if l.open == nil {
		l.open = func(k linkKey) (wire, error) { return OpenConn(k.name, k.v6, l.clock, l.isVIP) }
	}
	return l
}

// isVIP is called by Conn while it sends, so with mu held: see deliver.
func (l *Listener) isVIP(a netip.Addr) bool { return l.vips[a] }

// SetRouters makes rs the routers, opening and closing interfaces as needed. A
// router that stays keeps its state; one that goes while it is MASTER goes
// without a farewell (call Lost first). A router that cannot be advertised is
// left out and reported; the others are set all the same. Interfaces that cannot
// be opened are tried again by Run and shown in Status.
func (l *Listener) SetRouters(rs []Router) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.poke()
	var errs []error
	keep := make(map[uint64]bool)
	clear(l.vips)
	send := make(map[*router]Output)
	for _, r := range rs {
		for _, a := range r.Addresses {
			l.vips[a] = true
		}
		if err := r.Check(); err != nil {
			errs = append(errs, err)
			continue
		}
		keep[r.ID] = true
		have, out := l.set(r)
		send[have] = out
	}
	for id, r := range l.routers {
		if !keep[id] {
			l.step(r, Event{Kind: Lost})
			delete(l.routers, id)
		}
	}
	l.links = l.wantedLinks()
	l.openLinks()
	for r, out := range send {
		l.deliver(r, Event{}, out)
	}
	return errors.Join(errs...)
}

// set adds or updates one router.
func (l *Listener) set(conf Router) (*router, Output) {
	r := l.routers[conf.ID]
	var out Output
	if r == nil {
		r = &router{heard: make(map[netip.Addr]*peer), rejected: make(map[string]uint64), last: make(map[string]Rejection)}
		r.speaker, out = NewSpeaker(conf)
		l.routers[conf.ID] = r
	} else {
		r.forget(conf)
		r.speaker, out = r.speaker.Update(l.clock(), conf)
	}
	l.setElect(r)
	return r, out
}

// wantedLinks keeps the interfaces that routers use and closes the others.
func (l *Listener) wantedLinks() map[linkKey]*linkState {
	next := make(map[linkKey]*linkState)
	for _, r := range l.routers {
		k := r.speaker.Router.link()
		if next[k] == nil {
			next[k] = l.links[k]
		}
		if next[k] == nil {
			next[k] = &linkState{}
		}
	}
	for k, s := range l.links {
		if next[k] == nil && s.wire != nil {
			s.wire.Close()
		}
	}
	return next
}

// openLinks opens what is not open and due for a try.
func (l *Listener) openLinks() {
	for k, s := range l.links {
		if s.wire != nil || time.Since(s.tried) < reopenEvery {
			continue
		}
		s.tried = time.Now()
		w, err := l.open(k)
		if err != nil {
			if s.err != err.Error() {
				l.log.Error("cannot speak VRRP on an interface; trying again", "interface", k.name, "err", err)
			}
			s.err = err.Error()
			continue
		}
		s.wire, s.err, s.receiving = w, "", false
	}
}

// Acquired makes the router MASTER: adverts start at once. Call it when the
// lease that p stands for (of the router, or of its sync group) has been won
// and the router's addresses are in place.
func (l *Listener) Acquired(id uint64, p fence.Permit) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.poke()
	r := l.routers[id]
	if r == nil {
		return fmt.Errorf("acquired router %d: not one of ours", id)
	}
	r.permit, r.deadline = p, p.Deadline()
	l.step(r, Event{Kind: Acquired})
	return nil
}

// Lost makes the router BACKUP. Call it when the gate is closed and the
// addresses are gone. With sendZero a farewell goes out first, unless the
// lease's rule forbids it (see the package's text); the caller passes false when
// another member is known to be next or to have taken over.
func (l *Listener) Lost(id uint64, sendZero bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.poke()
	r := l.routers[id]
	if r == nil {
		return
	}
	sendZero = sendZero && (r.elect == nil || r.elect.State == Master)
	l.step(r, Event{Kind: Lost, SendZero: sendZero, Ended: l.ended(r)})
	r.permit, r.deadline = fence.Permit{}, 0
}

// ended is when the router's lease ended. A Permit that was ended says only
// that; then the last deadline seen tells a lease that ran out (it lies in the
// past) from one that was given up just now.
func (l *Listener) ended(r *router) int64 {
	r.sample()
	if r.deadline == 0 {
		return 0
	}
	return min(l.clock(), r.deadline)
}

func (r *router) sample() {
	if d := r.permit.Deadline(); d != 0 {
		r.deadline = d
	}
}

// poke tells the loop to look again.
func (l *Listener) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// step runs the machine and does what it says. mu is held.
func (l *Listener) step(r *router, e Event) {
	var out Output
	r.speaker, out = r.speaker.Step(l.clock(), e)
	l.deliver(r, e, out)
}

// deliver logs and sends. mu is held, so that what callers order is ordered on
// the wire; a raw socket's send does not wait for the network.
func (l *Listener) deliver(r *router, e Event, out Output) {
	conf := r.speaker.Router
	if out.Log != "" {
		l.log.Info(out.Log, "vrid", conf.VRID, "interface", conf.Interface)
	}
	if !out.Send && !out.SendZero || r.elect.silences(out) {
		return
	}
	err := errors.New("the interface is not open")
	if s := l.links[conf.link()]; s != nil && s.wire != nil {
		if out.SendZero {
			err = s.wire.SendZero(Farewell{Permit: r.permit, Ended: e.Ended}, conf.Advert(conf.Priority), conf.route())
		} else {
			err = s.wire.Send(r.permit, conf.Advert(conf.Priority), conf.route())
		}
	}
	l.account(r, out, err)
}

// account counts what became of a send, and logs an error when it is a new one.
func (l *Listener) account(r *router, out Output, err error) {
	switch {
	case err == nil && out.SendZero:
		r.farewell++
		r.lastErr = ""
		return
	case err == nil:
		r.sent++
		r.lastErr = ""
		return
	case errors.Is(err, ErrNoPermit), errors.Is(err, ErrNoFarewell):
		r.refused++
	}
	if r.lastErr != err.Error() {
		l.log.Warn("advert not sent", "router", r.speaker.Router.Name, "err", err)
	}
	r.lastErr = err.Error()
}

// Run sends what is due and receives. It returns nil when ctx ends, after it has
// closed the interfaces; it sends no farewell then (call Lost before).
func (l *Listener) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer l.closeLinks()
		for {
			l.startReceivers(ctx, g)
			t := time.NewTimer(l.turn())
			select {
			case <-ctx.Done():
				t.Stop()
				return nil
			case <-l.wake:
			case <-t.C:
			}
			t.Stop()
		}
	})
	return g.Wait()
}

// turn ticks every router and returns how long the loop may sleep.
func (l *Listener) turn() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.openLinks()
	sleep := reopenEvery
	for _, r := range l.routers {
		r.sample()
		l.step(r, Event{Kind: Tick})
		sleep = min(sleep, l.tickElect(r))
		if r.speaker.State == Master {
			sleep = min(sleep, sampleEvery, max(0, time.Duration(r.speaker.Next-l.clock())))
		}
	}
	return sleep
}

// startReceivers gives each interface that has none a receiver.
func (l *Listener) startReceivers(ctx context.Context, g *errgroup.Group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, s := range l.links {
		if s.wire == nil || s.receiving {
			continue
		}
		s.receiving = true
		w := s.wire
		g.Go(func() error { l.receive(ctx, k, s, w); return nil })
	}
}

// receive reads one interface until it is closed. Another error closes it, and
// the loop opens it again.
func (l *Listener) receive(ctx context.Context, k linkKey, s *linkState, w wire) {
	for {
		p, err := w.Receive(ctx)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			l.packet(k, p)
			continue
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		w.Close()
		if s.wire == w {
			s.wire, s.tried, s.err = nil, time.Now(), err.Error()
			l.log.Error("VRRP reception broke; opening the interface again", "interface", k.name, "err", err)
		}
		return
	}
}

func (l *Listener) closeLinks() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.links {
		if s.wire != nil {
			s.wire.Close()
			s.wire = nil
		}
	}
}
