package journal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lbcluster/fsm"
)

// Question asks why a unit changed hands.
type Question struct {
	Unit uint64
	Name string    // of the unit: "VI_1"
	At   time.Time // the change nearest to it; zero: the last one
	// Names are the members' names; one without is called by its id.
	Names map[fsm.MemberID]string
	// Unreachable are the members that gave no record, and why.
	Unreachable map[fsm.MemberID]string
	// Now is when it is asked: a change of another day is told with its date.
	Now time.Time
}

// Answer is what the records say.
type Answer struct {
	// Found is false when the records hold no change of the unit.
	Found bool         `json:"found"`
	From  fsm.MemberID `json:"from,omitempty"` // empty: it had no owner that is known
	To    fsm.MemberID `json:"to,omitempty"`   // empty: it has none since
	At    time.Time    `json:"at,omitzero"`    // of the taking, or of the loss if nobody took it
	// Gap is how long the VIP had no owner; GapKnown says how well that is known.
	Gap      time.Duration `json:"gap,omitempty"`
	GapKnown Knowledge     `json:"gap_known,omitempty"`
	Cause    string        `json:"cause,omitempty"` // a short word: "frozen", "cut off"
	Sentence string        `json:"sentence"`
}

// Knowledge says how good a number is.
type Knowledge string

// Of a gap.
const (
	Exact   Knowledge = "exact"
	AtMost  Knowledge = "at most"
	Unknown Knowledge = "" // nothing can be said
)

// Window is what is shown, and searched, before and after a change.
const (
	WindowBefore = 10 * time.Second
	WindowAfter  = 3 * time.Second
)

// noteSkew is how much later than what it caused something may stand in a
// member's record: its parts do not wait for each other.
const noteSkew = 100 * time.Millisecond

// Explain finds the change that was asked for and names its cause.
func Explain(events []Event, q Question) Answer {
	c, ok := nearest(changes(tenures(events, q.Unit)), q.At)
	if !ok {
		return Answer{Sentence: fmt.Sprintf("The records that there are hold no change of %s's owner.", q.Name) + q.missing("")}
	}
	x := &explainer{q: q, c: c, events: events}
	a := Answer{Found: true, At: c.at()}
	why := verdict{"first", "nobody had held it before, as far as the records go"}
	if c.from != nil {
		a.From = c.from.node
		why = x.cause()
		if c.to != nil {
			a.Gap, a.GapKnown = x.gap()
		}
	}
	if c.to != nil {
		a.To = c.to.node
	}
	a.Cause = why.word
	a.Sentence = x.sentence(a, why.because) + q.missing(why.word)
	return a
}

// explainer looks for the cause of one change.
type explainer struct {
	q      Question
	c      change
	events []Event
}

// sentence is the whole answer.
func (x *explainer) sentence(a Answer, because string) string {
	at := clock(a.At)
	if !x.q.Now.IsZero() && a.At.Format(time.DateOnly) != x.q.Now.Format(time.DateOnly) {
		at += " on " + a.At.Format(time.DateOnly)
	}
	switch {
	case a.From == "":
		return fmt.Sprintf("%s was taken by %s at %s: %s.", x.q.Name, x.q.name(a.To), at, because)
	case a.To == "":
		return fmt.Sprintf("%s has had no owner since %s: %s lost it because %s.", x.q.Name, at, x.q.name(a.From), because)
	case a.From == a.To:
		return fmt.Sprintf("%s left %s and came back to it at %s because %s%s.", x.q.Name, x.q.name(a.From), at, because, gapText(a))
	}
	return fmt.Sprintf("%s moved from %s to %s at %s because %s%s.", x.q.Name, x.q.name(a.From), x.q.name(a.To), at, because, gapText(a))
}

func gapText(a Answer) string {
	switch a.GapKnown {
	case Exact:
		if a.Gap <= 0 {
			return "; the VIP had an owner all the time"
		}
		return fmt.Sprintf("; the VIP had no owner for %s", Seconds(a.Gap))
	case AtMost:
		return fmt.Sprintf("; the VIP had no owner for at most %s", Seconds(a.Gap))
	}
	return "; for how long the VIP had no owner is not recorded"
}

// Seconds writes a duration as people say it: 0.41 s, 12.3 s, 2m10s.
func Seconds(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func (q Question) name(id fsm.MemberID) string {
	if n := q.Names[id]; n != "" {
		return n
	}
	return string(id)
}

// list names members: "dir2", "dir2 and dir3", "dir2, dir3 and dir4".
func (q Question) list(ids []fsm.MemberID) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = q.name(id)
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// missing warns that records are missing; a cause that rests on the silence has
// said so.
func (q Question) missing(word string) string {
	if len(q.Unreachable) == 0 || word == "vanished" {
		return ""
	}
	var ids []fsm.MemberID
	for id := range q.Unreachable {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if len(ids) == 1 {
		return fmt.Sprintf(" The record of %s is missing: it does not answer.", q.list(ids))
	}
	return fmt.Sprintf(" The records of %s are missing: they do not answer.", q.list(ids))
}

// gap is how long nobody owned the unit between the two tenures.
func (x *explainer) gap() (time.Duration, Knowledge) {
	start, known := x.dark()
	if known == Unknown {
		return 0, Unknown
	}
	return max(0, x.c.to.from.Time.Sub(start)), known
}

// dark is when the old owner's gate closed. Whoever stood still notes his loss
// only afterwards: then the gate's own deadline counts, or, when it was not
// noted, the standstill's beginning bounds it.
func (x *explainer) dark() (time.Time, Knowledge) {
	end := x.c.from.end
	if end == nil {
		return time.Time{}, Unknown
	}
	if at := x.closedItself(); !at.IsZero() {
		return at, Exact
	}
	if p := x.pause(); p != nil {
		return p.Time.Add(-p.For), AtMost
	}
	if end.Kind == Started || end.Time.After(x.c.to.from.Time) {
		return time.Time{}, Unknown
	}
	return end.Time, Exact
}

// closedItself is when the kernel closed the old owner's gate because nobody
// put its deadline off; zero: it was closed before that, or nothing is noted.
func (x *explainer) closedItself() time.Time {
	end := x.c.from.end
	if end == nil {
		return time.Time{}
	}
	e := *end
	if e.Deadline == 0 {
		c := x.closing()
		if c == nil {
			return time.Time{}
		}
		e = *c
	}
	if e.Deadline == 0 || e.Boot <= e.Deadline {
		return time.Time{}
	}
	return e.Time.Add(-time.Duration(e.Boot - e.Deadline))
}

// closing is what the old owner noted of closing its gate when it lost the unit.
func (x *explainer) closing() *Event {
	from := x.c.from
	return x.last(from.node, from.end.Time.Add(time.Second), func(e Event) bool {
		return e.Kind == GateClosed && e.Unit == x.q.Unit && !e.Time.Before(from.from.Time) && e.Time.After(from.end.Time.Add(-time.Second))
	})
}
