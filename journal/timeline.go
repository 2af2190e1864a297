package journal

import (
	"cmp"
	"slices"
	"time"

	"lbcluster/fsm"
)

// Record is one member's answer: its entries, and its clocks when it answered.
type Record struct {
	Node    fsm.MemberID `json:"node"`
	Name    string       `json:"name"`
	BootID  string       `json:"boot_id"`
	Now     time.Time    `json:"now"`      // its wall clock
	NowBoot int64        `json:"now_boot"` // its CLOCK_BOOTTIME
	Entries []Entry      `json:"entries"`  // oldest first
	Dropped uint64       `json:"dropped,omitempty"`
	Trouble string       `json:"trouble,omitempty"` // why the record may have holes
	// Error says why there is no answer; the rest is then empty.
	Error string `json:"error,omitempty"`

	// Offset is how far its wall clock is ahead of the asker's, give or take
	// Margin; the asker fills both in.
	Offset time.Duration `json:"offset,omitempty"`
	Margin time.Duration `json:"margin,omitempty"`
}

// Event is an entry at its place in the common time, which is the asker's wall
// clock.
type Event struct {
	Time time.Time `json:"time"`
	Name string    `json:"name"` // of the member
	Entry
}

// Merge lays the records over each other. The order of each member's own
// entries is kept, whatever its wall clock did.
func Merge(records []Record) []Event {
	var all []Event
	for _, r := range records {
		all = append(all, r.placed()...)
	}
	// Stable, and each member's events ascend: their order is kept.
	slices.SortStableFunc(all, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return all
}

// placed gives each entry its time by the asker's clock. What the present boot
// noted is placed by CLOCK_BOOTTIME, which nobody sets; what is older by the
// wall clock of its time, but never after what followed it.
func (r Record) placed() []Event {
	events := make([]Event, len(r.Entries))
	now := r.Now.Add(-r.offset())
	var next time.Time
	for i := len(r.Entries) - 1; i >= 0; i-- {
		e := r.Entries[i]
		e.Node = cmp.Or(e.Node, r.Node) // lbcluster fence knows no ids
		at := e.At.Add(-r.offset())
		if r.BootID != "" && e.BootID == r.BootID {
			at = now.Add(-time.Duration(r.NowBoot - e.Boot))
		}
		if !next.IsZero() && at.After(next) {
			at = next
		}
		next = at
		events[i] = Event{Time: at, Name: cmp.Or(r.Name, string(r.Node)), Entry: e}
	}
	return events
}

// offset is the measured difference, unless it is within its margin: then the
// clocks may as well agree.
func (r Record) offset() time.Duration {
	if r.Offset.Abs() <= r.Margin {
		return 0
	}
	return r.Offset
}

// Around returns the events from before at to after it.
func Around(events []Event, at time.Time, before, after time.Duration) []Event {
	from, to := at.Add(-before), at.Add(after)
	var out []Event
	for _, e := range events {
		if !e.Time.Before(from) && !e.Time.After(to) {
			out = append(out, e)
		}
	}
	return out
}
