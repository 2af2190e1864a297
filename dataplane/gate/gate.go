package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
)

// Errors of Arm, Close and SetVIPs.
var (
	ErrUnknownVIP = errors.New("the gate does not know this address")
	ErrNotUnicast = errors.New("not an address that one host can have")
	ErrNoMark     = errors.New("the gate has no mark, so no address may be local")
	ErrDeadline   = errors.New("not a deadline for a lease")
	// ErrAddressPresent: an address is still on an interface, so its key stays,
	// closed. Remove the address first and call SetVIPs again.
	ErrAddressPresent = errors.New("the address is still on an interface; its gate stays, closed")
)

// MaxAhead bounds how far in the future a deadline may lie: far above any
// lease's TTL, far below what a wrong unit would make of one.
const MaxAhead = time.Minute

// openWait is how long Open waits for another process that is opening.
const openWait = 2 * time.Second

// Config tells Open what to make.
type Config struct {
	// PinDir is a folder on a bpffs, one a host ("" means DefaultPinDir). A
	// bpffs is mounted if there is none.
	PinDir string
	Log    *slog.Logger // nil: discard
	// Mode is ModeTCX, ModeClsact, or "" for tcx where the kernel and a bpffs
	// that was there before have it.
	Mode string
	// Known are the VIPs in the table or found on interfaces: closed from the
	// first moment, unless inherited.
	Known []netip.Addr
	// Mark is put on packets that come in from a member's MAC for a VIP that is
	// Local (skb->mark, as `ipvsadm -f` and `ip rule fwmark` match it), and taken
	// off all others to a VIP. 0: no VIP may be Local.
	Mark uint32
	// Inherit takes over the live deadlines of the process before this one, so
	// that what it held stays open until then (see Inherited). Only for a caller
	// that knows that process to be dead, and keeps others from starting: a lock
	// that the kernel releases with its holder.
	Inherit bool
	// OnFit is called, from Run, when it has looked for the first time, when an
	// interface turns out to lack the gate and it cannot be put there, and when
	// all have it again: a member whose kernel may not hold it back must own
	// nothing (R19). It must not block. nil: nobody is told.
	OnFit func(ok bool, why string)
}

// Gate is the gate of this process. Its methods are safe for concurrent use.
type Gate struct {
	dir  string
	log  *slog.Logger
	mode string
	hook hook
	// tcxToo: the kernel has tcx, whatever the mode.
	tcxToo bool
	maps   *mapSet
	progs  [2]*ebpf.Program
	ids    [2]ebpf.ProgramID
	mark   uint32

	inherited map[netip.Addr]int64 // of Open

	// slots is replaced, never changed: Arm and Close read it without a lock.
	slots atomic.Pointer[map[netip.Addr]*slot]
	setMu sync.Mutex // SetVIPs
	free  []uint32   // under setMu

	watch watchState
	onFit func(ok bool, why string)
	// Of Run alone: what onFit was last told, if it was.
	unfit  string
	judged bool
}

// Open probes the kernel, closes the gate of the process before this one (or
// inherits it), makes a new map in which every address of the old one and of
// Known is 0, but for what is inherited, and only then swaps it in on every
// interface. Which addresses are Local, and who the members are, is taken over
// too. Until SetVIPs says otherwise the gate holds those addresses.
//
// Errors: ErrPermission, ErrKernel, ErrTimeNamespace, ErrNotUnicast wrapped with
// what was being done. An interface that cannot have the gate is an error only if
// none can; otherwise see Status.Failing and OnFit. After an error what the earlier process left stays
// attached, closed.
func Open(cfg Config) (*Gate, error) {
	g := &Gate{dir: cfg.PinDir, log: cfg.Log, mode: cfg.Mode, mark: cfg.Mark, onFit: cfg.OnFit}
	if g.dir == "" {
		g.dir = DefaultPinDir
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	known, err := plain(cfg.Known)
	if err != nil {
		return nil, err
	}
	if err := probe(); err != nil {
		return nil, err
	}
	mounted, err := prepare(g.dir)
	if err != nil {
		return nil, err
	}
	if err := g.choose(mounted); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openWait)
	defer cancel()
	unlock, err := lock(ctx, g.dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := g.takeOver(known, cfg.Inherit); err != nil {
		g.Abandon()
		return nil, err
	}
	return g, nil
}

// choose settles the mode. A bpffs that had to be mounted may be private to this
// process (a container, ip netns exec) and vanish with it, and with it the pins
// that hold tcx links; filters need no pin.
func (g *Gate) choose(mounted bool) error {
	have := haveTCX()
	g.tcxToo = have
	switch {
	case g.mode == "" && have && !mounted:
		g.mode = ModeTCX
	case g.mode == "":
		g.mode = ModeClsact
	case g.mode == ModeTCX && !have:
		return fmt.Errorf("mode tcx: the kernel has no tcx (Linux 6.6 and later): %w", ErrKernel)
	case g.mode != ModeTCX && g.mode != ModeClsact:
		return fmt.Errorf("mode %q: want %q, %q or none", g.mode, ModeTCX, ModeClsact)
	}
	if g.mode == ModeTCX && mounted {
		g.log.Warn("bpffs had to be mounted; if that mount is private to this process, the gate's tcx links end with it", "dir", g.dir)
	}
	g.hook = hookOf(g.mode, g.dir)
	return nil
}

func hookOf(mode, dir string) hook {
	if mode == ModeTCX {
		return tcx{dir: dir}
	}
	return clsact{}
}

// others are the hooks that an earlier process may have used instead.
func (g *Gate) others() []hook {
	if g.mode == ModeTCX {
		return []hook{clsact{}}
	}
	if haveTCX() {
		return []hook{tcx{dir: g.dir}}
	}
	return nil
}

var directions = []direction{ingress, egress}

func programID(p *ebpf.Program) (ebpf.ProgramID, error) {
	info, err := p.Info()
	if err != nil {
		return 0, fmt.Errorf("inspect the gate's program: %w", err)
	}
	id, ok := info.ID()
	if !ok {
		return 0, explain(fmt.Errorf("the kernel does not number programs: %w", ebpf.ErrNotSupported))
	}
	return id, nil
}

// Arm lets addr's traffic through until deadline (absolute, CLOCK_BOOTTIME
// nanoseconds, at most MaxAhead from now). It only writes memory and waits for
// nothing. A deadline in the past is written too: the gate is then closed.
// That deadlines never move back is the lease's affair.
//
// Errors: ErrUnknownVIP, ErrDeadline.
func (g *Gate) Arm(addr netip.Addr, deadline int64) error {
	if deadline <= 0 || deadline > BootNow()+int64(MaxAhead) {
		return fmt.Errorf("arm %s until %d: %w", addr, deadline, ErrDeadline)
	}
	s := (*g.slots.Load())[unzoned(addr)]
	if s == nil || !s.set(deadline) {
		return fmt.Errorf("arm %s: %w", addr, ErrUnknownVIP)
	}
	return nil
}

// Close shuts the gate for addrs now and reads it back. When it returns nil,
// packets that programs look at from now on are dropped; ones that were just
// being looked at on other processors may still pass for some microseconds.
// An unknown address is an error, after the others have been closed.
func (g *Gate) Close(addrs []netip.Addr) error {
	var errs []error
	slots := *g.slots.Load()
	for _, a := range addrs {
		s := slots[unzoned(a)]
		if s == nil || !s.set(0) {
			errs = append(errs, fmt.Errorf("close %s: %w", a, ErrUnknownVIP))
		}
	}
	for _, a := range addrs {
		if s := slots[unzoned(a)]; s != nil {
			if d := atomic.LoadInt64(s.word); d != 0 {
				errs = append(errs, fmt.Errorf("close %s: read back deadline %d", a, d))
			}
		}
	}
	return errors.Join(errs...)
}

// Abandon frees what this process holds of the gate and leaves the kernel's
// part as it is. For tests and for Open's failures; a process that ends needs
// no such call.
func (g *Gate) Abandon() {
	for _, p := range g.progs {
		if p != nil {
			p.Close()
		}
	}
	if g.maps != nil {
		g.maps.close()
	}
}
