package lease

import (
	"net/netip"
)

// Gate is the kernel's gate as the lease needs it: one deadline an address.
type Gate interface {
	// Arm lets packets of addr pass until deadline (CLOCK_BOOTTIME ns). It is a
	// write to memory and never waits.
	Arm(addr netip.Addr, deadline int64) error
	// Close writes 0 for the addresses and reads them back; nil means that all
	// were read as 0.
	Close(addrs []netip.Addr) error
}

// keeper is the only writer of the gate. It holds R7 whatever order its calls
// come in: a deadline never moves back except to 0, and an Arm decided before
// a Close is void after it.
type keeper struct {
	gate  Gate
	slots map[netip.Addr]*slot
	bug   struct{ noOrder bool } // M15
}

type slot struct {
	deadline int64
	closed   uint64 // no round up to this one opens it again
}

func newKeeper(g Gate) *keeper { return &keeper{gate: g, slots: map[netip.Addr]*slot{}} }

func (k *keeper) slot(a netip.Addr) *slot {
	s := k.slots[a]
	if s == nil {
		s = &slot{}
		k.slots[a] = s
	}
	return s
}

// arm carries out an Arm and returns the first error, having tried all.
func (k *keeper) arm(o Arm) (err error) {
	for _, a := range o.Addrs {
		s := k.slot(a)
		if (o.Round <= s.closed || o.Deadline <= s.deadline) && !k.bug.noOrder {
			continue
		}
		if e := k.gate.Arm(a, o.Deadline); e != nil {
			if err == nil {
				err = e
			}
			continue
		}
		s.deadline = o.Deadline
	}
	return err
}

// close carries out a CloseGate and reports whether all was read back as 0.
func (k *keeper) close(o CloseGate) error {
	for _, a := range o.Addrs {
		s := k.slot(a)
		s.closed = max(s.closed, o.Round)
	}
	if err := k.gate.Close(o.Addrs); err != nil {
		return err
	}
	for _, a := range o.Addrs {
		k.slot(a).deadline = 0
	}
	return nil
}
