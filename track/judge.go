package track

import (
	"fmt"
	"strings"

	"lbcluster/fsm"
)

// condition is how a watched thing is.
type condition struct {
	known bool   // it has been looked at
	ok    bool   // of interfaces, scripts and processes
	value int    // of files: the number in it
	why   string // it is not ok
}

// State is what the trackers of a unit come to on this director.
type State struct {
	Fault bool
	Score int    // the sum of the weights that count
	Why   string // it is a FAULT, or the score is lower than it could be
}

// worst is the least that a weighted tracker may count; less is a FAULT
// (keepalived: priorities are 1 to 254).
const worst = -253

// effect is what one tracker in one condition does.
func effect(t fsm.Tracker, c condition) State {
	name := fmt.Sprintf("%s %s", t.Kind, t.Name)
	if !c.known {
		if t.Weight != 0 {
			return State{}
		}
		return State{Fault: true, Why: name + " has not been looked at yet"}
	}
	if t.Kind == fsm.TrackFile {
		return fileEffect(t, c, name)
	}
	if t.Weight == 0 {
		if c.ok == t.Reverse {
			return State{Fault: true, Why: name + ": " + reason(t, c)}
		}
		return State{}
	}
	weight := t.Weight
	if t.Reverse {
		weight = -weight
	}
	switch {
	case t.Weight > 0 && c.ok, t.Weight < 0 && !c.ok:
	default:
		weight = 0
	}
	s := State{Score: weight}
	if !c.ok {
		s.Why = name + ": " + reason(t, c)
	}
	return s
}

func reason(t fsm.Tracker, c condition) string {
	switch {
	case c.ok && t.Reverse:
		return "it is well, which counts as a failure (reverse)"
	case c.why == "":
		return "it fails"
	}
	return c.why
}

func fileEffect(t fsm.Tracker, c condition, name string) State {
	if t.Weight == 0 {
		if (c.value != 0) != t.Reverse {
			return State{Fault: true, Why: fmt.Sprintf("%s says %d", name, c.value)}
		}
		return State{}
	}
	weight := t.Weight
	if t.Reverse {
		weight = -weight
	}
	// Neither factor is large enough to overflow: see readNumber and fsm.
	score := weight * c.value
	s := State{Score: min(max(score, worst), -worst)}
	if score < 0 {
		s.Why = fmt.Sprintf("%s says %d", name, c.value)
	}
	s.Fault = score < worst
	return s
}

// sum puts the effects on a unit together.
func sum(states []State) State {
	var out State
	var faults, others []string
	for _, s := range states {
		out.Fault = out.Fault || s.Fault
		out.Score += s.Score
		switch {
		case s.Fault:
			faults = append(faults, s.Why)
		case s.Why != "":
			others = append(others, s.Why)
		}
	}
	if len(faults) == 0 {
		faults = others
	}
	out.Why = strings.Join(faults, "; ")
	return out
}

// judge applies rise and fall to the results of a script.
type judge struct {
	rise, fall int
	condition
	streak int // results in a row that speak against the condition
}

func newJudge(t fsm.Tracker) *judge {
	j := &judge{rise: max(t.Rise, 1), fall: max(t.Fall, 1)}
	if t.InitFail {
		j.known, j.why = true, "it has not succeeded yet (init_fail)"
	}
	return j
}

// next takes a result; true: the condition changed.
func (j *judge) next(ok bool, why string) bool {
	if !j.known {
		j.condition = condition{known: true, ok: ok, why: why}
		return true
	}
	if ok == j.ok {
		j.streak = 0
		if !ok {
			j.why = why
		}
		return false
	}
	j.streak++
	need := j.rise
	if j.ok {
		need = j.fall
	}
	if j.streak < need {
		return false
	}
	j.condition, j.streak = condition{known: true, ok: ok, why: why}, 0
	return true
}

// delayed holds a change back for as long as it has to last: up when processes
// appear, down when they go.
type delayed struct {
	up, down int64 // ns
	now      condition
	since    int64 // of the other condition; 0: there is none
}

// next takes what is seen at a time and returns what counts.
func (d *delayed) next(at int64, seen condition) condition {
	if !d.now.known || seen.ok == d.now.ok {
		d.now, d.since = seen, 0
		return d.now
	}
	if d.since == 0 {
		d.since = at
	}
	wait := d.up
	if !seen.ok {
		wait = d.down
	}
	if at-d.since >= wait {
		d.now, d.since = seen, 0
	}
	return d.now
}
