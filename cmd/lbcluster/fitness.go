package main

import (
	"slices"
	"sync"
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
