package journal

import (
	"time"

	"lbcluster/fsm"
)

// Entry is one thing that happened on one member.
type Entry struct {
	// At is the member's wall clock, which may be wrong; Boot is its
	// CLOCK_BOOTTIME in nanoseconds, which counts since the boot BootID.
	At     time.Time    `json:"at"`
	Boot   int64        `json:"boot"`
	BootID string       `json:"boot_id,omitempty"`
	Node   fsm.MemberID `json:"node,omitempty"`
	// Unit is the lease that it concerns; 0: the member as a whole.
	Unit  uint64 `json:"unit,omitempty"`
	Kind  Kind   `json:"kind"`
	Cause Cause  `json:"cause,omitempty"`
	// Peers are the members that it is about: those that did not answer, the one
	// that refused, the one that is to take over.
	Peers []fsm.MemberID `json:"peers,omitempty"`
	// For is how long it lasted, or had lasted when it was noted.
	For time.Duration `json:"for,omitempty"`
	// Deadline is until when the kernel's gate was open, by Boot's clock; 0: not known.
	Deadline int64  `json:"deadline,omitempty"`
	Text     string `json:"text,omitempty"`  // for people, without a full stop
	Times    int    `json:"times,omitempty"` // equal entries that this one stands for, if above 1
}

// Kind is what happened.
type Kind string

// Kinds of entries. Those of a unit have Entry.Unit set.
const (
	Started  Kind = "started"  // the daemon runs; Cause: how the one before it ended
	Stopped  Kind = "stopped"  // it ends in order
	Reloaded Kind = "reloaded" // it executes itself again and keeps what it owns

	Acquired   Kind = "acquired"    // of a unit: this member owns it
	Lost       Kind = "lost"        // of a unit: it does not any more; Cause says why
	Handover   Kind = "handover"    // of a unit: it is being given to Peers[0]
	RoundLost  Kind = "round-lost"  // of a unit: Peers did not grant or did not answer
	Denied     Kind = "denied"      // of a unit: the voter Peers[0] refused
	GateClosed Kind = "gate-closed" // of a unit, or all: the kernel lets nothing through
	GateFailed Kind = "gate-failed" // of a unit: the gate could not be opened or read back
	Forced     Kind = "forced"      // of a unit: a person had it owned without a majority
	ForceEnded Kind = "force-ended" // of a unit

	Unfit    Kind = "unfit"     // this member can hold nothing, or not the unit; Text says why
	Fit      Kind = "fit"       // it can again
	Link     Kind = "link"      // an interface went up or down; Cause LinkUp, LinkDown
	Paused   Kind = "paused"    // the process did not run for For
	Clock    Kind = "clock"     // a clock runs or jumps as it should not
	PathDead Kind = "path-dead" // nothing is heard from Peers[0] on the path Text
	PathBack Kind = "path-back"
	Disk     Kind = "disk" // the data folder's disk is slow or fails
	Fenced   Kind = "fenced"
	// Fenced: lbcluster fence closed the gate after the daemon had died, and
	// released what it held.
)

// Cause is why something happened, where the kind does not say.
type Cause string

// Causes of Lost.
const (
	Expired   Cause = "expired"   // no majority renewed it in time
	Unable    Cause = "unfit"     // the member could not use it
	Yielded   Cause = "handover"  // it was handed over: see the Handover entry before it
	Stopping  Cause = "stop"      // the daemon was told to stop
	NoGate    Cause = "gate"      // the gate could not be opened
	Unwanted  Cause = "unwanted"  // the table no longer has it, or lets others stand for it
	Readdress Cause = "addresses" // it got other addresses
)

// Causes of Acquired; none: it was free.
const (
	TakenOver Cause = "taken-over" // its last owner handed it over
	Adopted   Cause = "adopted"    // the process before this one owned it, and it never ended
)

// Causes of Handover.
const (
	ByMove   Cause = "move"    // an operator said so
	ByDrain  Cause = "drain"   // an operator drained the director
	GoHome   Cause = "home"    // its home can hold it again
	ToFitter Cause = "fitter"  // another director is fitter
	ByCutOff Cause = "cut-off" // the director is cut off on the network of the VIP
	ByStop   Cause = "leave"   // the director stops or leaves
)

// Causes of Started: how the process before this one ended.
const (
	AfterStop   Cause = "after-stop"   // in order
	AfterCrash  Cause = "after-crash"  // it was killed or failed
	AfterBoot   Cause = "after-boot"   // the machine has booted since
	AfterReload Cause = "after-reload" // it executed itself again
	FirstStart  Cause = "first-start"
)

// Causes of Link.
const (
	LinkUp   Cause = "up"
	LinkDown Cause = "down"
)

// maxText bounds a text, in bytes.
const maxText = 400

// bounded cuts what a producer made too large.
func (e Entry) bounded() Entry {
	if len(e.Text) > maxText {
		e.Text = e.Text[:maxText-3] + "..."
	}
	if len(e.Peers) > 16 {
		e.Peers = e.Peers[:16]
	}
	return e
}

// sameAs says that o tells nothing that e did not.
func (e Entry) sameAs(o Entry) bool {
	if len(e.Peers) != len(o.Peers) {
		return false
	}
	for i := range e.Peers {
		if e.Peers[i] != o.Peers[i] {
			return false
		}
	}
	return e.Unit == o.Unit && e.Kind == o.Kind && e.Cause == o.Cause && e.Text == o.Text
}
