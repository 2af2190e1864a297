package api

import (
	"context"
	"net/netip"
	"time"

	"lbcluster/fsm"
	"lbcluster/journal"
)

// Enroller takes this machine into a cluster and out of it.
type Enroller interface {
	// Init founds a cluster; ErrEnrolled when the machine is in one already.
	Init(context.Context, InitRequest) (InitReply, error)
	// Join enrols in the cluster that the token belongs to; it returns once
	// the machine is a member (maybe still catching up).
	Join(context.Context, JoinRequest) (JoinReply, error)
	// Leave hands over what the machine owns and takes it out of the cluster.
	Leave(context.Context) error
}

// Membership lets machines in and puts them out.
type Membership interface {
	// Token makes a join token and returns its text.
	Token(context.Context, TokenRequest) (string, error)
	// RemoveMember takes another member out; fsm.ErrNotFound if there is none.
	RemoveMember(context.Context, fsm.MemberID) error
}

// Replica is this machine's copy of the table and the way to change it.
type Replica interface {
	// Table is the newest table that this machine has; nil while not enrolled.
	Table() *fsm.Table
	// Propose commits a command, wherever the leader is. Version and At are
	// filled in by the backend if zero. The error wraps one of fsm's or of
	// this package's sentinels.
	Propose(context.Context, fsm.Command) (fsm.Result, error)
	// WaitRevision returns nil once Table's revision is at least the given one.
	WaitRevision(context.Context, fsm.Revision) error
}

// Observer tells what the members see.
type Observer interface {
	// Local is this machine's view of itself. It never blocks.
	Local() DirectorStatus
	// Others asks every other member for its view, all at once, and gives up on
	// each after a second or so. Each member but this one has an entry.
	Others(context.Context) map[fsm.MemberID]DirectorReply
	// Journal asks every member, this one included, for what it recorded from one
	// time to another (zero: no limit), and gives up on each after some seconds.
	// A member that does not answer has a Record with its Error.
	Journal(ctx context.Context, from, to time.Time) []journal.Record
}

// Backend is the daemon as the API sees it. It is safe for concurrent use and
// lives before, during and after the machine's membership: what needs a
// cluster returns ErrNotEnrolled without one.
type Backend interface {
	Enroller
	Membership
	Replica
	Observer
	Forcer
	Ejector
}

// InitRequest asks for a new cluster.
type InitRequest struct {
	// Profile is the lease's timing: "default", "fast" or "robust"; empty: "default".
	Profile string `json:"profile,omitempty"`
	// Guard is fsm.Settings.Guard; nil: what the machine that it is founded on
	// needs, which is 0s unless it is a virtual machine.
	Guard *fsm.Duration `json:"guard,omitempty"`
}

// InitReply is the founded cluster.
type InitReply struct {
	Cluster string       `json:"cluster"`
	ID      fsm.MemberID `json:"id"`
	// Addr is this member's own address, for the join command.
	Addr string `json:"addr"`
	// Token is a first join token, any role; Uses and TTL say how long it lasts.
	Token string       `json:"token"`
	Uses  int          `json:"uses"`
	TTL   fsm.Duration `json:"ttl"`
	// Guard is what was set, and GuardWhy a sentence on what was found and why.
	Guard    fsm.Duration `json:"guard"`
	GuardWhy string       `json:"guard_why,omitempty"`
}

// JoinRequest asks to join a running cluster.
type JoinRequest struct {
	Addr  string   `json:"addr"` // IP or IP:port of any member
	Token string   `json:"token"`
	Role  fsm.Role `json:"role,omitempty"` // empty: director
	// Force lets a witness in whose round trips the cluster's profile cannot bear.
	Force bool `json:"force,omitempty"`
}

// JoinReply is the new membership.
type JoinReply struct {
	Cluster string       `json:"cluster"`
	ID      fsm.MemberID `json:"id"`
}

// TokenRequest asks for a join token. Zero TTL: one hour; zero Uses: one.
type TokenRequest struct {
	TTL  fsm.Duration `json:"ttl,omitempty"`
	Uses int          `json:"uses,omitempty"`
	Role fsm.Role     `json:"role,omitempty"` // empty: any
}

// TokenReply is a join token, told once.
type TokenReply struct {
	Token string `json:"token"`
	Addr  string `json:"addr"` // of this member, for the join command
}

// ApplyRequest is a set's new content.
type ApplyRequest struct {
	Set    string     `json:"set"`
	Config fsm.Config `json:"config"`
	// IfRevision is the revision of the Plan that a person said yes to; the
	// request fails with the code "conflict" if the table has changed since.
	// Needed by POST /v1/apply, ignored by POST /v1/plan.
	IfRevision fsm.Revision `json:"if_revision,omitempty"`
	// Prune says yes to deletions; without it a request that deletes something
	// fails with the code "needs_confirmation".
	Prune bool `json:"prune,omitempty"`
	// Why, Homes and ConfirmWithin are those of fsm.ApplySet.
	Why           string                  `json:"why,omitempty"`
	Homes         map[string]fsm.MemberID `json:"homes,omitempty"`
	ConfirmWithin fsm.Duration            `json:"confirm_within,omitempty"`
	// Brief: the reply's plan need not list the changes again, which whoever asks
	// has from the plan before.
	Brief bool `json:"brief,omitempty"`
}

func (r ApplyRequest) command() fsm.ApplySet {
	return fsm.ApplySet{Set: r.Set, Config: r.Config, Why: r.Why, Homes: r.Homes, ConfirmWithin: r.ConfirmWithin}
}

// Plan is what an apply would do; no changes: nothing.
type Plan struct {
	Revision fsm.Revision `json:"revision"` // that the changes were computed on
	Changes  []fsm.Change `json:"changes"`
	Deletes  int          `json:"deletes"` // how many of the changes delete something
}

// ApplyReply is what an apply did.
type ApplyReply struct {
	fsm.Result
	Plan Plan `json:"plan"`
}

// OverrideRequest changes what an operator wants of a real server; what is nil
// stays as it is.
type OverrideRequest struct {
	// Service limits it to one virtual server; zero: wherever the server appears.
	Service fsm.ServiceKey  `json:"service,omitzero"`
	Server  netip.AddrPort  `json:"server"`
	State   *fsm.AdminState `json:"state,omitempty"`
	Weight  *int            `json:"weight,omitempty"`
	// ResetWeight goes back to the file's weight.
	ResetWeight bool `json:"reset_weight,omitempty"`
	// Within, with the state "drain", disables the server that long after; 0: never.
	Within fsm.Duration `json:"within,omitempty"`
}

// EventsReply is a piece of the history, oldest first.
type EventsReply struct {
	Revision fsm.Revision `json:"revision"` // ask for what comes after this one
	Events   []fsm.Event  `json:"events"`
}

// EventsRequest selects events.
type EventsRequest struct {
	After fsm.Revision  // only newer ones
	Since time.Time     // only those made at this time or later
	Wait  time.Duration // how long to wait for one if there is none; at most 60 s
}

// VersionReply says what runs.
type VersionReply struct {
	Version string `json:"version"` // of the daemon
	API     string `json:"api"`     // "v1"
}
