package main

import (
	"lbcluster/cluster/lease"
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
	if n, ok := leaseEntry(e); ok {
		d.note(n)
	}
}

// leaseEntry translates an entry; false: somebody else records that.
func leaseEntry(e lease.Entry) (journal.Entry, bool) {
	kind, ok := leaseKinds[e.Kind]
	n := journal.Entry{At: e.At, Boot: e.Boot, Unit: e.Unit, Kind: kind, Peers: e.Peers, Text: e.Text}
	switch e.Kind {
	case lease.EntryPathDead, lease.EntryPathBack:
		n.Text = e.Cause // the way
	case lease.EntryClosed:
		n.Cause = lostCause(e.Cause)
	}
	return n, ok
}
