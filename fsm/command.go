package fsm

import (
	"net/netip"
	"time"
)

// CommandVersion is the newest version of commands that this code reads, and
// the one that it writes. Version 1 had no placement, drained directors, sync
// groups, trackers, notify scripts, IPv6 or VRRP version 3. Version 2 had direct
// routing of TCP and UDP alone, no history of configurations, no homes named by an
// apply, and none that undoes itself. A command of an older version is still read
// as it was then.
const CommandVersion = 3

// Command is one entry of the log: an envelope, and exactly one of the bodies.
type Command struct {
	Version int       `json:"v"`  // 0 in a literal: CommandVersion
	By      string    `json:"by"` // who asked: "root@dir1", "m2"
	At      time.Time `json:"at"` // the proposer's clock, for people and token expiry
	// IfRevision, when not 0, makes the command fail with ErrConflict unless
	// the table is still at that revision (compare-and-set).
	IfRevision Revision `json:"if_revision,omitempty"`

	Found     *Found       `json:"found,omitempty"`
	Enrol     *Enrol       `json:"enrol,omitempty"`
	Member    *SetMember   `json:"member,omitempty"`
	Remove    *Remove      `json:"remove,omitempty"`
	AddToken  *Token       `json:"add_token,omitempty"`
	Apply     *ApplySet    `json:"apply,omitempty"`
	Votes     *CastVotes   `json:"votes,omitempty"`
	Override  *SetOverride `json:"override,omitempty"`
	Settings  *SetSettings `json:"settings,omitempty"`
	Ownership *Ownership   `json:"ownership,omitempty"`
	Move      *Move        `json:"move,omitempty"`      // since version 2
	Confirm   *Confirm     `json:"confirm,omitempty"`   // since version 3
	Undo      *Undo        `json:"undo,omitempty"`      // since version 3
	Ramp      *Ramp        `json:"ramp,omitempty"`      // since version 3
	Tell      *Tell        `json:"tell,omitempty"`      // since version 3
	Reinstate *Reinstate   `json:"reinstate,omitempty"` // since version 3
}

// Found makes the cluster: the first command of every log.
type Found struct {
	Cluster string         `json:"cluster"`
	Name    string         `json:"name"`
	Addr    netip.AddrPort `json:"addr"`
	Profile string         `json:"profile"`
	Guard   Duration       `json:"guard,omitempty"` // since version 2
	Reads   int            `json:"reads,omitempty"` // as in Member; since version 3
}

// Enrol adds a member in state Joining, using up one use of a token. The new
// id is the Result's Member. Enrolling again with the same Request and token
// returns the same id and changes nothing (a joiner that lost the answer asks
// again), even when the token is used up or expired by then. A [Reader] becomes no
// member and gets no id: each of its commands uses the token once.
type Enrol struct {
	TokenHash string         `json:"token_hash"`
	Request   string         `json:"request"` // random, made by the joiner
	Name      string         `json:"name"`
	Role      Role           `json:"role"`
	Addr      netip.AddrPort `json:"addr"`
	Reads     int            `json:"reads,omitempty"` // as in Member; since version 3
}

// SetMember changes what it names of a member; nil: as it is. States go
// joining -> present -> leaving; leaving -> present takes the leave back.
type SetMember struct {
	ID       MemberID     `json:"id"`
	State    *MemberState `json:"state,omitempty"`
	Silent   *bool        `json:"silent,omitempty"`
	Drained  *bool        `json:"drained,omitempty"`  // since version 2
	Networks *[]Network   `json:"networks,omitempty"` // all of them, in any order; since version 2
	Reads    int          `json:"reads,omitempty"`    // since version 3
}

// SetSettings changes the settings that it names, and only those, so that two
// operators who change different ones do not undo each other's.
type SetSettings struct {
	Profile string `json:"profile,omitempty"`
	// The rest: since version 2.
	Guard         *Duration `json:"guard,omitempty"`
	Spares        *int      `json:"spares,omitempty"`
	FailBack      FailBack  `json:"fail_back,omitempty"`
	FailBackAfter *Duration `json:"fail_back_after,omitempty"`
	// Health: since version 3.
	Health HealthPolicy `json:"health,omitempty"`
	// Scripts and Webhooks: since version 3.
	Scripts  ScriptsPolicy `json:"server_scripts,omitempty"`
	Webhooks *string       `json:"webhooks,omitempty"`
	// FlapDamping: since version 3.
	FlapDamping Damping `json:"flap_damping,omitempty"`
	// SnapshotEvery and SnapshotsKept: since version 3.
	SnapshotEvery *Duration `json:"snapshot_every,omitempty"`
	SnapshotsKept *int      `json:"snapshots_kept,omitempty"`
}

// Move is an operator's word on where a unit should be.
type Move struct {
	Unit uint64 `json:"unit"`
	// To is the director to move it to; empty: back home. With Pin, To (or
	// else the present home) becomes its home for good. With Unpin and no To
	// the unit stays where it is.
	To    MemberID `json:"to,omitempty"`
	Pin   bool     `json:"pin,omitempty"`
	Unpin bool     `json:"unpin,omitempty"`
}

// Remove takes a member out of the table with its votes.
type Remove struct {
	ID MemberID `json:"id"`
}

// Config is what a file says: the resources of one set.
type Config struct {
	Globals  Globals         `json:"globals"`
	Routers  []Router        `json:"routers"`          // ID and Set are ignored
	Groups   []SyncGroup     `json:"groups,omitempty"` // ID and Set are ignored
	Services []VirtualServer `json:"services"`         // Set is ignored
}

// ApplySet replaces all that the named set owns by Config: one atomic change.
// An empty Config takes the set away.
type ApplySet struct {
	Set    string `json:"set"`
	Config Config `json:"config"`
	// The rest: since version 3.

	// Why is kept in the history: "rollback to revision 12".
	Why string `json:"why,omitempty"`
	// Homes pins units that this makes, by name, to directors. Units that were
	// there before keep their place.
	Homes map[string]MemberID `json:"homes,omitempty"`
	// ConfirmWithin, when not 0, makes the change one that is undone unless it is
	// confirmed in time: see [Pending].
	ConfirmWithin Duration `json:"confirm_within,omitempty"`
}

// Confirm keeps the change that [Table.Pending] has at this revision.
type Confirm struct {
	Revision Revision `json:"revision"`
}

// Undo takes the change back that [Table.Pending] has at this revision. The
// leader proposes it when the time is over, an operator when he likes. Apply
// itself never looks at a clock.
type Undo struct {
	Revision Revision `json:"revision"`
	Late     bool     `json:"late,omitempty"` // nobody confirmed it in time
}

// CastVotes carries one director's changed opinions.
type CastVotes struct {
	Member   MemberID  `json:"member"`
	Opinions []Opinion `json:"opinions"` // the last of one target counts
}

// Opinion is a vote on a target. Opinions of targets that are no more are ignored.
type Opinion struct {
	Target Target `json:"target"`
	Vote
}

// SetOverride sets what an operator wants of a real server; a zero State and
// nil Weight removes the override.
type SetOverride struct {
	Service ServiceKey     `json:"service,omitzero"`
	Server  netip.AddrPort `json:"server"`
	State   AdminState     `json:"state,omitempty"`
	Weight  *int           `json:"weight,omitempty"`
	// The rest: since version 3.

	// Within is [Override.Within]; only with Drained.
	Within Duration `json:"within,omitempty"`
	// Over ends the drain that began at Since, because its time is over: the server
	// is disabled. Nothing else of the command counts then. The leader proposes it;
	// Apply never looks at a clock.
	Over  bool      `json:"over,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// Ownership tells the history that a director took or lost a unit. It moves
// nothing: leases do.
type Ownership struct {
	Router uint64   `json:"router"` // the unit's id
	Member MemberID `json:"member"`
	Owns   bool     `json:"owns"`
	Why    string   `json:"why"`
}

// Result is what a command did.
type Result struct {
	Revision Revision `json:"revision"`         // of the table after the command
	Member   MemberID `json:"member,omitempty"` // Enrol, Found: the id given
	Changed  bool     `json:"changed"`
}
