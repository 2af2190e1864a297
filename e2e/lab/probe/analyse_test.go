package probe

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = Time(time.Millisecond)

// ok is a request that succeeded at ms t.
func ok(t Time, server string) HTTP {
	return HTTP{Planned: (t - 4) * ms, Start: (t - 3) * ms, End: t * ms, Server: server}
}

func failed(t Time, r Result) HTTP { return HTTP{End: t * ms, Result: r} }

func TestGaps(t *testing.T) {
	recs := []HTTP{ok(10, "a"), ok(20, "b"), failed(25, TimedOut), ok(30, "a"), ok(330, "b"), ok(340, "a")}
	for _, c := range []struct {
		name           string
		from, to, min_ Time
		want           []Span
	}{
		{"one outage", 5, 345, 50, []Span{{From: 30 * ms, To: 330 * ms}}},
		{"a failure does not end an outage", 20, 30, 5, []Span{{From: 20 * ms, To: 30 * ms}}},
		{"before the first success", 0, 20, 10, []Span{{From: 0, To: 10 * ms}, {From: 10 * ms, To: 20 * ms}}},
		{"after the last one", 335, 500, 50, []Span{{From: 340 * ms, To: 500 * ms, Open: true}}},
		{"no success at all", 100, 200, 50, []Span{{From: 100 * ms, To: 200 * ms, Open: true}}},
		{"none", 5, 35, 11, nil},
	} {
		if got := Gaps(recs, c.from*ms, c.to*ms, time.Duration(c.min_*ms)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSummarise(t *testing.T) {
	recs := []HTTP{ok(10, "a"), ok(20, "b"), failed(25, TimedOut), ok(30, "a"), failed(31, Refused), ok(90, "b"), ok(999, "x")}
	s := Summarise(recs, 5*ms, 100*ms)
	if s.OK != 4 || s.Failed != 2 || s.ByServer["a"] != 2 || s.ByServer["b"] != 2 || s.ByServer["x"] != 0 {
		t.Errorf("counts: %+v", s)
	}
	if s.ByResult[TimedOut] != 1 || s.ByResult[Refused] != 1 {
		t.Errorf("reasons: %v", s.ByResult)
	}
	if want := (Span{From: 30 * ms, To: 90 * ms}); s.Outage != want {
		t.Errorf("outage %v, want %v", s.Outage, want)
	}
	if s.Median != 3*time.Millisecond || s.Worst != 3*time.Millisecond {
		t.Errorf("latency %v, %v", s.Median, s.Worst)
	}
	if e := Summarise(nil, 0, 100*ms); !e.Outage.Open || e.Outage.Length() != 100*time.Millisecond {
		t.Errorf("nothing recorded must look like an outage that lasts: %+v", e)
	}
}

func TestUnderWay(t *testing.T) {
	reset := func(from, to Time) HTTP { return HTTP{Start: from * ms, End: to * ms, Result: Reset} }
	for _, c := range []struct {
		name string
		recs []HTTP
		want int
	}{
		{"none failed", []HTTP{ok(10, "a"), ok(20, "b")}, 0},
		{"two at one instant", []HTTP{reset(10, 40), reset(30, 50), ok(60, "a")}, 2},
		{"two with nothing in common", []HTTP{reset(10, 20), reset(30, 50)}, 1},
		{"a chain has no common instant", []HTTP{reset(10, 30), reset(20, 50), reset(40, 60)}, 2},
		{"one inside of another", []HTTP{reset(10, 60), reset(20, 30), reset(40, 50)}, 2},
		{"other failures are not explained", []HTTP{failed(20, TimedOut), failed(25, Refused)}, 0},
		{"outside of the window", []HTTP{reset(1, 4), reset(300, 400)}, 0},
	} {
		if got := UnderWay(c.recs, 5*ms, 100*ms); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// A gap never contains a success, and gaps of any length fill the window.
func TestGapsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var recs []HTTP
		for _, at := range rapid.SliceOfN(rapid.IntRange(0, 1000), 0, 30).Draw(t, "ends") {
			recs = append(recs, HTTP{End: Time(at)})
		}
		from := Time(rapid.IntRange(0, 500).Draw(t, "from"))
		to := from + Time(rapid.IntRange(1, 500).Draw(t, "length"))
		var sum time.Duration
		for _, g := range Gaps(recs, from, to, 0) {
			sum += g.Length()
			for _, r := range recs {
				if r.End > g.From && r.End < g.To {
					t.Fatalf("success at %d inside gap %v", r.End, g)
				}
			}
		}
		if sum != to.Sub(from) {
			t.Fatalf("gaps sum to %v, want %v", sum, to.Sub(from))
		}
	})
}

var (
	a = MAC{2, 0, 0, 0, 0, 0xa}
	b = MAC{2, 0, 0, 0, 0, 0xb}
	c = MAC{2, 0, 0, 0, 0, 0xc}
)

// answersAt makes answers from a story: each letter is a request's answers, 5
// ms apart; '.' is a request nobody answered, '2' one that a and b answered.
func answersAt(story string) []ARP {
	var recs []ARP
	for i, r := range story {
		at := Time(5*i) * ms
		seq := uint32(i + 1)
		recs = append(recs, ARP{At: at, Kind: Asked, Seq: seq})
		add := func(m MAC, after Time) {
			recs = append(recs, ARP{At: at + after*ms, Kind: Answered, Op: 2, MAC: m, Seq: seq})
		}
		switch r {
		case 'a':
			add(a, 1)
		case 'b':
			add(b, 1)
		case 'c':
			add(c, 1)
		case '2':
			add(a, 1)
			add(b, 2)
		}
	}
	return recs
}

func TestOverlaps(t *testing.T) {
	for _, c := range []struct {
		story string
		want  []Span
	}{
		{"aaaaaaaa", nil},
		{"aaaabbbb", nil},                                 // a clean change, at once
		{"aaa.....bbb", nil},                              // after a pause
		{"aaa...........bbb...........aaa", nil},          // there and back, 55 ms apart
		{"aaabaaa", []Span{{From: 11 * ms, To: 21 * ms}}}, // one stray answer
		{"ababab", []Span{{From: 1 * ms, To: 26 * ms}}},
		{"aa222bb", []Span{{From: 11 * ms, To: 22 * ms}}},
		{"abc", nil},
		{"acbca", []Span{{From: 1 * ms, To: 21 * ms}}},
		{"aba...........bab", []Span{{From: 1 * ms, To: 11 * ms}, {From: 71 * ms, To: 81 * ms}}},
	} {
		if got := Overlaps(answersAt(c.story), Window); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.story, got, c.want)
		}
	}
}

func TestDoubles(t *testing.T) {
	if d := Doubles(answersAt("aaabbb.ab")); len(d) != 0 {
		t.Errorf("each request was answered once: %v", d)
	}
	d := Doubles(answersAt("a2.2b"))
	if len(d) != 2 || d[0].At != 7*ms || !reflect.DeepEqual(d[0].MACs, []MAC{a, b}) {
		t.Errorf("got %v", d)
	}
	three := append(answersAt("2"), ARP{At: 4 * ms, Kind: Answered, MAC: c, Seq: 1}, ARP{At: 4 * ms, Kind: Answered, MAC: a, Seq: 1})
	if d := Doubles(three); len(d) != 1 || len(d[0].MACs) != 3 {
		t.Errorf("three owners: %v", d)
	}
}

// However two owners' answers are ordered, a change from one to the other that
// never goes back is no overlap.
func TestCleanChangesNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		story := ""
		for _, who := range []string{"a", "b", "c"} {
			for range rapid.IntRange(0, 5).Draw(t, who) {
				story += who
			}
		}
		if s := Overlaps(answersAt(story), Window); len(s) > 0 {
			t.Fatalf("%s: %v", story, s)
		}
	})
}

func TestHoldersAnnouncementsSilences(t *testing.T) {
	recs := answersAt("aaa....bbb")
	recs = append(recs, ARP{At: 36 * ms, Kind: Gratuitous, Op: 1, MAC: b}, ARP{At: 37 * ms, Kind: Gratuitous, Op: 2, MAC: b},
		ARP{At: 60 * ms, Kind: Gratuitous, MAC: a}, ARP{At: 38 * ms, Kind: Claimed, MAC: a})
	want := []Holder{{a, 1 * ms, 11 * ms, 3}, {b, 36 * ms, 46 * ms, 3}}
	if got := Holders(recs, 0, 50*ms); !reflect.DeepEqual(got, want) {
		t.Errorf("holders %v, want %v", got, want)
	}
	if got := Holders(recs, 12*ms, 50*ms); len(got) != 1 || got[0].MAC != b {
		t.Errorf("after a's last answer: %v", got)
	}
	if got := Announcements(recs, 0, 50*ms); len(got) != 1 || got[b] != 2 {
		t.Errorf("announcements %v, want two by b", got)
	}
	if got, want := Silences(recs, 0, 50*ms, time.Duration(10*ms)), []Span{{From: 11 * ms, To: 36 * ms}}; !reflect.DeepEqual(got, want) {
		t.Errorf("silences %v, want %v", got, want)
	}
}

func TestLateness(t *testing.T) {
	late := func(at, late Time) ARP { return ARP{At: at * ms, Kind: Asked, Late: time.Duration(late * ms)} }
	recs := []ARP{late(0, 1), late(20, 30), {At: 30 * ms, Kind: Answered, Late: time.Hour}, late(40, 20), late(2000, 10), late(2100, 25), late(2999, 25), late(3000, 1)}
	for _, c := range []struct {
		from, to Time
		want     time.Duration
	}{
		{0, 5000 * ms, 60}, {0, 100 * ms, 51}, {30 * ms, 1000 * ms, 20}, {2050 * ms, 5000 * ms, 51}, {4000 * ms, 5000 * ms, 0},
	} {
		if got := Lateness(recs, c.from, c.to, time.Second); got != c.want*time.Millisecond {
			t.Errorf("from %d to %d: %v, want %d ms", c.from, c.to, got, c.want)
		}
	}
	if got := Lateness(nil, 0, 1, time.Second); got != 0 {
		t.Errorf("without ticks: %v", got)
	}
}

func TestStalls(t *testing.T) {
	recs := []ARP{{At: 1, Kind: Asked, Late: time.Millisecond}, {At: 2, Kind: Asked, Late: 30 * time.Millisecond}, {At: 3, Kind: Answered, Late: time.Hour}}
	if got := Stalls(recs, 20*time.Millisecond); len(got) != 1 || got[0].At != 2 {
		t.Errorf("got %v", got)
	}
	http := []HTTP{{Planned: 0, Start: 5 * ms}, {Planned: 10 * ms, Start: 45 * ms}}
	if got := HTTPStalls(http, 20*time.Millisecond); len(got) != 1 || got[0].Late != 35*time.Millisecond {
		t.Errorf("got %v", got)
	}
}
