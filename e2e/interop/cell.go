package interop

import "fmt"

// Batch is one way to talk VRRP.
type Batch struct {
	Version int // 2 or 3
	Unicast bool
	Pass    bool // version 2 alone has a password
	IPv6    bool // version 3 alone speaks it
}

// Batches are all there are.
var Batches = []Batch{
	{Version: 2}, {Version: 2, Pass: true}, {Version: 2, Unicast: true}, {Version: 2, Unicast: true, Pass: true},
	{Version: 3}, {Version: 3, Unicast: true}, {Version: 3, IPv6: true}, {Version: 3, IPv6: true, Unicast: true},
}

// String names a batch: v2-multicast-pass, v3-unicast-ipv6.
func (b Batch) String() string {
	name := fmt.Sprintf("v%d-multicast", b.Version)
	if b.Unicast {
		name = fmt.Sprintf("v%d-unicast", b.Version)
	}
	if b.Pass {
		name += "-pass"
	}
	if b.IPv6 {
		name += "-ipv6"
	}
	return name
}

// Rank is how the cluster's priority compares with the peer's.
type Rank int

// The ranks. Between equal priorities the address decides.
const (
	Higher Rank = iota
	Lower
	EqualLow  // the directors' addresses are below the peer's
	EqualHigh // above
)

func (r Rank) String() string {
	return [...]string{"higher", "lower", "equal, lower address", "equal, higher address"}[r]
}

// Cell is one virtual router of a batch.
type Cell struct {
	Rank      Rank
	NoPreempt bool // on both sides
}

// Cells are all there are, in the order of their routers.
var Cells = []Cell{
	{Higher, false}, {Higher, true}, {Lower, false}, {Lower, true},
	{EqualLow, false}, {EqualLow, true}, {EqualHigh, false}, {EqualHigh, true},
}

// String names a cell: "higher, nopreempt".
func (c Cell) String() string {
	if c.NoPreempt {
		return c.Rank.String() + ", nopreempt"
	}
	return c.Rank.String() + ", preempt"
}

// Priorities are the cluster's and the peer's.
func (c Cell) Priorities() (ours, theirs int) {
	switch c.Rank {
	case Higher:
		return 150, 100
	case Lower:
		return 100, 150
	}
	return 100, 100
}

// peerIsHigh says at which of its two addresses the peer speaks.
func (c Cell) peerIsHigh() bool { return c.Rank != EqualHigh }

// Router is the name of the i-th cell's virtual router.
func Router(i int) string { return fmt.Sprintf("VI_%d", i+1) }

// VIP is the i-th cell's address.
func (b Batch) VIP(i int) string {
	if b.IPv6 {
		return fmt.Sprintf("2001:db8::%d", 101+i)
	}
	return fmt.Sprintf("172.25.88.%d", 101+i)
}
