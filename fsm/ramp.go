package fsm

import (
	"fmt"
	"slices"
	"time"
)

// RampSteps is how many steps a slow start has: a server that has come up gets a
// fifth of its weight, then two, and so on. Few, because each is an entry of the log.
const RampSteps = 5

// Bounds of [VirtualServer.SlowStart].
const (
	leastSlowStart = 5 * time.Second
	mostSlowStart  = time.Hour
)

// Ramp takes targets a step further in their slow start. The leader proposes it when
// the time is over; Apply never looks at a clock.
type Ramp struct {
	Steps []RampStep `json:"steps"`
}

// RampStep is the step that a target goes to: the one after where it is, of the slow
// start that began at Since. Anything else is ignored: it has gone down meanwhile.
type RampStep struct {
	Target Target   `json:"target"`
	Since  Revision `json:"since"`
	Step   int      `json:"step"`
}

// SlowStart is how long the slow start of a target takes: the longest of its virtual
// servers'. 0: it has none.
func (t *Table) SlowStart(target Target) time.Duration {
	x, longest := t.index(), time.Duration(0)
	for i, v := range t.Services {
		if v.SlowStart.D() > longest && slices.Contains(x.of[i], target) {
			longest = v.SlowStart.D()
		}
	}
	return longest
}

// SlowStarts reports whether any virtual server has a slow start.
func (t *Table) SlowStarts() bool {
	return slices.ContainsFunc(t.Services, func(v VirtualServer) bool { return v.SlowStart > 0 })
}

// slowly is the weight that a real server of v has while it starts.
func (v VirtualServer) slowly(weight int, h Health) int {
	if v.SlowStart == 0 || h.Step == 0 || weight == 0 {
		return weight
	}
	return max(1, weight*h.Step/RampSteps)
}

func (h Health) whySlow() string {
	return fmt.Sprintf("; it starts slowly: %d %% of its weight", 100*h.Step/RampSteps)
}

// ramp does a step. What is not there any more is passed over.
func (e *edit) ramp(r Ramp) error {
	fresh := map[Target]Health{}
	var texts []string
	for _, s := range r.Steps {
		h, there := e.Health[s.Target]
		if _, twice := fresh[s.Target]; twice || !there || h.Step == 0 || h.Since != s.Since || s.Step != h.Step+1 {
			continue
		}
		h.Step = s.Step % RampSteps
		fresh[s.Target] = h
		texts = append(texts, fmt.Sprintf("%s at %d %%", e.server(s.Target), 100*s.Step/RampSteps))
	}
	if len(fresh) == 0 {
		return nil
	}
	e.Health = cloneMap(e.Health)
	for target, h := range fresh {
		e.Health[target] = h
	}
	e.event("health", "slow start: %s", someOf(texts, 5))
	return nil
}

// inKernel is what of h shows in the kernel's tables.
func (h Health) inKernel() Health { return Health{Down: h.Down, Weighs: h.Weighs, Step: h.Step} }
