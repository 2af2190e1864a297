package handover

import (
	"time"

	"lbcluster/fsm"
)

// Standing is what a member says of itself for one unit.
type Standing struct {
	Ready   bool          // it could hold the unit at once
	Behind  bool          // what the cluster agreed on is not in its kernel yet
	Blind   fsm.Blindness // zero: it sees about as much as was agreed
	Syncing bool          // it has not heard of all connections of the others yet
	Score   int           // of the unit's trackers; more is better
	Why     string        // why not ready, or why the score is low
}

// Report is what another member said.
type Report struct {
	Standing
	Ago time.Duration // since it said so
}

// Facts are all that a decision rests on.
type Facts struct {
	Now   time.Duration // by any clock that only goes forward
	Table *fsm.Table
	Unit  fsm.Unit
	Self  fsm.MemberID
	Owner bool // Self holds the unit
	Own   Standing
	// Lost are the members that have lost one of the unit's networks; see
	// [Networks.Lost].
	Lost map[fsm.MemberID]bool
	// Others are the reports of the other members, witnesses included.
	Others map[fsm.MemberID]Report
	// Fresh is how old a report may be; three renew periods of the lease.
	Fresh time.Duration
}

// quality is how fit a director is: more is better.
type quality struct {
	well  bool // ready, its table is not behind, and it is not blind
	ready bool
	score int
}

// unknown is the quality of a member that says nothing.
var unknown = quality{}

func (s Standing) quality() quality {
	if !s.Ready {
		return unknown
	}
	return quality{well: !s.Behind && s.Blind.Why == "", ready: true, score: s.Score}
}

// compare is negative if q is worse than o.
func (q quality) compare(o quality) int {
	switch {
	case q.ready != o.ready:
		return sign(q.ready)
	case q.well != o.well:
		return sign(q.well)
	case !q.ready:
		return 0
	}
	return q.score - o.score
}

func sign(better bool) int {
	if better {
		return 1
	}
	return -1
}

func worse(a, b quality) quality {
	if a.compare(b) < 0 {
		return a
	}
	return b
}

func better(a, b quality) quality {
	if a.compare(b) < 0 {
		return b
	}
	return a
}

// fresh returns a member's report if it is recent.
func (f Facts) fresh(id fsm.MemberID) (Report, bool) {
	r, ok := f.Others[id]
	return r, ok && r.Ago <= f.Fresh
}
