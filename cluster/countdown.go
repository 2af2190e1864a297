package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lbcluster/fsm"
)

// countdown counts until a change that nobody confirms is taken back. Every
// member counts by itself from when the change came into its table, so that
// clocks that disagree, or a new leader, neither shorten nor lengthen it. Only a
// member that has just started goes by the wall clock and the time in the table.
type countdown struct {
	rev   fsm.Revision // of the change; 0: none waits
	at    time.Time
	begun bool // this process has seen a table of its cluster before
}

// look notes what a table has waiting.
func (c *countdown) look(t *fsm.Table, now time.Time) {
	p := t.Pending
	switch {
	case t.Cluster == "":
		return
	case p == nil:
		c.rev = 0
	case p.Revision != c.rev:
		wait := p.Within.D()
		if !c.begun {
			// Round drops the monotonic reading, which the table's time has not.
			wait = min(max(p.Until().Sub(now.Round(0)), 0), wait)
		}
		c.rev, c.at = p.Revision, now.Add(wait)
	}
	c.begun = true
}

// over says which change must be taken back now, if the leader's own table t
// still has it waiting; false: none.
func (c *countdown) over(t *fsm.Table, now time.Time) (fsm.Revision, bool) {
	waits := t.Pending != nil && t.Pending.Revision == c.rev
	return c.rev, waits && !now.Before(c.at)
}

// takeBack proposes it. Somebody may have confirmed the change at the last
// moment: then the table refuses, and that is as good.
func (w *steward) takeBack(ctx context.Context, rev fsm.Revision) error {
	_, err := w.s.n.Propose(ctx, fsm.Command{Undo: &fsm.Undo{Revision: rev, Late: true}})
	switch {
	case errors.Is(err, fsm.ErrNotFound), errors.Is(err, fsm.ErrConflict):
		return nil
	case err != nil:
		return fmt.Errorf("taking back revision %d, which nobody confirmed: %w", rev, err)
	}
	w.s.log.Warn("nobody confirmed a change in time: it is taken back", "revision", rev)
	return nil
}
