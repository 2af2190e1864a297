package api

import (
	"net/netip"
	"time"

	"lbcluster/fsm"
)

// DirectorStatus is what one member says about itself, right now. Each part of
// the daemon fills its own piece; a part that does not run leaves it zero.
type DirectorStatus struct {
	Enrolled bool         `json:"enrolled"`
	ID       fsm.MemberID `json:"id,omitempty"`
	Name     string       `json:"name"`
	Role     fsm.Role     `json:"role,omitempty"`
	Version  string       `json:"version"`
	Started  time.Time    `json:"started"` // of the daemon's process
	// TableRevision is the newest revision in this member's copy of the table.
	TableRevision fsm.Revision `json:"table_revision"`

	// Running is the timing that this member's lease was started with; the
	// table's settings count at its next start or reload.
	Running Timing `json:"running"`

	Raft      RaftStatus      `json:"raft"`
	Kernel    KernelStatus    `json:"kernel"`
	Leases    []LeaseStatus   `json:"leases"` // one per router that it knows of
	Gate      GateStatus      `json:"gate"`
	VRRP      []VRRPStatus    `json:"vrrp"`
	Addresses []AddressStatus `json:"addresses"`
	Checks    []CheckStatus   `json:"checks"`
	// Contacts are the members as this one's Raft and gossip see them.
	Contacts []ContactStatus `json:"contacts"`
	// Peers are the other members as this one's lease hears them.
	Peers []PeerStatus `json:"peers"`
	Clock ClockStatus  `json:"clock"`
	// Dropped counts what came in from the network and was not for us, was
	// broken, or was no member's: "lease_key", "vrrp_unknown_vrid",
	// "members_connection". Adverts that concern a router are in VRRP's Rejected.
	Dropped map[string]uint64 `json:"dropped,omitempty"`
	// MailFailing counts the sets whose mail this member tried to deliver and could
	// not; Warnings say why.
	MailFailing int `json:"mail_failing,omitempty"`
	// Warnings are sentences of other parts that a person should read, such as
	// "clock: MONOTONIC and MONOTONIC_RAW differ by 3 %".
	Warnings []string `json:"warnings,omitempty"`
}

// Timing is what decides a lease's times.
type Timing struct {
	Profile string       `json:"profile"` // empty: the lease does not run
	Guard   fsm.Duration `json:"guard"`
}

// DirectorReply is a member's answer, or why there is none.
type DirectorReply struct {
	Status *DirectorStatus `json:"status,omitempty"`
	Error  string          `json:"error,omitempty"` // "no answer within 1s"
}

// Raft states.
const (
	RaftLeader    = "leader"
	RaftFollower  = "follower"
	RaftCandidate = "candidate"
	RaftStopped   = "stopped"
)

// RaftStatus is the state of a member's replication.
type RaftStatus struct {
	State   string       `json:"state"`            // one of the Raft states
	Leader  fsm.MemberID `json:"leader,omitempty"` // empty: none known
	Term    uint64       `json:"term"`
	Commit  uint64       `json:"commit"`  // log index, not a table revision
	Applied uint64       `json:"applied"` // likewise
	// LastContactMS is how long ago a follower heard its leader; -1: never.
	LastContactMS int64 `json:"last_contact_ms"`
	// Voters are those of the latest configuration that it knows.
	Voters []fsm.MemberID `json:"voters"`
	// Halted says why the member stopped applying the log (a command that is
	// too new for it); empty: it did not.
	Halted string `json:"halted,omitempty"`
	// Stalled says why this member's Raft log takes nothing now: its disk is
	// full, hangs or fails. Empty: it does.
	Stalled    string `json:"stalled,omitempty"`
	DiskErrors uint64 `json:"disk_errors"`
	DiskError  string `json:"disk_error,omitempty"` // the last one
}

// ContactStatus is a member as another one sees it.
type ContactStatus struct {
	Member fsm.MemberID `json:"member"`
	Alive  bool         `json:"alive"` // as gossip says
	// HeardMS is how long ago it answered; -1: never. 0 of the member itself.
	HeardMS int64 `json:"heard_ms"`
}

// KernelStatus is how far a director's IPVS table follows the replicated one.
type KernelStatus struct {
	// Applied is set once the table was applied completely since the process
	// started; Revision is the newest one applied.
	Applied  bool         `json:"applied"`
	Revision fsm.Revision `json:"revision"`
	Error    string       `json:"error,omitempty"` // of the last attempt; empty: it succeeded
	Services int          `json:"services"`        // of ours in the kernel
	Servers  int          `json:"servers"`         // destinations of them
	// Repairs counts what others had changed and lbcluster put back.
	Repairs    uint64    `json:"repairs"`
	LastRepair string    `json:"last_repair,omitempty"` // "weight of 10.0.0.2:80 in tcp/10.0.0.1:80"
	RepairedAt time.Time `json:"repaired_at,omitzero"`
	// Operations counts writes to IPVS by what they did ("add_server"), Errors what
	// failed so far.
	Operations map[string]uint64 `json:"operations,omitempty"`
	Errors     uint64            `json:"errors"`
	// Foreign is what lbcluster found and did not make.
	Foreign []Foreign `json:"foreign"`
	// Sync is how connections are synchronised here; nil: they are not.
	Sync *SyncStatus `json:"sync,omitempty"`
	// Draining are the real servers of weight 0, with their connections.
	Draining []DrainStatus `json:"draining,omitempty"`
	// Traffic is what each virtual server of the table has carried here.
	Traffic []ServiceTraffic `json:"traffic,omitempty"`
}

// ServiceTraffic is what a virtual server has carried on one director since it was
// added there.
type ServiceTraffic struct {
	Service string `json:"service"` // as fsm.ServiceKey.String
	Traffic
}

// Traffic are the kernel's counters of a virtual or real server. With direct
// routing the answers do not come through the director, and Out stays 0.
type Traffic struct {
	Connections uint64 `json:"connections"`
	InPackets   uint64 `json:"in_packets"`
	OutPackets  uint64 `json:"out_packets"`
	InBytes     uint64 `json:"in_bytes"`
	OutBytes    uint64 `json:"out_bytes"`
}

// DrainStatus is what a director's IPVS table says of a real server that gets no new
// connections; a few seconds old at most.
type DrainStatus struct {
	Service  string         `json:"service"` // as fsm.ServiceKey.String
	Server   netip.AddrPort `json:"server"`
	Active   uint32         `json:"active"`   // established connections
	Inactive uint32         `json:"inactive"` // those that close, or only wait for their time-out
}

// SyncStatus is how a director synchronises IPVS connections with the others.
type SyncStatus struct {
	Interface string `json:"interface"`
	ID        uint8  `json:"id"` // syncid
	Sends     bool   `json:"sends"`
	Receives  bool   `json:"receives"`
	// LeftMS is how long it will have connections to hear of; 0: it knows them.
	LeftMS  int64  `json:"left_ms"`
	Problem string `json:"problem,omitempty"` // why they are not; empty: they are
}

// Foreign is a thing in the kernel that lbcluster did not make and leaves alone.
type Foreign struct {
	Kind string `json:"kind"` // "service", "address"
	What string `json:"what"` // "tcp/172.25.88.100:8080", "172.25.88.100/32 on eth0"
	Fix  string `json:"fix"`  // the command that removes it
	// Rules is a service with its destinations as ipvsadm -Sn prints it.
	Rules string `json:"rules,omitempty"`
}

// States of a lease.
const (
	LeaseIdle      = "idle"      // does not stand: see Unfit, Holder or Embargo
	LeaseCandidate = "candidate" // asks the voters
	LeaseHolder    = "holder"
)

// LeaseStatus is one virtual router as a member's lease sees it.
type LeaseStatus struct {
	Router uint64 `json:"router"` // the unit's id: of a sync group, or a router in none
	State  string `json:"state"`
	// Holder is who holds it as far as this member knows; empty: nobody known.
	Holder fsm.MemberID `json:"holder,omitempty"`
	// RemainingMS is what is left of its own lease if it is the holder, else of
	// the promise that its voter has given to the holder.
	RemainingMS int64 `json:"remaining_ms"`
	// HeldSince is when this member acquired it; zero if it is not the holder.
	HeldSince time.Time `json:"held_since,omitzero"`
	Rank      int       `json:"rank"` // in the router's placement: 1 stands first; 0: unknown
	// Unfit says why this member must not stand ("IPVS table not applied"); empty: it is fit.
	Unfit string `json:"unfit,omitempty"`
	// Waits says, on the holder, what keeps the unit from where it should be;
	// empty: nothing.
	Waits string `json:"waits,omitempty"`
	// Denial is the last refusal that a voter sent ("m2: promised to m3 for 412ms").
	Denial string `json:"denial,omitempty"`
	// EmbargoMS is how long this member's voter still promises nothing after its start.
	EmbargoMS int64 `json:"embargo_ms,omitempty"`
	// Forced says that a person had it stand without members that he said are
	// powered off, and without which: "without m2, m3, by an operator's word".
	Forced string `json:"forced,omitempty"`
	// Renewals counts those of the present tenure, after the first one.
	// LeastLeft and MeanLeft are the part of the whole deadline, 0 to 1, that was
	// left when they were granted; 0 without renewals.
	Renewals  uint64  `json:"renewals,omitempty"`
	LeastLeft float64 `json:"least_left,omitempty"`
	MeanLeft  float64 `json:"mean_left,omitempty"`
	// Acquired and Lost count tenures since the process started.
	Acquired uint64 `json:"acquired"`
	Lost     uint64 `json:"lost"`
}

// PeerStatus is another member as a member's lease hears it.
type PeerStatus struct {
	Member fsm.MemberID `json:"member"`
	Ways   []WayStatus  `json:"ways"`
}

// WayStatus is one way on which lease packets come from a peer.
type WayStatus struct {
	Way string `json:"way"` // "UDP 10.0.0.1 to 10.0.0.2", "the members' TLS connection"
	// HeardMS is how long ago a packet came; -1: never since the process started.
	HeardMS int64 `json:"heard_ms"`
	Alive   bool  `json:"alive"` // it came lately enough to count
}

// ClockStatus compares a member's CLOCK_MONOTONIC with the hardware's clock.
type ClockStatus struct {
	// RatePPM is how much faster it runs, in millionths, and WorstPPM the value
	// furthest from 0 since the process started.
	RatePPM  float64 `json:"rate_ppm"`
	WorstPPM float64 `json:"worst_ppm"`
	// AllowedPPM is how far two members' clocks may be apart before a lease is
	// no longer safe.
	AllowedPPM float64 `json:"allowed_ppm"`
	// SuspendedMS is how long the machine was suspended since the process started.
	SuspendedMS int64  `json:"suspended_ms,omitempty"`
	Alarm       string `json:"alarm,omitempty"` // a sentence; empty: all is well
}

// Modes of the gate.
const (
	GateTCX    = "tcx"
	GateClsact = "clsact"
	GateNone   = "" // not attached
)

// GateStatus is the kernel's gate on one member.
type GateStatus struct {
	Mode       string        `json:"mode"`
	Error      string        `json:"error,omitempty"`
	Interfaces []string      `json:"interfaces"`
	Addresses  []GateAddress `json:"addresses"`
}

// GateAddress counts what the gate did with the packets of one VIP since it
// was loaded. An age of -1 means never.
type GateAddress struct {
	Addr netip.Addr `json:"addr"`
	Open bool       `json:"open"`
	// LeftMS is how far away the deadline is at which the kernel closes it.
	LeftMS int64 `json:"left_ms"`
	// ARPPassed and ARPDropped count ARP for or from the VIP, both ways.
	ARPPassed  uint64 `json:"arp_passed"`
	ARPDropped uint64 `json:"arp_dropped"`
	// InPassed and InDropped count IP packets to the VIP, OutDropped those with
	// the VIP as sender.
	InPassed   uint64 `json:"in_passed"`
	InDropped  uint64 `json:"in_dropped"`
	OutDropped uint64 `json:"out_dropped"`
	// LastMAC sent the last IP packet to the VIP, passed or dropped.
	LastMAC         string `json:"last_mac,omitempty"`
	LastPassedAgeMS int64  `json:"last_passed_age_ms"` // of an IP packet to the VIP
	LastDropAgeMS   int64  `json:"last_drop_age_ms"`
}

// VRRPStatus is one virtual router's VRRP speaker.
type VRRPStatus struct {
	Router uint64 `json:"router"`
	State  string `json:"state"` // keepalived's words: INIT, BACKUP, MASTER, FAULT
	// Source is the sender's address of its own adverts, by which the others'
	// Heard is told from strangers; zero: not known yet.
	Source netip.Addr `json:"source,omitzero"`
	Sent   uint64     `json:"sent"`
	Heard  []Speaker  `json:"heard"`
	// Stand is what the cluster is toward the router's VRRP peers, as far as this
	// member heard (INIT, BACKUP, MASTER); empty: the router has none. Barred says
	// why the member does not stand for the router then.
	Stand  string `json:"stand,omitempty"`
	Barred string `json:"barred,omitempty"`
	// Rejected counts adverts that were not understood or not accepted, by reason.
	Rejected map[string]uint64 `json:"rejected"`
	// LastRejected is the last of them, by the same reason.
	LastRejected map[string]Rejection `json:"last_rejected,omitempty"`
}

// Rejection is a VRRP advert that was rejected.
type Rejection struct {
	From   netip.Addr `json:"from"`   // as the packet says
	Reason string     `json:"reason"` // for people
	AgeMS  int64      `json:"age_ms"`
}

// Speaker is somebody else who sends adverts of a router's VRID.
type Speaker struct {
	Addr     netip.Addr `json:"addr"`
	Version  uint8      `json:"version"`
	Priority uint8      `json:"priority"`
	Count    uint64     `json:"count"`
	AgeMS    int64      `json:"age_ms"` // since its last advert
	// Interval is what it says is between its adverts.
	Interval fsm.Duration `json:"interval,omitempty"`
	// Listed: it is one of the router's peers, to which the cluster yields.
	Listed bool `json:"listed,omitempty"`
	// Reason says why its adverts are not accepted, and so why it does not accept
	// those of the cluster; empty: they are. Warnings are differences that matter
	// to old versions alone.
	Reason   string   `json:"reason,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// AddressStatus is one VIP on one member.
type AddressStatus struct {
	Router uint64       `json:"router"`
	Prefix netip.Prefix `json:"prefix"`
	// Interface is where it belongs here; empty: no interface fits (see Error).
	Interface string `json:"interface,omitempty"`
	On        bool   `json:"on"`
	// Restored counts how often somebody removed it and it was put back.
	Restored uint64 `json:"restored"`
	Error    string `json:"error,omitempty"`
	// Claims are those of other hosts that answer ARP or neighbour solicitations for it
	// while this member owns it; asked every ten seconds.
	Claims []Claim `json:"claims,omitempty"`
}

// Claim is that of another host to an address.
type Claim struct {
	MAC string `json:"mac"`
	// Addrs are the other addresses at MAC, as far as the owner's neighbour table has them.
	Addrs []netip.Addr `json:"addrs,omitempty"`
}

// CheckStatus is a member's own opinion of one target.
type CheckStatus struct {
	Target fsm.Target `json:"target"`
	// Known is false until the first check has an answer.
	Known  bool      `json:"known"`
	Up     bool      `json:"up"`
	Since  time.Time `json:"since,omitzero"`
	Detail string    `json:"detail,omitempty"`
}
