package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// How often, and how long.
const (
	cuts      = 10
	freezes   = 5
	frozen    = 10 * time.Second
	afterward = 2 * time.Second // looked at after the change of owner
)

// contestant is a running load balancer.
type contestant struct {
	name    string
	site    *site.Site
	owner   func() (*lab.Host, error)
	freeze  func(*lab.Host) error
	thaw    func(*lab.Host) error
	settled time.Duration // after a trial, before the next
}

// Run is the benchmark: a guest.Entry.
func Run(_ context.Context, _ io.Reader, out io.Writer) error {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	var results [2][2][]trial // [lbcluster, keepalived][cut, freeze]
	var errs []error
	for i, start := range []func(lab.T) *contestant{lbcluster, keepalived} {
		errs = append(errs, lab.Main("bench", say, func(t lab.T) {
			c := start(t)
			say("%s serves; %d cuts of the owner's link, %d freezes of its daemon for %v", c.name, cuts, freezes, frozen)
			results[i][0] = c.measure(say, cuts, "cut", cut)
			results[i][1] = c.measure(say, freezes, "freeze", freeze)
		}))
	}
	say("")
	say("%s", table("Owner's link is cut: the client is without an answer for (ms)", results[0][0], results[1][0]))
	say("%s", table("Owner's daemon is frozen for 10 s: two MACs answer ARP for (ms)", results[0][1], results[1][1]))
	return errors.Join(append(errs, judge(results[0]))...)
}

// judge holds what must be so on any machine that did not stall: the order of
// the two programs is the reader's to see, the invariant is ours to keep.
func judge(ours [2][]trial) error {
	var errs []error
	if s := summarise(ours[0]); s.n > 0 && s.worst >= time.Second {
		errs = append(errs, fmt.Errorf("link cut: the worst outage was %v, not below 1 s", s.worst))
	}
	for _, t := range ours[1] {
		if t.value > 0 {
			errs = append(errs, fmt.Errorf("freeze: two MACs answered for %v", t.value))
		}
	}
	return errors.Join(errs...)
}

func lbcluster(t lab.T) *contestant {
	s := site.Up(t, 3)
	return &contestant{
		name: "lbcluster", site: s, owner: s.Owner, settled: 2 * time.Second,
		freeze: func(h *lab.Host) error { return s.Daemons[h].Freeze() },
		thaw:   func(h *lab.Host) error { return s.Daemons[h].Thaw() },
	}
}

func keepalived(t lab.T) *contestant {
	s := site.New(t, 2)
	b, err := os.ReadFile(site.Example)
	if err != nil {
		t.Fatalf("%v", err)
	}
	conf := string(b)
	s.Dirs[0].StartKeepalived(conf)
	s.Dirs[1].StartKeepalived(strings.NewReplacer("state MASTER", "state BACKUP", "priority 100", "priority 50").Replace(conf))
	c := &contestant{name: "keepalived", site: s, settled: 6 * time.Second}
	c.owner = func() (*lab.Host, error) {
		a, b := s.Dirs[0].HasAddress(site.VIP), s.Dirs[1].HasAddress(site.VIP)
		switch {
		case a && !b:
			return s.Dirs[0], nil
		case b && !a:
			return s.Dirs[1], nil
		}
		return nil, fmt.Errorf("on dir1: %v, on dir2: %v", a, b)
	}
	c.freeze = func(h *lab.Host) error { return signalKeepalived(h, syscall.SIGSTOP) }
	c.thaw = func(h *lab.Host) error { return signalKeepalived(h, syscall.SIGCONT) }
	s.Eventually(30*time.Second, "keepalived serves", func() error { _, err := c.owner(); return err })
	return c
}

// signalKeepalived reaches all its processes.
func signalKeepalived(h *lab.Host, sig syscall.Signal) error {
	n := 0
	for _, pid := range h.Pids() {
		if strings.HasPrefix(lab.CommandOf(pid), "keepalived") {
			if err := syscall.Kill(pid, sig); err != nil {
				return err
			}
			n++
		}
	}
	if n == 0 {
		return errors.New("no keepalived runs on " + h.Name)
	}
	return nil
}

// watch is what measures.
type watch struct {
	http *lab.HTTPProber
	arp  *lab.ARPProber
}

// worstStall is the prober's worst lateness between from and to.
func (w watch) worstStall(from, to probe.Time) time.Duration {
	worst := time.Duration(0)
	for _, s := range probe.Stalls(w.arp.Records(), stallLimit) {
		if s.At >= from && s.At <= to {
			worst = max(worst, s.Late)
		}
	}
	return worst
}

// measure repeats one kind of trial.
func (c *contestant) measure(say func(string, ...any), n int, what string, try func(*contestant, *lab.Host, watch) trial) []trial {
	s := c.site
	w := watch{s.ProbeHTTP(s.Client, site.Target, 10*time.Millisecond), s.ProbeARP(s.Watcher, site.VIP, 5*time.Millisecond)}
	defer w.http.Stop()
	defer w.arp.Stop()
	var trials []trial
	for i := range n {
		time.Sleep(c.settled)
		var owner *lab.Host
		s.Eventually(30*time.Second, "one owner", func() (err error) { owner, err = c.owner(); return err })
		t := try(c, owner, w)
		mark := ""
		if t.marked() {
			mark = fmt.Sprintf("  (the machine stalled for %d ms: not counted)", t.stalled.Milliseconds())
		}
		say("  %s, %s %d: %d ms%s", c.name, what, i+1, t.value.Milliseconds(), mark)
		trials = append(trials, t)
	}
	return trials
}

// cut pulls the owner's cable until another answers: the client's outage.
func cut(c *contestant, owner *lab.Host, w watch) trial {
	from := probe.Now()
	owner.CutLink()
	defer owner.RestoreLink()
	c.site.Eventually(20*time.Second, "the client is served again", func() error {
		for _, h := range probe.Holders(w.arp.Records(), from, probe.Now()) {
			if h.MAC != probe.ToMAC(owner.MAC) {
				return nil
			}
		}
		return errors.New("no other MAC answers")
	})
	time.Sleep(afterward)
	to := probe.Now()
	return trial{probe.Summarise(w.http.Records(), from, to).Outage.Length(), w.worstStall(from, to)}
}

// freeze stops the owner's daemon: the time in which two MACs answered, until
// it has run again for a moment.
func freeze(c *contestant, owner *lab.Host, w watch) trial {
	from := probe.Now()
	if err := c.freeze(owner); err != nil {
		c.site.T.Fatalf("freeze: %v", err)
	}
	time.Sleep(frozen)
	if err := c.thaw(owner); err != nil {
		c.site.T.Fatalf("thaw: %v", err)
	}
	time.Sleep(afterward)
	to := probe.Now()
	var seen []probe.ARP
	for _, r := range w.arp.Records() {
		if r.At >= from && r.At <= to {
			seen = append(seen, r)
		}
	}
	return trial{probe.Total(probe.Overlaps(seen, probe.Window)), w.worstStall(from, to)}
}
