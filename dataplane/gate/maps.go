package gate

import (
	"errors"
	"fmt"
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

// MaxMembers is how many hardware addresses SetMembers takes.
const MaxMembers = 1024

// Names of the maps, in the kernel (with the prefix) and in PinDir.
const (
	vipsName      = "vips"
	deadlinesName = "deadlines"
	countersName  = "counters"
	membersName   = "members"
	kernelPrefix  = "lbc_"
	freshSuffix   = "-new" // of a pin on its way; bpffs takes no dots
)

var mapNames = []string{vipsName, deadlinesName, countersName, membersName}

// mapSet is what one process instance's programs read: no other process writes
// into it while that instance is the gate, but to close it.
type mapSet struct {
	vips      *ebpf.Map // address (IPv4 in its IPv6 form) -> vipValue
	deadlines *ebpf.Map // slot -> deadline, mapped into memory
	counters  *ebpf.Map // slot -> slotCounters, per CPU; the last one: see obscure
	members   *ebpf.Map // MAC and two zero bytes -> 1
	memory    []byte    // deadlines; never unmapped, so a late Arm cannot fault
}

// vipValue is what the programs find under a VIP.
type vipValue struct {
	Slot  uint32
	Local uint32 // not 0: served on this host too
}

// slotCounters mirrors a counter slot as the program writes it.
type slotCounters struct {
	NeighbourIn, IPIn, MemberIn  Count
	NeighbourOut, IPOut, VRRPOut Count
	PassedBy, DroppedBy          slotSender
}

// slotSender is a sender of an IP packet. When: CLOCK_BOOTTIME ns, 0: there was none.
type slotSender struct {
	MAC  [8]byte // the first six
	When uint64
}

func mapSpecs() map[string]*ebpf.MapSpec {
	return map[string]*ebpf.MapSpec{
		vipsName:      {Type: ebpf.Hash, KeySize: 16, ValueSize: 8, MaxEntries: MaxVIPs + 1},
		deadlinesName: {Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: MaxVIPs, Flags: unix.BPF_F_MMAPABLE},
		countersName:  {Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(slotCounters{})), MaxEntries: MaxVIPs + 1},
		membersName:   {Type: ebpf.Hash, KeySize: 8, ValueSize: 1, MaxEntries: MaxMembers},
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
	return []namedMap{{vipsName, &m.vips}, {deadlinesName, &m.deadlines}, {countersName, &m.counters}, {membersName, &m.members}}
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
	local bool // of SetVIPs alone
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
