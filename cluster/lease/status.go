package lease

import (
	"maps"
	"time"

	"lbcluster/fsm"
)

// Status is what a driver does, for people and metrics.
type Status struct {
	Boot    Nonce
	Embargo time.Duration // the voter grants nothing for so long yet
	Fit     bool
	Why     string // not fit because
	// Committed is the configuration whose majority counts; Floor is the oldest
	// that the voter answers.
	Committed fsm.VoterSet
	Floor     fsm.ConfigTag
	Routers   []RouterStatus // by id

	Voter  VoterStats
	Holder HolderStats
	// Packets; Dropped by reason: version, cluster, receiver, sender, key,
	// replay, body, crowded (the loop was late).
	Sent, Received, Unsent uint64
	Dropped                map[string]uint64
	LogDropped             uint64

	embargoEnd int64 // by the clock that Deadline uses, as of when this was made
}

// RouterStatus is the lease of one router as this member sees it.
type RouterStatus struct {
	ID   uint64
	Rank int // negative: does not stand
	// State is "waiting", "probing", "asking", "holding", "closing" or "removing".
	State string
	// Barred says why this member does not stand; empty: it does.
	Barred string
	Own    bool
	// Holder is who holds it, as far as this member knows; empty: nobody known.
	Holder fsm.MemberID
	// Deadline is the end of what is known of the holder's lease, CLOCK_BOOTTIME
	// ns, and Remaining what is left of it; of others' leases it is the promise.
	Deadline  int64
	Remaining time.Duration
	// Denied is the last refusal since this member last acquired, and By whose.
	Denied string
	By     fsm.MemberID
	// Lost says why the last tenure ended.
	Lost string
}

// age brings what is left up to date with now.
func (s *Status) age(now int64) {
	s.Embargo = time.Duration(max(0, s.embargoEnd-now))
	for i := range s.Routers {
		r := &s.Routers[i]
		r.Remaining = time.Duration(max(0, r.Deadline-now))
		if r.Remaining == 0 {
			r.Own, r.Holder = false, ""
		}
	}
}

// publish makes a status for whoever asked, and for later.
func (l *loop) publish(ch chan<- Status) {
	now := l.clocks.Boot()
	h := l.holder
	s := Status{
		Boot: l.d.boot, embargoEnd: now + l.voter.EmbargoLeft(l.clocks.Raw()),
		Fit: h.fit, Why: h.unfit, Committed: h.voters, Floor: l.voter.floor,
		Voter: l.voter.Stats(), Holder: h.Stats(),
		Sent: l.sent, Received: l.got, Unsent: l.unsent, LogDropped: l.d.quiet.Load(),
		Dropped: maps.Clone(l.dropped),
	}
	if n := l.d.crowded.Load(); n > 0 {
		s.Dropped["crowded"] = n
	}
	for _, id := range h.order {
		s.Routers = append(s.Routers, l.router(now, h.routers[id]))
	}
	l.d.last.Store(&s)
	if ch != nil {
		ch <- s
	}
}

func (l *loop) router(now int64, c *candidacy) RouterStatus {
	r := RouterStatus{ID: c.id, Rank: c.rank, State: c.phase.String(), Barred: l.holder.barred(c), Lost: c.why}
	if c.denied != Free {
		r.Denied, r.By = c.denied.String(), c.by
	}
	if c.phase == holding {
		r.Own, r.Holder, r.Deadline = true, l.d.cfg.Self, c.deadline
		return r
	}
	if holder, _, left := l.voter.Promise(l.clocks.Raw(), c.id); left > 0 {
		r.Holder, r.Deadline = holder, now+left
	} else if now < c.knownUntil {
		r.Holder, r.Deadline = c.known, c.knownUntil
	}
	return r
}
