package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"lbcluster/fsm"
)

// Config is what a node is made of. It is not changed after New.
type Config struct {
	// Dir is the data folder: identity, keys, the Raft log and snapshots. It
	// is made if it is not there, readable by its owner alone.
	Dir string
	// Name is this member's name toward people, unique in the cluster.
	Name string
	// Addr is where this member serves the others: TLS over TCP; gossip uses
	// TCP and UDP on the port after it. It must be an address of this machine
	// that the others reach, not a wildcard.
	Addr netip.AddrPort
	// Log receives what happens. Nil: nothing is logged.
	Log *slog.Logger
	// Answers is what this member tells others that Ask, by name. The
	// functions are called concurrently and must obey their context.
	Answers map[string]func(ctx context.Context) ([]byte, error)
	// OnLeasePacket takes the lease packets that other members sent with
	// [Node.Relay]. It must not wait, and may keep the packet; it is called
	// concurrently, once at a time for each sender. Nil: they are thrown away.
	OnLeasePacket func(from fsm.MemberID, packet []byte)
	// Timing is for tests; the zero value is right for real machines.
	Timing Timing
}

// Timing holds every interval of the package. A zero field means its default.
type Timing struct {
	// Heartbeat is Raft's heartbeat and election time-out; a dead leader is
	// replaced after one to three of them. Default 1s: no VIP waits for a
	// leader, and half of it already flaps on a machine whose CPUs and disk are
	// busy.
	Heartbeat time.Duration
	// Spacing is the pause between two changes of the voters. Default: 4s
	// (robust: 8s), above the longest promise of any voter, 3s, times what
	// clocks may differ (1 + 2 x 0.083), and the cluster's guard times that.
	// Less breaks the lease's rule R16.
	Spacing time.Duration
	// Silent is how long a member may be out of contact before the leader
	// marks it silent. Default 3s.
	Silent time.Duration
	// Back is how long contact must hold before the mark is taken off.
	// Default 2s.
	Back time.Duration
	// Poll is how often members greet each other. Default 1s.
	Poll time.Duration
	// Write bounds one append to the Raft log; after it the store counts as
	// broken. Default 3s.
	Write time.Duration
	// Propose bounds a proposal, however patient its caller is: without a
	// majority he would only learn later that there is none. Default 10s.
	Propose time.Duration
	// Retry is the first pause after a disk or network error; pauses double
	// up to ten times that. Default 1s.
	Retry time.Duration
	// SnapshotEvery and SnapshotAfter bound the log: it is looked at every so
	// often, and compacted after so many entries. Defaults 2m and 8192.
	SnapshotEvery time.Duration
	SnapshotAfter uint64
	// SnapshotBytes bounds it too: it is compacted when so many bytes have been
	// appended. Default 32 MiB.
	SnapshotBytes int64
	// Trailing is how many entries stay behind a snapshot for slow members.
	// Default 10240; at least 1.
	Trailing uint64
}

func (t Timing) withDefaults() Timing {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Heartbeat, time.Second)
	set(&t.Silent, 3*time.Second)
	set(&t.Back, 2*time.Second)
	set(&t.Poll, time.Second)
	set(&t.Write, 3*time.Second)
	set(&t.Propose, 10*time.Second)
	set(&t.Retry, time.Second)
	set(&t.SnapshotEvery, 2*time.Minute)
	if t.SnapshotAfter == 0 {
		t.SnapshotAfter = 8192
	}
	if t.SnapshotBytes == 0 {
		t.SnapshotBytes = 32 << 20
	}
	if t.Trailing == 0 {
		t.Trailing = 10240
	}
	return t
}

// spacing is the pause between changes of the voters under a cluster's settings:
// longer than any voter's promise, guard included, by its own clock: see
// Timing.Spacing.
func (t Timing) spacing(s fsm.Settings) time.Duration {
	guard := s.Guard.D() * (1000 + 2*83) / 1000
	switch {
	case t.Spacing != 0:
		return t.Spacing + guard
	case s.Profile == "robust":
		return 8*time.Second + guard
	default:
		return 4*time.Second + guard
	}
}

func (c Config) check() error {
	switch {
	case c.Dir == "":
		return errors.New("cluster: no data folder given")
	case c.Name == "":
		return errors.New("cluster: no member name given")
	case !c.Addr.IsValid() || c.Addr.Port() == 0:
		return fmt.Errorf("cluster: address %q is no ADDRESS:PORT to serve members on", c.Addr)
	case c.Addr.Addr().IsUnspecified():
		return fmt.Errorf("cluster: address %s is a wildcard; give the address that the other members reach", c.Addr)
	case c.Addr.Port() == 65535:
		return fmt.Errorf("cluster: port %d leaves none for gossip, which uses the one after it", c.Addr.Port())
	}
	return nil
}

// Identity says who this member is.
type Identity struct {
	ID      fsm.MemberID
	Cluster string
	Name    string
	Role    fsm.Role
	Addr    netip.AddrPort
	// LeaseKey is the key (32 bytes) that members share for lease messages.
	LeaseKey []byte
	// NewlyEnrolled is true in the process that enrolled this identity, until
	// it ends: such a voter has promised nothing to anyone yet.
	NewlyEnrolled bool
}

// What the methods of Node fail with, besides fsm's errors.
var (
	// ErrUnenrolled: the node belongs to no cluster.
	ErrUnenrolled = errors.New("this machine is in no cluster: use init or join")
	// ErrEnrolled: the node belongs to a cluster already.
	ErrEnrolled = errors.New("this machine is already a member of a cluster")
	// ErrNoLeader: no leader was found in time; nothing was changed.
	ErrNoLeader = errors.New("no leader")
	// ErrUncertain: the command reached the log, but the leader was lost
	// before it was seen committed; it may still take effect.
	ErrUncertain = errors.New("outcome unknown")
	// ErrHalted: this member met a command that it cannot read.
	ErrHalted = errors.New("halted")
	// ErrLastMember: the last member cannot leave.
	ErrLastMember = errors.New("the last member cannot leave: stop the daemon and delete its data folder instead")
	// ErrToken: the token cannot be read.
	ErrToken = errors.New("bad token")
	// ErrWrongCA: whoever answered does not belong to the token's cluster.
	ErrWrongCA = errors.New("the member that answered is not of the cluster that made this token")
	// ErrRemoved: this member was removed from the cluster.
	ErrRemoved = errors.New("this member was removed from the cluster")
)
