package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
)

// Errors of Arm, Close and SetVIPs.
var (
	ErrUnknownVIP = errors.New("the gate does not know this address")
	ErrNotIPv4    = errors.New("the gate handles IPv4 addresses only")
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
	// first moment.
	Known []netip.Addr
	// OnFit is called, from Run, when an interface turns out to lack the gate and
	// it cannot be put back, and when all have it again: a member whose kernel
	// may not hold it back must own nothing (R19). It must not block. nil: nobody
	// is told.
	OnFit func(ok bool, why string)
}

// Gate is the gate of this process. Its methods are safe for concurrent use.
type Gate struct {
	dir   string
	log   *slog.Logger
	mode  string
	hook  hook
	maps  *mapSet
	progs [2]*ebpf.Program
	ids   [2]ebpf.ProgramID

	// slots is replaced, never changed: Arm and Close read it without a lock.
	slots atomic.Pointer[map[netip.Addr]*slot]
	setMu sync.Mutex // SetVIPs
	free  []uint32   // under setMu

	watch watchState
	onFit func(ok bool, why string)
	unfit string // what onFit was last told; of Run alone
}

// Open probes the kernel, closes the gate of the process before this one, makes
// a new map in which every address of the old one and of Known is 0, and only
// then swaps it in on every interface. Until SetVIPs says otherwise the gate holds those addresses.
//
// Errors: ErrPermission, ErrKernel, ErrTimeNamespace, ErrNotIPv4 wrapped with
// what was being done. After an error what the earlier process left stays
// attached, closed.
func Open(cfg Config) (*Gate, error) {
	g := &Gate{dir: cfg.PinDir, log: cfg.Log, mode: cfg.Mode, onFit: cfg.OnFit}
	if g.dir == "" {
		g.dir = DefaultPinDir
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	known, err := ipv4(cfg.Known)
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
	if err := g.takeOver(known); err != nil {
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

// takeOver goes from the earlier process's gate to this one's. The order is the
// point: old closed, new closed, new attached, other kinds off, new pinned.
func (g *Gate) takeOver(known []netip.Addr) error {
	old, err := g.shutEarlier()
	if err != nil {
		return err
	}
	if g.maps, err = newMaps(); err != nil {
		return err
	}
	g.slots.Store(&map[netip.Addr]*slot{})
	for i := range uint32(MaxVIPs) {
		g.free = append(g.free, MaxVIPs-1-i)
	}
	all := append(slices.Clone(known), old...)
	if err := g.change(all, nil); err != nil {
		return err
	}
	for _, d := range directions {
		if g.progs[d], err = load(d, g.maps); err != nil {
			return err
		}
		if g.ids[d], err = programID(g.progs[d]); err != nil {
			return err
		}
	}
	if err := g.attachAll(); err != nil {
		return err
	}
	return g.maps.pin(g.dir)
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

// ipv4 checks and unmaps addresses.
func ipv4(addrs []netip.Addr) ([]netip.Addr, error) {
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		a = a.Unmap()
		if !a.Is4() {
			return nil, fmt.Errorf("%s: %w", a, ErrNotIPv4)
		}
		out = append(out, a)
	}
	return out, nil
}

// SetVIPs makes addrs the VIPs of the gate. New ones start closed, those in
// both keep their deadlines, the rest are closed and forgotten: from then on
// their traffic passes, so the caller removes the address from its interface
// first. One that is still there keeps its key, closed, and the error wraps
// ErrAddressPresent; everything else has been done.
func (g *Gate) SetVIPs(addrs []netip.Addr) error {
	want, err := ipv4(addrs)
	if err != nil {
		return err
	}
	g.setMu.Lock()
	defer g.setMu.Unlock()
	var gone []netip.Addr
	for a := range *g.slots.Load() {
		if !slices.Contains(want, a) {
			gone = append(gone, a)
		}
	}
	gone, err = g.absent(gone)
	if e := g.change(want, gone); e != nil {
		return e
	}
	return err
}

// absent closes the addresses and returns those that no interface has.
func (g *Gate) absent(addrs []netip.Addr) (free []netip.Addr, err error) {
	if len(addrs) == 0 {
		return nil, nil
	}
	present, err := interfaceAddrs()
	if err != nil {
		return nil, err
	}
	slots := *g.slots.Load()
	for _, a := range addrs {
		slots[a].set(0)
		if present[a] {
			err = errors.Join(err, fmt.Errorf("%s: %w", a, ErrAddressPresent))
			continue
		}
		free = append(free, a)
	}
	return free, err
}

// change adds and removes keys; the caller holds setMu or is Open.
func (g *Gate) change(add, remove []netip.Addr) error {
	next := make(map[netip.Addr]*slot)
	for a, s := range *g.slots.Load() {
		next[a] = s
	}
	defer func() { g.slots.Store(&next) }() // what was done, even after an error
	for _, a := range add {
		if next[a] != nil {
			continue
		}
		s, err := g.addKey(a)
		if err != nil {
			return err
		}
		next[a] = s
	}
	for _, a := range remove {
		s := next[a]
		s.retire()
		if err := g.maps.vips.Delete(a.As4()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove %s from the gate: %w", a, err)
		}
		delete(next, a)
		g.free = append(g.free, s.index)
	}
	return nil
}

// addKey gives a a slot of its own, closed and with counters at 0, before
// programs can find it.
func (g *Gate) addKey(a netip.Addr) (*slot, error) {
	if len(g.free) == 0 {
		return nil, fmt.Errorf("add %s: the gate holds at most %d addresses", a, MaxVIPs)
	}
	i := g.free[len(g.free)-1]
	s := &slot{index: i, word: word(g.maps.memory, i)}
	s.set(0)
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count processors: %w", err)
	}
	if err := g.maps.counters.Put(i, make([]slotCounters, cpus)); err != nil {
		return nil, fmt.Errorf("reset the counters of %s: %w", a, err)
	}
	if err := g.maps.vips.Put(a.As4(), i); err != nil {
		return nil, fmt.Errorf("add %s to the gate: %w", a, err)
	}
	g.free = g.free[:len(g.free)-1]
	return s, nil
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
	s := (*g.slots.Load())[addr.Unmap()]
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
		s := slots[a.Unmap()]
		if s == nil || !s.set(0) {
			errs = append(errs, fmt.Errorf("close %s: %w", a, ErrUnknownVIP))
		}
	}
	for _, a := range addrs {
		if s := slots[a.Unmap()]; s != nil {
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
