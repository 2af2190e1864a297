package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"lbcluster/dataplane/vip"
	"lbcluster/fsm"
)

// Guarded is an address that the gate guards.
type Guarded struct {
	Addr netip.Addr
	// Local: this host also serves the address behind whichever member owns it;
	// packets to it that a member forwards get LocalMark and pass.
	Local bool
}

// guard is what the reconcile loop knows of the gate.
type guard struct {
	told    []Guarded
	members []net.HardwareAddr
	set     bool // told is what the gate has
	// host is the last look at the interfaces.
	host  vip.Snapshot
	known bool
}

// setGate tells the gate its addresses: the table's, and those that left it but
// are still on some interface, whoever put them there. local are those that this
// host may serve for other members.
func (p *Plane) setGate(t *fsm.Table, local map[netip.Addr]bool) error {
	if p.cfg.Gate == nil {
		return nil
	}
	p.gateLock <- struct{}{}
	defer func() { <-p.gateLock }()
	if err := p.setMembers(t); err != nil {
		return err
	}
	want, err := p.guarded(t, local)
	if err != nil {
		return err
	}
	if p.guard.set && slices.Equal(want, p.guard.told) {
		return nil
	}
	if err := p.cfg.Gate.SetVIPs(want); err != nil {
		// Some may be gone, others not there yet.
		p.keys = slices.DeleteFunc(p.keys, func(a netip.Addr) bool {
			return !slices.ContainsFunc(want, func(g Guarded) bool { return g.Addr == a })
		})
		return fmt.Errorf("tell the gate its addresses: %w", err)
	}
	p.guard.told, p.guard.set = want, true
	p.keys = nil
	localNow := map[netip.Addr]bool{}
	for _, g := range want {
		p.keys = append(p.keys, g.Addr)
		if g.Local {
			localNow[g.Addr] = true
		}
	}
	p.mu.Lock()
	p.gateLocal = localNow
	p.mu.Unlock()
	poke(p.wakeRouters)
	return nil
}

// setMembers tells the gate from which hardware addresses the other members send.
func (p *Plane) setMembers(t *fsm.Table) error {
	macs := memberMACs(t, p.cfg.Self)
	same := func(a, b net.HardwareAddr) bool { return slices.Equal(a, b) }
	if p.guard.set && slices.EqualFunc(macs, p.guard.members, same) {
		return nil
	}
	if err := p.cfg.Gate.SetMembers(macs); err != nil {
		return fmt.Errorf("tell the gate who the members are: %w", err)
	}
	p.guard.members = macs
	return nil
}

// stillLocal keeps of local what the gate has as local already: taking away
// comes before IPVS is changed, adding after it.
func (p *Plane) stillLocal(local map[netip.Addr]bool) map[netip.Addr]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[netip.Addr]bool{}
	for a := range local {
		if !p.guard.set || p.gateLocal[a] { // before the first time: as the process before us left it
			out[a] = true
		}
	}
	return out
}

// lookLocal is what this host serves itself by table t, and for which of it the
// address is on lo.
func (p *Plane) lookLocal(t *fsm.Table) ([]local, map[netip.Addr]bool, error) {
	if p.cfg.Self == "" {
		return nil, nil, nil
	}
	s, err := p.cfg.VIPs.Snapshot()
	if err == nil {
		p.guard.host, p.guard.known = s, true
	} else if !p.guard.known {
		return nil, nil, fmt.Errorf("which addresses this host has: %w", err)
	}
	ls := locals(t, ownAddrs(t, p.cfg.Self, p.guard.host))
	on := map[netip.Addr]bool{}
	for _, l := range ls {
		if onLoopback(p.guard.host, l.vip) {
			on[l.vip] = true
		}
	}
	return ls, on, nil
}

// keyWait bounds how long the router loop waits for a gate that is being told
// its addresses.
const keyWait = 20 * time.Millisecond

// errNoKey: the gate does not hold the address, and would let all its packets
// pass.
var errNoKey = errors.New("the gate does not hold the address yet")

// withKey does f if the gate holds the address, and goes on to hold it
// meanwhile.
func (p *Plane) withKey(a netip.Addr, f func() (bool, error)) (bool, error) {
	if p.cfg.Gate == nil {
		return f()
	}
	limit := time.NewTimer(keyWait)
	defer limit.Stop()
	select {
	case p.gateLock <- struct{}{}:
	case <-limit.C:
		return false, errNoKey
	}
	defer func() { <-p.gateLock }()
	if !slices.Contains(p.keys, a) {
		return false, errNoKey
	}
	return f()
}

func (p *Plane) guarded(t *fsm.Table, local map[netip.Addr]bool) ([]Guarded, error) {
	all := slices.Clone(t.VIPs())
	var left []netip.Addr
	for _, a := range p.recordedAddrs() {
		if !slices.Contains(all, a) {
			left = append(left, a)
		}
	}
	for _, g := range p.guard.told {
		if !slices.Contains(all, g.Addr) {
			left = append(left, g.Addr)
		}
	}
	if len(left) > 0 {
		s, err := p.cfg.VIPs.Snapshot()
		if err != nil {
			return nil, fmt.Errorf("which addresses to guard: %w", err)
		}
		left = slices.DeleteFunc(left, func(a netip.Addr) bool { return len(s.Where(a)) == 0 })
	}
	all = append(all, left...)
	slices.SortFunc(all, netip.Addr.Compare)
	var out []Guarded
	for _, a := range slices.Compact(all) {
		out = append(out, Guarded{a, local[a]})
	}
	return out, nil
}

func (p *Plane) recordedAddrs() []netip.Addr {
	var out []netip.Addr
	r := p.record.get()
	for _, a := range r.Addresses {
		out = append(out, a.Prefix.Addr())
	}
	for _, l := range r.Loopback {
		out = append(out, l.Addr())
	}
	return out
}
