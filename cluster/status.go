package cluster

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"lbcluster/fsm"
)

// Status is what a member knows of itself and the others, for people.
type Status struct {
	Enrolled bool           `json:"enrolled"`
	ID       fsm.MemberID   `json:"id,omitempty"`
	Cluster  string         `json:"cluster,omitempty"`
	Leader   fsm.MemberID   `json:"leader,omitempty"`
	State    string         `json:"state"` // Raft's: "Leader", "Follower", "Candidate", "Shutdown"; "Stopped" while it does not run
	Term     uint64         `json:"term"`
	Commit   uint64         `json:"commit_index"`
	Applied  uint64         `json:"applied_index"`
	Revision fsm.Revision   `json:"revision"`
	Voters   []fsm.MemberID `json:"voters"` // committed
	Survives int            `json:"survives"`
	// LastContact is how long ago the leader was heard; 0 in the leader.
	LastContact time.Duration `json:"last_contact_ns"`
	// Trouble says why Raft does not run here; Halted why no command is
	// applied any more; Gossip why there is none. Empty: all is well.
	Trouble string `json:"trouble,omitempty"`
	Halted  string `json:"halted,omitempty"`
	Gossip  string `json:"gossip_trouble,omitempty"`
	// Changing is what the leader does with the members, and for what it waits.
	Changing string `json:"changing,omitempty"`
	Refused  uint64 `json:"refused_connections"`
	// RefusedVotes are those that this member did not take as the leader, by the member
	// that sent them; Flooding has whose came too often a moment ago.
	RefusedVotes map[fsm.MemberID]uint64 `json:"refused_votes,omitempty"`
	Flooding     []fsm.MemberID          `json:"flooding,omitempty"`
	Disk         DiskStatus              `json:"disk"`
	Members      []MemberStatus          `json:"members"`
}

// DiskStatus counts what went wrong with the disk since the daemon started.
type DiskStatus struct {
	AppendErrors   uint64 `json:"append_errors"`
	AppendTimeouts uint64 `json:"append_timeouts"`
	Retries        uint64 `json:"retries"`
	Reopened       uint64 `json:"reopened"`
	Waiting        int64  `json:"waiting"` // operations that are tried again now
	// LastError is the last of these errors; it stays when the disk works again.
	LastError string `json:"last_error,omitempty"`
}

// MemberStatus is one member as another one sees it.
type MemberStatus struct {
	fsm.Member
	Voter    bool          `json:"voter"`
	Contact  time.Duration `json:"contact_ns"` // since its last answer; -1: never, 0: this member itself
	Revision fsm.Revision  `json:"revision"`   // that it said it has applied
	Alive    bool          `json:"gossip_alive"`
	Trouble  string        `json:"trouble,omitempty"` // what it says of itself, or why it does not answer
}

// Status reports. It waits for nothing.
func (n *Node) Status() Status {
	t, _ := n.board.latest()
	st := Status{State: "Stopped", Revision: t.Revision, Disk: n.counts.status()}
	n.mu.Lock()
	id, s := n.id, n.session
	n.mu.Unlock()
	if id == nil {
		return st
	}
	st.Enrolled, st.ID, st.Cluster = true, id.ID, id.Cluster
	if s == nil {
		st.Trouble = "the member is not running"
		return st
	}
	s.fillRaft(&st)
	st.Refused = s.mux.refused.Load()
	st.RefusedVotes, st.Flooding = s.ballots.counts(time.Now())
	s.fillMembers(&st, t)
	return st
}

func (c *diskCounts) status() DiskStatus {
	st := DiskStatus{
		AppendErrors: c.appendErrors.Load(), AppendTimeouts: c.appendTimeouts.Load(),
		Retries: c.retries.Load(), Reopened: c.reopened.Load(), Waiting: c.parked.Load(),
	}
	if last := c.last.Load(); last != nil {
		st.LastError = *last
	}
	return st
}

func (s *session) fillRaft(st *Status) {
	committed, _ := s.floor.sets()
	st.Voters = committed.Voters
	if n := len(committed.Voters); n > 0 {
		st.Survives = (n - 1) / 2
	}
	inst, err := s.instance()
	if err != nil {
		st.Trouble = err.Error()
		return
	}
	r := inst.raft
	_, leader := r.LeaderWithID()
	st.Leader, st.State, st.Term, st.Commit = fsm.MemberID(leader), r.State().String(), r.CurrentTerm(), r.CommitIndex()
	if last := r.LastContact(); r.State() != raft.Leader && !last.IsZero() {
		st.LastContact = time.Since(last)
	}
	var halted error
	_, st.Applied, halted = inst.machine.state()
	if halted != nil {
		st.Halted = halted.Error()
	}
	switch c := s.steward.doing(); {
	case c.Kind != noChange:
		st.Changing = string(c.Kind) + " " + string(c.ID) + ": " + c.Why
	case c.Wait > 0:
		st.Changing = "in " + c.Wait.Round(100*time.Millisecond).String() + ": " + c.Why
	}
}

func (s *session) fillMembers(st *Status, t *fsm.Table) {
	alive, err := s.gossip.alive()
	if err != nil {
		st.Gossip = err.Error()
	}
	seen := s.contacts.all()
	for _, m := range t.Members {
		ms := MemberStatus{Member: m, Voter: slices.Contains(st.Voters, m.ID), Contact: -1, Alive: alive[m.ID]}
		if m.ID == s.id.ID {
			ms.Contact, ms.Revision, ms.Trouble = 0, t.Revision, st.Trouble
		} else if k, ok := seen[m.ID]; ok {
			ms.Revision, ms.Trouble = k.Hello.Revision, k.Hello.Trouble
			if !k.Last.IsZero() {
				ms.Contact = time.Since(k.Last)
			}
			if k.Err != "" {
				ms.Trouble = k.Err
			}
		}
		st.Members = append(st.Members, ms)
	}
}
