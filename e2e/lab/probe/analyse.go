package probe

import (
	"slices"
	"time"
)

// Span is a stretch of time.
type Span struct {
	From, To Time
	// Open: the records end before the stretch did; To is the window's end.
	Open bool
}

// Length is To - From.
func (s Span) Length() time.Duration { return s.To.Sub(s.From) }

// Gaps returns the stretches of at least min without a successful request: from
// the end of one success to the end of the next, in the order of time. Only
// what lies between from and to is looked at; the time before the first success
// and after the last one counts too.
func Gaps(recs []HTTP, from, to Time, min time.Duration) []Span {
	var ends []Time
	for _, r := range recs {
		if r.Result == OK && r.End >= from && r.End <= to {
			ends = append(ends, r.End)
		}
	}
	return gaps(ends, from, to, min)
}

// gaps returns the stretches between from, the times, and to.
func gaps(times []Time, from, to Time, min time.Duration) []Span {
	slices.Sort(times)
	var found []Span
	last := from
	for _, t := range append(times, to) {
		if t.Sub(last) >= min {
			found = append(found, Span{From: last, To: t})
		}
		last = t
	}
	if n := len(found); n > 0 && found[n-1].To == to && (len(times) == 0 || times[len(times)-1] != to) {
		found[n-1].Open = true
	}
	return found
}

// Longest returns the longest span, or the zero Span.
func Longest(spans []Span) Span {
	var l Span
	for _, s := range spans {
		if s.Length() > l.Length() {
			l = s
		}
	}
	return l
}

// Summary counts the requests that ended between from and to.
type Summary struct {
	OK, Failed int
	ByServer   map[string]int // successes
	ByResult   map[Result]int
	Outage     Span          // the longest stretch without a success
	Median     time.Duration // of successful requests, Start to End
	Worst      time.Duration
}

// Summarise describes what a client saw between from and to.
func Summarise(recs []HTTP, from, to Time) Summary {
	s := Summary{ByServer: map[string]int{}, ByResult: map[Result]int{}}
	var took []time.Duration
	for _, r := range recs {
		if r.End < from || r.End > to {
			continue
		}
		s.ByResult[r.Result]++
		if r.Result != OK {
			s.Failed++
			continue
		}
		s.OK++
		s.ByServer[r.Server]++
		took = append(took, r.End.Sub(r.Start))
	}
	s.Outage = Longest(Gaps(recs, from, to, 0))
	if len(took) > 0 {
		slices.Sort(took)
		s.Median, s.Worst = took[len(took)/2], took[len(took)-1]
	}
	return s
}

// UnderWay returns how many requests that ended between from and to were reset
// and have one instant in common: at it the address moved, and the connections
// that were open then were lost. It is the largest such number.
func UnderWay(recs []HTTP, from, to Time) (most int) {
	var reset []HTTP
	for _, r := range recs {
		if r.Result == Reset && r.End >= from && r.End <= to {
			reset = append(reset, r)
		}
	}
	for _, at := range reset {
		n := 0
		for _, r := range reset {
			if r.Start <= at.Start && at.Start <= r.End {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// Stall is a tick that came late.
type Stall struct {
	At   Time // when it came
	Late time.Duration
}

// Stalls returns the prober's own ticks that came later than limit.
func Stalls(recs []ARP, limit time.Duration) []Stall {
	var s []Stall
	for _, r := range recs {
		if r.Kind == Asked && r.Late > limit {
			s = append(s, Stall{r.At, r.Late})
		}
	}
	return s
}

// Lateness returns the most that a prober's ticks within one window between from
// and to were late together: a machine that is short of time for a while, without
// one great stall.
func Lateness(recs []ARP, from, to Time, window time.Duration) (most time.Duration) {
	var sum time.Duration
	first := 0
	for i, r := range recs {
		if r.Kind == Asked && r.At >= from && r.At <= to {
			sum += r.Late
		}
		for ; recs[first].At.Add(window) <= r.At && first < i; first++ {
			if old := recs[first]; old.Kind == Asked && old.At >= from && old.At <= to {
				sum -= old.Late
			}
		}
		most = max(most, sum)
	}
	return most
}

// HTTPStalls is Stalls for the HTTP prober.
func HTTPStalls(recs []HTTP, limit time.Duration) []Stall {
	var s []Stall
	for _, r := range recs {
		if late := r.Start.Sub(r.Planned); late > limit {
			s = append(s, Stall{r.Start, late})
		}
	}
	return s
}
