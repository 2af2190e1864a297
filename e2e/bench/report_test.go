package bench

import (
	"strings"
	"testing"
	"time"

	"lbcluster/e2e/lab/probe"
)

func TestTable(t *testing.T) {
	e := &events[0]
	r := results{}
	for _, v := range []float64{700, 950, 720} {
		tr := trial{values: map[quantity]float64{outage: v, twoMAC: 0}}
		if e.missed(lbcDefault, tr) {
			tr.story = "0 ms  it happens\n950 ms  it is over"
		}
		r.add(e, lbcDefault, tr)
	}
	r.add(e, ka2, trial{values: map[quantity]float64{outage: 3400, twoMAC: 0}})
	r.add(e, ka3, trial{values: map[quantity]float64{outage: 340, twoMAC: 0}, stalled: time.Second})
	got := r.table()
	for _, want := range []string{
		"CUT: The owner's link dies",
		"lbcluster, default profile              700 /    720 /    950       3  < 900   MISSED",
		"lbcluster, default profile                0 /      0 /      0       3  0       met",
		"keepalived v2, advert 1 s              3400 /   3400 /   3400       1\n",
		"keepalived v3, advert 100 ms        no clean trial (the machine stalled in 1)",
		"worst trial (client without an answer, ms: 950)",
		"950 ms  it is over",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "it is over"); n != 1 {
		t.Errorf("the story is told %d times", n)
	}
	if b := r.broken(); len(b) > 0 {
		t.Errorf("a slow trial breaks no invariant: %v", b)
	}
	r.add(e, ka2, trial{values: map[quantity]float64{outage: 1, twoMAC: 500}})
	if b := r.broken(); len(b) > 0 {
		t.Errorf("keepalived promises nothing: %v", b)
	}
	r.add(e, lbcDefault, trial{values: map[quantity]float64{outage: 1, twoMAC: 7}, stalled: time.Second})
	if b := r.broken(); len(b) != 1 || !strings.Contains(b[0], "cut, lbcluster, default profile") {
		t.Errorf("two MACs in a stalled trial: %v", b)
	}
}

const why = `VI_1 moved from dir1 to dir2 at 23:59:59.990 because.

WHEN          WHERE  WHAT
23:59:50.000  dir1   OWNS IT
23:59:59.950  dir1   hands it to dir2: an operator moved it
00:00:00.010  dir2   OWNS IT
00:00:00.020  dir2   hears nothing from dir1 by UDP
00:00:09.000  dir2   fit
`

func TestTimeline(t *testing.T) {
	a, b := probe.MAC{1}, probe.MAC{2}
	from, at := probe.Time(time.Hour), func(ms int) probe.Time { return probe.Time(time.Hour).Add(time.Duration(ms) * time.Millisecond) }
	var http []probe.HTTP
	for ms := 0; ms < 300; ms += 10 {
		r := probe.HTTP{Start: at(ms), End: at(ms + 4)}
		if ms > 20 && ms < 90 {
			r.Result, r.End = probe.TimedOut, at(ms+100)
		}
		http = append(http, r)
	}
	arp := []probe.ARP{
		{At: at(1), Kind: probe.Answered, MAC: a}, {At: at(25), Kind: probe.Answered, MAC: a},
		{At: at(60), Kind: probe.Answered, MAC: b}, {At: at(80), Kind: probe.Gratuitous, MAC: b}, {At: at(81), Kind: probe.Gratuitous, MAC: b},
	}
	ms := seen("it is moved", http, arp, from, at(250), map[probe.MAC]string{a: "dir1", b: "dir2"})
	wall := time.Date(2026, 1, 31, 23, 59, 59, 920e6, time.UTC)
	got := timeline(append(ms, recorded(why, wall, from, at(250))...), from)
	want := `     0 ms  it is moved
     1 ms  dir1 answers ARP, for the first time
    24 ms  the last good answer before the longest gap
    25 ms  dir1 answers ARP, for the last time (2 answers)
    30 ms  dir1 notes: hands it to dir2: an operator moved it
    60 ms  dir2 answers ARP, for the first time
    60 ms  dir2 answers ARP, for the last time (1 answers)
    80 ms  dir2 announces the VIP, for the first time
    90 ms  dir2 notes: OWNS IT
    94 ms  the next good answer, 70 ms later
   130 ms  the first failed request ends: timed out, begun 100 ms before (19 ok, 6 timed out)
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
