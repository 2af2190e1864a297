package cluster

import (
	"context"
	"fmt"
	"time"

	"lbcluster/fsm"
)

// maxRampSteps bounds what one command takes further.
const maxRampSteps = 1000

// ramps counts the steps of slow starts. Every member counts, from when it sees a
// step; a new leader goes on where the one before was, and one that has just started
// begins the present step anew.
type ramps struct {
	due map[fsm.RampStep]time.Time // by the step that comes then
}

// look notes what a table has.
func (r *ramps) look(t *fsm.Table, now time.Time) {
	if len(r.due) == 0 && !t.SlowStarts() {
		return
	}
	due := map[fsm.RampStep]time.Time{}
	for target, h := range t.Health {
		if h.Step == 0 {
			continue
		}
		next := fsm.RampStep{Target: target, Since: h.Since, Step: h.Step + 1}
		at, known := r.due[next]
		if !known {
			at = now.Add(t.SlowStart(target) / fsm.RampSteps)
		}
		due[next] = at
	}
	r.due = due
}

// over are the steps of the leader's own table t that are due.
func (r *ramps) over(t *fsm.Table, now time.Time) (steps []fsm.RampStep) {
	for next, at := range r.due {
		h := t.Health[next.Target]
		if now.Before(at) || h.Since != next.Since || h.Step+1 != next.Step || len(steps) == maxRampSteps {
			continue
		}
		steps = append(steps, next)
	}
	return steps
}

// goOn proposes them.
func (w *steward) goOn(ctx context.Context, steps []fsm.RampStep) error {
	if _, err := w.s.n.Propose(ctx, fsm.Command{Ramp: &fsm.Ramp{Steps: steps}}); err != nil {
		return fmt.Errorf("taking the slow start of %d real servers a step further: %w", len(steps), err)
	}
	return nil
}
