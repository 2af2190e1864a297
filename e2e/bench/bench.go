package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"lbcluster/e2e/health"
	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/guest"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/scale"
)

// Run is the benchmark: a guest.Entry. Its arguments name events; "trials=N" sets
// the trials of each, "list" lists the events.
func Run(ctx context.Context, _ io.Reader, out io.Writer) error {
	plan, err := readPlan(strings.Fields(os.Getenv(guest.EntryArgs)))
	if err != nil {
		return err
	}
	if plan.list {
		_, err := io.WriteString(out, list())
		return err
	}
	r := &runner{out: out, plan: plan, results: results{}, began: time.Now()}
	var errs []error
	if len(plan.scale) > 0 {
		defer fmt.Fprintln(out)
		errs = append(errs, scale.Run(out, plan.scale...))
	}
	if len(plan.health) > 0 {
		errs = append(errs, health.Run(out, plan.health...))
	}
	if !plan.events {
		return errors.Join(errs...)
	}
	for _, st := range stages {
		errs = append(errs, r.stage(ctx, st))
	}
	fmt.Fprintf(out, "\n%s\nThis took %v. Figures are milliseconds unless a line says else; a trial in which the machine\nstood still for over %v is marked and not counted.\n",
		r.results.table(), time.Since(r.began).Round(time.Second), stallLimit)
	errs = append(errs, writeRecord(r.results.record()))
	for _, b := range r.results.broken() {
		errs = append(errs, errors.New("what must never be: "+b))
	}
	return errors.Join(errs...)
}

// plan is what is asked for.
type plan struct {
	names  []string // of events; empty: all
	trials int      // of each event with each system; 0: as the events say
	list   bool
	events bool     // some event is asked for
	scale  []string // and these parts of package scale are
	health []string // and these parts of package health are
}

func readPlan(args []string) (plan, error) {
	var p plan
	for _, arg := range args {
		n, ok := strings.CutPrefix(arg, "trials=")
		if !ok {
			p.names = append(p.names, arg)
			continue
		}
		var err error
		if p.trials, err = strconv.Atoi(n); err != nil || p.trials < 1 {
			return p, fmt.Errorf("%q is no number of trials", arg)
		}
	}
	all := len(p.names) == 0
	asked := func(name string) bool {
		n := len(p.names)
		p.names = slices.DeleteFunc(p.names, func(n string) bool { return n == name })
		return all || len(p.names) < n
	}
	for _, part := range scale.Parts {
		if asked(part.Name) {
			p.scale = append(p.scale, part.Name)
		}
	}
	for _, part := range health.Parts {
		if asked(part.Name) {
			p.health = append(p.health, part.Name)
		}
	}
	p.events = all || len(p.names) > 0
	if slices.Equal(p.names, []string{"list"}) {
		p.list = true
		return p, nil
	}
	for _, n := range p.names {
		if !slices.ContainsFunc(events, func(e event) bool { return e.name == n }) {
			return p, fmt.Errorf("there is no event %q; these are there:\n%s", n, list())
		}
	}
	return p, nil
}

// list names the events.
func list() string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "  %-11s %s\n", e.name, e.title)
	}
	for _, p := range health.Parts {
		fmt.Fprintf(&b, "  %-11s %s\n", p.Name, p.Title)
	}
	for _, p := range scale.Parts {
		fmt.Fprintf(&b, "  %-11s %s\n", p.Name, p.Title)
	}
	return b.String()
}

// of is how many trials of the event the system gets.
func (p plan) of(e *event, s system) int {
	n := e.trials[s]
	if len(p.names) > 0 && !slices.Contains(p.names, e.name) || n == 0 {
		return 0
	}
	if p.trials > 0 {
		return p.trials
	}
	return n
}

// runner runs the plan.
type runner struct {
	out     io.Writer
	plan    plan
	results results
	began   time.Time
}

func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.out, "%4.0f s  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// stage brings a system up and lets its events happen. Where one cannot be
// measured to its end, the rest goes on with the system brought up anew.
func (r *runner) stage(ctx context.Context, st stage) error {
	var todo []*event
	for i := range events {
		if r.plan.of(&events[i], st.system) > 0 {
			todo = append(todo, &events[i])
		}
	}
	var errs []error
	for len(todo) > 0 && ctx.Err() == nil {
		up := false
		err := lab.Main("bench-"+st.system.slug(), r.say, func(t lab.T) {
			r.say("%s", st.system)
			c := st.start(t)
			c.calm()
			up = true
			for len(todo) > 0 && ctx.Err() == nil {
				e := todo[0]
				todo = todo[1:]
				r.event(c, st.system, e)
			}
		})
		if err != nil {
			r.say("  %s: %v", st.system, err)
			errs = append(errs, fmt.Errorf("%s: %w", st.system, err))
		}
		if !up {
			break
		}
	}
	return errors.Join(errs...)
}

// retries is how many more trials an event gets of which none was clean.
const retries = 2

// event lets one happen as often as planned.
func (r *runner) event(c *contestant, s system, e *event) {
	base, stop := e.asks(c.site)
	defer stop()
	planned := r.plan.of(e, s)
	for i := 0; i < planned || i < planned+retries && !r.results.clean(e, s); i++ {
		a := base
		a.contestant, a.owner = c, c.calm()
		e.try(&a)
		t := a.measure(e.counted)
		if e.missed(s, t) && a.http != nil {
			t.story = a.tell()
		}
		r.results.add(e, s, t)
		r.say("  %s %d: %s", e.name, i+1, e.line(t))
	}
	if base.arp == nil || !s.ours() {
		return
	}
	if all := probe.Overlaps(base.arp.Records(), probe.Window); len(all) > 0 {
		c.site.T.Errorf("%s: two MACs answered for %v in all, between trials too", e.name, probe.Total(all))
	}
}

// line is a trial in one line.
func (e *event) line(t trial) string {
	var parts []string
	for _, q := range e.counted {
		parts = append(parts, fmt.Sprintf("%s %s", q, q.format(t.values[q])))
	}
	text := strings.Join(parts, "; ")
	if t.marked() {
		text += fmt.Sprintf("  (marked: the machine stalled for %d ms)", t.stalled.Milliseconds())
	}
	return text
}
