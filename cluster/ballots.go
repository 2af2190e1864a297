package cluster

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"lbcluster/fsm"
)

// ErrBusy: there is too much of it; the same may be tried again in a moment.
var ErrBusy = errors.New("too often")

// A director gathers its votes for 20 ms, and has them again in each that was
// refused. So a burst is all that a bad moment needs, and what comes faster than the
// rate for long is not about real servers any more.
const (
	voteBurst = 100 // commands
	voteRate  = 20  // commands a second
)

// ballots keeps a confused member from filling the log with votes: the leader takes so
// many from each member, and only in its own name.
type ballots struct {
	mu      sync.Mutex
	rates   map[fsm.MemberID]*bucket
	refused map[fsm.MemberID]uint64
	last    map[fsm.MemberID]time.Time // when one was refused
}

func newBallots() *ballots {
	return &ballots{rates: map[fsm.MemberID]*bucket{}, refused: map[fsm.MemberID]uint64{}, last: map[fsm.MemberID]time.Time{}}
}

// take says why a command of a member is not taken now; nil: it is.
func (b *ballots) take(from fsm.MemberID, c fsm.Command, now time.Time) error {
	if c.Votes == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	err := error(nil)
	if b.rates[from] == nil {
		b.rates[from] = newBucket(voteBurst, voteRate)
	}
	switch {
	case c.Votes.Member != from:
		err = fmt.Errorf("%w: %s votes in the name of %s", fsm.ErrDenied, from, c.Votes.Member)
	case !b.rates[from].take(now):
		err = fmt.Errorf("%w: %s votes more than %d times a second", ErrBusy, from, voteRate)
	default:
		return nil
	}
	b.refused[from]++
	b.last[from] = now
	return err
}

// floodMemory is how long a flood is told of after its last drop.
const floodMemory = time.Minute

// counts are how many votes of each member were refused, and which members flood now.
func (b *ballots) counts(now time.Time) (refused map[fsm.MemberID]uint64, flooding []fsm.MemberID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, at := range b.last {
		if now.Sub(at) < floodMemory {
			flooding = append(flooding, id)
		}
	}
	return maps.Clone(b.refused), flooding
}
