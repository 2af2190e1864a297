package lease

import (
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// rates feeds a monitor one reading a second at each given rate of the clock.
type rates struct {
	m   *rateMonitor
	now reading
}

func (r *rates) run(rate float64) verdict {
	r.now.raw += 1e9
	r.now.mono += int64(1e9 * (1 + rate))
	r.now.boot += int64(1e9 * (1 + rate))
	return r.m.add(r.now)
}

func TestRateMonitor(t *testing.T) {
	r := &rates{m: newRateMonitor(0.10), now: reading{mono: 5e9, raw: 7e9, boot: 9e9}}
	st := &r.m.status
	for i, c := range []struct {
		rate  float64
		want  verdict
		eps   float64
		alarm string
	}{
		{0, clockSame, 0.10, ""}, // the first reading is a beginning only
		{0.0005, clockSame, 0.10, ""},
		{-0.049, clockSame, 0.10, ""}, // under eps/2
		{-0.0834, clockWiden, 0.20, "clock runs 8.3 % slow"},
		{-0.0834, clockSame, 0.20, "clock runs 8.3 % slow"},
		{0, clockSame, 0.20, "was 8.3 % off, and is not now; 20 % of each lease stay"},
		{0.09, clockSame, 0.20, "clock runs 9.0 % fast"},
		{-0.19, clockSame, 0.20, "clock runs 19.0 % slow"}, // covered by 0.20
		{-0.21, clockStop, 0.20, "more than the lease allows for: nothing is held here"},
		{-0.30, clockSame, 0.20, "clock runs 30.0 % slow"},
		{-0.10, clockGo, 0.20, "clock ran 30.0 % slow"},
		{0.5, clockSame, 0.20, "clock runs 50.0 % fast"}, // early, not unsafe
	} {
		if got := r.run(c.rate); got != c.want || st.Eps != c.eps || !strings.Contains(st.Alarm, c.alarm) || (c.alarm == "") != (st.Alarm == "") {
			t.Errorf("step %d, rate %v: verdict %d, want %d; %+v", i, c.rate, got, c.want, *st)
		}
	}
	if math.Abs(st.Worst-0.5) > 1e-6 || st.Measured != 11 {
		t.Errorf("%+v", *st)
	}
	r.now.boot += 60e9 // a suspend: neither of the other clocks ran
	if r.run(0); st.Suspended < 59*time.Second || math.Abs(st.Rate) > 1e-6 {
		t.Errorf("after a suspend: %+v", *st)
	}
}

// A slow clock at once, from nothing to more than is covered, stops at once.
func TestRateMonitorStopsAtOnce(t *testing.T) {
	r := &rates{m: newRateMonitor(0.10)}
	r.run(0)
	if v := r.run(-0.25); v != clockStop || r.m.status.Eps != wideEps {
		t.Errorf("verdict %d, %+v", v, r.m.status)
	}
}

func TestRateMonitorIgnoresBadReadings(t *testing.T) {
	r := &rates{m: newRateMonitor(0.10)}
	r.run(0)
	bad := r.now
	bad.raw, bad.spread = bad.raw+1e9, 2e6 // interrupted for 2 ms in the middle
	if v := r.m.add(bad); v != clockSame || r.m.status.Measured != 0 {
		t.Errorf("a reading that was interrupted counts: %d", v)
	}
	bad.raw, bad.spread = r.now.raw+1e6, 0 // too soon after the last one
	if v := r.m.add(bad); v != clockSame || r.m.status.Measured != 0 {
		t.Errorf("a reading after a millisecond counts: %d", v)
	}
	if v := r.run(0); v != clockSame || r.m.status.Measured != 1 || math.Abs(r.m.status.Rate) > 1e-9 {
		t.Errorf("%d %+v", v, r.m.status)
	}
}

// eps of 0.20 covers a slow holder against a fast voter (rule 3.3).
func TestCovered(t *testing.T) {
	for _, eps := range []float64{0.10, wideEps} {
		slow := covered(eps)
		if eps < 1-(1-slow)/(1+voterRate)-1e-12 || slow < eps-0.001 {
			t.Errorf("eps %v covers %v", eps, slow)
		}
	}
}

func TestReadTakesTheTightestReading(t *testing.T) {
	var now int64
	step := []int64{3e6, 10} // one interruption, then none
	c := RateClocks{
		Raw:  func() int64 { now += step[0]; return now },
		Mono: func() int64 { return now },
		Boot: func() int64 { return now },
	}
	var calls int
	raw := c.Raw
	c.Raw = func() int64 {
		if calls++; calls > 2 {
			step[0] = step[1]
		}
		return raw()
	}
	if r := c.read(); r.spread != 10 || calls != 4 {
		t.Errorf("spread %d after %d calls", r.spread, calls)
	}
	if r := KernelRateClocks().read(); r.mono == 0 || r.raw == 0 || r.boot < r.mono {
		t.Errorf("the kernel's clocks: %+v", r)
	}
}

// The driver keeps back more of each lease once its clock runs off, gives up
// what it holds when that is not enough, and stands again later.
func TestDriverWatchesItsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Int64 // parts of 10000
		rec := &record{}
		g := newGroup(t, 3, nil)
		var mono, last int64
		clock := g.clock
		g.members[0].rates = &RateClocks{Raw: clock, Boot: clock, Mono: func() int64 {
			now := clock()
			mono += (now - last) * (10000 - slow.Load()) / 10000
			last = now
			return mono
		}}
		g.members[0].cfg.Journal = rec.add
		g.start(one)
		g.sleep(3 * time.Second)
		left := func() time.Duration { return g.members[0].Status().Routers[0].Remaining }
		if d := left(); !g.members[0].owner.owns(1) || d < 550*time.Millisecond {
			t.Fatalf("m1 holds it for %v", d)
		}
		slow.Store(900)
		g.sleep(3 * time.Second)
		s := g.members[0].Status()
		if s.Clock.Eps != wideEps || s.Clock.Alarm == "" || !g.members[0].owner.owns(1) || left() > 640*time.Millisecond {
			t.Errorf("with a clock 9 %% slow: %+v, left %v", s.Clock, left())
		}
		slow.Store(2500)
		g.sleep(2 * time.Second)
		s = g.members[0].Status()
		if got := g.owners(1); len(got) != 1 || got[0] == "m1" || !strings.Contains(s.Routers[0].Barred, "25.0 % slow") {
			t.Errorf("owners %v with m1's clock 25 %% slow; %+v", got, s.Routers)
		}
		g.members[0].SetFit(true, "") // does not help
		g.sleep(time.Second)
		if b := g.members[0].Status().Routers[0].Barred; b == "" {
			t.Error("it stands although its clock is off")
		}
		slow.Store(0)
		g.sleep(2 * time.Second)
		if b := g.members[0].Status().Routers[0].Barred; b != "" {
			t.Errorf("with its clock well again it is barred: %s", b)
		}
		if e := rec.of(EntryClock); len(e) != 3 || e[0].Cause != "far off" || e[1].Cause != "not covered" || e[2].Cause != "covered again" {
			t.Errorf("recorded: %+v", e)
		}
		g.stop()
	})
}
