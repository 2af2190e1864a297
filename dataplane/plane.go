package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"lbcluster/dataplane/fence"
	"lbcluster/dataplane/ipvs"
	"lbcluster/dataplane/vip"
	"lbcluster/fsm"

	"golang.org/x/sync/errgroup"
)

// Kernel is the IPVS table: an *ipvs.Handle.
type Kernel interface {
	List() ([]ipvs.Service, error)
	// Services are those of List without their destinations, for much less work.
	Services() ([]ipvs.Service, error)
	// Dests are the destinations of one service.
	Dests(ipvs.Key) ([]ipvs.Dest, error)
	Do(ipvs.Op) error
	// DoAll does operations in order, whatever becomes of those before, and returns
	// an error or nil for each.
	DoAll([]ipvs.Op) []error
	Tuner
}

// Addresses are this host's interfaces: a *vip.Host.
type Addresses interface {
	Snapshot() (vip.Snapshot, error)
	// Watch calls changed at its start and whenever the Snapshot may be
	// another, until ctx ends.
	Watch(ctx context.Context, changed func()) error
	AddressWriter
	ServerWriter
	VMACWriter
}

// VMACWriter makes and removes the interfaces of virtual routers with a MAC of
// their own.
type VMACWriter interface {
	MakeVMAC(vip.VMAC) (quiet bool, err error)
	vmacRemover
}

// AddressWriter changes what Addresses shows.
type AddressWriter interface {
	Add(p fence.Permit, index int, prefix netip.Prefix, label string) (existed bool, err error)
	Remove(index int, prefix netip.Prefix) error
	Announce(p fence.Permit, l vip.Link, addr netip.Addr) error
}

// ServerWriter makes this host a real server.
type ServerWriter interface {
	// AddLoopback puts an address on lo, whose index is given.
	AddLoopback(index int, prefix netip.Prefix) (existed bool, err error)
	sysctls
}

// Gate is told which addresses to guard: a *gate.Gate.
type Gate interface {
	SetVIPs([]Guarded) error
	// SetMembers gives the hardware addresses from which the other members send.
	SetMembers([]net.HardwareAddr) error
}

// VRRP is the speaker. Its methods must not block.
type VRRP interface {
	SetRouters([]Speaker)
	// Acquired makes a router, for whose unit the permit is, MASTER.
	Acquired(router uint64, p fence.Permit)
	// Lost ends the adverts of a router whose addresses are off; sendZero asks
	// for a last advert with priority 0, if the speaker finds it permissible.
	Lost(router uint64, sendZero bool)
}

// Config is what a Plane needs. IPVS and VIPs must be set.
type Config struct {
	// Self is this member. Empty: it is taken to be no real server.
	Self fsm.MemberID
	IPVS Kernel
	VIPs Addresses
	Gate Gate // nil: none (only in tests)
	VRRP VRRP // nil: no adverts
	// Marks has packets marked for services of firewall marks. nil: nobody does.
	Marks Marker
	// Holds holds packets back, see [Holds]. nil: nobody does.
	Holds Marker
	// Claims asks who else answers for the addresses that are owned here. nil: nobody does.
	Claims Claimer
	// StateFile is where the record of what is ours is kept, in a folder that
	// lives as long as the kernel (/run/lbcluster/dataplane.json). Empty: a
	// restarted process does not know what its predecessor made.
	StateFile string
	// Inherited are VIPs whose gate the process before this one left open and this
	// one took over: their addresses, if the record has them, are not removed at
	// the start but kept until the lease says Acquired or Lost, a few seconds at
	// most. Needs StateFile.
	Inherited []netip.Addr
	// NodeInterfaces maps an operator's interface name to this host's.
	NodeInterfaces map[string]string
	// SendZero says of the reason given with Lost whether VRRP peers should be
	// asked to take over. nil: never.
	SendZero func(why string) bool
	// OnApplied is called, from Run, each time another revision has been
	// applied whole; it must not block.
	OnApplied func(fsm.Revision)
	// OnFit is called, from Run, when Fit changes; it must not block.
	OnFit func(ok bool, why string)
	// OnRouterFit is called, from Run, for each unit of the table once it is
	// known whether this host could hold it, and whenever that changes; it must
	// not block. A unit without a link, say, is unfit here; the others stay fit.
	OnRouterFit func(unit uint64, ok bool, why string)
	Log         *slog.Logger // nil: discard
}

// Times of the loops.
const (
	driftEvery   = 5 * time.Second        // P2: repaired within 10 s
	driftSlowest = 8 * time.Second        // where a look takes long
	driftShare   = 20                     // looks take at most 1 part in this of the time, if driftSlowest allows
	glanceEvery  = 50 * time.Millisecond  // for services that went
	glanceShare  = 50                     // a glance's part of the time is at most 1 in this
	lookEvery    = 10 * time.Second       // addresses, beside the events
	lookSpacing  = 10 * time.Millisecond  // between two looks in a storm of events
	recordWait   = 5 * time.Millisecond   // of an owner for the record
	stopGrace    = 500 * time.Millisecond // for the lease to say Lost when stopping
	watchRetry   = time.Second
	recordLimit  = time.Second // of the reconciler for the record
	errorsLogged = time.Minute // between two logs of the same error
)

// Plane keeps this host's kernel as the table and the lease want it. Make it
// with New; all methods are safe for concurrent use.
type Plane struct {
	cfg    Config
	log    *slog.Logger
	record *record
	start  time.Time

	mu     sync.Mutex
	table  *fsm.Table
	inbox  []leaseEvent
	claims []uint64 // routers whose addresses a peer may have claimed
	ready  chan struct{}
	status Status
	fit    bool
	unfit  string
	logged map[string]time.Time // errors of the last errorsLogged
	// gateLocal are the VIPs that the gate lets in for the server on this host.
	gateLocal map[netip.Addr]bool
	// paths are the marks of those that stand, pathless the VIPs through which no
	// check can go here, self this host when they were made.
	paths    map[asked]uint32
	pathless map[netip.Addr]bool
	self     vip.Snapshot

	wakeTable, wakeRouters chan struct{} // one slot each
	changed                chan struct{} // one slot: addresses or links

	// keys is what the gate surely holds; whoever has put something into gateLock
	// (one slot) may read and change it. An address is added under it, so that
	// its key does not go between the look and the adding (R19).
	keys     []netip.Addr
	gateLock chan struct{}

	// Of the reconcile loop alone.
	guard   guard
	marking marking
	tuning  tuning
	stood   []ipvs.Service // what stood in IPVS whole at the last good pass
	settled settled
	// Of the router loop alone.
	addresses addressLoop
}

// leaseEvent is a call of Acquired or Lost.
type leaseEvent struct {
	unit    uint64
	permit  fence.Permit // Acquired; zero: Lost
	zero    bool
	why     string
	removed chan struct{}
}

// New makes a Plane; it reads the record, touches nothing else and starts
// nothing.
func New(cfg Config) *Plane {
	p := &Plane{
		cfg: cfg, log: cfg.Log, start: time.Now(),
		ready:     make(chan struct{}),
		gateLock:  make(chan struct{}, 1),
		logged:    map[string]time.Time{},
		wakeTable: make(chan struct{}, 1), wakeRouters: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if p.record, err = openRecord(cfg.StateFile); err != nil {
		p.status.fail(err)
		p.log.Warn("dataplane: starting without a record: what an earlier process left is reported, not removed", "err", err)
	}
	p.addresses = newAddressLoop(p.record.get())
	p.fit, p.unfit = false, notApplied
	return p
}

// Run keeps the kernel in step until ctx ends, then returns nil. IPVS stays as
// it is. Addresses of routers that are still owned stay for a moment, so that
// the lease can give them up in its order; what is then left stays behind the
// closing gate, for the next process to remove.
func (p *Plane) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	looping, stopped := context.WithCancel(context.WithoutCancel(ctx))
	defer stopped()
	g.Go(func() error { return p.reconcileLoop(ctx) })
	g.Go(func() error { return p.watchLoop(ctx) })
	g.Go(func() error { return p.claimLoop(ctx) })
	g.Go(func() error {
		defer stopped() // the record is written as long as addresses change
		return p.routerLoop(ctx)
	})
	g.Go(func() error { return p.record.run(looping) })
	if err := g.Wait(); err != nil {
		return fmt.Errorf("data plane: %w", err)
	}
	return nil
}

// watchLoop turns netlink events into looks; after a failure it subscribes again.
func (p *Plane) watchLoop(ctx context.Context) error {
	for {
		err := p.cfg.VIPs.Watch(ctx, func() { poke(p.changed) })
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("ended")
		}
		p.failed("watch addresses", err)
		poke(p.changed)
		if !sleep(ctx, watchRetry) {
			return nil
		}
	}
}

// Update hands over the latest table; it never blocks, and only the latest
// counts. Tables older than one that was applied, by this process or the one
// before it, are not: a restarted member reads its log from the beginning.
func (p *Plane) Update(t *fsm.Table) {
	p.mu.Lock()
	p.table = t
	p.mu.Unlock()
	poke(p.wakeTable)
	poke(p.wakeRouters)
}

// Acquired says that this member owns the permit's unit, with all its routers,
// and that its gate is armed. It never blocks. It may be called again with the
// permit of another term or other addresses.
func (p *Plane) Acquired(permit fence.Permit) {
	p.post(leaseEvent{unit: permit.Router(), permit: permit})
}

// Lost says that this member owns the unit no more and that its gate is
// closed. It never blocks. removed is closed when no address that we put for
// the unit's routers is left on an interface.
func (p *Plane) Lost(unit uint64, why string) (removed <-chan struct{}) {
	done := make(chan struct{})
	zero := p.cfg.SendZero != nil && p.cfg.SendZero(why)
	p.post(leaseEvent{unit: unit, zero: zero, why: why, removed: done})
	return done
}

// Claimed says that a VRRP peer may have told the neighbours of a router that
// its addresses are with it: if they are here, they are announced again. It never
// blocks.
func (p *Plane) Claimed(router uint64) {
	p.mu.Lock()
	if len(p.claims) < 1024 {
		p.claims = append(p.claims, router)
	}
	p.mu.Unlock()
	poke(p.wakeRouters)
}

func (p *Plane) post(e leaseEvent) {
	p.mu.Lock()
	p.inbox = append(p.inbox, e)
	p.mu.Unlock()
	poke(p.wakeRouters)
}

// Ready is closed once a table has been applied since the start: before that
// this member must not own anything. Services that the kernel refuses for want
// of a scheduler do not hold it up.
func (p *Plane) Ready() <-chan struct{} { return p.ready }

// current is the table to work with; nil: none, and why.
func (p *Plane) current() (*fsm.Table, string) {
	p.mu.Lock()
	t := p.table
	p.mu.Unlock()
	if t == nil || t.Cluster == "" {
		return nil, "no table yet"
	}
	if r := p.record.get(); t.Cluster == r.Cluster && t.Revision < r.Revision {
		return nil, fmt.Sprintf("the table is at revision %d, this host had %d applied: waiting to catch up", t.Revision, r.Revision)
	}
	return t, ""
}

// since is the time on the machines' clock.
func (p *Plane) since() time.Duration { return time.Since(p.start) }

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// sleep waits for d; false: ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
