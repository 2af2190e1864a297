package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lbcluster/cluster/lease"
	"lbcluster/fsm"
	"lbcluster/journal"
)

// leaseKinds are the journal's words for the lease's. What is not here is
// recorded by those who act on it: see tenures.
var leaseKinds = map[lease.EntryKind]journal.Kind{
	lease.EntryRound:    journal.RoundLost,
	lease.EntryDenied:   journal.Denied,
	lease.EntryClosed:   journal.GateClosed,
	lease.EntryPathDead: journal.PathDead,
	lease.EntryPathBack: journal.PathBack,
	lease.EntryClock:    journal.Clock,
}

// noteLease records what the lease has to say.
func (d *theDaemon) noteLease(e lease.Entry) {
	n, ok := leaseEntry(e)
	if !ok {
		return
	}
	if given, ok := passedOn(n); ok {
		d.note(given)
	}
	d.note(n)
}

// passedOn is the handover that a closing begins when somebody is ready to take
// what this member gives up by itself. Of a planned one judges has told already.
func passedOn(closed journal.Entry) (journal.Entry, bool) {
	to := closed.Peers
	if closed.Kind != journal.GateClosed || len(to) == 0 || closed.Cause == journal.Yielded || closed.Cause == "" {
		return journal.Entry{}, false
	}
	n := journal.Entry{At: closed.At, Boot: closed.Boot, Unit: closed.Unit, Kind: journal.Handover, Cause: journal.ToFitter, Peers: to}
	if closed.Cause == journal.Stopping {
		n.Cause = journal.ByStop
	}
	return n, true
}

// leaseEntry translates an entry; false: somebody else records that.
func leaseEntry(e lease.Entry) (journal.Entry, bool) {
	kind, ok := leaseKinds[e.Kind]
	n := journal.Entry{At: e.At, Boot: e.Boot, Unit: e.Unit, Kind: kind, Peers: e.Peers, Deadline: e.Deadline, Text: e.Text}
	switch e.Kind {
	case lease.EntryPathDead, lease.EntryPathBack:
		n.Text = e.Cause // the way
	case lease.EntryClosed:
		n.Cause = lostCause(e.Cause)
	}
	return n, ok
}

// leaseWarnings says what is wrong with the lease's ways between members, and
// with this machine's clock.
func leaseWarnings(ls lease.Status, t *fsm.Table) []string {
	var out []string
	if ls.Clock.Alarm != "" {
		out = append(out, ls.Clock.Alarm)
	}
	for _, at := range slices.SortedFunc(maps.Keys(ls.Trouble), netip.Addr.Compare) {
		out = append(out, fmt.Sprintf("no lease packets over %s: %s", at, ls.Trouble[at]))
	}
	for _, p := range ls.Peers {
		name := string(p.ID)
		if m, ok := t.Member(p.ID); ok {
			name = m.Name
		}
		var dead []string
		alive := 0
		for _, path := range p.Paths {
			switch {
			case path.Alive:
				alive++
			case path.Heard < 0:
				dead = append(dead, path.String()+" (never)")
			default:
				dead = append(dead, fmt.Sprintf("%s (since %v)", path, path.Heard.Round(time.Second)))
			}
		}
		switch {
		case len(dead) == 0:
		case alive == 0:
			out = append(out, name+" is not heard at all")
		default:
			out = append(out, name+" is not heard over "+strings.Join(dead, ", ")+"; leases go the other ways")
		}
	}
	return out
}
