package bench

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"lbcluster/e2e/lab/probe"
)

// moment is one line of a timeline.
type moment struct {
	at   probe.Time
	text string
}

// seen tells in a few lines what the probers saw between from and to: the
// longest time without an answer, who answered ARP from when to when, who
// announced the VIP first.
func seen(what string, http []probe.HTTP, arp []probe.ARP, from, to probe.Time, names map[probe.MAC]string) []moment {
	ms := []moment{{from, what}}
	gap := probe.Summarise(http, from, to).Outage
	before := "the last good answer before the longest gap"
	if gap.From == from {
		before = "no good answer from here on"
	}
	ms = append(ms, moment{gap.From, before})
	if gap.Open {
		ms = append(ms, moment{gap.To, "still no good answer when the trial ended"})
	} else {
		ms = append(ms, moment{gap.To, fmt.Sprintf("the next good answer, %d ms later", gap.Length().Milliseconds())})
	}
	for _, h := range probe.Holders(arp, from, to) {
		ms = append(ms,
			moment{h.First, names[h.MAC] + " answers ARP, for the first time"},
			moment{h.Last, fmt.Sprintf("%s answers ARP, for the last time (%d answers)", names[h.MAC], h.Answers)})
	}
	announced := map[probe.MAC]bool{}
	for _, r := range arp {
		if r.Kind == probe.Gratuitous && !announced[r.MAC] {
			announced[r.MAC] = true
			ms = append(ms, moment{r.At, names[r.MAC] + " announces the VIP, for the first time"})
		}
	}
	results := probe.Summarise(http, from, to).ByResult
	for _, r := range http {
		if r.Result != probe.OK && r.End >= from && r.End <= to {
			ms = append(ms, moment{r.End, fmt.Sprintf("the first failed request ends: %v, begun %d ms before (%s)", r.Result, r.End.Sub(r.Start).Milliseconds(), counts(results))})
			break
		}
	}
	return ms
}

// recordLine is a line of lbcluster why: when, where, what.
var recordLine = regexp.MustCompile(`^(\d\d:\d\d:\d\d\.\d{3})  (\S+) +(.*)$`)

// recorded takes from what lbcluster why printed the lines of the trial; wall is
// from by the wall clock. Who hears whom again is left out.
func recorded(why string, wall time.Time, from, to probe.Time) []moment {
	var ms []moment
	for line := range strings.Lines(why) {
		m := recordLine.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil || strings.HasPrefix(m[3], "hears ") {
			continue
		}
		at, err := time.ParseInLocation("2006-01-02 15:04:05.000", wall.Format("2006-01-02 ")+m[1], wall.Location())
		if err != nil {
			continue
		}
		since := at.Sub(wall)
		if since < -12*time.Hour { // midnight came between
			since += 24 * time.Hour
		}
		if when := from.Add(since); since > -100*time.Millisecond && when <= to {
			ms = append(ms, moment{when, m[2] + " notes: " + m[3]})
		}
	}
	return ms
}

// timeline writes the moments in their order, in milliseconds after from.
func timeline(ms []moment, from probe.Time) string {
	slices.SortStableFunc(ms, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	var b strings.Builder
	for _, m := range ms {
		fmt.Fprintf(&b, "%6d ms  %s\n", m.at.Sub(from).Round(time.Millisecond).Milliseconds(), m.text)
	}
	return b.String()
}

// counts writes how requests ended.
func counts(by map[probe.Result]int) string {
	var parts []string
	for r := probe.OK; r <= probe.OtherError; r++ {
		if by[r] > 0 {
			parts = append(parts, fmt.Sprintf("%d %v", by[r], r))
		}
	}
	return strings.Join(parts, ", ")
}
