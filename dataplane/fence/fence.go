package fence

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// Clock reads CLOCK_BOOTTIME in nanoseconds since the kernel's boot: the clock
// of the gate.
type Clock func() int64

// Term is one uninterrupted tenure of a virtual router by this process.
// Made and moved by cluster/lease alone. Safe for concurrent use.
type Term struct {
	router uint64
	addrs  []netip.Addr // what the rounds of this term named (R18)
	clock  Clock
	// deadline is absolute, in the Clock's nanoseconds; 0: ended.
	// Invariant: it never decreases except to 0, and stays 0 (R7).
	deadline atomic.Int64
}

// NewTerm starts a term of router for addrs that ends at deadline.
func NewTerm(router uint64, addrs []netip.Addr, deadline int64, clock Clock) *Term {
	t := &Term{router: router, addrs: slices.Clone(addrs), clock: clock}
	t.deadline.Store(deadline)
	return t
}

// Extend moves the deadline forward; an earlier deadline, or a term that has
// ended, is left as it is. It reports whether the term stands.
func (t *Term) Extend(deadline int64) bool {
	for {
		old := t.deadline.Load()
		if old == 0 {
			return false
		}
		if deadline <= old || t.deadline.CompareAndSwap(old, deadline) {
			return true
		}
	}
}

// End closes the term for good.
func (t *Term) End() { t.deadline.Store(0) }

// Permit returns the right to speak for the router while the term lasts.
func (t *Term) Permit() Permit { return Permit{term: t} }

// Permit is the right to speak for one virtual router. It is a small value,
// compared with ==; the zero Permit permits nothing.
type Permit struct{ term *Term }

// Valid reports whether the lease holds at this instant.
func (p Permit) Valid() bool { return p.Remaining() > 0 }

// Remaining is how many nanoseconds are left; 0 or less: none.
func (p Permit) Remaining() int64 {
	if p.term == nil {
		return 0
	}
	d := p.term.deadline.Load()
	if d == 0 {
		return 0
	}
	return d - p.term.clock()
}

// Deadline is the absolute end in CLOCK_BOOTTIME nanoseconds; 0: ended.
func (p Permit) Deadline() int64 {
	if p.term == nil {
		return 0
	}
	return p.term.deadline.Load()
}

// Router is the id of the virtual router; 0 for the zero Permit.
func (p Permit) Router() uint64 {
	if p.term == nil {
		return 0
	}
	return p.term.router
}

// Covers reports whether the permit is valid now and its lease named addr.
func (p Permit) Covers(addr netip.Addr) bool {
	return p.term != nil && slices.Contains(p.term.addrs, addr) && p.Valid()
}
