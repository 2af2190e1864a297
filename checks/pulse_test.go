package checks

import (
	"testing"
	"time"
)

func TestPulse(t *testing.T) {
	var p pulse
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	if p.stoodStill(at(0), at(5000)) {
		t.Error("stood still before the first beat")
	}
	for ms := 0; ms <= 1000; ms += 100 {
		p.beat(at(ms))
	}
	if p.stoodStill(at(0), at(1250)) {
		t.Error("a beat that is a little late counts")
	}
	if !p.stoodStill(at(900), at(4000)) {
		t.Error("who asks before the beat that is due is told nothing")
	}
	p.beat(at(4000))
	p.beat(at(4100))
	for _, c := range []struct {
		began, now int
		want       bool
	}{{900, 4150, true}, {3999, 4150, true}, {4000, 4150, false}, {4050, 4150, false}} {
		if got := p.stoodStill(at(c.began), at(c.now)); got != c.want {
			t.Errorf("from %d to %d ms: %v", c.began, c.now, got)
		}
	}
}

// TestStandstillCondemnsNobody: a probe that fails because the process was
// stopped is repeated, but not for ever.
func TestStandstillCondemnsNobody(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		after(time.Second)
		c.expect("20ms 172.25.88.2:80 up")

		n.set(n.hang, web1, true)
		after(6 * time.Second) // the probe of 6 s is under way
		time.Sleep(time.Second)
		c.runner.pulse.beat(time.Now().Add(time.Second)) // as if no beat had come for a second
		n.set(n.hang, web1, false)
		after(10 * time.Second)
		c.expect()
		want := []time.Duration{0, 6 * time.Second, 9 * time.Second, 15 * time.Second}
		if got := n.probes(web1); len(got) != 4 || got[2] != want[2] || got[3] != want[3] {
			t.Errorf("probed at %v, want %v", got, want)
		}

		n.set(n.down, web1, true)
		c.runner.pulse.mu.Lock()
		c.runner.pulse.woke = time.Now().Add(time.Hour) // always just woken
		c.runner.pulse.mu.Unlock()
		after(40 * time.Second)
		c.expect("30.02s 172.25.88.2:80 down connection refused")
	}, server(web1, pairCheck(web1)))
}
