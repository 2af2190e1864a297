package checks

import (
	"time"

	"lbcluster/fsm"
)

// State is what Judge remembers of one check. The zero State is that of a check
// that has never run.
type State struct {
	Known bool // a result has been seen
	Up    bool // Invariant: false unless Known
	// Failures counts the failures in a row that were forgiven so far.
	// Invariant: 0 unless Up; at most the check's Retry.
	Failures int
}

// Judge takes the result of one probe and returns what to think of the check
// now, and how long to wait before the next probe. The rules are those of
// keepalived's TCP_CHECK (check_tcp.c in version 2.4):
//
//   - a success makes it up at once;
//   - while up, Retry failures in a row are forgiven, each followed by a pause
//     of DelayBeforeRetry; the next one makes it down;
//   - a first-ever failure is not forgiven;
//   - in every other case the next probe comes after DelayLoop: a check that is
//     down is not hurried.
func Judge(c fsm.Check, s State, ok bool) (State, time.Duration) {
	switch {
	case ok:
		return State{Known: true, Up: true}, c.DelayLoop.D()
	case s.Up && s.Failures < c.Retry:
		s.Failures++
		return s, c.DelayBeforeRetry.D()
	default:
		return State{Known: true}, c.DelayLoop.D()
	}
}

// Opinion is what the states of a target's checks make together: up if all are,
// down if any is known to be. known is false as long as neither can be said.
func Opinion(states []State) (up, known bool) {
	up, known = true, true
	for _, s := range states {
		if s.Known && !s.Up {
			return false, true
		}
		known = known && s.Known
	}
	return known, known
}
