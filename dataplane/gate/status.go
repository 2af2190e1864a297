package gate

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Counters count one VIP's packets since its key was added.
type Counters struct {
	ARPPassed, ARPDropped       uint64 // ARP for the VIP, coming in
	IPPassed, IPDropped         uint64 // IPv4 packets to it, coming in
	EgressPassed, EgressDropped uint64 // ARP, packets and adverts from it
	// LastMAC is who sent the last IP packet to it, passed or not (the gateway,
	// or a client on the network); nil: none came. LastSeen is when,
	// CLOCK_BOOTTIME ns.
	LastMAC  net.HardwareAddr
	LastSeen int64
}

// Status is what an operator wants to know of the gate.
type Status struct {
	Mode       string            // "tcx" or "clsact"
	Interfaces []string          // that have the gate, sorted
	Reattached uint64            // times that somebody took it off an interface
	Failing    map[string]string // interface -> why it has no gate; "" for all of them
	Displaced  []string          // interfaces where another program runs before it
	VIPs       map[netip.Addr]time.Duration
}

// Status reports the gate as the watch last saw it. VIPs holds the time left to
// each deadline; 0: closed.
func (g *Gate) Status() Status {
	g.watch.mu.Lock()
	defer g.watch.mu.Unlock()
	st := Status{
		Mode:       g.mode,
		Interfaces: slices.Sorted(maps.Values(g.watch.attached)),
		Reattached: g.watch.reattached,
		Failing:    maps.Clone(g.watch.failing),
		Displaced:  slices.Sorted(maps.Keys(g.watch.displaced)),
		VIPs:       make(map[netip.Addr]time.Duration),
	}
	now := BootNow()
	for a, s := range *g.slots.Load() {
		st.VIPs[a] = max(0, time.Duration(atomic.LoadInt64(s.word)-now))
	}
	return st
}

// Counters reads the counters of every VIP. One that cannot be read is left
// out.
func (g *Gate) Counters() map[netip.Addr]Counters {
	out := make(map[netip.Addr]Counters)
	for a, s := range *g.slots.Load() {
		var perCPU []slotCounters
		if err := g.maps.counters.Lookup(s.index, &perCPU); err != nil {
			g.log.Error("read the gate's counters", "vip", a, "err", err)
			continue
		}
		out[a] = sum(perCPU)
	}
	return out
}

// sum adds up what each processor counted.
func sum(perCPU []slotCounters) Counters {
	var c Counters
	for _, one := range perCPU {
		c.ARPPassed += one.ARPPassed
		c.ARPDropped += one.ARPDropped
		c.IPPassed += one.IPPassed
		c.IPDropped += one.IPDropped
		c.EgressPassed += one.EgressPassed
		c.EgressDropped += one.EgressDropped
		if int64(one.When) > c.LastSeen {
			c.LastSeen = int64(one.When)
			c.LastMAC = net.HardwareAddr(slices.Clone(one.MAC[:6]))
		}
	}
	return c
}

// Remove takes the gate away completely: programs off every interface of the
// calling thread's network namespace, pins out of dir. Everything passes
// afterwards, so no VIP may be left on an interface. For uninstalling and
// tests; a clsact qdisc stays, as it may have been there before.
func Remove(pinDir string) error {
	if pinDir == "" {
		pinDir = DefaultPinDir
	}
	links, err := interfaces()
	if err != nil {
		return err
	}
	hooks := []hook{clsact{}}
	if haveTCX() {
		hooks = append(hooks, tcx{dir: pinDir})
	}
	for _, h := range hooks {
		for _, l := range links {
			if err := detachBoth(h, l); err != nil && !gone(l) {
				return err
			}
		}
	}
	return unpin(pinDir)
}

// unpin empties and removes the folder.
func unpin(dir string) error {
	on, err := onBPFFS(dir)
	if err != nil || !on {
		return err
	}
	if err := (tcx{dir: dir}).forget(nil); err != nil {
		return err
	}
	for _, name := range []string{vipsName, deadlinesName, countersName} {
		for _, suffix := range []string{"", freshSuffix} {
			if err := unix.Unlink(filepath.Join(dir, name+suffix)); err != nil && err != unix.ENOENT {
				return fmt.Errorf("unpin map %s: %w", name, err)
			}
		}
	}
	for _, d := range []string{filepath.Join(dir, linksDir), dir} {
		// dir itself stays where bpffs is mounted on it.
		if err := unix.Rmdir(d); err != nil && err != unix.ENOENT && err != unix.EBUSY {
			return fmt.Errorf("remove the gate's folder: %w", err)
		}
	}
	return nil
}
