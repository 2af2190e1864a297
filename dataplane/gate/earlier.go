package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// earlier is the gate of some process, as it is found in the kernel.
type earlier struct {
	id        ebpf.MapID // of deadlines
	deadlines *ebpf.Map
	memory    []byte // deadlines
	values    map[netip.Addr]vipValue
	senders   map[[8]byte]bool
}

type earlierGates []*earlier

// findEarlier looks for the gates of all earlier processes: by the pins in dir
// and, in case those are gone (a private mount, an unmount), by the programs on
// the interfaces. With an error it returns those that it found.
func findEarlier(dir string) (gates earlierGates, err error) {
	err = gates.addPinned(dir)
	links, linksErr := interfaces()
	err = errors.Join(err, linksErr)
	seen := make(map[ebpf.ProgramID]bool)
	for _, h := range allHooks(dir) {
		for _, l := range links {
			for _, d := range directions {
				here, hereErr := h.list(l.Attrs().Index, d)
				if hereErr != nil && !gone(l) {
					err = errors.Join(err, hereErr)
				}
				for _, f := range here {
					if !seen[f.id] {
						seen[f.id] = true
						err = errors.Join(err, gates.addProgram(f.id))
					}
				}
			}
		}
	}
	return gates, err
}

// allHooks are all ways in which some process may have attached.
func allHooks(dir string) []hook {
	hooks := []hook{clsact{}}
	if haveTCX() {
		hooks = append(hooks, tcx{dir: dir})
	}
	return hooks
}

func (gs *earlierGates) addPinned(dir string) (err error) {
	found := make(map[string]*ebpf.Map)
	defer closeMaps(found)
	for _, name := range []string{deadlinesName, vipsName, membersName} {
		m, e := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
		switch {
		case e == nil:
			found[kernelPrefix+name] = m
		case !errors.Is(e, os.ErrNotExist):
			err = errors.Join(err, explain(fmt.Errorf("open the earlier gate's map %s: %w", name, e)))
		}
	}
	return errors.Join(err, gs.add(found))
}

func (gs *earlierGates) addProgram(id ebpf.ProgramID) error {
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain(fmt.Errorf("open program %d of an earlier gate: %w", id, err))
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return fmt.Errorf("inspect program %d of an earlier gate: %w", id, err)
	}
	ids, _ := info.MapIDs()
	found := make(map[string]*ebpf.Map)
	defer closeMaps(found)
	for _, mid := range ids {
		m, err := ebpf.NewMapFromID(mid)
		if err != nil {
			return explain(fmt.Errorf("open map %d of an earlier gate: %w", mid, err))
		}
		mi, err := m.Info()
		if err != nil {
			m.Close()
			return fmt.Errorf("inspect map %d of an earlier gate: %w", mid, err)
		}
		if other := found[mi.Name]; other != nil {
			other.Close()
		}
		found[mi.Name] = m
	}
	return gs.add(found)
}

func closeMaps(ms map[string]*ebpf.Map) {
	for _, m := range ms {
		m.Close()
	}
}

// add notes the gate that the maps, by their kernel names, are of, unless it is
// known. It takes the deadlines out of the maps.
func (gs *earlierGates) add(found map[string]*ebpf.Map) error {
	deadlines := found[kernelPrefix+deadlinesName]
	if deadlines == nil {
		return nil
	}
	info, err := deadlines.Info()
	if err != nil {
		return fmt.Errorf("inspect the earlier gate's deadlines: %w", err)
	}
	id, _ := info.ID()
	if slices.ContainsFunc(*gs, func(e *earlier) bool { return e.id == id }) {
		return nil
	}
	e := &earlier{id: id}
	if e.memory, err = mapDeadlines(deadlines); err != nil {
		return err
	}
	e.deadlines = deadlines
	delete(found, kernelPrefix+deadlinesName)
	*gs = append(*gs, e)
	if m := found[kernelPrefix+vipsName]; m != nil {
		if e.values, err = readVIPs(m); err != nil {
			return err
		}
	}
	if m := found[kernelPrefix+membersName]; m != nil {
		if e.senders, err = memberKeys(m); err != nil {
			return err
		}
	}
	return nil
}

// readVIPs reads a map of addresses, of this version's gate or of the first
// one's (keys of 4 bytes, slot numbers alone).
func readVIPs(m *ebpf.Map) (map[netip.Addr]vipValue, error) {
	out := make(map[netip.Addr]vipValue)
	var key, value []byte
	it := m.Iterate()
	for it.Next(&key, &value) {
		a, ok := netip.AddrFromSlice(key)
		if a = a.Unmap(); !ok || a == obscure || len(value) < 4 {
			continue
		}
		v := vipValue{Slot: binary.NativeEndian.Uint32(value)}
		if len(value) >= 8 {
			v.Local = binary.NativeEndian.Uint32(value[4:])
		}
		out[a] = v
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read the earlier gate's addresses: %w", err)
	}
	return out, nil
}

// live returns the deadlines that have not passed.
func (e *earlier) live() map[netip.Addr]int64 {
	out := make(map[netip.Addr]int64)
	now := BootNow()
	for a, v := range e.values {
		if v.Slot >= MaxVIPs {
			continue
		}
		if d := atomic.LoadInt64(word(e.memory, v.Slot)); d > now && d <= now+int64(MaxAhead) {
			out[a] = d
		}
	}
	return out
}

// shut closes every slot of every map that programs of earlier processes may
// still read, reads them back, and returns the addresses that they knew.
func (gs earlierGates) shut() ([]netip.Addr, error) {
	var addrs []netip.Addr
	var errs []error
	for _, e := range gs {
		for i := range uint32(MaxVIPs) {
			atomic.StoreInt64(word(e.memory, i), 0)
		}
		for i := range uint32(MaxVIPs) {
			if d := atomic.LoadInt64(word(e.memory, i)); d != 0 {
				errs = append(errs, fmt.Errorf("close an earlier process's gate: slot %d was written again: it still runs", i))
				break
			}
		}
		addrs = slices.AppendSeq(addrs, maps.Keys(e.values))
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), errors.Join(errs...)
}

func (gs earlierGates) close() {
	for _, e := range gs {
		_ = unix.Munmap(e.memory)
		e.deadlines.Close()
	}
}
