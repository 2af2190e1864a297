package lease

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
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

	Clock ClockStatus

	Voter  VoterStats
	Holder HolderStats
	// Packets; Dropped by reason: version, cluster, receiver, sender, key,
	// replay, body, crowded (the loop was late).
	Sent, Received, Unsent uint64
	Dropped                map[string]uint64
	LogDropped             uint64
	// Unrecorded counts journal entries that nobody took in time.
	Unrecorded uint64

	// Peers are the other members, by id, and Trouble the local addresses that
	// carry no packets now, with the reason.
	Peers   []PeerStatus
	Trouble map[netip.Addr]string

	hearing    int64 // ns that a path counts as heard after a packet
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
	// Forced says which voters count as absent for it by an operator's word;
	// ForceOver why that ended last. Empty: neither.
	Forced, ForceOver string
	// Yield is whom it is to be handed over to; empty: nobody.
	Yield fsm.MemberID
	// Margin is how much was left of the deadline at this tenure's renewals.
	Margin Margin
}

// PeerStatus is what this member knows of another one from the lease's packets.
type PeerStatus struct {
	ID    fsm.MemberID
	Paths []PathStatus
	// Ago is how long ago it told of itself; negative: not since this process
	// started. What follows is from then.
	Ago    time.Duration
	Behind bool // what the cluster agreed on is not in its kernel yet
	// Syncing: it has not heard of all connections of the others yet.
	Syncing bool
	Hears   []Heard // member addresses that it heard lately; Ago: before it told
	Units   []UnitTold

	at int64
}

// UnitTold is what a member told of one unit, and how long ago.
type UnitTold struct {
	UnitStanding
	Ago time.Duration

	at int64
}

// PathStatus is one way between this member and another.
type PathStatus struct {
	Local  netip.Addr     // zero: the members' TLS connection
	Remote netip.AddrPort // likewise
	Heard  time.Duration  // how long ago a packet came that way; negative: never
	Alive  bool           // it counts as heard

	at int64
}

// String says which way it is, for people.
func (p PathStatus) String() string { return way{p.Local, p.Remote}.String() }

// clonePeers copies all that age changes.
func clonePeers(ps []PeerStatus) []PeerStatus {
	ps = slices.Clone(ps)
	for i := range ps {
		ps[i].Paths, ps[i].Units = slices.Clone(ps[i].Paths), slices.Clone(ps[i].Units)
	}
	return ps
}

// since is how long ago at was; negative: never.
func since(now, at int64) time.Duration {
	if at == never {
		return -1
	}
	return time.Duration(max(0, now-at))
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
	for i := range s.Peers {
		p := &s.Peers[i]
		p.Ago = since(now, p.at)
		for j := range p.Units {
			p.Units[j].Ago = since(now, p.Units[j].at)
		}
		for j := range p.Paths {
			p.Paths[j].Heard = since(now, p.Paths[j].at)
			p.Paths[j].Alive = p.Paths[j].at > now-s.hearing
		}
	}
}

// peers makes the account of the other members.
func (l *loop) peerStatus() []PeerStatus {
	var out []PeerStatus
	for id, ways := range l.hear.ways {
		p := PeerStatus{ID: id, at: never}
		for w, k := range ways {
			p.Paths = append(p.Paths, PathStatus{Local: w.local, Remote: w.to, at: k.at})
		}
		slices.SortFunc(p.Paths, func(a, b PathStatus) int {
			return cmp.Or(a.Remote.Compare(b.Remote), a.Local.Compare(b.Local))
		})
		if t := l.told[id]; t != nil {
			p.at, p.Behind, p.Syncing, p.Hears = t.at, t.behind, t.syncing, t.heard
			for _, unit := range sortedKeys(t.units) {
				p.Units = append(p.Units, UnitTold{UnitStanding: t.units[unit].UnitStanding, at: t.units[unit].at})
			}
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b PeerStatus) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// publish makes a status for whoever asked, and for later.
func (l *loop) publish(ch chan<- Status) {
	now := l.clocks.Boot()
	h := l.holder
	s := Status{
		Boot: h.boot, embargoEnd: now + l.voter.EmbargoLeft(l.clocks.Raw()),
		Fit: h.fit, Why: h.unfit, Committed: h.voters, Floor: l.voter.floor,
		Voter: l.voter.Stats(), Holder: h.Stats(),
		Sent: l.sent, Received: l.got, Unsent: l.unsent, LogDropped: l.d.quiet.Load(),
		Dropped: maps.Clone(l.dropped), Unrecorded: l.d.unsaid.Load(),
		Clock: l.rate.status,
		Peers: l.peerStatus(), Trouble: *l.socks.trouble.Load(), hearing: hearingRenews * int64(l.d.cfg.Params.Renew),
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
	r.Forced, r.ForceOver = c.force.String(), c.force.over
	for _, w := range l.want.Routers {
		if w.ID == c.id && w.Yield != nil {
			r.Yield = w.Yield.To
		}
	}
	if c.denied != Free {
		r.Denied, r.By = c.denied.String(), c.by
	}
	if c.phase == holding {
		r.Own, r.Holder, r.Deadline = true, l.d.cfg.Self, c.deadline
		r.Margin = l.margins[c.id].status()
		return r
	}
	if holder, _, left := l.voter.Promise(l.clocks.Raw(), c.id); left > 0 {
		r.Holder, r.Deadline = holder, now+left
	} else if now < c.knownUntil {
		r.Holder, r.Deadline = c.known, c.knownUntil
	}
	return r
}
