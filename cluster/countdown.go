package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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

// drains counts until the drains of real servers that have a deadline are over, as
// countdown does for a change that nobody confirms.
type drains struct {
	ends  map[drain]time.Time
	begun bool // as in countdown
}

// drain is one of an override, told apart from the next of the same server.
type drain struct {
	service fsm.ServiceKey
	server  netip.AddrPort
	since   int64 // nanoseconds since 1970
	within  fsm.Duration
}

func drainOf(o fsm.Override) drain { return drain{o.Service, o.Server, o.Since.UnixNano(), o.Within} }

// look notes what a table has.
func (d *drains) look(t *fsm.Table, now time.Time) {
	if t.Cluster == "" {
		return
	}
	ends := map[drain]time.Time{}
	for _, o := range t.Overrides {
		if o.Within == 0 {
			continue
		}
		at, known := d.ends[drainOf(o)]
		if !known {
			wait := o.Within.D()
			if !d.begun {
				wait = min(max(o.Until().Sub(now.Round(0)), 0), wait)
			}
			at = now.Add(wait)
		}
		ends[drainOf(o)] = at
	}
	d.ends, d.begun = ends, true
}

// over finds a drain in the leader's own table t whose time is over.
func (d *drains) over(t *fsm.Table, now time.Time) (fsm.Override, bool) {
	for _, o := range t.Overrides {
		if at, known := d.ends[drainOf(o)]; known && !now.Before(at) {
			return o, true
		}
	}
	return fsm.Override{}, false
}

// endDrain proposes it. Somebody may have ended it at the last moment.
func (w *steward) endDrain(ctx context.Context, o fsm.Override) error {
	_, err := w.s.n.Propose(ctx, fsm.Command{Override: &fsm.SetOverride{Service: o.Service, Server: o.Server, Over: true, Since: o.Since}})
	if err != nil && !errors.Is(err, fsm.ErrNotFound) && !errors.Is(err, fsm.ErrConflict) {
		return fmt.Errorf("ending the drain of %s: %w", o.Server, err)
	}
	return nil
}
