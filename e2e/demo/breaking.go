package demo

import (
	"fmt"
	"os"
	"strings"
	"time"

	"lbcluster/e2e/lab"
	"lbcluster/e2e/lab/probe"
	"lbcluster/e2e/site"
)

// stalled is how late a prober may run before a measurement is not trusted.
const stalled = 60 * time.Millisecond

// patience is the client's with one request: long enough for TCP to send once
// more what was lost, as it is for any real client.
const patience = 2 * time.Second

// watchers are what counts while things break.
type watchers struct {
	http *lab.HTTPProber
	arp  *lab.ARPProber
}

func (s *story) breakThings() {
	s.chapter("Now things break, while a client asks every 10 ms and a watcher every 5 ms")
	w := watchers{s.ProbeHTTPFor(s.Client, site.Target, 10*time.Millisecond, patience), s.ProbeARP(s.Watcher, site.VIP, 5*time.Millisecond)}
	time.Sleep(time.Second)
	s.cutOwner(w)
	s.moveOwner(w, s.freezeOwner(w))
	s.killServer()
	w.http.Stop()
	w.arp.Stop()
}

// changed waits until another director than old owns the VIP.
func (s *story) changed(old *lab.Host) *lab.Host {
	var now *lab.Host
	s.Eventually(20*time.Second, "another director owns the VIP", func() error {
		for _, h := range s.Others(old) {
			if l, err := s.Local(h); err == nil && len(l.Leases) > 0 && l.Leases[0].State == "holder" {
				now = h
				return nil
			}
		}
		return fmt.Errorf("%s is still the last owner", old.Name)
	})
	return now
}

func (s *story) cutOwner(w watchers) {
	owner := s.AwaitOwner()
	s.say("(a) the cable of the owner, %s, is pulled", owner.Name)
	from := probe.Now()
	owner.CutLink()
	next := s.changed(owner)
	time.Sleep(2 * time.Second)
	to := probe.Now()
	sum := probe.Summarise(w.http.Records(), from, to)
	s.expect(sum.Outage.Length() < 2*time.Second, "%s took over; the client was without an answer for %d ms (keepalived as configured: about 3000)", next.Name, sum.Outage.Length().Milliseconds())
	s.trust(w, from, to)
	s.count("(a) owner's cable pulled: client without answer", "%d ms", sum.Outage.Length().Milliseconds())

	s.say("    it is plugged in again, and nobody is told")
	back := probe.Now()
	owner.RestoreLink()
	time.Sleep(5 * time.Second)
	now := s.AwaitOwner()
	end := probe.Now()
	sum = probe.Summarise(w.http.Records(), back, end)
	macs := answering(w, back, end)
	s.expect(now == next && len(macs) == 1, "the VIP stays with %s; %s answered ARP for it since", now.Name, people(s, macs))
	s.expect(sum.Failed == 0, "requests since: %d good, %d failed", sum.OK, sum.Failed)
	s.count("    plugged in again: failed requests, MACs answering", "%d, %d", sum.Failed, len(macs))
}

func (s *story) freezeOwner(w watchers) (frozen *lab.Host) {
	owner := s.AwaitOwner()
	s.say("(b) the daemon of the owner, %s, is frozen (SIGSTOP) for 5 s; its kernel goes on", owner.Name)
	from := probe.Now()
	if err := s.Daemons[owner].Freeze(); err != nil {
		s.expect(false, "freeze %s: %v", owner.Name, err)
	}
	next := s.changed(owner)
	time.Sleep(from.Add(5 * time.Second).Sub(probe.Now()))
	s.expect(owner.HasAddress(site.VIP), "%s still has %s on its interface ...", owner.Name, site.VIP)
	s.say("    ... and is thawed")
	if err := s.Daemons[owner].Thaw(); err != nil {
		s.expect(false, "thaw %s: %v", owner.Name, err)
	}
	time.Sleep(3 * time.Second)
	to := probe.Now()

	arp := w.arp.Records()
	sum := probe.Summarise(w.http.Records(), from, to)
	handover := firstBy(arp, probe.ToMAC(next.MAC), from)
	after := answering(w, handover, to)
	overlap := probe.Overlaps(arp, probe.Window)
	s.expect(sum.Outage.Length() < 2*time.Second, "%s took over; the client was without an answer for %d ms", next.Name, sum.Outage.Length().Milliseconds())
	s.expect(len(after) == 1 && len(overlap) == 0, "after the handover %s answered ARP for %s, or announced it (keepalived: both, for as long as the freeze lasts)", people(s, after), site.VIP)
	s.expect(!owner.HasAddress(site.VIP), "thawed, %s has taken the address off by itself", owner.Name)
	s.trust(w, from, to)
	s.count("(b) owner frozen 5 s: client without answer", "%d ms", sum.Outage.Length().Milliseconds())
	s.count("    MACs answering or announcing after the handover", "%d", len(after))
	s.count("    time in which two MACs answered until then", "%d ms", probe.Total(overlap).Milliseconds())
	s.say("    why did it move? Every member keeps a record, and all are laid over each other")
	s.typedWithout(next, " hears ", "lbcluster", "why", "VI_1")
	return owner
}

// answering are the MACs that answered or announced between from and to.
func answering(w watchers, from, to probe.Time) map[probe.MAC]bool {
	macs := map[probe.MAC]bool{}
	recs := w.arp.Records()
	for _, h := range probe.Holders(recs, from, to) {
		macs[h.MAC] = true
	}
	for m := range probe.Announcements(recs, from, to) {
		macs[m] = true
	}
	return macs
}

// firstBy is when mac first answered or announced after from.
func firstBy(recs []probe.ARP, mac probe.MAC, from probe.Time) probe.Time {
	for _, r := range recs {
		if r.At >= from && r.MAC == mac && r.Kind != probe.Asked {
			return r.At
		}
	}
	return from
}

// people names the MACs' hosts.
func people(s *story, macs map[probe.MAC]bool) string {
	var names []string
	for m := range macs {
		name := m.String()
		for _, h := range s.Hosts() {
			if probe.ToMAC(h.MAC) == m {
				name += " (" + h.Name + ")"
			}
		}
		names = append(names, name)
	}
	if len(names) == 1 {
		return "only " + names[0]
	}
	return fmt.Sprintf("%d MACs (%s)", len(names), strings.Join(names, ", "))
}

// trust says when the machine itself stood still: its numbers are then no
// measure of the product.
func (s *story) trust(w watchers, from, to probe.Time) {
	worst := time.Duration(0)
	for _, st := range probe.Stalls(w.arp.Records(), stalled) {
		if st.At >= from && st.At <= to {
			worst = max(worst, st.Late)
		}
	}
	if worst > 0 {
		s.say("    (this machine stalled for %d ms meanwhile: the times are too long by up to that)", worst.Milliseconds())
	}
}

func (s *story) killServer() {
	s.say("(d) nginx on web1 is killed; the file says: every 6 s, 3 retries 3 s apart")
	from := time.Now()
	_ = s.Web1.Nginx().Stop()
	gone := s.untilTables(from, func(text string) bool { return !strings.Contains(text, "AC195802:0050") })
	first, last := span(gone)
	for _, h := range s.Dirs {
		s.say("    %s: 172.25.88.2:80 left its table after %.2f s", h.Name, gone[h].Seconds())
	}
	s.expect(last-first < time.Second, "all three tables changed within %d ms of each other (keepalived: 0.3-0.7 s for two)", (last - first).Milliseconds())
	s.count("(d) nginx killed: out of all tables after", "%.1f s, %d ms apart", last.Seconds(), (last - first).Milliseconds())

	s.say("(e) nginx on web1 is started again")
	from = time.Now()
	s.Web1.StartNginx()
	back := s.untilTables(from, func(text string) bool { return strings.Contains(text, "AC195802:0050") })
	first, last = span(back)
	s.expect(last < 15*time.Second, "it is back in all three tables after %.1f s, %d ms apart", last.Seconds(), (last - first).Milliseconds())
	s.count("(e) nginx back: in all tables after", "%.1f s, %d ms apart", last.Seconds(), (last - first).Milliseconds())
}

// untilTables watches every director's kernel until ok likes its table, and
// tells when each did.
func (s *story) untilTables(from time.Time, ok func(string) bool) map[*lab.Host]time.Duration {
	at := map[*lab.Host]time.Duration{}
	for deadline := from.Add(40 * time.Second); len(at) < len(s.Dirs); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.T.Fatalf("not all directors' tables changed: %v", at)
		}
		for _, h := range s.Dirs {
			if _, done := at[h]; !done && ok(kernelTable(h)) {
				at[h] = time.Since(from)
			}
		}
	}
	return at
}

// kernelTable is the host's IPVS table as the kernel prints it, in hexadecimal:
// reading it costs a fraction of running ipvsadm.
func kernelTable(h *lab.Host) string {
	var text []byte
	_ = h.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/ip_vs")
		return err
	})
	return string(text)
}

func span(at map[*lab.Host]time.Duration) (first, last time.Duration) {
	first = time.Hour
	for _, d := range at {
		first, last = min(first, d), max(last, d)
	}
	return first, last
}
