package bench

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// quantity is something that is counted in a trial.
type quantity string

// The quantities.
const (
	outage quantity = "client without an answer, ms"      // the longest stretch without a good answer
	twoMAC quantity = "two MACs answer ARP for, ms"       // see probe.Overlaps
	failed quantity = "connections that failed"           // of those that ended in the trial, but
	reset  quantity = "connections under way, then reset" // those
	// Of those that were open when it happened, for 4 s at least and for half
	// a second at most.
	heldBroken  quantity = "held connections broken, of 500"
	youngBroken quantity = "young connections broken, of 100"

	sent   quantity = "packets sent each second"         // by the busiest director
	heard  quantity = "packets received each second"     // likewise
	cpu    quantity = "CPU of the daemon, % of one core" // likewise
	cpuAll quantity = "CPU of all directors' daemons, %" // the sum
	pktAll quantity = "packets sent by all, each second" // the sum
	served quantity = "virtual routers served"
	rss    quantity = "memory of the daemon, MB, resident" // of the busiest director
)

// invariant quantities must hold on any machine, a stalled one too.
func (q quantity) invariant() bool { return q == twoMAC }

func (q quantity) format(v float64) string {
	if q == cpu || q == cpuAll {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// trial is one measurement.
type trial struct {
	values  map[quantity]float64
	stalled time.Duration // worst lateness of the prober; above the limit: marked
	story   string        // where the time went; only if a target was missed
}

// stallLimit marks a trial.
const stallLimit = 60 * time.Millisecond

func (t trial) marked() bool { return t.stalled > stallLimit }

// counts says whether the trial counts for q.
func (t trial) counts(q quantity) bool { return q.invariant() || !t.marked() }

// limit is a target: the worst trial must be below it, or 0 if it is 0.
type limit float64

func (l limit) met(v float64) bool {
	if l == 0 {
		return v == 0
	}
	return v < float64(l)
}

func (l limit) String() string {
	if l == 0 {
		return "0"
	}
	return fmt.Sprintf("< %.0f", float64(l))
}

// stats are the trials that count for a quantity.
type stats struct {
	n, marked        int
	best, mid, worst float64
}

// summarise leaves out the trials that do not count.
func summarise(trials []trial, q quantity) stats {
	var s stats
	var values []float64
	for _, t := range trials {
		v, ok := t.values[q]
		switch {
		case !ok:
		case t.counts(q):
			values = append(values, v)
		default:
			s.marked++
		}
	}
	if s.n = len(values); s.n == 0 {
		return s
	}
	slices.SortFunc(values, cmp.Compare)
	s.best, s.worst = values[0], values[s.n-1]
	s.mid = (values[(s.n-1)/2] + values[s.n/2]) / 2
	return s
}

// worstOf is the trial with the worst value that counts.
func worstOf(trials []trial, q quantity) (worst trial) {
	for _, t := range trials {
		if t.counts(q) && (worst.values == nil || t.values[q] > worst.values[q]) {
			worst = t
		}
	}
	return worst
}
