package lease

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lbcluster/dataplane/fence"
	"lbcluster/fsm"
)

// Owner is told what this member may speak for. Neither call may block: both
// come from the lease's own goroutine.
type Owner interface {
	// Acquired says that p's router is ours while p is valid; the gate is armed.
	// It comes again with a new permit when the router's addresses change: the
	// new permit replaces the old one.
	Acquired(p fence.Permit)
	// Lost says that the router is not ours; the gate is closed. The channel is
	// closed when its addresses are removed: the Release waits for that for
	// [Params.RemoveWait]. nil: there was nothing to remove.
	Lost(router uint64, why string) (removed <-chan struct{})
}

// NobodyNext is how the reason ends that [Owner.Lost] is told when no other member
// is known to be ready for the router.
const NobodyNext = "; no other member is ready to be next"

// Config is what a driver needs.
type Config struct {
	Self    fsm.MemberID
	Cluster string // the cluster's id
	Key     []byte // the cluster's lease key, at least 16 bytes
	// Listen is this member's main address and the UDP port of the lease, on this
	// and on every other address: see Want.Locals.
	Listen netip.AddrPort
	Params Params
	Gate   Gate  // nil on a witness, which stands for nothing
	Owner  Owner // likewise
	// Floor reads the tag of the latest configuration in this member's log,
	// committed or not, below which its voter answers nobody (R15); false: it is
	// not known yet, and the voter answers nobody at all. It is called before each
	// vote, so that a process that was frozen can't vote by what it knew before;
	// it must not wait for a disk (R12).
	Floor func() (fsm.ConfigTag, bool)
	// FreshIdentity says that Self has never voted: no embargo. The caller
	// consumes it durably before it says so: a second start must not.
	FreshIdentity bool
	// StateFile is where this member keeps, on a file system in memory such as
	// /run, what it must not forget while the kernel runs: its promises and its
	// holder's identity (R2). It must be the same path at each start. Empty: a
	// voter that starts waits out its embargo.
	StateFile string
	// LastBootID is the kernel's boot_id as it was when this member last started,
	// which the caller keeps in the data folder and writes, durably, before Run;
	// empty: unknown. It tells a reboot from a lost file.
	LastBootID string
	// Inherited are the deadlines (CLOCK_BOOTTIME, ns) that the gate took over
	// from the process before this one, which is dead: what it held is held on.
	Inherited map[netip.Addr]int64
	// Relay hands a sealed packet to another way to a member than UDP, which
	// gives it to the other's [Driver.Deliver]; nil: there is none. It must not
	// wait, and keeps the packet without changing it; false: it was dropped.
	Relay func(to fsm.MemberID, packet []byte) bool
	// Journal takes what is worth a record, one call at a time, and may wait;
	// nil: nobody keeps it. Entries that it is too slow for are dropped.
	Journal func(Entry)
	Log     *slog.Logger

	// For tests; nil: the kernel's clocks, a socket on Listen, the kernel's sockets.
	Boot   BootID // zero: the kernel's
	Clocks *Clocks
	Rates  *RateClocks // nil with Clocks: the rate is not watched
	Conn   Conn
	Open   func(at netip.AddrPort) (Conn, error)
}

// Want is what the rest of the daemon wants of the lease: the latest whole truth.
type Want struct {
	// Committed is the latest configuration known to be committed, whose
	// majority wins (R14).
	Committed fsm.VoterSet
	// Appended are the later configurations in this member's log, which may never
	// be committed: a majority of each of them counts too.
	Appended []fsm.VoterSet
	// Peers are all addresses of every other member, its main one first.
	Peers map[fsm.MemberID][]netip.AddrPort
	// Locals are this member's addresses beside Listen's, with the length of their
	// network; Listen's may be among them, for its length. Never a VIP.
	Locals  []netip.Prefix
	Routers []Router
}

// Driver runs a member's voter and holder, over UDP and a relay: New, Update and
// SetFit, then Run once; Update and SetFit again whenever something changes.
// All methods but Run may be called from anywhere, any time.
type Driver struct {
	cfg    Config
	boot   Nonce
	clocks Clocks
	rates  *RateClocks

	// One slot each, holding the latest: see Update.
	want     chan Want
	fit      chan Fit
	standing chan Standing
	force    chan Forced
	stretch  chan struct{}
	status   chan chan Status
	relayed  chan arrival
	entries  chan Entry

	ran     atomic.Bool            // a nonce is for one Run
	last    atomic.Pointer[Status] // for when the loop does not answer
	unsaid  atomic.Uint64          // journal entries dropped because nobody took them
	crowded atomic.Uint64          // packets dropped because the loop was late
	quiet   atomic.Uint64          // log lines dropped likewise
}

// New checks the configuration. It opens and starts nothing: see [Driver.Run].
func New(cfg Config) (*Driver, error) {
	if err := cfg.Params.Validate(); err != nil {
		return nil, err
	}
	if (cfg.Gate == nil) != (cfg.Owner == nil) {
		return nil, errors.New("lease: a gate and an owner come together, or neither")
	}
	if cfg.Floor == nil {
		return nil, errors.New("lease: nothing tells the floor of the voter")
	}
	if cfg.Cluster == "" {
		return nil, errors.New("lease: no cluster id")
	}
	boot := NewNonce()
	if _, err := newSealer(cfg.Self, boot, cfg.Cluster, cfg.Key); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	d := &Driver{
		cfg: cfg, boot: boot, clocks: KernelClocks(),
		want: make(chan Want, 1), fit: make(chan Fit, 1), status: make(chan chan Status, 1),
		force: make(chan Forced, 64), stretch: make(chan struct{}, 1), standing: make(chan Standing, 1), relayed: make(chan arrival, 256), entries: make(chan Entry, 256),
	}
	if cfg.Clocks != nil {
		d.clocks = *cfg.Clocks
	} else if cfg.Rates == nil {
		kernel := KernelRateClocks()
		cfg.Rates = &kernel
	}
	d.rates = cfg.Rates
	d.last.Store(&Status{Boot: boot})
	return d, nil
}

// Params are the timers that the driver was made with.
func (d *Driver) Params() Params { return d.cfg.Params }

// Update replaces what is wanted. It does not wait; only the latest counts.
func (d *Driver) Update(w Want) { replace(d.want, w) }

// SetFit says whether this member can use what it would win. Unfit, and so it
// starts, it stands for nothing and gives up what it holds. It does not wait.
func (d *Driver) SetFit(fit bool, reason string) { replace(d.fit, Fit{fit, reason}) }

// Stretch has everything that is held renewed at once, and from now on, with the
// longest ttl that voters accept (TTLMax), so that it outlasts the end of this
// process and the beginning of the next one: see ErrKeep. Whether it is renewed
// shows in Status. Should the process die instead of being replaced, the voters
// keep their word for as long. It does not wait.
func (d *Driver) Stretch() { replace(d.stretch, struct{}{}) }

// replace puts v into a channel of one slot in place of what is there.
func replace[T any](ch chan T, v T) {
	for {
		select {
		case ch <- v:
			return
		default:
		}
		select {
		case <-ch:
		default:
		}
	}
}

// ErrKeep, as the cause of the end of Run's context, ends Run at once and leaves
// gate and promises as they are: the process executes itself anew, or another
// one goes on (see Config.Inherited), and must do so before the lease runs out.
var ErrKeep = errors.New("the next process goes on with what is held")

// Run serves until ctx ends; then it gives up everything in the safe order,
// waits for that for a short time, and returns nil. A driver runs once: another
// Run would count its rounds from 1 again with the same nonce (R4), and a fresh
// identity would be fresh once more (R2).
func (d *Driver) Run(ctx context.Context) error {
	if d.ran.Swap(true) {
		return errors.New("lease: a driver runs once: make a new one")
	}
	seal, err := newSealer(d.cfg.Self, d.boot, d.cfg.Cluster, d.cfg.Key)
	if err != nil {
		return err
	}
	packets, lines := make(chan arrival, 1024), make(chan line, 256)
	socks := newSockets(d, packets)
	socks.prepare()
	sockCtx, closeSockets := context.WithCancel(context.WithoutCancel(ctx))
	st := d.recall()
	defer st.file.close()
	l := newLoop(d, socks, seal, packets, lines, st)
	var g errgroup.Group
	g.Go(func() error { return socks.run(sockCtx) })
	g.Go(func() error { return d.write(lines) })
	g.Go(d.record)
	g.Go(func() error {
		defer close(lines)
		defer close(d.entries)
		defer closeSockets()
		return l.run(ctx)
	})
	return g.Wait()
}

// Deliver takes a packet that came over the relay. It does not wait, and may be
// called at any time, by several at once.
func (d *Driver) Deliver(packet []byte) { d.enqueue(d.relayed, arrival{b: packet}) }

// line is one log line on its way out of the loop, which must not wait for
// whoever reads the log (R12).
type line struct {
	level slog.Level
	msg   string
	args  []any
}

func (d *Driver) write(lines <-chan line) error {
	for l := range lines {
		d.cfg.Log.Log(context.Background(), l.level, l.msg, l.args...)
	}
	return nil
}

// Status reports what the lease does now.
func (d *Driver) Status() Status {
	ch := make(chan Status, 1)
	var s Status
	select {
	case d.status <- ch:
		select {
		case s = <-ch:
		case <-time.After(statusWait):
			s = *d.last.Load()
		}
	default: // somebody else's question is waiting: so is the loop
		s = *d.last.Load()
	}
	s.Routers = slices.Clone(s.Routers) // the kept copy is everybody's
	s.Peers = clonePeers(s.Peers)
	s.age(d.clocks.Boot())
	return s
}

// statusWait bounds the wait for a loop that has ended or hangs.
const statusWait = 50 * time.Millisecond
