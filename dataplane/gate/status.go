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

// Count counts packets.
type Count struct{ Passed, Dropped uint64 }

// Sender is who sent a packet to a VIP: the gateway, or a client on the network.
type Sender struct {
	MAC  net.HardwareAddr // nil: there was none
	When int64            // CLOCK_BOOTTIME ns
}

// Counters count one VIP's packets since its key was added. A packet that comes
// through two interfaces (a port and its bridge, a slave and its bond) counts
// on each.
type Counters struct {
	NeighbourIn Count // ARP requests and neighbour solicitations for it
	IPIn        Count // packets to it
	// MemberIn are packets to it that a member forwarded, if it is Local: they
	// pass, and are in IPIn no more than their senders are below.
	MemberIn     uint64
	NeighbourOut Count // ARP and neighbour discovery that speaks for it
	IPOut        Count // packets from it
	VRRPOut      Count // adverts for it
	// Who sent the last packet to it that passed, and that was dropped.
	PassedBy, DroppedBy Sender
}

// Status is what an operator wants to know of the gate.
type Status struct {
	Mode       string            // "tcx" or "clsact"
	Interfaces []string          // that have the gate, sorted
	Reattached uint64            // times that somebody took it off an interface
	Failing    map[string]string // interface -> why it has no gate; "" for all of them
	Displaced  []string          // interfaces where another program runs before it
	VIPs       map[netip.Addr]time.Duration
	// Obscure counts IPv6 packets that were dropped because what is behind their
	// extension headers could not be read.
	Obscure uint64
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
	if hidden, err := g.counted(MaxVIPs); err == nil {
		st.Obscure = hidden.NeighbourIn.Dropped + hidden.NeighbourOut.Dropped
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
		c, err := g.counted(s.index)
		if err != nil {
			g.log.Error("read the gate's counters", "vip", a, "err", err)
			continue
		}
		out[a] = c
	}
	return out
}

// counted reads the counters of a slot.
func (g *Gate) counted(slot uint32) (Counters, error) {
	var perCPU []slotCounters
	if err := g.maps.counters.Lookup(slot, &perCPU); err != nil {
		return Counters{}, err
	}
	return sum(perCPU), nil
}

// sum adds up what each processor counted.
func sum(perCPU []slotCounters) Counters {
	var c Counters
	for _, one := range perCPU {
		c.NeighbourIn.add(one.NeighbourIn)
		c.IPIn.add(one.IPIn)
		c.MemberIn += one.MemberIn.Passed
		c.NeighbourOut.add(one.NeighbourOut)
		c.IPOut.add(one.IPOut)
		c.VRRPOut.add(one.VRRPOut)
		c.PassedBy.later(one.PassedBy)
		c.DroppedBy.later(one.DroppedBy)
	}
	return c
}

func (c *Count) add(d Count) {
	c.Passed += d.Passed
	c.Dropped += d.Dropped
}

func (s *Sender) later(o slotSender) {
	if int64(o.When) > s.When {
		s.When, s.MAC = int64(o.When), net.HardwareAddr(slices.Clone(o.MAC[:6]))
	}
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
	for _, h := range allHooks(pinDir) {
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
	for _, name := range mapNames {
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
