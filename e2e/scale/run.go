package scale

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/guest"
)

// Figure is one thing that was measured.
type Figure struct {
	Part  string  `json:"part,omitempty"` // of what Run measures; empty: Sizes
	Case  string  `json:"case,omitempty"` // of Sizes: none
	Who   string  `json:"who"`            // "lbcluster" or "keepalived"
	Size  Size    `json:"size"`           // of the table
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// The parts of the benchmark.
const (
	Sizes   = "size"
	leases  = "lease"
	members = "members"
	large   = "large"
)

// Parts are what Run measures.
var Parts = []struct{ Name, Title string }{
	{Sizes, "Tables of 100, 1 000 and 10 000 real servers: applied, changed, repaired, restarted"},
	{leases, "What is left of a lease's deadline while 10 000 real servers are applied, snapshots taken, daemons restarted"},
	{members, "Clusters of 3, 5 and 7 members; 1, 64 and 255 virtual routers"},
	{large, "Tables of 20 000 to 100 000 real servers"},
}

// recordFile is in the folder of the lab's results.
const recordFile = "size.json"

// sizes that are measured; the largest is the one that people ask for.
var sizes = []Size{{10, 10}, {10, 100}, {100, 100}}

// Run measures the parts, tells of each figure on out as it comes, and leaves a
// record.
func Run(out io.Writer, parts ...string) error {
	r := &runner{out: out}
	for _, p := range parts {
		switch p {
		case Sizes:
			r.sizes()
		case leases:
			r.measure("lease", func(t lab.T) {
				Lease(t, func(phase, what string, value float64, unit string) {
					r.note(Figure{Part: leases, Case: phase, Who: ours, Size: leaseSize, What: what, Value: value, Unit: unit})
				})
			})
		case members:
			for _, n := range memberCounts {
				r.each(members, fmt.Sprintf("%d members", n), membersSize, func(t lab.T, report Report) { Members(t, n, report) })
			}
			for _, n := range routerCounts {
				r.each(members, fmt.Sprintf("%d virtual routers", n), Size{}, func(t lab.T, report Report) { Routers(t, n, report) })
			}
		case large:
			for _, size := range largeSizes {
				r.each(large, "", size, func(t lab.T, report Report) { Large(t, size, report) })
			}
		}
	}
	r.say("\n%s", Table(r.all))
	return errors.Join(append(r.errs, write(r.all))...)
}

const ours = "lbcluster"

// runner collects figures.
type runner struct {
	out  io.Writer
	all  []Figure
	errs []error
}

func (r *runner) say(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

func (r *runner) note(f Figure) {
	r.say("  %-60s %9.1f %s", strings.TrimPrefix(f.Case+": "+f.What, ": "), f.Value, f.Unit)
	r.all = append(r.all, f)
}

func (r *runner) measure(name string, body func(lab.T)) {
	r.say("%s", name)
	r.errs = append(r.errs, lab.Main("size-"+strings.ReplaceAll(name, " ", "-"), r.say, body))
}

// each measures one case of lbcluster.
func (r *runner) each(part, of string, size Size, body func(lab.T, Report)) {
	name := part + " " + of
	if of == "" {
		name = fmt.Sprintf("%s-%d", part, size.All())
	}
	r.measure(name, func(t lab.T) {
		body(t, func(what string, value float64, unit string) {
			r.note(Figure{Part: part, Case: of, Who: ours, Size: size, What: what, Value: value, Unit: unit})
		})
	})
}

// sizes measures both programs with each size.
func (r *runner) sizes() {
	for _, who := range []struct {
		name    string
		measure func(lab.T, Size, Report)
	}{{ours, Cluster}, {"keepalived", Keepalived}} {
		for _, size := range sizes {
			r.measure(fmt.Sprintf("%s-%d", who.name, size.All()), func(t lab.T) {
				who.measure(t, size, func(what string, value float64, unit string) {
					r.note(Figure{Who: who.name, Size: size, What: what, Value: value, Unit: unit})
				})
			})
		}
	}
}

func write(all []Figure) error {
	b, err := json.MarshalIndent(all, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(guest.Results, recordFile), append(b, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("writing the record of sizes: %w", err)
	}
	return nil
}

// Table has a row a figure and a column a size, one program after the other.
func Table(all []Figure) string {
	var b strings.Builder
	for _, who := range []string{ours, "keepalived"} {
		columns, rows, cells := layout(all, Sizes, who)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%-66s", who+", real servers:")
		for _, size := range columns {
			fmt.Fprintf(&b, " %10d", size.All())
		}
		b.WriteByte('\n')
		for _, row := range rows {
			fmt.Fprintf(&b, "  %-64s", row)
			for _, size := range columns {
				fmt.Fprintf(&b, " %10s", cells[row][size])
			}
			b.WriteByte('\n')
		}
	}
	for _, f := range all {
		if f.part() != Sizes {
			fmt.Fprintf(&b, "%-8s %-8d %-30s %-60s %10s%s\n", f.Part, f.Size.All(), f.Case, f.What, shown(f.Value), strings.TrimSuffix(" "+f.Unit, " "))
		}
	}
	return b.String()
}

func (f Figure) part() string {
	if f.Part == "" {
		return Sizes
	}
	return f.Part
}

// layout finds a program's sizes and figures, in the order in which they were measured.
func layout(all []Figure, part, who string) (columns []Size, rows []string, cells map[string]map[Size]string) {
	cells = map[string]map[Size]string{}
	known := map[Size]bool{}
	for _, f := range all {
		if f.Who != who || f.part() != part {
			continue
		}
		if !known[f.Size] {
			known[f.Size] = true
			columns = append(columns, f.Size)
		}
		row := f.What + ", " + f.Unit
		if cells[row] == nil {
			cells[row] = map[Size]string{}
			rows = append(rows, row)
		}
		cells[row][f.Size] = shown(f.Value)
	}
	return columns, rows, cells
}

func shown(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
