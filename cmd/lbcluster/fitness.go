package main

import (
	"slices"
	"sync"

	"lbcluster/journal"
)

// fitness joins what the parts say of whether this member can use a lease: it
// is fit when each of them says so. A part counts as unfit until it has spoken.
type fitness struct {
	set func(ok bool, why string)

	mu    sync.Mutex
	unfit []opinion // in the order in which they are asked for the reason
}

type opinion struct{ part, why string }

func newFitness(set func(bool, string), parts ...string) *fitness {
	f := &fitness{set: set}
	for _, p := range parts {
		f.unfit = append(f.unfit, opinion{p, p + " has not reported yet"})
	}
	return f
}

// of is the report function of one part. What goes out is in the order of the
// reports: the lock is held over set, which must not block.
func (f *fitness) of(part string) func(ok bool, why string) {
	return func(ok bool, why string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.unfit = slices.DeleteFunc(f.unfit, func(o opinion) bool { return o.part == part })
		if !ok {
			f.unfit = append(f.unfit, opinion{part, why})
		}
		if len(f.unfit) > 0 {
			f.set(false, f.unfit[0].why)
			return
		}
		f.set(true, "")
	}
}

// unitFitness is what the data plane says of each unit. A unit of which it has
// not spoken is unfit, as is a part in fitness. The nil one, a witness's, finds
// nothing wrong: a witness stands for nothing anyway.
type unitFitness struct {
	changed chan struct{} // one slot

	note func(journal.Entry) // of each change; never waits

	mu  sync.Mutex
	bad map[uint64]string // "": fit
}

func newUnitFitness(note func(journal.Entry)) *unitFitness {
	return &unitFitness{changed: make(chan struct{}, 1), note: note, bad: map[uint64]string{}}
}

// set takes a report, and pokes who waits for changed.
func (u *unitFitness) set(unit uint64, ok bool, why string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if ok {
		why = ""
	} else if why == "" {
		why = "no reason given"
	}
	if u.bad[unit] != why {
		u.note(fitEntry(unit, why))
	}
	u.bad[unit] = why
	u.poke()
}

// poke wakes who waits for changed.
func (u *unitFitness) poke() {
	select {
	case u.changed <- struct{}{}:
	default:
	}
}

// why is the reason that a unit cannot be held here; "": it can.
func (u *unitFitness) why(unit uint64) string {
	if u == nil {
		return ""
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if why, known := u.bad[unit]; known {
		return why
	}
	return "its interface has not been looked at yet"
}
