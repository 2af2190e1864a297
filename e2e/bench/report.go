package bench

import (
	"fmt"
	"slices"
	"strings"
)

// results are the trials by event and system.
type results map[string]map[system][]trial

func (r results) add(e *event, s system, t trial) {
	if r[e.name] == nil {
		r[e.name] = map[system][]trial{}
	}
	r[e.name][s] = append(r[e.name][s], t)
}

// clean says whether there is a trial that is not marked.
func (r results) clean(e *event, s system) bool {
	return slices.ContainsFunc(r[e.name][s], func(t trial) bool { return !t.marked() })
}

// table is all that was measured, an event after the other.
func (r results) table() string {
	var b strings.Builder
	for i := range events {
		if e := &events[i]; r[e.name] != nil {
			b.WriteString(e.table(r[e.name]) + "\n")
		}
	}
	return b.String()
}

// table is one event's.
func (e *event) table(by map[system][]trial) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", strings.ToUpper(e.name), e.title)
	if e.note != "" {
		fmt.Fprintf(&b, "    (%s)\n", e.note)
	}
	for i, q := range e.counted {
		head := ""
		if i == 0 {
			head = fmt.Sprintf("%7s /%7s /%7s  trials  target", "best", "median", "worst")
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-38s%s", q, head), " ") + "\n")
		for _, st := range stages {
			if trials := by[st.system]; trials != nil {
				b.WriteString("    " + e.row(st.system, q, trials) + "\n")
			}
		}
	}
	for _, st := range stages {
		b.WriteString(e.story(st.system, by[st.system]))
	}
	return b.String()
}

// row is one system's.
func (e *event) row(s system, q quantity, trials []trial) string {
	sum := summarise(trials, q)
	if sum.n == 0 {
		return fmt.Sprintf("%-34s  no clean trial (the machine stalled in %d)", s, sum.marked)
	}
	text := fmt.Sprintf("%-34s  %7s /%7s /%7s  %6d  ", s, q.format(sum.best), q.format(sum.mid), q.format(sum.worst), sum.n)
	if l, ok := e.target(s, q); ok {
		verdict := "met"
		if !l.met(sum.worst) {
			verdict = "MISSED"
		}
		text += fmt.Sprintf("%-7s %s", l, verdict)
	}
	if sum.marked > 0 {
		text += fmt.Sprintf("  (+%d marked: the machine stalled)", sum.marked)
	}
	return strings.TrimRight(text, " ")
}

// story tells of each target that was missed where the time went, once for the
// trial that missed it the most.
func (e *event) story(s system, trials []trial) string {
	text, told := "", map[string]bool{}
	for _, q := range e.counted {
		l, ok := e.target(s, q)
		sum := summarise(trials, q)
		if !ok || sum.n == 0 || l.met(sum.worst) {
			continue
		}
		w := worstOf(trials, q)
		if w.story == "" || told[w.story] {
			continue
		}
		told[w.story] = true
		text += fmt.Sprintf("  Where it went, %s, worst trial (%s: %s):\n%s", s, q, q.format(w.values[q]), indent(w.story))
	}
	return text
}

func indent(text string) string {
	return "      " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n      ") + "\n"
}

// broken are the invariants that did not hold, and nothing else: a busy machine
// may miss a target.
func (r results) broken() []string {
	var out []string
	for i := range events {
		e := &events[i]
		for _, st := range stages {
			for _, q := range e.counted {
				l, ok := e.target(st.system, q)
				if sum := summarise(r[e.name][st.system], q); ok && q.invariant() && sum.n > 0 && !l.met(sum.worst) {
					out = append(out, fmt.Sprintf("%s, %s: %s %s", e.name, st.system, q, q.format(sum.worst)))
				}
			}
		}
	}
	return out
}
