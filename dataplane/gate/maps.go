package gate

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// MaxVIPs is how many addresses one gate can hold.
const MaxVIPs = 1024

// Names of the maps, in the kernel (with the prefix) and in PinDir.
const (
	vipsName      = "vips"
	deadlinesName = "deadlines"
	countersName  = "counters"
	kernelPrefix  = "lbc_"
	freshSuffix   = "-new" // of a pin on its way; bpffs takes no dots
)

// mapSet is what one process instance's programs read: no other process writes
// into it while that instance is the gate.
type mapSet struct {
	vips      *ebpf.Map // address (4 bytes, as on the wire) -> slot number
	deadlines *ebpf.Map // slot -> deadline, mapped into memory
	counters  *ebpf.Map // slot -> slotCounters, per CPU
	memory    []byte    // deadlines; never unmapped, so a late Arm cannot fault
}

// slotCounters mirrors a counter slot as the program writes it.
type slotCounters struct {
	ARPPassed, ARPDropped       uint64
	IPPassed, IPDropped         uint64
	EgressPassed, EgressDropped uint64
	MAC                         [8]byte // the first six
	When                        uint64  // of MAC, CLOCK_BOOTTIME ns
}

func mapSpecs() map[string]*ebpf.MapSpec {
	return map[string]*ebpf.MapSpec{
		vipsName:      {Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: MaxVIPs},
		deadlinesName: {Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: MaxVIPs, Flags: unix.BPF_F_MMAPABLE},
		countersName:  {Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(slotCounters{})), MaxEntries: MaxVIPs},
	}
}

// newMaps makes a set in which every deadline is 0.
func newMaps() (_ *mapSet, err error) {
	m := &mapSet{}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	specs := mapSpecs()
	for _, one := range m.named() {
		spec := specs[one.name]
		spec.Name = kernelPrefix + one.name
		if *one.m, err = ebpf.NewMap(spec); err != nil {
			return nil, explain(fmt.Errorf("make the gate's map %s: %w", one.name, err))
		}
	}
	m.memory, err = mapDeadlines(m.deadlines)
	return m, err
}

type namedMap struct {
	name string
	m    **ebpf.Map
}

func (m *mapSet) named() []namedMap {
	return []namedMap{{vipsName, &m.vips}, {deadlinesName, &m.deadlines}, {countersName, &m.counters}}
}

func (m *mapSet) close() {
	for _, one := range m.named() {
		if *one.m != nil {
			(*one.m).Close()
		}
	}
}

// pin makes the maps the ones that a later process, or bpftool, finds in dir,
// in place of what was there.
func (m *mapSet) pin(dir string) error {
	for _, one := range m.named() {
		path := filepath.Join(dir, one.name)
		fresh := path + freshSuffix
		if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove a leftover pin: %w", err)
		}
		// A copy of the descriptor: the library renames on a second Pin of the same Map.
		c, err := (*one.m).Clone()
		if err != nil {
			return fmt.Errorf("pin map %s: %w", one.name, err)
		}
		err = c.Pin(fresh)
		c.Close()
		if err == nil {
			err = os.Rename(fresh, path)
		}
		if err != nil {
			return fmt.Errorf("pin map %s: %w", one.name, err)
		}
	}
	return nil
}

// mapDeadlines maps a deadlines map into memory.
func mapDeadlines(m *ebpf.Map) ([]byte, error) {
	mem, err := unix.Mmap(m.FD(), 0, MaxVIPs*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the gate's deadlines into memory: %w", err)
	}
	return mem, nil
}

// word is the deadline of slot i in mapped memory.
func word(memory []byte, i uint32) *int64 {
	return (*int64)(unsafe.Pointer(&memory[i*8]))
}

// slot is one VIP's deadline. Its lock is held for a few instructions only,
// never over a system call, so it cannot delay the lease.
type slot struct {
	index uint32
	word  *int64
	mu    sync.Mutex
	gone  bool // the slot may belong to another address by now
}

// set writes the deadline; false: the address has gone.
func (s *slot) set(deadline int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return false
	}
	atomic.StoreInt64(s.word, deadline)
	return true
}

// retire closes the slot for good.
func (s *slot) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	atomic.StoreInt64(s.word, 0)
	s.gone = true
}

// shut closes every slot of a map that programs of an earlier process may still
// read, reads it back, and returns the addresses that it knew.
func shut(vips, deadlines *ebpf.Map) ([]netip.Addr, error) {
	mem, err := mapDeadlines(deadlines)
	if err != nil {
		return nil, err
	}
	defer unix.Munmap(mem)
	for i := range uint32(MaxVIPs) {
		atomic.StoreInt64(word(mem, i), 0)
	}
	for i := range uint32(MaxVIPs) {
		if d := atomic.LoadInt64(word(mem, i)); d != 0 {
			return nil, fmt.Errorf("slot %d of the earlier process's gate was written again: it still runs", i)
		}
	}
	var addrs []netip.Addr
	if vips == nil {
		return nil, nil
	}
	var key [4]byte
	var value uint32
	it := vips.Iterate()
	for it.Next(&key, &value) {
		addrs = append(addrs, netip.AddrFrom4(key))
	}
	return addrs, it.Err()
}

// shutPinned closes the gate of the process that pinned its maps in dir.
func shutPinned(dir string) ([]netip.Addr, error) {
	deadlines, err := ebpf.LoadPinnedMap(filepath.Join(dir, deadlinesName), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(fmt.Errorf("open the earlier process's deadlines: %w", err))
	}
	defer deadlines.Close()
	vips, err := ebpf.LoadPinnedMap(filepath.Join(dir, vipsName), nil)
	if err == nil {
		defer vips.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, explain(fmt.Errorf("open the earlier process's addresses: %w", err))
	}
	addrs, err := shut(vips, deadlines)
	if err != nil {
		return nil, fmt.Errorf("close the earlier process's gate: %w", err)
	}
	return addrs, nil
}

// shutByProgram closes the maps of a program that is attached although no pin
// names them (its bpffs is gone: a private mount, an unmount).
func shutByProgram(id ebpf.ProgramID) ([]netip.Addr, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, explain(fmt.Errorf("open program %d of an earlier gate: %w", id, err))
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, fmt.Errorf("inspect program %d of an earlier gate: %w", id, err)
	}
	ids, _ := info.MapIDs()
	var vips, deadlines *ebpf.Map
	for _, mid := range ids {
		m, err := ebpf.NewMapFromID(mid)
		if err != nil {
			return nil, explain(fmt.Errorf("open map %d of an earlier gate: %w", mid, err))
		}
		defer m.Close()
		mi, err := m.Info()
		if err != nil {
			return nil, fmt.Errorf("inspect map %d of an earlier gate: %w", mid, err)
		}
		switch mi.Name {
		case kernelPrefix + vipsName:
			vips = m
		case kernelPrefix + deadlinesName:
			deadlines = m
		}
	}
	if deadlines == nil {
		return nil, nil
	}
	return shut(vips, deadlines)
}
