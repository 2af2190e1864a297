package cluster

import (
	"fmt"
	"slices"
	"time"

	"lbcluster/fsm"
)

// maxVoters bounds the voters: more cost every write and survive little more.
const maxVoters = 7

// changeKind is what the steward may do.
type changeKind string

const (
	noChange     changeKind = ""
	addNonvoter  changeKind = "add"      // Raft: let a member receive the log
	promote      changeKind = "promote"  // Raft: give a vote
	demote       changeKind = "demote"   // Raft: take the vote
	dropServer   changeKind = "drop"     // Raft: take out of the configuration
	markPresent  changeKind = "present"  // table: it has caught up
	markSilent   changeKind = "silent"   // table: no contact
	markBack     changeKind = "back"     // table: contact again
	removeMember changeKind = "remove"   // table: it has left
	handOver     changeKind = "handover" // give the leadership to ID
)

// change is one step of the steward.
type change struct {
	Kind changeKind
	ID   fsm.MemberID
	Why  string
	// Wait, with no Kind, is how long a change of the voters, described by
	// Why, still has to wait.
	Wait time.Duration
}

// changesVoters reports whether a step makes another set of voters, given
// whether its member has a vote.
func (c change) changesVoters(voter bool) bool {
	return c.Kind == promote || c.Kind == demote || c.Kind == dropServer && voter
}

// server is one entry of the Raft configuration.
type server struct {
	ID    fsm.MemberID
	Voter bool
}

// progress is what the leader knows of another member.
type progress struct {
	CaughtUp bool
	Last     time.Time // of its last answer
	Since    time.Time // answering without a break since then
}

// view is all that the steward decides from.
type view struct {
	Now      time.Time
	Self     fsm.MemberID // the leader
	Members  []fsm.Member // of the table
	Servers  []server     // of the newest Raft configuration
	Config   uint64       // that configuration's index in the log, or an older one
	Progress map[fsm.MemberID]progress
	Settled  time.Time // when this leader's first own entry was committed
	Changed  time.Time // when it last saw a change of the voters committed; zero: never
	Spacing  time.Duration
	Silent   time.Duration
	Back     time.Duration
}

// nextChange decides the leader's next step: what people see first (silence),
// then members on their way in, then the voters, then members on their way
// out. It is called again after each step; the same view gives the same step.
func nextChange(v view) change {
	for _, f := range []func(view) change{marks, arrivals, voters, departures} {
		if c := f(v); c != (change{}) {
			return c
		}
	}
	return change{}
}

// marks sets and clears silence. Between the two lies a time in which nothing
// changes, so that a member that answers now and then does not flap.
func marks(v view) change {
	for _, m := range v.Members {
		last, since := v.contact(m.ID)
		quiet := v.Now.Sub(last)
		switch {
		case !m.Silent && quiet >= v.Silent:
			return change{Kind: markSilent, ID: m.ID, Why: fmt.Sprintf("no contact for %v", quiet.Round(100*time.Millisecond))}
		case m.Silent && quiet < v.Silent && last.Sub(since) >= v.Back:
			return change{Kind: markBack, ID: m.ID, Why: fmt.Sprintf("in contact for %v", last.Sub(since).Round(100*time.Millisecond))}
		}
	}
	return change{}
}

// contact returns when a member answered last, and since when it does without
// a break. A leader counts from the start of its leadership, since it does
// not have to have greeted anybody before.
func (v view) contact(id fsm.MemberID) (last, since time.Time) {
	if id == v.Self {
		return v.Now, v.Now.Add(-v.Back)
	}
	p, ok := v.Progress[id]
	if !ok || p.Since.IsZero() || p.Last.Before(v.Settled) {
		return v.Settled, v.Now
	}
	return p.Last, p.Since
}

// arrivals lets members that are in the table receive the log, and calls them
// present once they have it.
func arrivals(v view) change {
	for _, m := range v.Members {
		_, in := v.server(m.ID)
		switch {
		case !in && m.State != fsm.Leaving:
			return change{Kind: addNonvoter, ID: m.ID, Why: "enrolled"}
		case in && m.State == fsm.Joining && v.fresh(m.ID):
			return change{Kind: markPresent, ID: m.ID, Why: "caught up"}
		}
	}
	return change{}
}

// fresh reports whether a member has caught up and is in contact.
func (v view) fresh(id fsm.MemberID) bool {
	if id == v.Self {
		return true
	}
	last, _ := v.contact(id)
	return v.Progress[id].CaughtUp && v.Now.Sub(last) < v.Silent
}

// voters brings the voters to the wanted odd set, one at a time: votes are
// given before they are taken, so that nobody depends on who leaves.
func voters(v view) change {
	want := wantedVoters(v)
	for _, id := range want {
		if s, ok := v.server(id); ok && !s.Voter {
			return v.spaced(change{Kind: promote, ID: id, Why: fmt.Sprintf("%d voters wanted", len(want))})
		}
	}
	for _, s := range v.surplus(want) {
		why := "the number of voters is kept odd"
		kind := demote
		m, ok := findMember(v.Members, s.ID)
		switch {
		case !ok:
			kind, why = dropServer, "removed"
		case m.State == fsm.Leaving:
			why = "leaving"
		}
		if s.ID != v.Self {
			return v.spaced(change{Kind: kind, ID: s.ID, Why: why})
		}
		if to, ok := v.successor(want); ok {
			return change{Kind: handOver, ID: to, Why: "the leader is " + why}
		}
	}
	return change{}
}

// surplus lists the voters that are not wanted, those on their way out first.
func (v view) surplus(want []fsm.MemberID) []server {
	var out []server
	for _, s := range v.Servers {
		if s.Voter && !slices.Contains(want, s.ID) {
			out = append(out, s)
		}
	}
	if len(want) == 0 {
		return nil // never below one voter
	}
	slices.SortFunc(out, func(a, b server) int {
		if x, y := v.stays(a.ID), v.stays(b.ID); x != y {
			if y {
				return -1
			}
			return 1
		}
		return compareIDs(a.ID, b.ID)
	})
	return out
}

// wantedVoters picks an odd number of those who stay: whoever votes already,
// the leader first, then those who have caught up, by age.
func wantedVoters(v view) []fsm.MemberID {
	var ids []fsm.MemberID
	for _, m := range v.Members {
		s, in := v.server(m.ID)
		if in && v.stays(m.ID) && (s.Voter || m.State == fsm.Present && !m.Silent && v.fresh(m.ID)) {
			ids = append(ids, m.ID)
		}
	}
	rank := func(id fsm.MemberID) int {
		s, _ := v.server(id)
		switch {
		case id == v.Self:
			return 0
		case s.Voter:
			return 1
		default:
			return 2
		}
	}
	slices.SortFunc(ids, func(a, b fsm.MemberID) int {
		if x, y := rank(a), rank(b); x != y {
			return x - y
		}
		return compareIDs(a, b)
	})
	n := min(len(ids), maxVoters)
	if n%2 == 0 && n > 0 {
		n--
	}
	return ids[:n]
}

// stays reports whether a server is a member that is not on its way out.
func (v view) stays(id fsm.MemberID) bool {
	m, ok := findMember(v.Members, id)
	return ok && m.State != fsm.Leaving
}

// successor picks who should lead instead.
func (v view) successor(want []fsm.MemberID) (fsm.MemberID, bool) {
	for _, id := range want {
		if s, _ := v.server(id); id != v.Self && s.Voter && v.fresh(id) {
			return id, true
		}
	}
	return "", false
}

// departures takes out who has no vote any more: first of Raft, then, when it
// leaves by itself, of the table.
func departures(v view) change {
	for _, s := range v.Servers {
		if !s.Voter && !v.stays(s.ID) {
			return change{Kind: dropServer, ID: s.ID, Why: "it has no vote any more"}
		}
	}
	for _, m := range v.Members {
		if _, in := v.server(m.ID); !in && m.State == fsm.Leaving {
			return change{Kind: removeMember, ID: m.ID, Why: "it has left"}
		}
	}
	return change{}
}

// spaced returns c, or how long it has to wait for the lease's sake (R16).
func (v view) spaced(c change) change {
	since := v.Settled
	if v.Changed.After(since) {
		since = v.Changed
	}
	if wait := since.Add(v.Spacing).Sub(v.Now); wait > 0 {
		return change{Wait: wait, Why: fmt.Sprintf("%s %s: %s", c.Kind, c.ID, c.Why)}
	}
	return c
}

func (v view) server(id fsm.MemberID) (server, bool) {
	for _, s := range v.Servers {
		if s.ID == id {
			return s, true
		}
	}
	return server{}, false
}
