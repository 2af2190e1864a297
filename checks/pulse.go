package checks

import (
	"context"
	"sync"
	"time"
)

const (
	beatEvery = 100 * time.Millisecond
	// standstill is how late a beat must be for the process to have stood still.
	standstill = 250 * time.Millisecond
	// excuses bounds how many failures in a row of one check a standstill
	// excuses: on a machine that never runs well, a dead server must be found too.
	excuses = 3
)

// pulse notices that this process did not run for a while: stopped by a signal,
// paused with its machine, or starved. A probe that was under way meanwhile is
// out of time although its server may have answered, and directors that are
// stopped together would agree on that.
type pulse struct {
	mu   sync.Mutex
	last time.Time // of the last beat; zero: none yet
	woke time.Time // the end of the last standstill; zero: none yet
}

// run beats until ctx ends.
func (p *pulse) run(ctx context.Context) error {
	for p.beat(time.Now()); pause(ctx, beatEvery); p.beat(time.Now()) {
	}
	return nil
}

func (p *pulse) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late(now) {
		p.woke = now
	}
	p.last = now
}

// stoodStill tells whether the process stood still at any time from began to
// now. Who asks may run before the beat that is due.
func (p *pulse) stoodStill(began, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late(now) || p.woke.After(began)
}

func (p *pulse) late(now time.Time) bool {
	return !p.last.IsZero() && now.Sub(p.last) > standstill
}
