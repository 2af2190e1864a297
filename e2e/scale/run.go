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
	Who   string  `json:"who"`  // "lbcluster" or "keepalived"
	Size  Size    `json:"size"` // of the table
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// recordFile is in the folder of the lab's results.
const recordFile = "size.json"

// sizes that are measured; the largest is the one that people ask for.
var sizes = []Size{{10, 10}, {10, 100}, {100, 100}}

// Run measures all sizes, tells of each figure on out as it comes, and leaves a record.
func Run(out io.Writer) error {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	var all []Figure
	var errs []error
	for _, who := range []struct {
		name    string
		measure func(lab.T, Size, Report)
	}{{"lbcluster", Cluster}, {"keepalived", Keepalived}} {
		for _, size := range sizes {
			say("size: %s, %s real servers", who.name, size)
			err := lab.Main(fmt.Sprintf("size-%s-%d", who.name, size.All()), say, func(t lab.T) {
				who.measure(t, size, func(what string, value float64, unit string) {
					say("  %-48s %9.1f %s", what, value, unit)
					all = append(all, Figure{who.name, size, what, value, unit})
				})
			})
			errs = append(errs, err)
		}
	}
	say("\n%s", Table(all))
	return errors.Join(append(errs, write(all))...)
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
	for _, who := range []string{"lbcluster", "keepalived"} {
		columns, rows, cells := layout(all, who)
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
	return b.String()
}

// layout finds a program's sizes and figures, in the order in which they were measured.
func layout(all []Figure, who string) (columns []Size, rows []string, cells map[string]map[Size]string) {
	cells = map[string]map[Size]string{}
	known := map[Size]bool{}
	for _, f := range all {
		if f.Who != who {
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
