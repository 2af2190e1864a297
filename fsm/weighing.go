package fsm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Weighing is what the checks of one target say of its weight, by the rules of
// keepalived's misc_dynamic and FILE_CHECK: each of Times scripts puts a weight of its
// own in place of the configuration's, each file adds to it, Sum is that of all. The
// zero Weighing leaves the configuration's weight.
type Weighing struct {
	Times int `json:"times"`
	Sum   int `json:"sum"`
}

// of is the weight of a server that has the weight file in the file.
func (w Weighing) of(file int) int { return min(max(file+w.Sum-w.Times*file, 0), MaxWeight) }

// maxWeighing bounds how many checks of one server count.
const maxWeighing = 100

// valid refuses what no checks say: they are few, and none says more than a weight.
func (w Weighing) valid() bool {
	return w.Times >= 0 && w.Times <= maxWeighing && w.Sum >= -maxWeighing*MaxWeight && w.Sum <= maxWeighing*MaxWeight
}

func (w Weighing) String() string {
	switch w.Times {
	case 0:
		return fmt.Sprintf("weight %+d", w.Sum)
	case 1:
		return fmt.Sprintf("weight %d", w.Sum)
	}
	return fmt.Sprintf("weight %d by %d scripts", w.Sum, w.Times)
}

// dynamic reports whether a check sets the weight of the servers of a target.
func (t TargetInfo) dynamic() bool {
	return slices.ContainsFunc(t.Checks, func(c Check) bool {
		return c.Script != nil && c.Script.Dynamic || c.File != nil && c.File.Weight != 0
	})
}

// weighed is what the voters who find a target up make of its weight. Most of them
// must say that a script sets it; then it is the median of what those say, the lower
// of two. Where as many say so as not, or nobody says anything, it stays.
func (s tally) weighed(was Weighing) Weighing {
	plain := 0
	var said []Weighing
	for _, w := range s.weighs {
		if w == (Weighing{}) {
			plain++
		} else {
			said = append(said, w)
		}
	}
	switch {
	case plain > len(said):
		return Weighing{}
	case plain == len(said):
		return was
	}
	slices.SortFunc(said, func(a, b Weighing) int { return cmp.Or(cmp.Compare(a.Times, b.Times), cmp.Compare(a.Sum, b.Sum)) })
	return said[(len(said)-1)/2]
}

// whyWeighed says who sets the weight to what; "": nobody.
func (h Health) whyWeighed(s tally) string {
	if h.Weighs == (Weighing{}) {
		return ""
	}
	var opinions []string
	for i, w := range s.weighs {
		if w != h.Weighs {
			opinions = append(opinions, fmt.Sprintf("%s: %s", s.up[i], orFile(w)))
		}
	}
	text := h.Weighs.String() + " set by its checks"
	if len(opinions) > 0 {
		text += " (but " + strings.Join(opinions, ", ") + ")"
	}
	return text
}

func orFile(w Weighing) string {
	if w == (Weighing{}) {
		return "weight as configured"
	}
	return w.String()
}
