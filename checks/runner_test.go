package checks

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lbcluster/fsm"
)

// run starts a Runner on the cluster and network inside a synctest bubble and
// calls body; afterwards everything must have ended.
func run(t *testing.T, body func(t *testing.T, c *cluster, n *network), servers ...fsm.RealServer) {
	synctest.Test(t, func(t *testing.T) {
		c, n := newCluster(t, servers...), newNetwork()
		c.runner = New(Config{Log: slog.New(slog.NewTextHandler(&c.logged, nil)), Propose: c.propose, Check: n.check})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.runner.Run(ctx) }()
		c.runner.Update("m1", c.table)
		body(t, c, n)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func after(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

// TestPairTiming is keepalived's timing of the sample configuration, to the
// moment at which the cluster hears of it (20 ms of gathering included).
func TestPairTiming(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		n.set(n.down, web2, true)
		after(100 * time.Millisecond)
		c.expect("20ms 172.25.88.2:80 up", "20ms 172.25.88.3:80 down connection refused")

		n.set(n.down, web2, false) // seen at the next loop, 6 s
		after(6 * time.Second)
		c.expect("6.02s 172.25.88.3:80 up")

		n.set(n.down, web1, true) // first failure at 12 s, retries at 15, 18, 21
		after(14900 * time.Millisecond)
		c.expect()
		after(100 * time.Millisecond)
		c.expect("21.02s 172.25.88.2:80 down connection refused")
		want := []time.Duration{0, 6 * time.Second, 12 * time.Second, 15 * time.Second, 18 * time.Second, 21 * time.Second}
		if got := n.probes(web1); !slices.Equal(got, want) {
			t.Errorf("probed at %v, want %v", got, want)
		}

		n.set(n.down, web1, false) // down servers are asked every delay_loop: 27 s
		after(6 * time.Second)
		c.expect("27.02s 172.25.88.2:80 up")
	}, server(web1, pairCheck(web1)), server(web2, pairCheck(web2)))
}

// TestFlapping: failures that retries forgive are never proposed.
func TestFlapping(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		after(time.Second)
		c.expect("20ms 172.25.88.2:80 up")
		for range 20 {
			n.set(n.down, web1, true)
			after(7 * time.Second)
			n.set(n.down, web1, false)
			after(6 * time.Second)
		}
		c.expect()
		if c.proposals() != 1 {
			t.Errorf("%d proposals", c.proposals())
		}
	}, server(web1, pairCheck(web1)))
}

// TestHangingDelaysNoOther: one target never answers; the other's probes stay on
// their beat.
func TestHangingDelaysNoOther(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		n.set(n.hang, web1, true)
		after(20 * time.Second)
		want := []time.Duration{0, 6 * time.Second, 12 * time.Second, 18 * time.Second}
		if got := n.probes(web2); !slices.Equal(got, want) {
			t.Errorf("web2 probed at %v, want %v", got, want)
		}
		c.expect("20ms 172.25.88.3:80 up", "3.02s 172.25.88.2:80 down no answer within 3s")
	}, server(web1, pairCheck(web1)), server(web2, pairCheck(web2)))
}

// TestTargetsComeAndGo: a target that stays is not disturbed, one that goes is
// probed no more, one that comes back starts afresh.
func TestTargetsComeAndGo(t *testing.T) {
	one, two := server(web1, pairCheck(web1)), server(web2, pairCheck(web2))
	run(t, func(t *testing.T, c *cluster, n *network) {
		after(time.Second)
		c.expect("20ms 172.25.88.2:80 up", "20ms 172.25.88.3:80 up")

		c.change(func(t *fsm.Table) { t.Services[0].RealServers = []fsm.RealServer{one}; clear(t.Votes) })
		after(6 * time.Second)
		if got := n.probes(web2); len(got) != 1 {
			t.Errorf("web2 was removed but probed at %v", got)
		}
		if got := n.probes(web1); !slices.Equal(got, []time.Duration{0, 6 * time.Second}) {
			t.Errorf("web1 was disturbed: probed at %v", got)
		}
		if s := c.runner.Status(); len(s) != 1 || s[0].Server != web1 {
			t.Errorf("status %+v", s)
		}
		c.expect("1.02s 172.25.88.2:80 up") // its vote had been lost: said again

		n.set(n.down, web2, true)
		c.change(func(t *fsm.Table) { t.Services[0].RealServers = []fsm.RealServer{one, two} })
		after(time.Second)
		c.expect("7.02s 172.25.88.3:80 down connection refused") // first-ever again: at once
	}, one, two)
}

// TestRemovedWhileHanging: the probe in flight is cut short and says nothing.
func TestRemovedWhileHanging(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		n.set(n.hang, web1, true)
		after(time.Second)
		c.change(func(t *fsm.Table) { t.Services[0].RealServers = nil })
		after(10 * time.Second)
		c.expect()
		if s := c.runner.Status(); len(s) != 0 {
			t.Errorf("status %+v", s)
		}
		if log := c.logged.String(); strings.Contains(log, "TCP_CHECK") {
			t.Errorf("a server that is no more was called failed:\n%s", log)
		}
	}, server(web1, pairCheck(web1)))
}

// TestLog: changes of mind are logged in keepalived's words, once each, and a
// missing leader once, however long it is missing.
func TestLog(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		after(time.Second)
		n.set(n.down, web1, true)
		after(30 * time.Second)
		c.mu.Lock()
		c.fail = errors.New("no leader")
		c.mu.Unlock()
		n.set(n.down, web1, false)
		after(30 * time.Second)
		c.mu.Lock()
		c.fail = nil
		c.mu.Unlock()
		after(30 * time.Second)
		log := c.logged.String()
		for text, want := range map[string]int{
			"TCP connection to [172.25.88.2]:tcp:80 success.":                   2,
			"TCP_CHECK on service [172.25.88.2]:tcp:80 failed after 3 retries.": 1,
			"cannot vote on real servers":                                       1,
			"votes on real servers are taken again":                             1,
		} {
			if got := strings.Count(log, text); got != want {
				t.Errorf("%q is there %d times, want %d:\n%s", text, got, want, log)
			}
		}
	}, server(web1, pairCheck(web1)))
}

// TestSharedTarget: one server under two virtual servers is probed once.
func TestSharedTarget(t *testing.T) {
	one := server(web1, pairCheck(web1))
	run(t, func(t *testing.T, c *cluster, n *network) {
		c.change(func(t *fsm.Table) {
			t.Services = append(t.Services, t.Services[0])
			t.Services[1].Port = 81
		})
		after(time.Second)
		if got := n.probes(web1); len(got) != 1 {
			t.Errorf("probed at %v", got)
		}
	}, one)
}

// TestTwoChecks: both must pass, and one is enough to go down.
func TestTwoChecks(t *testing.T) {
	other := pairCheck(web2)
	run(t, func(t *testing.T, c *cluster, n *network) {
		n.set(n.hang, web2, true)
		after(time.Second)
		c.expect() // one has passed, the other is not known yet
		n.set(n.hang, web2, false)
		n.set(n.down, web2, true)
		after(3 * time.Second)
		c.expect("3.02s 172.25.88.2:80 down no answer within 3s")
		n.set(n.down, web2, false)
		after(10 * time.Second)
		c.expect("9.02s 172.25.88.2:80 up")
	}, server(web1, pairCheck(web1), other))
}

// TestProposeFails: the opinion is proposed again, ever more slowly, until the
// cluster takes it.
func TestProposeFails(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		c.mu.Lock()
		c.fail = errors.New("no leader")
		c.mu.Unlock()
		after(60 * time.Second)
		if p := c.proposals(); p < 25 || p > 40 {
			t.Errorf("%d proposals in a minute without a leader", p)
		}
		c.expect()
		c.mu.Lock()
		c.fail = nil
		c.mu.Unlock()
		after(retryMax + 2*batch)
		if got := c.votes(); len(got) != 1 {
			t.Errorf("votes %q", got)
		}
		before := c.proposals()
		after(time.Minute)
		if c.proposals() != before {
			t.Error("it goes on proposing what the table has")
		}
	}, server(web1, pairCheck(web1)))
}

// TestChangedMindWhileFailing: what is proposed in the end is the opinion of
// then, not of the first try.
func TestChangedMindWhileFailing(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		c.mu.Lock()
		c.fail = errors.New("no leader")
		c.mu.Unlock()
		n.set(n.down, web1, true)
		after(5 * time.Second)
		n.set(n.down, web1, false)
		after(5 * time.Second)
		c.mu.Lock()
		c.fail = nil
		c.mu.Unlock()
		after(5 * time.Second)
		if got := c.votes(); len(got) != 1 || got[0][len(got[0])-2:] != "up" {
			t.Errorf("votes %q", got)
		}
	}, server(web1, pairCheck(web1)))
}

// TestDisagreement: a table that loses or turns our vote hears it again.
func TestDisagreement(t *testing.T) {
	one := server(web1, pairCheck(web1))
	run(t, func(t *testing.T, c *cluster, n *network) {
		after(time.Second)
		c.expect("20ms 172.25.88.2:80 up")
		c.change(func(t *fsm.Table) { clear(t.Votes) })
		after(time.Second)
		c.expect("1.02s 172.25.88.2:80 up")
		c.change(func(t *fsm.Table) { t.Votes[one.Target()] = map[fsm.MemberID]fsm.Vote{"m1": {Detail: "old"}} })
		after(time.Second)
		c.expect("2.02s 172.25.88.2:80 up")
		c.change(func(t *fsm.Table) { t.Votes[one.Target()] = map[fsm.MemberID]fsm.Vote{"m1": {Up: true}, "m2": {}} })
		after(time.Second)
		c.expect() // another's vote is no disagreement
	}, one)
}

// TestSlowTable: a committed vote is not proposed again while its table is on
// the way, but it is in the end.
func TestSlowTable(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		c.mu.Lock()
		c.deaf = true
		c.mu.Unlock()
		after(unseen - time.Second)
		if c.proposals() != 1 {
			t.Errorf("%d proposals before the table could come", c.proposals())
		}
		after(2 * time.Second)
		if c.proposals() != 2 {
			t.Errorf("%d proposals after it did not come", c.proposals())
		}
	}, server(web1, pairCheck(web1)))
}

// TestBatch: many changes at one time are one proposal.
func TestBatch(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		after(time.Second)
		if got := c.votes(); len(got) != 2 || c.proposals() != 1 {
			t.Errorf("votes %q in %d proposals", got, c.proposals())
		}
	}, server(web1, pairCheck(web1)), server(web2, pairCheck(web2)))
}

// TestRoles: a witness and a stranger check nothing; a joining director checks
// and votes once it is present.
func TestRoles(t *testing.T) {
	for _, self := range []fsm.MemberID{"m2", "m3", "m9"} {
		run(t, func(t *testing.T, c *cluster, n *network) {
			c.runner.Update(self, c.table)
			n.mu.Lock()
			clear(n.seen)
			n.mu.Unlock()
			after(7 * time.Second)
			c.expect()
			probed := len(n.probes(web1)) > 0
			if probed != (self == "m2") {
				t.Errorf("%s: probed %v", self, probed)
			}
		}, server(web1, pairCheck(web1)))
	}
	run(t, func(t *testing.T, c *cluster, n *network) {
		c.change(func(t *fsm.Table) { t.Members[0].State = fsm.Joining })
		after(time.Second)
		c.expect()
		c.change(func(t *fsm.Table) { t.Members[0].State = fsm.Present })
		after(time.Second)
		c.expect("1.02s 172.25.88.2:80 up")
	}, server(web1, pairCheck(web1)))
}

// TestWarmup: first probes are spread over the warmup.
func TestWarmup(t *testing.T) {
	check := pairCheck(web1)
	check.Warmup = fsm.Duration(6 * time.Second)
	var delays []time.Duration
	for range 30 {
		run(t, func(t *testing.T, c *cluster, n *network) {
			after(6 * time.Second)
			delays = append(delays, n.probes(web1)[0])
		}, server(web1, check))
	}
	if low, high := slices.Min(delays), slices.Max(delays); low < 0 || high >= 6*time.Second || high-low < time.Second {
		t.Errorf("delays from %v to %v", low, high)
	}
}

// TestStatus shows the last result of each check.
func TestStatus(t *testing.T) {
	run(t, func(t *testing.T, c *cluster, n *network) {
		if s := c.runner.Status(); len(s) > 0 && s[0].Known {
			t.Errorf("known before any probe: %+v", s)
		}
		n.set(n.down, web1, true)
		after(time.Second)
		s := c.runner.Status()
		if len(s) != 1 || !s[0].Known || s[0].Up || s[0].Checks[0].Detail != "connection refused" || s[0].Checks[0].Last.IsZero() {
			t.Errorf("status %+v", s)
		}
	}, server(web1, pairCheck(web1)))
}

// TestManyTargets starts and stops hundreds without leaving anything behind.
func TestManyTargets(t *testing.T) {
	var servers []fsm.RealServer
	for i := range 300 {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 200), byte(i%200 + 1)}), 80)
		servers = append(servers, server(a, pairCheck(a)))
	}
	run(t, func(t *testing.T, c *cluster, n *network) {
		after(time.Second)
		if got := len(c.votes()); got != 300 || c.proposals() != 1 {
			t.Errorf("%d votes in %d proposals", got, c.proposals())
		}
		c.change(func(t *fsm.Table) { t.Services = nil })
		after(time.Second)
		if s := c.runner.Status(); len(s) != 0 {
			t.Errorf("%d targets are left", len(s))
		}
	}, servers...)
}

// Whoever counts probes is told of each, and how it ended.
func TestProbesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, n := newCluster(t, server(web1, pairCheck(web1)), server(web2, pairCheck(web2))), newNetwork()
		n.set(n.down, web2, true)
		told := map[bool]int{}
		c.runner = New(Config{Propose: c.propose, Check: n.check, OnProbe: func(kind fsm.CheckKind, took time.Duration, passed bool) {
			if kind != fsm.CheckTCP || took < 0 {
				t.Errorf("%s took %v", kind, took)
			}
			told[passed]++
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.runner.Run(ctx) }()
		c.runner.Update("m1", c.table)
		after(5 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if passed, failed := len(n.probes(web1)), len(n.probes(web2)); told[true] != passed || told[false] != failed || passed == 0 || failed == 0 {
			t.Errorf("%d and %d probes were told as %v", passed, failed, told)
		}
	})
}

// TestDynamicWeights: each new status is voted once; a failure that is forgiven leaves
// the weight, one that is not forgets it.
func TestDynamicWeights(t *testing.T) {
	c1 := pairCheck(web1)
	c1.Script = &fsm.ScriptCheck{Dynamic: true}
	run(t, func(t *testing.T, c *cluster, n *network) {
		say := func(status int) {
			n.mu.Lock()
			if n.weighs[web1] = (fsm.Weighing{}); status >= 2 {
				n.weighs[web1] = fsm.Weighing{Times: 1, Sum: status - 2}
			}
			n.mu.Unlock()
		}
		after(time.Second)
		c.expect("20ms 172.25.88.2:80 up")
		say(42)
		after(6 * time.Second)
		c.expect("6.02s 172.25.88.2:80 up (weight 40)")
		after(12 * time.Second)
		c.expect()
		n.set(n.down, web1, true) // fails at 24 s, and is forgiven
		after(6 * time.Second)
		n.set(n.down, web1, false)
		after(6 * time.Second)
		c.expect()
		say(2)
		after(6 * time.Second)
		c.expect("33.02s 172.25.88.2:80 up (weight 0)")
		n.set(n.down, web1, true)
		say(0)
		after(20 * time.Second)
		c.expect("48.02s 172.25.88.2:80 down connection refused")
		n.set(n.down, web1, false)
		after(6 * time.Second)
		c.expect("1m0.02s 172.25.88.2:80 up")
	}, server(web1, c1))
}
