package checks

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lbcluster/fsm"
)

// flapping turns a server's state every so many seconds.
func flapping(n *network, every time.Duration, times int) {
	for i := range times {
		n.set(n.down, web1, i%2 == 0)
		after(every)
	}
}

func quick() fsm.RealServer {
	check := pairCheck(web1)
	check.Retry, check.DelayLoop = 0, fsm.Duration(time.Second)
	return server(web1, check)
}

// Off, which is the default, each change is told, as keepalived would have it.
func TestFlapsAreNotDampedByDefault(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		after(time.Second / 2)
		flapping(n, 2*time.Second, 40)
		if got := len(c.votes()); got != 41 {
			t.Errorf("%d votes", got)
		}
	}, quick())
}

// The fourth time down is held, the next ones longer; people read until when.
func TestFlapsAreHeldDown(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		c.change(func(t *fsm.Table) { t.Settings.FlapDamping = fsm.DampingOn })
		after(time.Second / 2)
		c.expect("20ms 172.25.88.2:80 up")
		flapping(n, 2*time.Second, 8)
		at := func(d time.Duration) string { return c.start.Add(d).UTC().Format(time.TimeOnly) }
		c.expect("1.02s 172.25.88.2:80 down connection refused", "3.02s 172.25.88.2:80 up",
			"5.02s 172.25.88.2:80 down connection refused", "7.02s 172.25.88.2:80 up",
			"9.02s 172.25.88.2:80 down connection refused", "11.02s 172.25.88.2:80 up",
			"13.02s 172.25.88.2:80 down connection refused", "15.02s 172.25.88.2:80 down flapping: down 4 times, held down until "+at(43*time.Second)+" UTC")
		s := c.runner.Status()[0]
		if s.Up || !s.Held || s.Flaps.Downs != 4 || s.Checks[0].State.Up != true {
			t.Errorf("%+v", s)
		}
		after(time.Minute)
		c.expect("43.02s 172.25.88.2:80 up")
		if got := strings.Count(c.logged.String(), "held down: it comes and goes"); got != 1 {
			t.Errorf("it is logged %d times", got)
		}
		if c.runner.Status()[0].Held {
			t.Error("it is said to be held")
		}

		n.set(n.down, web1, true)
		after(2 * time.Second)
		n.set(n.down, web1, false)
		began := time.Now()
		for !c.runner.Status()[0].Up {
			after(time.Second)
		}
		if held := time.Since(began); held < 57*time.Second || held > time.Minute {
			t.Errorf("the fifth time it was held for %v more", held)
		}

		after(flapRest + time.Second) // a rest, and all is forgotten
		c.votes()
		flapping(n, 2*time.Second, 4)
		if got := c.votes(); len(got) != 4 || strings.Contains(strings.Join(got, " "), "flapping") {
			t.Errorf("after a rest: %q", got)
		}
	}, quick())
}

// While it is held its checks may say what they like; only the last word counts. Taking
// the setting back ends it.
func TestHeldMeansHeld(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		c.change(func(t *fsm.Table) { t.Settings.FlapDamping = fsm.DampingOn })
		after(time.Second / 2)
		flapping(n, 2*time.Second, 7)
		c.votes()
		flapping(n, 2*time.Second, 13)
		if got := c.votes(); len(got) != 1 || strings.Count(c.logged.String(), "held down: it comes and goes") != 1 {
			t.Errorf("it is held, and says %q; it logs\n%s", got, c.logged.String())
		}
		n.set(n.down, web1, true)
		after(2 * time.Minute)
		if got := c.votes(); c.runner.Status()[0].Up {
			t.Errorf("it is dead when the hold ends: %q", got)
		}
		n.set(n.down, web1, false)
		after(2 * time.Second)
		n.set(n.down, web1, true)
		after(2 * time.Second)
		n.set(n.down, web1, false)
		after(2 * time.Second)
		if !c.runner.Status()[0].Held {
			t.Error("it is not held")
		}
		c.votes()
		c.change(func(t *fsm.Table) { t.Settings.FlapDamping = fsm.DampingOff })
		after(2 * time.Second)
		if got := c.votes(); len(got) != 1 || !strings.HasSuffix(got[0], "up") {
			t.Errorf("after damping was switched off: %q", got)
		}
	}, quick())
}

// What an hour of flapping writes into the log is bounded, however fast it flaps.
func TestFlapsWriteLittle(t *testing.T) {
	for _, every := range []time.Duration{time.Second, 7 * time.Second, 40 * time.Second} {
		run(t, func(t *testing.T, c *cluster, n *network) {
			c.change(func(t *fsm.Table) { t.Settings.FlapDamping = fsm.DampingOn })
			flapping(n, every, int(time.Hour/every))
			if got := c.proposals(); got < 10 || got > 60 {
				t.Errorf("flapping every %v for an hour made %d proposals", every, got)
			}
		}, quick())
	}
}

// A hold is none for the first times, grows, and is bounded.
func TestFlapsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f Flaps
		var holds []time.Duration
		now := time.Unix(1e9, 0)
		for range rapid.IntRange(1, 30).Draw(t, "downs") {
			since := now
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(flapRest)-1).Draw(t, "up for")))
			f = f.Down(since, now)
			holds = append(holds, max(0, f.Until.Sub(now)))
			now = now.Add(time.Duration(rapid.Int64Range(int64(holds[len(holds)-1]), int64(time.Hour)).Draw(t, "down for")))
		}
		for i, h := range holds {
			if (i < freely) != (h == 0) || h > holdMax {
				t.Fatalf("held for %v", holds)
			}
		}
		if !slices.IsSorted(holds) {
			t.Fatalf("held for %v", holds)
		}
		if f = f.Down(now, now.Add(flapRest)); f.Downs != 1 || f.Holds(now.Add(flapRest)) {
			t.Fatalf("after a rest %v", fmt.Sprint(f))
		}
	})
}
