package api

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"lbcluster/fsm"
)

// StatusReport is the whole cluster as one member sees it, with conclusions.
type StatusReport struct {
	At       time.Time    `json:"at"`
	Enrolled bool         `json:"enrolled"`
	Self     fsm.MemberID `json:"self,omitempty"`
	Name     string       `json:"name"`
	Version  string       `json:"version"`
	Cluster  string       `json:"cluster,omitempty"`
	Profile  string       `json:"profile,omitempty"`
	Revision fsm.Revision `json:"revision"`

	Survival Survival         `json:"survival"`
	Routers  []RouterReport   `json:"routers"`
	Services []ServiceReport  `json:"services"`
	Members  []MemberReport   `json:"members"`
	Findings []Finding        `json:"findings"` // what a person should look at, worst first
	Warnings []LocatedWarning `json:"warnings,omitempty"`
}

// LocatedWarning is a DirectorStatus's warning and whose it is.
type LocatedWarning struct {
	Member string `json:"member"`
	Text   string `json:"text"`
}

// Survival says how far the cluster is from going dark.
type Survival struct {
	Voters    int `json:"voters"`
	Answering int `json:"answering"` // voters that answer now
	Majority  int `json:"majority"`
	// Embargoed are the answering voters that have just restarted and grant no
	// lease for some seconds; until then they help nobody.
	Embargoed int `json:"embargoed,omitempty"`
	// Directors answer now.
	Directors int `json:"directors"`
	// Able of them hold the unit that has the fewest such directors, or could take
	// it: they are not drained, and nothing makes them unfit.
	Able int `json:"able"`
	// Failures is how many more members may fail, whichever they are, before
	// no VIP is served; -1: there is no majority now.
	Failures int          `json:"failures"`
	Leader   fsm.MemberID `json:"leader,omitempty"`
	Advice   string       `json:"advice,omitempty"` // what would help
}

// RouterReport is one virtual router: who owns it and why the others do not.
type RouterReport struct {
	ID        uint64         `json:"id"`
	Name      string         `json:"name"`
	VRID      uint8          `json:"vrid"`
	Set       string         `json:"set"`
	Addresses []netip.Prefix `json:"addresses"`
	// Group is the sync group that it moves with, if any; Unit is the id of what
	// the lease is for: the group, or the router.
	Group     string       `json:"group,omitempty"`
	Unit      uint64       `json:"unit"`
	Owner     fsm.MemberID `json:"owner,omitempty"` // empty: nobody that is known
	OwnerName string       `json:"owner_name,omitempty"`
	// Home is where it belongs while all is well; Pinned: an operator chose it.
	Home     fsm.MemberID `json:"home,omitempty"`
	HomeName string       `json:"home_name,omitempty"`
	Pinned   bool         `json:"pinned,omitempty"`
	// Away says why it is not at home, or that it is to be moved; empty: it is.
	Away string `json:"away,omitempty"`
	// RemainingMS is what was left of the owner's lease when it was asked.
	RemainingMS int64           `json:"remaining_ms"`
	HeldSince   time.Time       `json:"held_since,omitzero"`
	Interface   string          `json:"interface,omitempty"` // on the owner
	VRRP        string          `json:"vrrp,omitempty"`      // the owner's VRRP state
	AdvertsSent uint64          `json:"adverts_sent"`        // by the owner
	StandBy     []StandBy       `json:"stand_by"`            // every director but the owner
	Speakers    []SpeakerReport `json:"speakers"`            // heard in this VRID
}

// StandBy says why a director does not own a router.
type StandBy struct {
	Member fsm.MemberID `json:"member"`
	Name   string       `json:"name"`
	Why    string       `json:"why"`
}

// SpeakerReport is a VRRP speaker and which members heard it.
type SpeakerReport struct {
	Speaker
	Member  string   `json:"member,omitempty"` // its name, if it is one of us
	HeardBy []string `json:"heard_by"`
}

// ServiceReport is one virtual server.
type ServiceReport struct {
	Key       fsm.ServiceKey `json:"key"`
	Set       string         `json:"set"`
	Scheduler string         `json:"scheduler"`
	Method    fsm.Method     `json:"method"`
	Group     string         `json:"group,omitempty"`
	// Persistence and the rest are as in fsm.VirtualServer.
	Persistence       fsm.Duration `json:"persistence,omitempty"`
	PersistenceMask   uint8        `json:"persistence_mask,omitempty"`
	PersistenceEngine string       `json:"persistence_engine,omitempty"`
	OnePacket         bool         `json:"one_packet,omitempty"`
	HashPort          bool         `json:"hash_port,omitempty"`
	HashFallback      bool         `json:"hash_fallback,omitempty"`
	Matches           []fsm.Match  `json:"matches,omitempty"` // of a firewall mark
	Router            string       `json:"router,omitempty"`  // that has its address; empty: none
	// Sorry is the sorry server, and Pool says since when and how too few real servers
	// are up; empty: enough are.
	Sorry   *fsm.SorryServer `json:"sorry_server,omitempty"`
	Pool    string           `json:"pool,omitempty"`
	Servers []ServerReport   `json:"servers"`
}

// ServerReport is one real server: what the checks agree on, what an operator
// wants, and what follows for the kernel.
type ServerReport struct {
	fsm.ServerState
	Method fsm.Method   `json:"method"` // how packets reach it
	Votes  []VoteReport `json:"votes"`  // of every director that has an opinion
	// Left are the connections that a drained server has: by the table of the director
	// that owns the address, or else of the one that counts most. nil: not drained, or
	// nobody says.
	Left *DrainStatus `json:"left,omitempty"`
}

// VoteReport is one director's opinion.
type VoteReport struct {
	Member  fsm.MemberID `json:"member"`
	Name    string       `json:"name"`
	Up      bool         `json:"up"`
	Detail  string       `json:"detail,omitempty"`
	Counted bool         `json:"counted"` // false: the member is silent
}

// MemberReport is a member and its answer.
type MemberReport struct {
	fsm.Member
	DirectorReply
}

// Severities of a Finding.
const (
	Bad  = "bad"  // traffic is or may be lost
	Warn = "warn" // redundancy or truth is lost
	Note = "note" // good to know
)

// Finding is something a person should look at.
type Finding struct {
	Severity string `json:"severity"`
	Member   string `json:"member,omitempty"` // where it was seen
	Text     string `json:"text"`
	Fix      string `json:"fix,omitempty"` // a command
}

// view is what the parts of the report are made from.
type view struct {
	table    *fsm.Table
	at       time.Time
	self     fsm.MemberID
	statuses map[fsm.MemberID]*DirectorStatus // of members that answer
	replies  map[fsm.MemberID]DirectorReply
	blind    map[uint64]map[fsm.MemberID]fsm.Blindness // [fsm.Table.Blind]
}

// BuildReport draws the conclusions. It is pure: local is this member's own
// view, others the answers of the rest; t is nil while not enrolled.
func BuildReport(t *fsm.Table, local DirectorStatus, others map[fsm.MemberID]DirectorReply, at time.Time) StatusReport {
	r := StatusReport{
		At: at, Enrolled: local.Enrolled && t != nil, Self: local.ID, Name: local.Name, Version: local.Version,
		Routers: []RouterReport{}, Services: []ServiceReport{}, Members: []MemberReport{}, Findings: []Finding{},
	}
	if !r.Enrolled {
		r.Survival.Failures = -1
		return r
	}
	v := newView(t, local, others, at)
	r.Cluster, r.Profile, r.Revision = t.Cluster, t.Settings.Profile, t.Revision
	r.Survival = v.survival()
	for _, router := range t.Routers {
		r.Routers = append(r.Routers, v.router(router))
	}
	for _, s := range t.Services {
		r.Services = append(r.Services, v.service(s))
	}
	for _, m := range shownMembers(t.Members) {
		r.Members = append(r.Members, MemberReport{Member: m, DirectorReply: v.replies[m.ID]})
		if s := v.statuses[m.ID]; s != nil {
			for _, w := range s.Warnings {
				r.Warnings = append(r.Warnings, LocatedWarning{Member: m.Name, Text: w})
			}
		}
	}
	r.Findings = append(r.Findings, v.findings(r)...)
	return r
}

func newView(t *fsm.Table, local DirectorStatus, others map[fsm.MemberID]DirectorReply, at time.Time) *view {
	v := &view{table: t, at: at, self: local.ID, blind: t.Blind(),
		statuses: map[fsm.MemberID]*DirectorStatus{local.ID: &local},
		replies:  map[fsm.MemberID]DirectorReply{local.ID: {Status: &local}},
	}
	for _, m := range t.Members {
		if m.ID == local.ID {
			continue
		}
		reply, ok := others[m.ID]
		if !ok || (reply.Status == nil && reply.Error == "") {
			reply = DirectorReply{Error: "not asked"}
		}
		v.replies[m.ID] = reply
		if reply.Status != nil {
			v.statuses[m.ID] = reply.Status
		}
	}
	return v
}

// name is a member's name, or its id if it has none any more.
func (v *view) name(id fsm.MemberID) string {
	for _, m := range v.table.Members {
		if m.ID == id {
			return m.Name
		}
	}
	return string(id)
}

// latest is the newest revision that any member has.
func (v *view) latest() fsm.Revision {
	rev := v.table.Revision
	for _, s := range v.statuses {
		rev = max(rev, s.TableRevision)
	}
	return rev
}

// lease is what a member says about a router; zero if it says nothing.
func leaseOf(s *DirectorStatus, router uint64) (LeaseStatus, bool) {
	for _, l := range s.Leases {
		if l.Router == router {
			return l, true
		}
	}
	return LeaseStatus{}, false
}

// directors lists the table's directors by rank order of their ids.
func (v *view) directors() []fsm.Member {
	var ds []fsm.Member
	for _, m := range v.table.Members {
		if m.Role == fsm.Director {
			ds = append(ds, m)
		}
	}
	return ds
}

// sortFindings puts the worst first and keeps the order otherwise.
func sortFindings(fs []Finding) {
	rank := map[string]int{Bad: 0, Warn: 1, Note: 2}
	slices.SortStableFunc(fs, func(a, b Finding) int { return cmp.Compare(rank[a.Severity], rank[b.Severity]) })
}

// ms turns a duration for people: whole milliseconds below 10 s, else seconds.
func ms(n int64) string {
	d := time.Duration(n) * time.Millisecond
	if d < 10*time.Second {
		return fmt.Sprintf("%d ms", n)
	}
	return d.Round(time.Second).String()
}
