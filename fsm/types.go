package fsm

import (
	"fmt"
	"net/netip"
	"time"
)

// Revision counts the changes of the table; it grows by one with each command
// that changed something and never goes back.
type Revision uint64

// MemberID names a member for ever: "m1", "m2", ... An id is never reused, not
// even after its member was removed.
type MemberID string

// Role says what a member does in the cluster.
type Role string

const (
	Director Role = "director" // holds VIPs, forwards, checks, votes
	Witness  Role = "witness"  // votes in Raft and in leases, nothing else
	// Reader is no member's role: a token and an Enrol may have it, for a certificate
	// with which a real server reads its VIPs, and nothing else. Since version 3.
	Reader Role = "reader"
)

// MemberState is a member's way through the cluster.
type MemberState string

const (
	Joining MemberState = "joining" // enrolled, has not caught up yet
	Present MemberState = "present" // a full member
	Leaving MemberState = "leaving" // hands over and goes
)

// Member is one machine of the cluster.
type Member struct {
	ID    MemberID    `json:"id"`
	Name  string      `json:"name"` // unique among members; by default the host name
	Role  Role        `json:"role"`
	State MemberState `json:"state"`
	// Addr is where the member serves the others: TCP for Raft, joining and
	// forwarded requests, UDP on the same port for leases; gossip uses TCP and
	// UDP on the port after it.
	Addr netip.AddrPort `json:"addr"`
	// Silent is set by the leader while it has no contact with the member.
	// Votes of a silent member do not count.
	// Invariant: when a member falls silent its votes are dropped, so that
	// after its return it counts only once it has sent its opinions again.
	Silent bool `json:"silent,omitempty"`
	// Drained is set by an operator: the director hands over what it holds and
	// stands for nothing until it is fit again.
	Drained bool `json:"drained,omitempty"`
	// Networks are the member's addresses beside Addr's on which the others may
	// reach it, and those of the networks that hold VIPs; sorted by address.
	Networks []Network `json:"networks,omitempty"`
	Joined   Revision  `json:"joined"`
	// Request and Token repeat what the Enrol command said (empty for the
	// founder): they recognise a joiner that asks again.
	Request string `json:"request,omitempty"`
	Token   string `json:"token,omitempty"` // the token's hash
	// Reads is the newest version of commands that this member's lbcluster reads.
	// 0: it never said, as before version 3. Invariant: not below Table.Used, but for
	// members that were there before they could say it.
	Reads int `json:"reads,omitempty"`
}

// Duration is a time.Duration written as text ("1.5s") in JSON.
type Duration time.Duration

// D returns d as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String is time.Duration's.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes d as time.Duration.String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	*d = Duration(v)
	return nil
}

// GARP is when the neighbours are told where the VIPs are (keepalived: garp_*).
// The zero GARP is lbcluster's own timing.
type GARP struct {
	// MasterRepeat announcements follow the taking of a VIP, and as many again
	// MasterDelay later; 0: none then.
	MasterRepeat int      `json:"master_repeat,omitempty"`
	MasterDelay  Duration `json:"master_delay,omitempty"`
	// Refresh is the pace after that; 0: lbcluster's own.
	Refresh       Duration `json:"refresh,omitempty"`
	RefreshRepeat int      `json:"refresh_repeat,omitempty"`
	// LowerPrioRepeat and LowerPrioDelay are for after a peer of lower priority
	// was heard.
	LowerPrioRepeat int      `json:"lower_prio_repeat,omitempty"`
	LowerPrioDelay  Duration `json:"lower_prio_delay,omitempty"`
}

// Address is one virtual IP of a router.
type Address struct {
	// Prefix is the VIP with the length it is added with: /32 or /128 unless
	// the operator gave another.
	Prefix netip.Prefix `json:"prefix"`
	// Dev names an interface for this address alone; empty: the router's.
	Dev   string `json:"dev,omitempty"`
	Label string `json:"label,omitempty"`
	// Excluded: held like the others, but not in the adverts (keepalived:
	// virtual_ipaddress_excluded); it may be of the other family.
	Excluded bool `json:"excluded,omitempty"`
}

// Router is a virtual router (keepalived: vrrp_instance): a VRID, its VIPs and
// how they are advertised. It is the unit that moves from director to director.
type Router struct {
	// ID names the router in leases. Invariant: assigned by the table, never
	// reused, kept when a router of the same name is applied again.
	ID   uint64 `json:"id"`
	Name string `json:"name"` // unique in the table
	Set  string `json:"set"`  // the applied set that owns it
	// Interface is the operator's word for the interface ("eth0"). A director
	// uses the interface whose network holds the VIP, and this one where that
	// is ambiguous or none does.
	Interface string `json:"interface,omitempty"`
	// VRID is 1-255. Invariant: (Interface, VRID, family) is unique.
	VRID     uint8 `json:"vrid"`
	Priority uint8 `json:"priority"` // 1-255, toward VRRP peers
	Version  uint8 `json:"version"`  // 2 or 3
	// Initial is keepalived's "state" keyword (MASTER or BACKUP); the cluster
	// has one owner whatever it says, so it is kept only for export.
	Initial string `json:"initial,omitempty"`
	// AdvertInterval: whole seconds 1s-255s in version 2, 10ms-40.95s in 3.
	AdvertInterval Duration `json:"advert_interval"`
	// AuthPass is the version 2 password, at most 8 bytes; empty: none.
	AuthPass  string    `json:"auth_pass,omitempty"`
	Addresses []Address `json:"addresses"` // in the order of the file; at least one
	Peering   Peering   `json:"peering,omitzero"`
	// VMAC: the VIPs that name no other interface live on a macvlan with the
	// router's own MAC. nil: on the interface itself.
	VMAC   *VMAC     `json:"use_vmac,omitempty"`
	Track  []Tracker `json:"track,omitempty"`
	Notify Notify    `json:"notify,omitzero"`
	// Alert: changes of its owner are told by mail (keepalived: smtp_alert).
	Alert bool `json:"smtp_alert,omitempty"`
}

// Protocol is the transport protocol of a virtual server.
type Protocol string

const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Method is how packets reach a real server (ipvsadm's forwarding method).
type Method string

const (
	// DirectRouting rewrites only the destination MAC (ipvsadm -g).
	DirectRouting Method = "dr"
)

// ServiceKey names a virtual server: an address, port and protocol, or a
// firewall mark.
type ServiceKey struct {
	Addr     netip.Addr `json:"addr"`
	Port     uint16     `json:"port"` // 0: all
	Protocol Protocol   `json:"protocol"`
	// Mark, when not 0, is the firewall mark of the packets of a service that has
	// none of the above; V6 tells the services of the two families apart.
	Mark uint32 `json:"mark,omitempty"`
	V6   bool   `json:"v6,omitempty"`
}

// String is "tcp/172.25.88.100:80", "fwmark/7" or, of IPv6, "fwmark6/7".
func (k ServiceKey) String() string {
	switch {
	case k.Mark != 0 && k.V6:
		return fmt.Sprintf("fwmark6/%d", k.Mark)
	case k.Mark != 0:
		return fmt.Sprintf("fwmark/%d", k.Mark)
	}
	return fmt.Sprintf("%s/%s", k.Protocol, netip.AddrPortFrom(k.Addr, k.Port))
}

// VirtualServer is a load-balanced service.
type VirtualServer struct {
	ServiceKey
	Set string `json:"set"`
	// Scheduler is a kernel scheduler's name: see [Schedulers].
	Scheduler string `json:"scheduler"`
	Method    Method `json:"method"`
	// Persistence is the persistence timeout, whole seconds; 0: off.
	Persistence Duration `json:"persistence,omitempty"`
	// PersistenceMask is the client netmask's length (32: each client alone).
	PersistenceMask uint8 `json:"persistence_mask,omitempty"`
	// PersistenceEngine is what persistence goes by instead of the client's
	// address: EngineSIP, or empty.
	PersistenceEngine string `json:"persistence_engine,omitempty"`
	// OnePacket schedules each UDP packet by itself (keepalived: ops).
	OnePacket bool `json:"one_packet,omitempty"`
	// HashPort and HashFallback are the flags of the schedulers sh and mh: take
	// the client's port too; take another server for one of weight 0.
	HashPort     bool `json:"hash_port,omitempty"`
	HashFallback bool `json:"hash_fallback,omitempty"`
	// Group names the virtual_server_group that the file had it in, if any.
	Group string `json:"group,omitempty"`
	// Matches say which packets of a firewall mark service every director marks.
	// None: somebody else's rule must.
	Matches []Match `json:"matches,omitempty"`
	// Quorum is the weight of real servers that must be up (0: 1), Hysteresis how much
	// less, or more, makes the difference: see ShortPool. Sorry serves otherwise.
	Quorum     uint32       `json:"quorum,omitempty"`
	Hysteresis uint32       `json:"hysteresis,omitempty"`
	Sorry      *SorryServer `json:"sorry_server,omitempty"`
	// Panic is a share of the real servers, in percent, 1 to 99: when as many or more
	// are down, of four at least, all are taken as up, for then it is rather the checks
	// that are wrong, and the rest could not carry everything. 0: never.
	Panic uint8 `json:"panic_threshold,omitempty"`
	// SlowStart is how long a real server that has come up takes to its full weight, in
	// RampSteps steps; 0: it has it at once.
	SlowStart Duration `json:"slow_start,omitempty"`
	// Alert: that too few real servers are up is told by mail (keepalived: smtp_alert).
	Alert bool `json:"smtp_alert,omitempty"`
	// Notify are quorum_up and quorum_down.
	Notify      UpDown       `json:"notify,omitzero"`
	RealServers []RealServer `json:"real_servers"` // order of the file; unique by Addr and Port
}

// RealServer is a backend of a virtual server.
type RealServer struct {
	Addr   netip.Addr `json:"addr"`
	Port   uint16     `json:"port"` // with direct routing and tunnels always the virtual server's; 0 with a mark
	Weight int        `json:"weight"`
	Method Method     `json:"method,omitempty"` // empty: the virtual server's
	// UpperThreshold and LowerThreshold bound its connections (ipvsadm -x, -y); 0: none.
	UpperThreshold uint32 `json:"upper_threshold,omitempty"`
	LowerThreshold uint32 `json:"lower_threshold,omitempty"`
	// Inhibit keeps the server in the table with weight 0 when it is down
	// (keepalived: inhibit_on_failure) instead of removing it.
	Inhibit bool `json:"inhibit,omitempty"`
	// Backup: it serves only while too few of the others are up; else its weight is 0.
	Backup bool `json:"backup,omitempty"`
	// NoAlert: no mail when it goes down or up (keepalived: smtp_alert no).
	NoAlert bool `json:"no_smtp_alert,omitempty"`
	// Notify are notify_up and notify_down.
	Notify UpDown `json:"notify,omitzero"`
	// Checks must all pass; none: the server is always taken as up.
	Checks []Check `json:"checks,omitempty"`
}

// AddrPort is the server's own address.
func (r RealServer) AddrPort() netip.AddrPort { return netip.AddrPortFrom(r.Addr, r.Port) }

// Check is one health check with every default filled in by whoever made it
// (keepalived's defaults in fsm/conf).
type Check struct {
	Kind CheckKind `json:"kind"`
	// Dest is where to connect: connect_ip and connect_port, or the server itself. The
	// port is 0 for a ping and for a program, which is told nothing of the rest either.
	Dest netip.AddrPort `json:"dest"`
	// Bind is the local address to check from; zero: the kernel's choice.
	Bind           netip.Addr `json:"bind,omitzero"`
	ConnectTimeout Duration   `json:"connect_timeout"`
	// Retry is how many failures after the first are forgiven: the check goes
	// down after Retry+1 in a row (the very first check: after one), and up
	// after one success.
	Retry            int      `json:"retry"`
	DelayBeforeRetry Duration `json:"delay_before_retry"`
	DelayLoop        Duration `json:"delay_loop"`
	// Warmup bounds the random delay before the first check.
	Warmup Duration `json:"warmup"`

	// BindPort and BindIf are the local port and interface to check from, and Mark is
	// the firewall mark of the packets; 0 and empty: the kernel's choice, none.
	BindPort uint16 `json:"bind_port,omitempty"`
	BindIf   string `json:"bind_if,omitempty"`
	Mark     uint32 `json:"fwmark,omitempty"`
	// Alpha: the server counts as down until it has been found up (keepalived: alpha).
	Alpha bool `json:"alpha,omitempty"`
	// DSR: the check goes the way that clients' packets go: to the virtual server's
	// address, Dest, handed to the real server as its connections are.
	DSR bool `json:"dsr,omitempty"`
	// What the kind asks besides: of http and https, smtp (the name in its HELO), dns,
	// udp, misc and file. Immutable, as all of a table.
	HTTP   *HTTPCheck   `json:"http,omitempty"`
	Helo   string       `json:"helo,omitempty"`
	DNS    *DNSCheck    `json:"dns,omitempty"`
	UDP    *UDPCheck    `json:"udp,omitempty"`
	Script *ScriptCheck `json:"script,omitempty"`
	File   *FileCheck   `json:"file,omitempty"`
}

// Target names what is probed and voted on: a real server's address with its
// checks. Equal checks of one server under many virtual servers are one target.
// The empty target means "nothing to check". See [RealServer.Target].
type Target string

// Vote is one director's opinion of one target.
type Vote struct {
	Up     bool   `json:"up"`
	Detail string `json:"detail,omitempty"` // "connection refused"
	// Weighs is what its scripts say of the weight, if it is up: see [Weighing].
	Weighs Weighing `json:"weighs,omitzero"`
}

// Health is what the votes make of a target. A target without an entry is up:
// so keepalived starts too. One with a check that says Alpha gets an entry when it
// comes into the table: down.
type Health struct {
	Down   bool     `json:"down"`
	Since  Revision `json:"since"`
	Detail string   `json:"detail,omitempty"`
	// Weighs is what was agreed of the weight. Invariant: zero while Down.
	Weighs Weighing `json:"weighs,omitzero"`
	// Step is where a slow start is, 1 to RampSteps-1; 0: there is none, or it is over.
	// Invariant: 0 while Down.
	Step int `json:"step,omitempty"`
}

// AdminState is an operator's word on a real server.
type AdminState string

const (
	Enabled  AdminState = ""        // as checked
	Drained  AdminState = "drain"   // weight 0: connections finish, none is new
	Disabled AdminState = "disable" // not in the kernel's table
)

// Override is what an operator set by hand; it survives apply.
type Override struct {
	// Service limits the override to one virtual server; zero: wherever the
	// server appears.
	Service ServiceKey     `json:"service,omitzero"`
	Server  netip.AddrPort `json:"server"`
	State   AdminState     `json:"state,omitempty"`
	Weight  *int           `json:"weight,omitempty"` // nil: the file's
	By      string         `json:"by"`
	// Since is when State was set, by the proposer's clock; zero: it is Enabled, or
	// a command of a version before 3 set it.
	Since time.Time `json:"since,omitzero"`
	// Within, when not 0, ends a drain: the server is disabled that long after
	// Since, whatever connections are left.
	Within Duration `json:"within,omitempty"`
}

// Until is when a drain ends, by the clock of who asked for it; zero: never by itself.
func (o Override) Until() time.Time {
	if o.Within == 0 {
		return time.Time{}
	}
	return o.Since.Add(o.Within.D())
}

// Settings hold for the whole cluster.
type Settings struct {
	// Profile names the lease's timing: "default", "fast" or "robust".
	Profile string `json:"profile"`
	// Guard is G of the lease: how much longer voters promise than holders use,
	// for virtual machines that may be paused; 0 to 10s.
	Guard Duration `json:"guard,omitempty"`
	// Spares is how many directors are kept without a home (N+1).
	Spares int `json:"spares,omitempty"`
	// FailBack is [FailBackManual] when empty.
	FailBack      FailBack `json:"fail_back,omitempty"`
	FailBackAfter Duration `json:"fail_back_after,omitempty"` // 0: one minute
	// Health is [HealthMajority] when empty.
	Health HealthPolicy `json:"health,omitempty"`
	// Scripts is [ScriptsOnce] when empty.
	Scripts ScriptsPolicy `json:"server_scripts,omitempty"`
	// Webhooks are the URLs that hear of all notices, separated by commas.
	Webhooks string `json:"webhooks,omitempty"`
	// FlapDamping is [DampingOff] when empty.
	FlapDamping Damping `json:"flap_damping,omitempty"`
	// SnapshotEvery is how often each director writes a snapshot to its own disk; 0:
	// never. SnapshotsKept is how many it keeps; 0: seven.
	SnapshotEvery Duration `json:"snapshot_every,omitempty"`
	SnapshotsKept int      `json:"snapshots_kept,omitempty"`
}

// ScriptsPolicy says where the programs and FIFO lines of servers and pools go.
// Those of routers are each director's own.
type ScriptsPolicy string

// The policies.
const (
	ScriptsOnce ScriptsPolicy = "once" // on one director
	ScriptsEach ScriptsPolicy = "each" // on each, as with keepalived
)

// Damping says whether a director holds a real server down that comes and goes; see
// checks.Flaps. Off, servers come back as soon as keepalived would have them back.
type Damping string

// The values of Settings.FlapDamping.
const (
	DampingOff Damping = "off"
	DampingOn  Damping = "on"
)

// HealthPolicy says what the directors' opinions of a real server make of it.
type HealthPolicy string

// The policies. A tie, and no opinion at all, leave what was.
const (
	HealthMajority HealthPolicy = "majority" // more than half of the opinions decide
	HealthAnyDown  HealthPolicy = "any-down" // one opinion that it is down is enough; up is by consent of all
)

// Globals is what a set's file said in global_defs.
type Globals struct {
	RouterID          string   `json:"router_id,omitempty"`
	NotificationEmail []string `json:"notification_email,omitempty"`
	EmailFrom         string   `json:"email_from,omitempty"`
	SMTPServer        string   `json:"smtp_server,omitempty"`
	SMTPTimeout       Duration `json:"smtp_connect_timeout,omitempty"`
	SMTPHelo          string   `json:"smtp_helo_name,omitempty"` // empty: the host's name
	// NoEmailFaults: no mail when nobody holds a router (keepalived: no_email_faults).
	NoEmailFaults bool  `json:"no_email_faults,omitempty"`
	FIFOs         FIFOs `json:"fifos,omitzero"`
	// SkipCheckAdvAddr, GARPInterval and GNAInterval are vrrp_skip_check_adv_addr,
	// vrrp_garp_interval and vrrp_gna_interval.
	SkipCheckAdvAddr bool     `json:"vrrp_skip_check_adv_addr,omitempty"`
	GARPInterval     Duration `json:"vrrp_garp_interval,omitempty"`
	GNAInterval      Duration `json:"vrrp_gna_interval,omitempty"`
	// IPVS is in one set's globals at most.
	IPVS IPVS `json:"ipvs,omitzero"`
}

// Set is what one apply owns: see [ApplySet].
type Set struct {
	Name     string    `json:"name"`
	Globals  Globals   `json:"globals"`
	Revision Revision  `json:"revision"` // of its last apply
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

// Token lets machines enrol. Only the hash of its secret is kept.
type Token struct {
	Hash    string    `json:"hash"`           // hex SHA-256 of the secret
	Role    Role      `json:"role,omitempty"` // empty: any role; Reader: since version 3
	Uses    int       `json:"uses"`           // left; at least 1
	Expires time.Time `json:"expires"`        // compared with the At of the Enrol command
}

// Event is one entry of the history: who changed what, when.
type Event struct {
	Revision Revision  `json:"revision"`
	At       time.Time `json:"at"` // the proposer's clock
	By       string    `json:"by"`
	Kind     string    `json:"kind"` // "apply", "member", "health", "owner", "override", ...
	Text     string    `json:"text"` // a sentence for people
}

// ConfigTag orders Raft configurations (the lease's rule R17): first by recovery epoch,
// then term, then index.
type ConfigTag struct {
	Epoch uint64 `json:"epoch"`
	Term  uint64 `json:"term"`
	Index uint64 `json:"index"`
}

// Less reports whether t is older than o.
func (t ConfigTag) Less(o ConfigTag) bool {
	if t.Epoch != o.Epoch {
		return t.Epoch < o.Epoch
	}
	if t.Term != o.Term {
		return t.Term < o.Term
	}
	return t.Index < o.Index
}

// VoterSet is a Raft configuration as the lease needs it.
type VoterSet struct {
	Tag    ConfigTag  `json:"tag"`
	Voters []MemberID `json:"voters"`
}

// Table is all that is replicated. It is immutable: nobody changes a table or
// anything reachable from it; Apply makes a new one that shares what is equal.
type Table struct {
	Cluster    string   `json:"cluster"` // the cluster's id, set by the founding command
	Revision   Revision `json:"revision"`
	NextMember uint64   `json:"next_member"` // Invariant: above every id ever given
	NextRouter uint64   `json:"next_router"` // likewise
	Settings   Settings `json:"settings"`

	Members  []Member         `json:"members"`          // by id (numeric)
	Sets     []Set            `json:"sets"`             // by name
	Routers  []Router         `json:"routers"`          // by ID
	Groups   []SyncGroup      `json:"groups,omitempty"` // by ID
	Places   map[uint64]Place `json:"places,omitempty"` // of every unit, by its id
	Services []VirtualServer  `json:"services"`         // by ServiceKey.String
	// Votes has entries of present directors on current targets only.
	Votes  map[Target]map[MemberID]Vote `json:"votes"`
	Health map[Target]Health            `json:"health"` // current targets only
	// Short are the pools that are short, by Service. Invariant: empty until a command
	// of version 3 has begun to keep them, which is Pooled.
	Short  []ShortPool `json:"short,omitempty"`
	Pooled bool        `json:"pooled,omitempty"`
	// Overrides are of current real servers only, by Service, then Server; each pair once.
	Overrides []Override          `json:"overrides"`
	Tokens    []Token             `json:"tokens"` // in the order they were added; a used-up one is gone
	Owners    map[uint64]MemberID `json:"owners"` // last reported owner of a unit; history, not authority
	Events    []Event             `json:"events"` // the last EventsKept, oldest first
	// History has what was applied, by revision, oldest first: see [Applied].
	// Empty while the log has no apply of version 3.
	History []Applied `json:"history,omitempty"`
	// Used is the newest version of a command that changed this table, members' words
	// on what they read left out.
	Used int `json:"used,omitempty"`
	// Pending is a change that waits for a confirmation; nil: none does. While
	// there is one nothing else can be applied, so that it can be taken back.
	Pending *Pending `json:"pending,omitempty"`
	// Channels are the ways in which people are told, by kind and set; Notices what
	// one of them at least has yet to tell, oldest first; LastNotice the last number
	// given; NoticesLost the last one that there was no room for.
	Channels    []Channel `json:"channels,omitempty"`
	Notices     []Notice  `json:"notices,omitempty"`
	LastNotice  uint64    `json:"last_notice,omitempty"`
	NoticesLost uint64    `json:"notices_lost,omitempty"`

	units   *unitIndex       // of Routers and Groups; nil while a command is being applied
	idx     *index           // of Services; nil in a table that was put together by hand
	scratch map[uint64]Place // in place of Places where there are none; see places
}

// EventsKept bounds Table.Events.
const EventsKept = 1000
