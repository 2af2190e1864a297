package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// migration is a keepalived pair that serves, a client that counts what fails,
// and the guide that is followed. The site's directors are whoever runs, or will
// run, lbcluster.
type migration struct {
	*eyes
	guide    *guide
	lb1, lb2 *lab.Host
	total    int // requests that failed, in all steps
}

// newMigration makes lb1 and lb2, two real servers and a client; keepalived runs
// on the pair, unless there is none yet.
func newMigration(t *testing.T, chapter string, pair bool) *migration {
	t.Helper()
	s := &site.Site{Lab: lab.New(t), T: t, Daemons: map[*lab.Host]*lab.Director{}}
	m := &migration{lb1: s.AddHost("lb1", "172.25.88.11/24"), lb2: s.AddHost("lb2", "172.25.88.12/24")}
	s.Web1 = s.RealServer("web1", "172.25.88.2/24", site.VIP)
	s.Web2 = s.RealServer("web2", "172.25.88.3/24", site.VIP)
	s.Client = s.Lab.Client("client", "172.25.88.200/24", 32)
	s.Watcher = s.AddHost("watcher", "172.25.88.60/24")
	m.guide = readGuide(t, s, chapter)
	m.eyes = &eyes{Site: s}
	if pair {
		m.startPair(t)
		m.watch()
	}
	return m
}

func (m *migration) startPair(t *testing.T) {
	t.Helper()
	conf := m.lb1.MustRun("cat", site.Example)
	m.guide.keepalived[m.lb1] = m.lb1.StartKeepalived(conf)
	m.guide.keepalived[m.lb2] = m.lb2.StartKeepalived(backupConf(conf))
	m.Eventually(20*time.Second, "the pair serves", func() error {
		if h := m.holders(); len(h) != 1 || h[0] != m.lb1 {
			return fmt.Errorf("the VIP is on %v", hostNames(h))
		}
		who, err := m.Client.Curl(context.Background(), "http://"+site.VIP+"/")
		if err != nil {
			return fmt.Errorf("%q: %w", who, err)
		}
		return nil
	})
}

// watch begins to count.
func (m *migration) watch() {
	m.http = m.ProbeHTTPFor(m.Client, site.Target, 20*time.Millisecond, patience)
	m.arp = m.ProbeARP(m.Watcher, site.VIP, 5*time.Millisecond)
	time.Sleep(time.Second)
}

// holders are the hosts with the VIP on an interface.
func (m *migration) holders() []*lab.Host {
	var out []*lab.Host
	for _, h := range m.Hosts() {
		if h != m.Web1 && h != m.Web2 && h.HasAddress(site.VIP) {
			out = append(out, h)
		}
	}
	return out
}

func hostNames(hosts []*lab.Host) []string {
	out := []string{}
	for _, h := range hosts {
		out = append(out, h.Name)
	}
	return out
}

// step does a step of the guide, waits until one of the hosts alone has the VIP,
// and judges what the client saw. It returns the host.
func (m *migration) step(t *testing.T, step string, then ...*lab.Host) *lab.Host {
	t.Helper()
	var at *lab.Host
	m.watched(t, step, func() {
		m.guide.do(t, step)
		at = m.awaitAt(t, step, then...)
	})
	return at
}

func (m *migration) awaitAt(t *testing.T, what string, then ...*lab.Host) *lab.Host {
	t.Helper()
	var at *lab.Host
	m.Eventually(20*time.Second, fmt.Sprintf("%s: one of %v alone has the VIP", what, hostNames(then)), func() error {
		h := m.holders()
		if len(h) != 1 || !slices.Contains(then, h[0]) {
			return fmt.Errorf("it is on %v", hostNames(h))
		}
		at = h[0]
		return nil
	})
	return at
}

// watched does something and judges what the client saw of it: new connections
// must not fail, and those that were under way while the VIP moved are counted.
func (m *migration) watched(t *testing.T, what string, do func()) {
	t.Helper()
	before := m.holders()
	from := probe.Now()
	do()
	to := pause(settled)
	sum, late := probe.Summarise(m.http.Records(), from, to), m.worst(from, to)
	under := 0
	if after := m.holders(); len(after) == 1 && !slices.Equal(after, before) {
		under = m.underWay(after[0], from, to)
	}
	m.total += sum.Failed
	both := probe.Total(probe.Overlaps(since(m.arp.Records(), from), probe.Window))
	t.Logf("%s: %v in %v: %d answers, %d failures (%d under way), longest gap %v, slowest answer %v; two MACs for %v; the machine was late by %v",
		what, hostNames(m.holders()), to.Sub(from).Round(time.Millisecond), sum.OK, sum.Failed, under, sum.Outage.Length().Round(time.Millisecond),
		sum.Worst.Round(time.Millisecond), both, late)
	report := t.Errorf
	if late > stood {
		report = t.Logf
	}
	if sum.OK == 0 || sum.Failed > under || under > 3 {
		report("%s: %d requests failed, %d of them under way when the VIP moved: %v", what, sum.Failed, under, sum.ByResult)
	}
	if both > 250*time.Millisecond {
		report("%s: two MACs answered for %v", what, both)
	}
}

func since(recs []probe.ARP, from probe.Time) []probe.ARP {
	return slices.DeleteFunc(slices.Clone(recs), func(r probe.ARP) bool { return r.At < from })
}

// finish tells the sum.
func (m *migration) finish(t *testing.T) {
	t.Helper()
	m.guide.wantAllDone(t)
	all := probe.Summarise(m.http.Records(), 0, probe.Now())
	results := slices.Sorted(maps.Keys(all.ByResult))
	t.Logf("in all %d answers and %d failures (%v: %v)", all.OK, all.Failed, results, all.ByResult)
}
