package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/guest"
)

// Figure is one thing that was measured.
type Figure struct {
	Part  string  `json:"part"` // of what Run measures
	Case  string  `json:"case"` // the settings, or the crowd
	Who   string  `json:"who"`  // "lbcluster" or "keepalived"
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// recordFile is in the folder of the lab's results.
const recordFile = "health.json"

// The parts of the benchmark.
const (
	Deaths   = "health"   // deaths, agreement, the log
	Checkers = "checkers" // what a check costs
)

// Parts are what Run measures.
var Parts = []struct{ Name, Title string }{
	{Deaths, "A real server dies: until it is out of all tables; how far apart those change; what flapping writes"},
	{Checkers, "What thousands of checks a second cost"},
}

// Run measures the parts, tells of each figure on out as it comes, and leaves a
// record.
func Run(out io.Writer, parts ...string) error {
	r := &runner{out: out}
	if slices.Contains(parts, Deaths) {
		r.errs = append(r.errs, r.deaths(10, 3), r.log(FlapCrowd, flaps, calmFor))
	}
	if slices.Contains(parts, Checkers) {
		for _, c := range crowds {
			r.errs = append(r.errs, r.load(c, loadFor))
		}
	}
	r.say("\n%s", Table(r.all))
	return errors.Join(append(r.errs, write(r.all))...)
}

type runner struct {
	out  io.Writer
	all  []Figure
	errs []error
}

func (r *runner) say(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

func (r *runner) note(f Figure) {
	r.say("  %-10s %-62s %10s %s", f.Who, f.What, shown(f.Value), f.Unit)
	r.all = append(r.all, f)
}

// deaths lets a server die and return so often with fast settings, and die so often
// with the example's.
func (r *runner) deaths(fast, example int) error {
	return lab.Main("health-deaths", r.say, func(t lab.T) {
		c := newContest(t, Fast)
		for _, s := range []struct {
			Settings
			deaths int
		}{{Fast, fast}, {Example, example}} {
			if s.Settings != Fast {
				c.set(s.Settings)
			}
			r.say("%s", s.Settings)
			for _, f := range figures(s.Settings, measure(c, s.Settings, s.deaths)) {
				r.note(f)
			}
		}
	})
}

// Quick lets a server die and return once, for tests.
func Quick(t lab.T) []Figure { return figures(Fast, measure(newContest(t, Fast), Fast, 1)) }

// measure lets a server die and return until so many of both were clean, or half as
// many again have been tried.
func measure(c *contest, s Settings, deaths int) (all []turn) {
	clean := 0
	for n := 0; clean < 2*deaths && n < 3*deaths; n += 2 {
		for _, down := range []bool{true, false} {
			u := c.turn(s, down)
			if !u.standing {
				clean++
			}
			c.T.Logf("  %s", u)
			all = append(all, u)
		}
	}
	return all
}

func (u turn) String() string {
	word := map[bool]string{true: "died", false: "returned"}[u.down]
	text := fmt.Sprintf("%s; lbcluster: all tables after %d ms, %d ms after the vote, %d ms apart; keepalived: %d ms, %d ms apart",
		word, u.tables[ours].last.Sub(u.began).Milliseconds(), u.tables[ours].last.Sub(u.vote).Milliseconds(), u.tables[ours].spread().Milliseconds(),
		u.tables[theirs].last.Sub(u.began).Milliseconds(), u.tables[theirs].spread().Milliseconds())
	if u.down {
		text += fmt.Sprintf("; requests that failed: %d and %d", u.failed[ours], u.failed[theirs])
	}
	if u.standing {
		text += " (the machine stood still)"
	}
	return text
}

// figures are what is told of turns.
func figures(s Settings, turns []turn) (all []Figure) {
	add := func(who, what string, values []float64, unit string) {
		if len(values) == 0 {
			return
		}
		slices.Sort(values)
		all = append(all,
			Figure{Deaths, s.String(), who, what + ": median", values[len(values)/2], unit},
			Figure{Deaths, s.String(), who, what + ": worst", values[len(values)-1], unit})
	}
	marked := 0
	for _, u := range turns {
		if u.standing {
			marked++
		}
	}
	for _, who := range []string{ours, theirs} {
		var gone, failed, spread, vote []float64
		for _, u := range turns {
			if u.standing {
				continue
			}
			if u.down {
				gone = append(gone, ms(u.tables[who].last.Sub(u.began)))
				failed = append(failed, float64(u.failed[who]))
			}
			spread = append(spread, ms(u.tables[who].spread()))
			vote = append(vote, ms(u.tables[who].last.Sub(u.vote)))
		}
		add(who, fmt.Sprintf("a dead server is out of all tables, of %d deaths", len(gone)), gone, "ms")
		add(who, fmt.Sprintf("requests that failed meanwhile, of %d a second", time.Second/requests), failed, "")
		add(who, fmt.Sprintf("from the first table to the last, of %d changes", len(spread)), spread, "ms")
		if who == ours {
			add(who, fmt.Sprintf("from the deciding vote to the last table, of %d changes", len(vote)), vote, "ms")
		}
	}
	return append(all, Figure{Deaths, s.String(), "", "changes left out, for the machine stood still", float64(marked), ""})
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func write(all []Figure) error {
	b, err := json.MarshalIndent(all, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(guest.Results, recordFile), append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing the record of health: %w", err)
	}
	return nil
}

// Table has a row a figure and a column a program, one case after the other.
func Table(all []Figure) string {
	var b strings.Builder
	for _, t := range tables(all) {
		fmt.Fprintf(&b, "%-76s %12s %12s\n", t.name, ours, theirs)
		for _, row := range t.rows {
			fmt.Fprintf(&b, "  %-74s %12s %12s\n", row.what, row.cells[0], row.cells[1])
		}
	}
	return b.String()
}

// table is one case, with a column for each program.
type table struct {
	part, name string
	rows       []row
}

type row struct {
	what  string
	cells [2]string // lbcluster's and keepalived's
}

// tables finds the cases and figures, in the order in which they were measured. What
// is nobody's is in the first column.
func tables(all []Figure) (out []table) {
	for _, f := range all {
		i := slices.IndexFunc(out, func(t table) bool { return t.part == f.Part && t.name == f.Case })
		if i < 0 {
			i = len(out)
			out = append(out, table{part: f.Part, name: f.Case})
		}
		t := &out[i]
		what := f.What
		if f.Unit != "" {
			what += ", " + f.Unit
		}
		j := slices.IndexFunc(t.rows, func(r row) bool { return r.what == what })
		if j < 0 {
			j = len(t.rows)
			t.rows = append(t.rows, row{what: what, cells: [2]string{"-", "-"}})
		}
		column := 0
		if f.Who == theirs {
			column = 1
		}
		t.rows[j].cells[column] = shown(f.Value)
	}
	return out
}

func shown(v float64) string {
	switch {
	case v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v < 1:
		return fmt.Sprintf("%.3f", v)
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
