package probe

import (
	"slices"
	"time"
)

// Window is how near two answers of one MAC must be for an answer of another
// MAC between them to mean that both had the VIP all that time. A clean change
// of owner, however quick, gives no such pattern: the first MAC never answers
// again after the second one has.
const Window = 50 * time.Millisecond

// Overlaps returns the stretches in which two or more MACs answered for the
// VIP. Two answers of the same MAC, at most window apart, with an answer of
// another MAC between them make a stretch from the first to the third; such
// stretches that touch are joined. Resolution is the prober's pace: a second
// owner that answers a single request may be missed here, see Doubles.
func Overlaps(recs []ARP, window time.Duration) []Span {
	var spans []Span
	last := map[MAC]Time{}
	var prev MAC
	for i, r := range answers(recs) {
		before, seen := last[r.MAC]
		// Another MAC answered since, exactly if the latest answer was another's.
		if i > 0 && seen && prev != r.MAC && r.At.Sub(before) <= window {
			spans = append(spans, Span{From: before, To: r.At})
		}
		last[r.MAC], prev = r.At, r.MAC
	}
	return join(spans)
}

func join(spans []Span) []Span {
	slices.SortFunc(spans, func(a, b Span) int { return int(a.From - b.From) })
	var joined []Span
	for _, s := range spans {
		if n := len(joined); n > 0 && s.From <= joined[n-1].To {
			joined[n-1].To = max(joined[n-1].To, s.To)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// Total is the sum of the spans' lengths.
func Total(spans []Span) time.Duration {
	var d time.Duration
	for _, s := range spans {
		d += s.Length()
	}
	return d
}

// Double is one request that two MACs answered.
type Double struct {
	At   Time // the second answer
	MACs []MAC
}

// Doubles returns the requests that more than one MAC answered. An answer
// belongs to the latest request before it; where the machine stood still (see
// Stalls) it may belong to an earlier one.
func Doubles(recs []ARP) []Double {
	var doubles []Double
	var macs []MAC
	var seq uint32
	for _, r := range answers(recs) {
		if r.Seq != seq {
			macs, seq = nil, r.Seq
		}
		if slices.Contains(macs, r.MAC) {
			continue
		}
		macs = append(macs, r.MAC)
		switch len(macs) {
		case 1:
		case 2:
			doubles = append(doubles, Double{At: r.At, MACs: slices.Clone(macs)})
		default:
			doubles[len(doubles)-1].MACs = slices.Clone(macs)
		}
	}
	return doubles
}

func answers(recs []ARP) []ARP {
	var a []ARP
	for _, r := range recs {
		if r.Kind == Answered {
			a = append(a, r)
		}
	}
	return a
}

// Holder is one MAC that answered for the VIP.
type Holder struct {
	MAC         MAC
	First, Last Time
	Answers     int
}

// Holders returns the MACs that answered between from and to, in the order of
// their first answer.
func Holders(recs []ARP, from, to Time) []Holder {
	var hs []Holder
	for _, r := range answers(recs) {
		if r.At < from || r.At > to {
			continue
		}
		i := slices.IndexFunc(hs, func(h Holder) bool { return h.MAC == r.MAC })
		if i < 0 {
			i = len(hs)
			hs = append(hs, Holder{MAC: r.MAC, First: r.At})
		}
		hs[i].Last = r.At
		hs[i].Answers++
	}
	return hs
}

// Announcements counts the gratuitous ARPs for the VIP, by sender, that were
// seen between from and to.
func Announcements(recs []ARP, from, to Time) map[MAC]int {
	n := map[MAC]int{}
	for _, r := range recs {
		if r.Kind == Gratuitous && r.At >= from && r.At <= to {
			n[r.MAC]++
		}
	}
	return n
}

// Silences returns the stretches of at least min between from and to in which
// nobody answered for the VIP.
func Silences(recs []ARP, from, to Time, min time.Duration) []Span {
	var times []Time
	for _, r := range answers(recs) {
		if r.At >= from && r.At <= to {
			times = append(times, r.At)
		}
	}
	return gaps(times, from, to, min)
}
