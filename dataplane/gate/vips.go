package gate

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
)

// VIP is an address that the gate guards.
type VIP struct {
	Addr netip.Addr
	// Local: this host also serves the address, behind whichever member owns it
	// (it has the address on lo). Packets to it that come from a member's MAC
	// then get Config.Mark and pass, and packets from it leave, whatever the
	// deadline says. ARP, neighbour discovery and adverts obey the deadline.
	Local bool
}

// unzoned is the form in which addresses are compared: IPv4 as such, and
// without a zone, since a packet carries none.
func unzoned(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// plain checks and unmaps addresses.
func plain(addrs []netip.Addr) ([]netip.Addr, error) {
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		a = unzoned(a)
		if !a.IsGlobalUnicast() && !a.IsLinkLocalUnicast() {
			return nil, fmt.Errorf("%s: %w", a, ErrNotUnicast)
		}
		out = append(out, a)
	}
	return out, nil
}

// SetVIPs makes vips the VIPs of the gate. New ones start closed, those in
// both keep their deadlines, the rest are closed and forgotten: from then on
// their traffic passes, so the caller removes the address from its interface
// first. One that is still there keeps its key, closed and not local, and the
// error wraps ErrAddressPresent; everything else has been done.
//
// Errors: also ErrNotUnicast and ErrNoMark, which change nothing.
func (g *Gate) SetVIPs(vips []VIP) error {
	want, err := g.wanted(vips)
	if err != nil {
		return err
	}
	g.setMu.Lock()
	defer g.setMu.Unlock()
	var gone []netip.Addr
	for a := range *g.slots.Load() {
		if _, ok := want[a]; !ok {
			gone = append(gone, a)
		}
	}
	gone, err = g.absent(gone, want)
	if e := g.change(want, gone); e != nil {
		return e
	}
	return err
}

// wanted checks vips. One given twice is local if it is so once.
func (g *Gate) wanted(vips []VIP) (map[netip.Addr]bool, error) {
	want := make(map[netip.Addr]bool)
	for _, v := range vips {
		addrs, err := plain([]netip.Addr{v.Addr})
		if err != nil {
			return nil, err
		}
		if v.Local && g.mark == 0 {
			return nil, fmt.Errorf("%s: %w", v.Addr, ErrNoMark)
		}
		want[addrs[0]] = want[addrs[0]] || v.Local
	}
	return want, nil
}

// absent closes the addresses and returns those that no interface has. The
// others join want, not local.
func (g *Gate) absent(addrs []netip.Addr, want map[netip.Addr]bool) (free []netip.Addr, err error) {
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
			want[a] = false
			err = errors.Join(err, fmt.Errorf("%s: %w", a, ErrAddressPresent))
			continue
		}
		free = append(free, a)
	}
	return free, err
}

// change adds keys (with whether they are local) and removes keys; the caller
// holds setMu or is Open.
func (g *Gate) change(add map[netip.Addr]bool, remove []netip.Addr) error {
	next := maps.Clone(*g.slots.Load())
	err := g.changeKeys(next, add, remove)
	err = errors.Join(err, g.guardObscure(next))
	g.slots.Store(&next) // what was done, even after an error
	return err
}

// changeKeys changes the keys of the map, and vips as far as it comes.
func (g *Gate) changeKeys(vips map[netip.Addr]*slot, add map[netip.Addr]bool, remove []netip.Addr) error {
	for _, a := range remove {
		s := vips[a]
		s.retire()
		if err := g.maps.vips.Delete(a.As16()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove %s from the gate: %w", a, err)
		}
		delete(vips, a)
		g.free = append(g.free, s.index)
	}
	for a, local := range add {
		s, err := g.putKey(a, vips[a], local)
		if err != nil {
			return err
		}
		vips[a] = s
	}
	return nil
}

// putKey makes sure of the key of a, which has the slot s, or none yet.
func (g *Gate) putKey(a netip.Addr, s *slot, local bool) (*slot, error) {
	if s != nil && s.local == local {
		return s, nil
	}
	fresh := s == nil
	if fresh {
		var err error
		if s, err = g.newSlot(a); err != nil {
			return nil, err
		}
	}
	value := vipValue{Slot: s.index}
	if local {
		value.Local = 1
	}
	if err := g.maps.vips.Put(a.As16(), value); err != nil {
		return nil, fmt.Errorf("add %s to the gate: %w", a, err)
	}
	s.local = local
	if fresh {
		g.free = g.free[:len(g.free)-1]
	}
	return s, nil
}

// newSlot prepares a slot for a, closed and with counters at 0, before programs
// can find it.
func (g *Gate) newSlot(a netip.Addr) (*slot, error) {
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
	return s, nil
}

// guardObscure has packets dropped that cannot be followed, as long as one of
// the VIPs is an IPv6 address.
func (g *Gate) guardObscure(vips map[netip.Addr]*slot) error {
	for a := range vips {
		if a.Is6() {
			if err := g.maps.vips.Put(obscure.As16(), vipValue{Slot: MaxVIPs}); err != nil {
				return fmt.Errorf("guard IPv6 against hidden packets: %w", err)
			}
			return nil
		}
	}
	if err := g.maps.vips.Delete(obscure.As16()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("guard IPv6 no longer against hidden packets: %w", err)
	}
	return nil
}

// SetMembers says which hardware addresses (of 6 bytes) the other members send
// from: on all their interfaces where VIPs may be. Others' packets to a Local
// VIP obey its deadline. Too many, or one of another length, is an error and
// changes nothing.
func (g *Gate) SetMembers(macs []net.HardwareAddr) error {
	want := make(map[[8]byte]bool)
	for _, m := range macs {
		if len(m) != 6 {
			return fmt.Errorf("member's hardware address %q: want 6 bytes", m)
		}
		var key [8]byte
		copy(key[:], m)
		if key != [8]byte{} { // an interface without a link layer has none
			want[key] = true
		}
	}
	if len(want) > MaxMembers {
		return fmt.Errorf("%d hardware addresses of members: the gate takes %d", len(want), MaxMembers)
	}
	g.setMu.Lock()
	defer g.setMu.Unlock()
	return g.maps.setMembers(want)
}

// setMembers makes want the keys of the map.
func (m *mapSet) setMembers(want map[[8]byte]bool) error {
	have, err := memberKeys(m.members)
	if err != nil {
		return err
	}
	for key := range have {
		if !want[key] {
			if err := m.members.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("forget a member's hardware address: %w", err)
			}
		}
	}
	for key := range want {
		if err := m.members.Put(key, uint8(1)); err != nil {
			return fmt.Errorf("note a member's hardware address: %w", err)
		}
	}
	return nil
}

func memberKeys(m *ebpf.Map) (map[[8]byte]bool, error) {
	out := make(map[[8]byte]bool)
	var key [8]byte
	var one uint8
	it := m.Iterate()
	for it.Next(&key, &one) {
		out[key] = true
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read the members' hardware addresses: %w", err)
	}
	return out, nil
}
