package lease

import (
	"time"

	"lbcluster/fsm"
)

// EntryKind is a kind of [Entry].
type EntryKind string

// What the lease has to say for the record. A renewal that succeeds is not
// recorded.
const (
	EntryAcquired EntryKind = "acquired"    // this member holds the unit now
	EntryLost     EntryKind = "lost"        // it does not any more; Cause says why
	EntryClosed   EntryKind = "gate-closed" // the gate of a unit that was held closed
	EntryRound    EntryKind = "round-lost"  // a holder's round found no majority in time; Peers did not grant
	EntryDenied   EntryKind = "denied"      // the voter Peers[0] refused an Ask; Cause is its reason
	EntryPathDead EntryKind = "path-dead"   // nothing comes from Peers[0] that way any more
	EntryPathBack EntryKind = "path-back"   // it does again
	EntryClock    EntryKind = "clock"       // this machine's clock runs at another rate than the hardware's
)

// Entry is one event for the record.
type Entry struct {
	At    time.Time // the wall clock, for people
	Boot  int64     // CLOCK_BOOTTIME, ns, for order and durations
	Unit  uint64    // 0: not about one unit
	Kind  EntryKind
	Cause string         // in few words, the same each time
	Peers []fsm.MemberID // whom it is about, beside this member; of EntryClosed: who is to be next
	// Deadline is, of EntryClosed, until when the kernel had been told to let the
	// unit's packets through, CLOCK_BOOTTIME in ns; 0: not known.
	Deadline int64
	Text     string // a sentence for people
}

// said remembers when an entry was last made, so that what goes on for hours is
// not recorded at each round.
type said struct {
	unit  uint64
	kind  EntryKind
	cause string
	peers string
}

const (
	sayAgain = 30 * time.Second // the same entry is not made again within this
	maxSaid  = 1024             // then all is forgotten: better twice than never
)

// journalOnce records an entry, unless the same was recorded a moment ago.
func (l *loop) journalOnce(e Entry) {
	k, now := said{e.Unit, e.Kind, e.Cause, list(e.Peers)}, l.clocks.Boot()
	if at, ok := l.recorded[k]; ok && now-at < int64(sayAgain) {
		return
	}
	if len(l.recorded) >= maxSaid {
		clear(l.recorded)
	}
	l.recorded[k] = now
	l.journal(e)
}

// journal records an entry. It never waits: what nobody takes in time is dropped
// and counted.
func (l *loop) journal(e Entry) {
	if l.d.cfg.Journal == nil {
		return
	}
	e.At, e.Boot = time.Now(), l.clocks.Boot()
	select {
	case l.d.entries <- e:
	default:
		l.d.unsaid.Add(1)
	}
}

// record hands entries to whoever keeps them, who may take his time.
func (d *Driver) record() error {
	for e := range d.entries {
		d.cfg.Journal(e)
	}
	return nil
}
