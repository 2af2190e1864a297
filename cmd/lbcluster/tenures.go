package main

import (
	"context"
	"maps"
	"net/netip"
	"sync"
	"time"

	"lbcluster/cluster/lease"
	"lbcluster/dataplane/fence"
	"lbcluster/dataplane/gate"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// tenures passes on to the data plane what the lease tells its owner, and
// remembers it: for status, and for the history that the owners report
// afterwards. It never blocks; reports that nobody takes are dropped.
type tenures struct {
	owner   lease.Owner
	reports chan fsm.Ownership
	// note records; former tells who owned a unit last, as the table has it.
	note   func(journal.Entry)
	former func(unit uint64) fsm.MemberID
	now    func() int64 // CLOCK_BOOTTIME

	mu        sync.Mutex
	inherited map[netip.Addr]int64 // not yet adopted; until when its gate was open (CLOCK_BOOTTIME)
	since     map[uint64]time.Time // of the present tenures
	count     map[uint64]tally
}

// tally counts the tenures of a router since the process started.
type tally struct{ acquired, lost uint64 }

// newTenures gets the VIPs whose gate the process before this one left open.
func newTenures(owner lease.Owner, inherited map[netip.Addr]int64, note func(journal.Entry), former func(uint64) fsm.MemberID) *tenures {
	return &tenures{owner: owner, inherited: maps.Clone(inherited), note: note, former: former, now: gate.BootNow, reports: make(chan fsm.Ownership, 256), since: map[uint64]time.Time{}, count: map[uint64]tally{}}
}

// Acquired implements lease.Owner. It comes again when addresses change: that
// is no new tenure.
func (t *tenures) Acquired(p fence.Permit) {
	t.owner.Acquired(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.since[p.Router()]; ok {
		return
	}
	t.since[p.Router()] = time.Now()
	n := t.count[p.Router()]
	n.acquired++
	t.count[p.Router()] = n
	acquired := journal.Entry{Kind: journal.Acquired, Unit: p.Router()}
	if t.adopts(p) {
		acquired.Cause = journal.Adopted
	}
	if id := t.former(p.Router()); id != "" {
		acquired.Peers = []fsm.MemberID{id}
	}
	t.note(acquired)
	t.queue(fsm.Ownership{Router: p.Router(), Owns: true, Why: "a majority granted the lease"})
}

// adopts reports whether p goes on with what the process before this one held.
// What was inherited is that only until it is lost.
func (t *tenures) adopts(p fence.Permit) bool {
	found := false
	for a, until := range t.inherited {
		if p.Covers(a) {
			found = found || until > t.now() // else its gate has closed meanwhile, and it is won anew
			delete(t.inherited, a)
		}
	}
	return found
}

// adopting: something that the process before this one held is not adopted yet.
func (t *tenures) adopting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.inherited, func(_ netip.Addr, until int64) bool { return until <= t.now() })
	return len(t.inherited) > 0
}

// Lost implements lease.Owner.
func (t *tenures) Lost(router uint64, why string) <-chan struct{} {
	removed := t.owner.Lost(router, why)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.since[router]; !ok {
		return removed
	}
	delete(t.since, router)
	n := t.count[router]
	n.lost++
	t.count[router] = n
	t.note(journal.Entry{Kind: journal.Lost, Unit: router, Cause: lostCause(why), Text: why})
	t.queue(fsm.Ownership{Router: router, Why: why})
	return removed
}

func (t *tenures) queue(o fsm.Ownership) {
	select {
	case t.reports <- o:
	default:
	}
}

// of tells when the present tenure of a router began (zero: none) and how many
// there were.
func (t *tenures) of(router uint64) (since time.Time, n tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since[router], t.count[router]
}

// reportLimit bounds one report: history waits for nobody.
const reportLimit = 10 * time.Second

// reportAgain is how often what the table says of owners is compared with what
// this member holds: a report is lost with the leader that it went to, which
// often was the former owner.
const reportAgain = time.Second

// reportFirst is how long after the start that begins: by then what the process
// before this one held is adopted or gone.
const reportFirst = 3 * time.Second

// report tells the history what happened, until ctx ends.
func (t *tenures) report(ctx context.Context, self fsm.MemberID, table func() *fsm.Table, propose func(context.Context, fsm.Command) (fsm.Result, error)) error {
	tell := func(o fsm.Ownership) {
		o.Member = self
		limited, cancel := context.WithTimeout(ctx, reportLimit)
		defer cancel()
		_, _ = propose(limited, fsm.Command{Ownership: &o}) // the lease stands without it
	}
	tick := time.NewTicker(reportAgain)
	defer tick.Stop()
	first := time.Now().Add(reportFirst)
	for {
		select {
		case <-ctx.Done():
			return nil
		case o := <-t.reports:
			tell(o)
		case <-tick.C:
			if time.Now().Before(first) {
				continue
			}
			for _, o := range t.untold(self, table()) {
				tell(o)
			}
		}
	}
}

// untold are the reports that would bring the table in line with what this
// member holds. What is queued comes first.
func (t *tenures) untold(self fsm.MemberID, table *fsm.Table) []fsm.Ownership {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.reports) > 0 {
		return nil
	}
	var out []fsm.Ownership
	for _, u := range table.Units() {
		_, owns := t.since[u.ID]
		switch says := table.Owners[u.ID] == self; {
		case owns && !says:
			out = append(out, fsm.Ownership{Router: u.ID, Owns: true, Why: "a majority granted the lease"})
		case !owns && says:
			out = append(out, fsm.Ownership{Router: u.ID, Why: "it no longer holds the lease"})
		}
	}
	return out
}
