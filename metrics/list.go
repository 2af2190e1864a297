package metrics

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Metric is one of the list.
type Metric struct {
	Name   string
	Kind   string // "gauge", "counter" or "histogram"
	Labels []string
	Help   string // a sentence without its full stop

	value prometheus.ValueType
	desc  *prometheus.Desc
}

// list is all of them, in the order in which the documentation shows them.
var list []*Metric

// List returns all metrics of this package.
func List() []Metric {
	out := make([]Metric, len(list))
	for i, m := range list {
		out[i] = *m
	}
	return out
}

func add(kind string, value prometheus.ValueType, name, help string, labels []string) *Metric {
	m := &Metric{Name: "lbcluster_" + name, Kind: kind, Labels: labels, Help: help, value: value}
	m.desc = prometheus.NewDesc(m.Name, help+".", labels, nil)
	list = append(list, m)
	return m
}

func gauge(name, help string, labels ...string) *Metric {
	return add("gauge", prometheus.GaugeValue, name, help, labels)
}

func counter(name, help string, labels ...string) *Metric {
	return add("counter", prometheus.CounterValue, name, help, labels)
}

// The daemon and its place in the cluster.
var (
	buildInfo = gauge("build_info", "1; the labels say which lbcluster runs here", "version", "goversion")
	started   = gauge("start_time_seconds", "When the daemon's process started, in seconds since 1970")
	enrolled  = gauge("enrolled", "1 if this machine is in a cluster")
	revision  = gauge("table_revision", "Revision of this member's copy of the table")
)

// The cluster as this member finds it when it asks the others.
var (
	failuresLeft    = gauge("failures_left", "How many more members may fail, whichever they are, before no VIP is served; -1: there is no majority now")
	voters          = gauge("voters", "Members that vote")
	votersAnswering = gauge("voters_answering", "Voters that answer this member")
	directorsAble   = gauge("directors_able", "Directors that could hold the virtual router that has the fewest such directors")
	memberAnswers   = gauge("member_answers", "1 if the member answers when it is asked for its status", "member", "role")
	memberAlive     = gauge("member_gossip_alive", "1 if gossip takes the member as alive", "member")
	memberHeard     = gauge("member_heard_age_seconds", "How long ago the member answered a Raft or members' request of this one; absent if never", "member")
	peerWays        = gauge("lease_ways_alive", "Ways (pairs of addresses, and the members' TLS connection) on which lease packets came from the member lately", "member")
	mailFailing     = gauge("mail_failing", "Sets whose mail this member tried to deliver and could not")
	findingsCount   = gauge("findings", "Things that lbcluster status would have a person look at", "severity")
)

// Replication.
var (
	raftState       = gauge("raft_state", "1 for the state that this member's Raft is in", "state")
	raftLeader      = gauge("raft_has_leader", "1 if a leader is known here")
	raftTerm        = gauge("raft_term", "Raft's term")
	raftCommit      = gauge("raft_commit_index", "Index of the last log entry known to be committed")
	raftApplied     = gauge("raft_applied_index", "Index of the last log entry applied to the table")
	raftLastContact = gauge("raft_last_contact_seconds", "How long ago this follower heard its leader; 0 on the leader, absent if never")
	raftHalted      = gauge("raft_halted", "1 if the member has stopped applying the log because an entry is too new for it")
	raftStalled     = gauge("raft_stalled", "1 if the member's log takes nothing now: its disk is full, hangs or fails")
	raftDiskErrors  = counter("raft_disk_errors_total", "Errors and time-outs of the disk below the log")
)

// Ownership. A unit is a sync group, or a router in none; router is its name.
var (
	routerOwned    = gauge("router_owned", "1 if this member owns the router (or sync group)", "router")
	routerOwner    = gauge("router_has_owner", "1 if any member that answers owns the router", "router")
	leaseLeft      = gauge("lease_remaining_seconds", "What is left of the lease that this member holds, or of what its voter promised the holder", "router")
	leaseRenewals  = counter("lease_renewals_total", "Renewals of the present tenure", "router")
	leaseLeast     = gauge("lease_margin_least_ratio", "The smallest part of the deadline that was left at a renewal of the present tenure", "router")
	leaseMean      = gauge("lease_margin_mean_ratio", "The mean part of the deadline that was left at renewals of the present tenure", "router")
	leaseAcquired  = counter("lease_acquired_total", "Times that this member took the router", "router")
	leaseLost      = counter("lease_lost_total", "Times that this member gave the router up or lost it", "router")
	leaseUnfit     = gauge("lease_unfit", "1 if something here keeps this member from standing for the router", "router")
	leaseEmbargo   = gauge("lease_embargo_seconds", "How long this member's voter, just started, still promises nothing")
	packetsDropped = counter("network_dropped_total", "What came in from the network and was broken or no member's", "reason")
	clockRate      = gauge("clock_rate_ratio", "How much faster the monotonic clock runs than the hardware's, as a part of 1")
	clockAlarm     = gauge("clock_alarm", "1 if the clocks are further apart than is safe for a lease")
	clockSuspended = gauge("clock_suspended_seconds", "How long the machine was suspended since the daemon started")
)

// The gate, and the addresses behind it.
var (
	gateAttached   = gauge("gate_attached", "1 if the kernel's gate is attached and works", "mode")
	gateInterfaces = gauge("gate_interfaces", "Interfaces that have the gate")
	gateOpen       = gauge("gate_open", "1 if the kernel's deadline for the VIP is ahead", "vip")
	gateLeft       = gauge("gate_deadline_seconds", "How far ahead the kernel's deadline for the VIP is; 0: closed", "vip")
	gatePackets    = counter("gate_packets_total", "Packets for or from the VIP, by kind (arp, in, out) and what became of them (passed, dropped)", "vip", "kind", "verdict")
	gateLastPassed = gauge("gate_last_packet_age_seconds", "How long ago a packet for the VIP passed; absent if never", "vip")
	gateLastDrop   = gauge("gate_last_drop_age_seconds", "How long ago a packet for the VIP was dropped; absent if never", "vip")
	vipOn          = gauge("vip_on_interface", "1 if the VIP is on its interface here", "vip")
	vipRestored    = counter("vip_restored_total", "Times that the VIP was put back after somebody removed it", "vip")
	vipProblem     = gauge("vip_problem", "1 if the VIP could not be put where it belongs here", "vip")
)

// VRRP.
var (
	vrrpState    = gauge("vrrp_state", "1 for the state that the router's VRRP speaker is in here", "router", "state")
	vrrpSent     = counter("vrrp_adverts_sent_total", "Adverts that this member sent", "router")
	vrrpHeard    = counter("vrrp_adverts_received_total", "Adverts of the router's VRID that came in, by sender: a member, a listed peer, or foreign", "router", "from")
	vrrpSpeakers = gauge("vrrp_speakers", "Speakers of the router's VRID heard in the last 30 seconds, by the same kinds", "router", "from")
	vrrpRejected = counter("vrrp_adverts_rejected_total", "Adverts that were not understood or not accepted", "router", "reason")
)

// Health, as it is agreed on.
var (
	serverUp       = gauge("real_server_up", "1 if the checks agree that the real server is up", "virtual_server", "server")
	serverWeight   = gauge("real_server_weight", "The weight that the kernel is given", "virtual_server", "server")
	serverVotes    = gauge("real_server_votes", "Directors whose opinion counts, by opinion (up, down)", "virtual_server", "server", "opinion")
	serverOpinion  = gauge("real_server_opinion", "This director's own opinion: 1 up, 0 down; absent if it has none", "virtual_server", "server")
	serverDisagree = gauge("real_server_disagreement", "1 if directors whose opinion counts differ", "virtual_server", "server")
	serviceAlive   = gauge("virtual_server_servers_taking", "Real servers that take new connections", "virtual_server")
	serviceServers = gauge("virtual_server_servers", "Real servers of the virtual server", "virtual_server")
	checkTargets   = gauge("check_targets", "What this director probes, by its opinion (up, down, unknown)", "opinion")
	checkDuration  = histogram("check_duration_seconds", "How long probes took, by kind of check and result (passed, failed)", "kind", "result")
)

// The kernel's table.
var (
	ipvsApplied    = gauge("ipvs_applied", "1 if the table was applied whole since the daemon started")
	ipvsRevision   = gauge("ipvs_applied_revision", "Revision of the table that stands in the kernel")
	ipvsFailing    = gauge("ipvs_failing", "1 if the last try to apply the table failed")
	ipvsOperations = counter("ipvs_operations_total", "Writes to IPVS that succeeded, by what they did", "operation")
	ipvsErrors     = counter("ipvs_errors_total", "Errors of the kernel while the table was applied")
	ipvsRepairs    = counter("ipvs_drift_repairs_total", "Writes that undid what others had changed in IPVS, or in the rules that mark packets for it")
	ipvsForeign    = gauge("ipvs_foreign", "Things that lbcluster found and did not make (service, address)", "kind")
	ipvsServices   = gauge("ipvs_virtual_servers", "Virtual servers of ours in the kernel")
	ipvsServers    = gauge("ipvs_real_servers", "Real servers of ours in the kernel")
)

// Traffic, by the kernel's 64-bit counters.
var (
	serviceConns   = counter("virtual_server_connections_total", "Connections that this director took", "virtual_server")
	servicePackets = counter("virtual_server_packets_total", "Packets, by direction (in, out; with direct routing nothing goes out through the director)", "virtual_server", "direction")
	serviceBytes   = counter("virtual_server_bytes_total", "Bytes, by direction", "virtual_server", "direction")
	serverConns    = counter("real_server_connections_total", "Connections that this director gave the real server", "virtual_server", "server")
	serverPackets  = counter("real_server_packets_total", "Packets, by direction", "virtual_server", "server", "direction")
	serverBytes    = counter("real_server_bytes_total", "Bytes, by direction", "virtual_server", "server", "direction")
	serverActive   = gauge("real_server_active_connections", "Established connections that this director knows of", "virtual_server", "server")
	serverInactive = gauge("real_server_inactive_connections", "Connections that close, or wait for their time-out", "virtual_server", "server")
	trafficFailing = gauge("ipvs_counters_failing", "1 if the kernel's counters could not be read")
)

// Page is the documentation: docs/metrics.md.
func Page() string {
	var b strings.Builder
	b.WriteString(pageHead)
	for _, m := range list {
		labels := "none"
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s. |\n", m.Name, m.Kind, labels, m.Help)
	}
	b.WriteString(pageFoot)
	return b.String()
}
