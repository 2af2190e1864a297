package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// trial is one measurement.
type trial struct {
	value   time.Duration
	stalled time.Duration // worst lateness of the prober; above the limit: marked
}

// stallLimit marks a trial.
const stallLimit = 60 * time.Millisecond

func (t trial) marked() bool { return t.stalled > stallLimit }

// stats are the trials that count.
type stats struct {
	n, marked        int
	best, mid, worst time.Duration
}

// summarise leaves marked trials out.
func summarise(trials []trial) stats {
	var s stats
	var values []time.Duration
	for _, t := range trials {
		if t.marked() {
			s.marked++
			continue
		}
		values = append(values, t.value)
	}
	s.n = len(values)
	if s.n == 0 {
		return s
	}
	slices.SortFunc(values, cmp.Compare)
	s.best, s.mid, s.worst = values[0], values[s.n/2], values[s.n-1]
	return s
}

// row writes the stats for the table, in milliseconds.
func (s stats) row(who string) string {
	if s.n == 0 {
		return fmt.Sprintf("  %-24s no clean trial (%d marked)", who, s.marked)
	}
	text := fmt.Sprintf("  %-24s %6d / %6d / %6d   %d", who, s.best.Milliseconds(), s.mid.Milliseconds(), s.worst.Milliseconds(), s.n)
	if s.marked > 0 {
		text += fmt.Sprintf(" (+%d marked: the machine stalled)", s.marked)
	}
	return text
}

// ratio says how many times longer b's median is than a's.
func ratio(a, b stats) string {
	switch {
	case a.n == 0 || b.n == 0:
		return "no ratio: a side has no clean trial"
	case a.mid == 0 && b.mid == 0:
		return "both 0"
	case a.mid == 0:
		return fmt.Sprintf("0 against %d ms", b.mid.Milliseconds())
	}
	return fmt.Sprintf("%.1f times", float64(b.mid)/float64(a.mid))
}

// table is one comparison as printed.
func table(title string, ours, theirs []trial) string {
	a, b := summarise(ours), summarise(theirs)
	lines := []string{
		title,
		fmt.Sprintf("  %-24s %6s / %6s / %6s   trials", "", "best", "median", "worst"),
		a.row("lbcluster (default)"),
		b.row("keepalived (advert 1 s)"),
		"  keepalived / lbcluster   " + ratio(a, b),
	}
	return strings.Join(lines, "\n") + "\n"
}
