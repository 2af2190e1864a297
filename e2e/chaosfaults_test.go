package e2e

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/site"
)

// faultsOf breaks something and returns what mends it.
var faultsOf = map[string]func(c *chaos, h []*lab.Host) (mend func()){
	"freeze": func(c *chaos, h []*lab.Host) func() {
		d := c.Daemons[h[0]]
		_ = d.Freeze()
		return func() { _ = d.Thaw() }
	},
	"kill": func(c *chaos, h []*lab.Host) func() {
		c.Daemons[h[0]].Kill()
		return c.starts(h[0])
	},
	"stop": func(c *chaos, h []*lab.Host) func() {
		_ = c.Daemons[h[0]].Stop()
		return c.starts(h[0])
	},
	"power": func(c *chaos, h []*lab.Host) func() {
		c.Daemons[h[0]].PowerOff()
		start := c.starts(h[0])
		return func() { h[0].Boot(site.VIP); start() }
	},
	"cable":  func(_ *chaos, h []*lab.Host) func() { h[0].CutLink(); return h[0].RestoreLink },
	"detach": func(_ *chaos, h []*lab.Host) func() { h[0].Detach(); return h[0].Attach },
	"flap": func(_ *chaos, h []*lab.Host) func() {
		for range 4 {
			h[0].CutLink()
			time.Sleep(150 * time.Millisecond)
			h[0].RestoreLink()
			time.Sleep(250 * time.Millisecond)
		}
		return func() {}
	},
	"apart":  func(c *chaos, h []*lab.Host) func() { return c.Partition(h[:1], h[1:], "").Heal },
	"oneway": func(c *chaos, h []*lab.Host) func() { return c.Block(h[:1], h[1:], "").Heal },
	"alone":  func(c *chaos, h []*lab.Host) func() { return c.without(h[0], "") },
	"vrrp":   func(c *chaos, h []*lab.Host) func() { return c.without(h[0], "ip protocol 112") },
	"udp":    func(c *chaos, h []*lab.Host) func() { return c.without(h[0], "udp dport 7500") },
	"raft":   func(c *chaos, h []*lab.Host) func() { return c.without(h[0], "tcp dport 7500") },
	"gossip": func(c *chaos, h []*lab.Host) func() {
		return c.without(h[0], "meta l4proto { tcp, udp } th dport 7501")
	},
	"lossy": func(c *chaos, _ []*lab.Host) func() { return c.shapeAll("loss", "5%") },
	"loss":  func(_ *chaos, h []*lab.Host) func() { return shaped(h[0], "loss", "5%") },
	"bad": func(_ *chaos, h []*lab.Host) func() {
		return shaped(h[0], "delay", "50ms", "10ms", "loss", "20%", "duplicate", "5%", "reorder", "25%")
	},
	"disk": func(c *chaos, h []*lab.Host) func() {
		d := c.disks[h[0]]
		d.Stall()
		c.DropCaches()
		return d.Resume
	},
	"freezes": func(c *chaos, h []*lab.Host) func() { // no majority is left
		for _, f := range h {
			_ = c.Daemons[f].Freeze()
		}
		return func() {
			for _, f := range h {
				_ = c.Daemons[f].Thaw()
			}
		}
	},
	"clock": func(c *chaos, _ []*lab.Host) func() {
		c.stepsClock(time.Hour)
		return func() { c.stepsClock(-time.Hour) }
	},
	"shatter": func(c *chaos, _ []*lab.Host) func() { return c.Partition(c.Dirs, c.Dirs, "").Heal },
	"killall": func(c *chaos, _ []*lab.Host) func() {
		for _, h := range c.Dirs {
			_ = c.Daemons[h].SignalAll(unix.SIGKILL)
		}
		var start []func()
		for _, h := range c.Dirs {
			_ = c.Daemons[h].Wait()
			start = append(start, c.starts(h))
		}
		return func() {
			for _, s := range start {
				s()
			}
		}
	},
	"address": func(_ *chaos, h []*lab.Host) func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		// No director but the owner has it: then nothing happens.
		_, _ = h[0].Run(ctx, "ip", "addr", "del", site.VIP+"/32", "dev", lab.Interface)
		return func() {}
	},
}

// stepsClock steps the wall clock of all.
func (c *chaos) stepsClock(by time.Duration) {
	if err := stepClock(by); err != nil {
		c.T.Errorf("stepping the clock: %v", err)
	}
}

// starts is what a daemon's end is mended with.
func (c *chaos) starts(h *lab.Host) func() {
	delete(c.Daemons, h)
	return func() { c.Start(h) }
}

// without drops what matches between a director and the others.
func (c *chaos) without(h *lab.Host, match string) func() {
	return c.Partition([]*lab.Host{h}, c.Others(h), match).Heal
}

func shaped(h *lab.Host, args ...string) func() {
	h.Shape(args...)
	return func() { h.Shape() }
}
