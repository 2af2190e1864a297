package lease

import (
	"net/netip"

	"lbcluster/fsm"
)

// Router is a virtual router as this member wants it.
type Router struct {
	ID    uint64
	Addrs []netip.Addr
	// Rank is this member's place among those that stand for the router, 0
	// first; negative: it does not stand, and gives up what it holds.
	Rank int
	// Unfit, when set, says why this member cannot use the router's lease: it
	// does not stand, and gives up what it holds, as with a negative Rank.
	Unfit string
	// Yield, when set, asks for a planned handover: see [Yield].
	Yield *Yield
	// Next are the other members that stand for the router, best first: the
	// first of them that says that it is ready is named to the voters when this
	// member gives the router up by itself.
	Next []fsm.MemberID
}

// Yield says that whoever holds a router should hand it over to another member,
// once that member says that it is ready. It means nothing to anybody else.
type Yield struct {
	To     fsm.MemberID
	Why    string // for people
	AtOnce bool   // an operator's word: a tenure that has just begun ends too
}

// Event is what happens to a [Holder]: one of the types below.
type Event interface{ isEvent() }

type (
	// Tick says that time has passed.
	Tick struct{}
	// Wanted replaces what the holder is for. Committed is the latest
	// configuration known to be committed, Appended are the later ones of this
	// member's log: a majority of each counts (R14).
	Wanted struct {
		Committed fsm.VoterSet
		Appended  []fsm.VoterSet
		Routers   []Router
	}
	// Received is an answer of a voter, or a Release that hands a router to us.
	Received struct{ Msg Message }
	// Yielding says that the router may be handed over to To now, which is
	// ready; To "": not any more.
	Yielding struct {
		Router uint64
		Yield
	}
	// Forced says that an operator declared voters dead for one router, until
	// a time; nobody absent: not any more.
	Forced struct {
		Router uint64
		Absent []fsm.MemberID
		Until  int64
	}
	// Heir says who is named as the next holder when the router is given up; To
	// "": nobody.
	Heir struct {
		Router uint64
		To     fsm.MemberID
	}
	// Stretch has renewals ask for TTLMax from now on, and do so at once.
	Stretch struct{}
	// Alive says that an authentic packet came from a member.
	Alive struct{ From fsm.MemberID }
	// GateClosed answers CloseGate: OK means that the addresses were written
	// to 0 and read back as 0.
	GateClosed struct {
		Router uint64
		Addrs  []netip.Addr
		OK     bool
	}
	// GateFailed says that an Arm could not be carried out.
	GateFailed struct{ Router uint64 }
	// Removed says that the owner has removed the router's addresses after a
	// Lost.
	Removed struct{ Router uint64 }
	// Promised tells what this member's own voter has promised after a message
	// about the router; Holder "": nothing.
	Promised struct {
		Router    uint64
		Holder    fsm.MemberID
		Remaining int64
	}
	// Fit says whether the member can use what it would win. An unfit one does
	// not stand and gives up what it holds. A holder starts unfit.
	Fit struct {
		OK     bool
		Reason string
	}
	// Resign gives up everything for good: the process ends.
	Resign struct{}
)

func (Tick) isEvent()       {}
func (Wanted) isEvent()     {}
func (Yielding) isEvent()   {}
func (Forced) isEvent()     {}
func (Heir) isEvent()       {}
func (Stretch) isEvent()    {}
func (Alive) isEvent()      {}
func (Received) isEvent()   {}
func (GateClosed) isEvent() {}
func (GateFailed) isEvent() {}
func (Removed) isEvent()    {}
func (Promised) isEvent()   {}
func (Fit) isEvent()        {}
func (Resign) isEvent()     {}

// Output is what a [Holder] wants done, in order and before its next Step:
// one of the types below.
type Output interface{ isOutput() }

type (
	// Send hands a message to the network.
	Send struct{ Out }
	// Arm opens the gate of the addresses until Deadline. Round orders it
	// against CloseGate: see [keeper].
	Arm struct {
		Router   uint64
		Addrs    []netip.Addr
		Deadline int64
		Round    uint64
	}
	// Acquired tells the owner that it owns the router with these addresses;
	// again with others when they change. The gate is armed already.
	Acquired struct {
		Router   uint64
		Addrs    []netip.Addr
		Deadline int64
	}
	// CloseGate writes 0 for the addresses and reads back; GateClosed must
	// follow. Whole: nothing of the router stays open. An Arm of these addresses by a
	// round up to Round is void from now on.
	CloseGate struct {
		Router uint64
		Addrs  []netip.Addr
		Round  uint64
		Whole  bool
	}
	// Lost tells the owner to remove the router's addresses; Removed should
	// follow. The gate is closed already.
	Lost struct {
		Router uint64
		Why    string
		// NobodyNext: this member can't hold the router any more, and no other one
		// says that it is ready to.
		NobodyNext bool
	}
)

func (Send) isOutput()      {}
func (Arm) isOutput()       {}
func (Acquired) isOutput()  {}
func (CloseGate) isOutput() {}
func (Lost) isOutput()      {}
